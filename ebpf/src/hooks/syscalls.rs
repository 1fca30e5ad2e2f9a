//! Exits of system calls. Classic tracepoints, because they run for the named call only: a BTF tracepoint on `sys_exit`
//! would run for every call of every process. Where functions can be traced, hooks on the functions of the calls: while
//! any tracepoint of a system call is in use, the kernel's exit from every system call takes longer.

use aya_ebpf::programs::{FExitContext, TracePointContext};
use listentop_abi::listener::ListenerRef;

use crate::{
    context::{programs, syscall_result},
    events::{accepted, read},
    kernel::{self, MaybeGone, Position},
    record,
};

programs! {
    tracepoint exit_accept(TracePointContext);
    tracepoint exit_accept_without_connection(TracePointContext);
    fexit("__x64_sys_accept4") accept4_ends(FExitContext);
    fexit("__x64_sys_accept") accept_ends(FExitContext);
    tracepoint exit_splice(TracePointContext);
}

/// accept and accept4 return.
#[inline(always)]
fn exit_accept(ctx: &TracePointContext) {
    let ret = syscall_result(ctx);
    if ret < 0 {
        if let Some(listener) = without_connection(ret, kernel::current_argument) {
            accepted::failed_with_connection(listener, -ret);
        }
    } else if let Err(child) = accepted::returned(kernel::current_socket(ret as u32))
        && let Some(listener) = kernel::current_argument().and_then(listener_at)
    {
        accepted::accepted_unknown(listener, child);
    }
}

/// The same where another hook shows those that bring a connection.
#[inline(always)]
fn exit_accept_without_connection(ctx: &TracePointContext) {
    let _ = without_connection(syscall_result(ctx), kernel::current_argument);
}

/// The function of accept4(2), which takes its arguments as registers, returns. The name is x86-64's; the loader
/// replaces it by that of the architecture.
#[inline(always)]
fn accept4_ends(ctx: &FExitContext) {
    call_ends(ctx);
}

/// That of accept(2).
#[inline(always)]
fn accept_ends(ctx: &FExitContext) {
    call_ends(ctx);
}

#[inline(always)]
fn call_ends(ctx: &FExitContext) {
    let _ = without_connection(ctx.arg(1), || kernel::call_argument(ctx.arg(0)));
}

/// An accept on the descriptor `fd` returns: counts it if it brought no connection and that is a failure. Returns the
/// listener then.
#[inline(always)]
fn without_connection(ret: i64, fd: impl FnOnce() -> Option<u64>) -> Option<ListenerRef> {
    if ret >= 0 || !accepted::is_failure(-ret) {
        return None;
    }
    let listener = fd().and_then(listener_at)?;
    accepted::failed(listener, -ret);
    Some(listener)
}

/// The listener at a descriptor of the current process.
#[inline(always)]
fn listener_at(fd: u64) -> Option<ListenerRef> {
    super::sockets::listener_behind(kernel::current_socket(fd as u32)?)
}

/// splice returns: its first argument is the descriptor that it read. No receive tracepoint fires for it.
#[inline(always)]
fn exit_splice(ctx: &TracePointContext) {
    let ret = syscall_result(ctx);
    if ret <= 0 {
        return;
    }
    if let Some(socket) = kernel::current_argument().and_then(|fd| kernel::current_socket(fd as u32)) {
        spliced(socket, ret as u32);
    }
}

/// The current thread moved `bytes` (above 0) out of a socket, which may be a connection, by splicing.
#[inline(always)]
pub(crate) fn spliced(socket: MaybeGone, bytes: u32) {
    if let Some(connection) = record::of(socket)
        && let Some(position) = socket.position()
    {
        let reader_at = Position::within(position.copied, position.end);
        read::read(connection, socket.0, bytes, |_| reader_at, 0);
    }
}
