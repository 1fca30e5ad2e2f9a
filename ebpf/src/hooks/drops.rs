//! The BTF tracepoint that sees packets dropped with their reason and receiving socket (6.11 and later; the reason that
//! matters here since 6.15).

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;

use crate::{
    config,
    events::refused::refused,
    kernel::{self, Refusal},
    maps::LISTENERS,
};

/// kfree_skb(skb, location, reason, rx_sk).
#[btf_tracepoint(function = "kfree_skb")]
pub(crate) fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    if config::empty() {
        return 0;
    }
    let rx_sk: u64 = ctx.arg(3);
    if rx_sk == 0 {
        return 0;
    }
    let refusal = kernel::refusal(ctx.arg(2), ctx.arg(1));
    if refusal == Refusal::Nothing {
        return 0;
    }
    let Some(listener) = LISTENERS.get_ptr(&rx_sk) else { return 0 };
    unsafe { refused(*listener, refusal, ctx.arg(0)) };
    if config::debug() {
        debug!(&ctx, "refused: listener {:x}, reason {}", rx_sk, ctx.arg::<u32>(2));
    }
    0
}
