//! A listener's queue refuses an attempt.

use listentop_abi::listener::{ListenerCounters, ListenerRef};

use crate::{
    kernel::{Packet, Refusal},
    maps::{DROPPED, DroppedClient},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// A packet to the listener was dropped, for a reason that concerns its queues.
#[inline(always)]
pub(crate) fn refused(listener: ListenerRef, refusal: Refusal, packet: Packet) {
    let Some(stats) = stats::of(listener) else { return };
    match refusal {
        Refusal::Overflow => field!(stats.ack_overflow).add(1),
        Refusal::CookieOverflow => field!(stats.cookie_ack_overflow).add(1),
        Refusal::NotAnAttempt => {
            field!(stats.not_attempts).add(1);
            return;
        }
        Refusal::Nothing => return,
    }
    note_client(listener, stats, packet);
}

/// Counts the sender of a refused packet, once.
#[inline(always)]
pub(crate) fn note_client(listener: ListenerRef, stats: MapValue<ListenerCounters>, packet: Packet) {
    let Some((address, port)) = packet.source() else { return };
    let client = DroppedClient { address, slot: listener.slot, generation: listener.generation, port: u64::from(port) };
    if DROPPED.value(&client).is_none() {
        let _ = DROPPED.insert(&client, &1u8, 0);
        field!(stats.clients).add(1);
    }
}

/// A SYN-ACK was sent again.
#[inline(always)]
pub(crate) fn synack_retransmitted(listener: ListenerRef, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    if let Some(stats) = stats::of(listener) {
        field!(stats.synack_retransmits).add(1);
    }
}
