//! io_uring completions. Its receives and sends pass the socket tracepoints; its accepts and its splices pass none.

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{config, events::accepted, kernel};

/// 1: io_uring_complete passes (ctx, req, cqe) (6.13 and later); 0: (ctx, req, user_data, res, …).
#[unsafe(no_mangle)]
static URING_CQE: Global<u8> = Global::new(0);

/// io_uring_complete, in the thread in whose context the request completes.
#[btf_tracepoint(function = "io_uring_complete")]
pub(crate) fn uring_complete(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let request: u64 = ctx.arg(1);
    let result: i32 = if URING_CQE.load() == 1 { unsafe { kernel::completion(ctx.arg(2)) } } else { ctx.arg(3) };
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
    0
}

/// An accept completes, with a connection or in vain. Into a fixed file it yields no descriptor: it is noticed at the
/// first read or write.
#[inline(always)]
fn accept(request: u64, result: i32) {
    let listener = || kernel::request_socket(request).and_then(super::sockets::listener_behind);
    if result < 0 {
        let errno = -i64::from(result);
        if accepted::is_failure(errno)
            && let Some(listener) = listener()
        {
            accepted::failed(listener, errno);
        }
    } else if config::uring_accepts()
        && !kernel::accepts_into_fixed_file(request)
        && let Err(child) = accepted::returned(kernel::current_socket(result as u32))
        && let Some(listener) = listener()
    {
        accepted::accepted_unknown(listener, child);
    }
}
