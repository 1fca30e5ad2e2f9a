//! io_uring completions. Its receives and sends pass the socket tracepoints; its accepts pass none.

use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{config, events::accepted, kernel};

/// 1: io_uring_complete passes (ctx, req, cqe) (6.13 and later); 0: (ctx, req, user_data, res, …).
#[unsafe(no_mangle)]
static URING_CQE: Global<u8> = Global::new(0);

/// io_uring_complete. A result that is a descriptor of a connection in the accept queue is an accept, whether it came with its
/// request or, from a multishot accept, without. Accepts into fixed files yield no descriptor: they are noticed at the first
/// read or write.
#[btf_tracepoint(function = "io_uring_complete")]
pub(crate) fn uring_complete(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let request: u64 = ctx.arg(1);
    let (opcode, result) = if URING_CQE.load() == 1 {
        unsafe { kernel::completion(request, ctx.arg(2)) }
    } else {
        (kernel::opcode(request), ctx.arg(3))
    };
    if result < 0 || opcode.is_some_and(|opcode| !kernel::is_accept(opcode)) {
        return 0;
    }
    if let Some(child) = kernel::current_socket(result as u32) {
        let _ = accepted::accepted(child) || (child.is_mptcp() && accepted::accepted(child.first_subflow()));
    }
    0
}
