//! System call exits. Classic tracepoints, because they run for the named call only; a BTF tracepoint on `sys_exit` would run for
//! every call of every process.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

use crate::{
    config, connections,
    events::{accepted, read},
    kernel,
};

/// Offset of `ret` in every syscalls/sys_exit_* record (their `format` files; the layout is the same for all calls).
const RET: usize = 16;

/// accept and accept4 return.
#[tracepoint]
pub(crate) fn exit_accept(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    let Ok(ret) = (unsafe { ctx.read_at::<i64>(RET) }) else { return 0 };
    if ret >= 0 {
        if let Some(child) = kernel::current_socket(ret as u32)
            && accepted::accepted(child)
        {
            return 0;
        }
        if let Some(fd) = kernel::current_argument() {
            accepted::accepted_unknown(fd as u32);
        }
    } else if let Some(fd) = kernel::current_argument() {
        accepted::failed(fd as u32, -ret);
    }
    0
}

/// splice returns: the first argument is the descriptor that was read. No receive tracepoint fires for it.
#[tracepoint]
pub(crate) fn exit_splice(ctx: TracePointContext) -> u32 {
    if config::empty() {
        return 0;
    }
    let Ok(ret) = (unsafe { ctx.read_at::<i64>(RET) }) else { return 0 };
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
