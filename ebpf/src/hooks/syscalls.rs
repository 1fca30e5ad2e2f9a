//! System call exits. Classic tracepoints, because they run for the named call only; a BTF tracepoint on `sys_exit`
//! would run for every call of every process. Where functions may be traced, those of the calls themselves: while any
//! system call has a tracepoint in use, the kernel takes a longer way out of all of them.

use aya_ebpf::{
    EbpfContext as _,
    macros::{fexit, tracepoint},
    programs::{FExitContext, TracePointContext},
};

use crate::{
    config, connections,
    events::{accepted, read},
    kernel::{self, RawSock},
};
use listentop_abi::{listener::ListenerRef, syscall};

/// What the system call returns. Read in place: `read_at` would copy it by a call of a helper.
#[inline(always)]
fn result(ctx: &TracePointContext) -> i64 {
    unsafe { ctx.as_ptr().byte_add(syscall::RESULT).cast::<i64>().read_volatile() }
}

/// accept and accept4 return.
#[tracepoint]
pub(crate) fn exit_accept(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    let ret = result(&ctx);
    if ret < 0 {
        in_vain(ret, kernel::current_argument);
    } else if let Err(child) = accepted::returned(kernel::current_socket(ret as u32))
        && let Some(listener) = kernel::current_argument().and_then(listener_at)
    {
        accepted::accepted_unknown(listener, child);
    }
    0
}

/// The same where those that bring a connection are seen in another way.
#[tracepoint]
pub(crate) fn exit_accept_in_vain(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    in_vain(result(&ctx), kernel::current_argument);
    0
}

/// The function of accept4(2), which takes its arguments as registers, returns; by the name that x86-64 gives it. The
/// loader puts the architecture's in its place.
#[fexit(function = "__x64_sys_accept4")]
pub(crate) fn accept4_ends(ctx: FExitContext) -> i32 {
    call_ends(&ctx)
}

/// That of accept(2).
#[fexit(function = "__x64_sys_accept")]
pub(crate) fn accept_ends(ctx: FExitContext) -> i32 {
    call_ends(&ctx)
}

#[inline(always)]
fn call_ends(ctx: &FExitContext) -> i32 {
    if config::empty() {
        return 0;
    }
    in_vain(ctx.arg(1), || kernel::call_argument(ctx.arg(0)));
    0
}

/// An accept on the descriptor `fd` returns: counts it if it brought nothing.
#[inline(always)]
fn in_vain(ret: i64, fd: impl FnOnce() -> Option<u64>) {
    if ret < 0
        && accepted::is_failure(-ret)
        && let Some(listener) = fd().and_then(listener_at)
    {
        accepted::failed(listener, -ret);
    }
}

/// The listener at a descriptor of the current process.
#[inline(always)]
fn listener_at(fd: u64) -> Option<ListenerRef> {
    super::sockets::listener_behind(kernel::current_socket(fd as u32)?)
}

/// splice returns: the first argument is the descriptor that was read. No receive tracepoint fires for it.
#[tracepoint]
pub(crate) fn exit_splice(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    let ret = result(&ctx);
    if ret <= 0 {
        return 0;
    }
    if let Some(socket) = kernel::current_argument().and_then(|fd| kernel::current_socket(fd as u32)) {
        spliced(socket, ret as u32);
    }
    0
}

/// The current thread moved `bytes` (above 0) out of a socket, which may be a connection, by splicing.
#[inline(always)]
pub(crate) fn spliced(socket: RawSock, bytes: u32) {
    if let Some(connection) = connections::find(socket.0)
        && let Some(copied) = socket.copied_seq()
    {
        read::read(connection, socket.0, bytes, copied, 0);
    }
}
