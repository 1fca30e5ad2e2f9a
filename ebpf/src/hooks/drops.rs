//! The BTF tracepoint that shows dropped packets with their reason and receiving socket (6.11 and later; the reason
//! that matters here since 6.15).

use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;

use crate::{
    config,
    context::{Arguments as _, programs},
    events::refused::refused,
    kernel::{self, MaybeGone, Refusal},
    maps::listener_at,
};

programs! {
    btf_tracepoint("kfree_skb") kfree_skb(BtfTracePointContext);
}

/// kfree_skb(skb, location, reason, rx_sk).
#[inline(always)]
fn kfree_skb(ctx: &BtfTracePointContext) {
    let receiver: u64 = ctx.arg(3);
    if receiver == 0 {
        return;
    }
    let refusal = kernel::refusal(ctx.arg(2), ctx.arg(1));
    if refusal == Refusal::Nothing {
        return;
    }
    let Some(listener) = listener_at(receiver) else { return };
    refused(listener, refusal, ctx.packet(0));
    if config::debug() {
        // By its cookie, as everywhere: addresses in the kernel are nobody's business.
        debug!(ctx, "refused: listener {}, reason {}", MaybeGone(receiver).cookie(), ctx.arg::<u32>(2));
    }
}
