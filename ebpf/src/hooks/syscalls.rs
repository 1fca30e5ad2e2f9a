//! System call exits. Classic tracepoints, because they run for the named call only; a BTF tracepoint on `sys_exit` would run for
//! every call of every process. Where functions may be traced, those of the calls themselves: while any system call has a tracepoint in use,
//! the kernel takes a longer way out of all of them.

use aya_ebpf::{
    EbpfContext as _,
    macros::{fexit, tracepoint},
    programs::{FExitContext, TracePointContext},
};

use crate::{
    config, connections,
    events::{
        accepted::{self, EAGAIN},
        read,
    },
    kernel,
    maps::LISTENERS,
};
use listentop_abi::listener::ListenerRef;

/// Offset of `ret` in every syscalls/sys_exit_* record (their `format` files; the layout is the same for all calls).
const RET: usize = 16;

/// What the system call returns. Read in place: `read_at` would copy it by a call of a helper.
#[inline(always)]
fn result(ctx: &TracePointContext) -> i64 {
    unsafe { ctx.as_ptr().byte_add(RET).cast::<i64>().read_volatile() }
}

/// accept and accept4 return.
#[tracepoint]
pub(crate) fn exit_accept(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    let ret = result(&ctx);
    if ret >= 0 {
        // One that is closed already by another thread is gone, but was accepted.
        let mut child = kernel::current_socket(ret as u32);
        if child.is_some_and(accepted::accepted) {
            return 0;
        }
        if let Some(socket) = child.filter(|socket| socket.is_mptcp()) {
            child = Some(socket.first_subflow());
            if child.is_some_and(accepted::accepted) {
                return 0;
            }
        }
        if let Some(listener) = listener() {
            accepted::accepted_unknown(listener, child);
        }
    } else if accepted::is_failure(-ret)
        && let Some(listener) = listener()
    {
        accepted::failed(listener, -ret);
    }
    0
}

/// The same where the accepts that reach the queue are seen in another way: those that fail before (EMFILE, ENFILE, ENOMEM).
#[tracepoint]
pub(crate) fn exit_accept_failed(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    failed_early(result(&ctx), kernel::current_argument);
    0
}

/// The function of accept4(2), which takes its arguments as registers, returns; by the name that x86-64 gives it. The loader puts the
/// architecture's in its place.
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
    failed_early(ctx.arg(1), || kernel::call_argument(ctx.arg(0)));
    0
}

/// An accept on the descriptor `fd` returns: counts it if it failed before it came to the queue.
#[inline(always)]
fn failed_early(ret: i64, fd: impl FnOnce() -> Option<u64>) {
    if ret < 0
        && ret != -EAGAIN
        && accepted::is_failure(-ret)
        && let Some(listener) = fd().and_then(listener_at)
    {
        accepted::failed(listener, -ret);
    }
}

/// The listener that the call at hand is about.
#[inline(always)]
fn listener() -> Option<ListenerRef> {
    listener_at(kernel::current_argument()?)
}

/// The listener at a descriptor of the current process.
#[inline(always)]
fn listener_at(fd: u64) -> Option<ListenerRef> {
    let socket = kernel::current_socket(fd as u32)?;
    let listener = LISTENERS.get_ptr(socket.0);
    let listener =
        if listener.is_none() && socket.is_mptcp() { LISTENERS.get_ptr(socket.first_subflow().0) } else { listener };
    listener.map(|listener| unsafe { *listener })
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
    let Some(fd) = kernel::current_argument() else { return 0 };
    let Some(socket) = kernel::current_socket(fd as u32) else { return 0 };
    let Some(connection) = connections::find(socket.0) else { return 0 };
    if let Some(copied) = socket.copied_seq() {
        read::read(connection, socket.0, ret as u32, copied, 0);
    }
    0
}
