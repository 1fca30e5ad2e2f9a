//! System call exits. Classic tracepoints, because they run for the named call only; a BTF tracepoint on `sys_exit` would run for
//! every call of every process.

use aya_ebpf::{EbpfContext as _, macros::tracepoint, programs::TracePointContext};

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
        if let Some(socket) = kernel::current_socket(ret as u32)
            && (accepted::accepted(socket) || (socket.is_mptcp() && accepted::accepted(socket.first_subflow())))
        {
            return 0;
        }
        if let Some(listener) = listener() {
            accepted::accepted_unknown(listener);
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
    let ret = result(&ctx);
    if ret < 0
        && ret != -EAGAIN
        && accepted::is_failure(-ret)
        && let Some(listener) = listener()
    {
        accepted::failed(listener, -ret);
    }
    0
}

/// The listener that the call at hand is about.
#[inline(always)]
fn listener() -> Option<ListenerRef> {
    let socket = kernel::current_socket(kernel::current_argument()? as u32)?;
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
        read::read(connection, socket.0, ret as u32, copied);
    }
    0
}
