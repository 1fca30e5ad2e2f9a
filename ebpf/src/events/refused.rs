//! A listener's queue refuses an attempt.

use listentop_abi::listener::{ListenerCounters, ListenerRef};

use crate::{
    kernel::{self, Refusal},
    maps::{DROPPED, DroppedClient},
    stats::{self, add},
};

/// A packet to the listener was dropped in a way that concerns its queues.
#[inline(always)]
pub(crate) unsafe fn refused(listener: ListenerRef, refusal: Refusal, skb: *const u8) {
    let Some(stats) = stats::of(listener) else { return };
    unsafe {
        match refusal {
            Refusal::Overflow => add(&raw mut (*stats).ack_overflow, 1),
            Refusal::CookieOverflow => add(&raw mut (*stats).cookie_ack_overflow, 1),
            Refusal::NotAnAttempt => {
                add(&raw mut (*stats).not_attempts, 1);
                return;
            }
            Refusal::Nothing => return,
        }
        note_client(listener, stats, skb);
    }
}

/// Counts the sender of a refused packet, once.
#[inline(always)]
pub(crate) unsafe fn note_client(listener: ListenerRef, stats: *mut ListenerCounters, skb: *const u8) {
    let Some((address, port)) = (unsafe { kernel::packet_source(skb) }) else { return };
    let client =
        DroppedClient { address, slot: listener.slot, generation: listener.generation, port, reserved: [0; 3] };
    if DROPPED.get_ptr(&client).is_none() {
        let _ = DROPPED.insert(&client, &1u8, 0);
        unsafe { add(&raw mut (*stats).clients, 1) };
    }
}

/// A SYN-ACK was sent again.
#[inline(always)]
pub(crate) fn synack_retransmitted(listener: ListenerRef, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    if let Some(stats) = stats::of(listener) {
        unsafe { add(&raw mut (*stats).synack_retransmits, 1) };
    }
}
