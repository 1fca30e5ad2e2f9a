//! io_uring completions. Its receives and sends pass the socket tracepoints; its accepts and its splices pass none.

use aya_ebpf::{Global, programs::BtfTracePointContext};
use listentop_abi::listener::ListenerRef;

use crate::{
    config,
    context::{Arguments as _, programs},
    events::accepted,
    kernel,
};

/// 1: io_uring_complete passes (ctx, req, cqe) (6.13 and later); 0: (ctx, req, user_data, res, …).
#[unsafe(no_mangle)]
static URING_CQE: Global<u8> = Global::new(0);

programs! {
    btf_tracepoint("io_uring_complete") uring_complete(BtfTracePointContext);
}

/// io_uring_complete, in the thread in whose context the request completes.
#[inline(always)]
fn uring_complete(ctx: &BtfTracePointContext) {
    let request: u64 = ctx.arg(1);
    let result = result(ctx);
    match kernel::opcode(request) {
        // One of a multishot accept's: without its request nothing leads to the listener.
        None if result >= 0 && config::uring_accepts() => {
            let _ = accepted::returned(kernel::current_socket(result as u32));
        }
        Some(opcode) if kernel::is_accept(opcode) => accept(request, result),
        Some(opcode) if result > 0 && kernel::is_splice(opcode) && config::uring_splices() => {
            if let Some(socket) = kernel::spliced_from(request) {
                super::syscalls::spliced(socket, result as u32);
            }
        }
        _ => {}
    }
}

/// What the request returns.
#[inline(always)]
pub(super) fn result(ctx: &BtfTracePointContext) -> i32 {
    if URING_CQE.load() == 1 { ctx.completion(2).result() } else { ctx.arg(3) }
}

/// An accept completes, with a connection or without. Into a fixed file it returns no descriptor: then the first read
/// or write shows the connection.
#[inline(always)]
fn accept(request: u64, result: i32) {
    if result < 0 {
        let errno = -i64::from(result);
        if accepted::is_failure(errno)
            && let Some(listener) = listener_of(request)
        {
            accepted::failed(listener, errno);
            if config::uring_accepts() {
                accepted::failed_with_connection(listener, errno);
            }
        }
    } else if config::uring_accepts()
        && !kernel::accepts_into_fixed_file(request)
        && let Err(child) = accepted::returned(kernel::current_socket(result as u32))
        && let Some(listener) = listener_of(request)
    {
        accepted::accepted_unknown(listener, child);
    }
}

/// The listener that a request is about.
#[inline(always)]
fn listener_of(request: u64) -> Option<ListenerRef> {
    super::sockets::listener_behind(kernel::request_socket(request)?)
}
