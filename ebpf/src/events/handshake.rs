//! The outcomes of SYNs and final ACKs.

use listentop_abi::listener::{HandshakeCounters, ListenerRef};

use crate::{
    config,
    events::refused,
    kernel::{self, FLOOD_COOKIE, FLOOD_DROP, LiveSocket, Packet},
    stats,
    values::{MapValue, field},
};

/// Depths of a listener's queues.
#[derive(Clone, Copy)]
pub(crate) struct Depths {
    /// Of the accept queue.
    pub(crate) accept: u32,
    /// What the accept queue holds at most.
    pub(crate) backlog: u32,
    /// Of the SYN queue.
    pub(crate) syn: u32,
}

impl Depths {
    /// Whether the accept queue refuses: above the backlog, not at it (`sk_acceptq_is_full`).
    #[inline(always)]
    pub(crate) fn accept_queue_full(self) -> bool {
        self.accept > self.backlog
    }
}

#[inline(always)]
fn count(listener: ListenerRef, counter: impl Fn(MapValue<HandshakeCounters>) -> MapValue<u64>) {
    if let Some(stats) = stats::handshakes(listener) {
        counter(stats).add(1);
    }
}

/// A request was put into the SYN queue, `syn_depth` with it.
#[inline(always)]
pub(crate) fn requested(listener: ListenerRef, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    count(listener, |stats| field!(stats.requests));
}

/// A request was made while no program saw a SYN being processed.
#[inline(always)]
pub(crate) fn requested_without_syn(listener: ListenerRef) {
    count(listener, |stats| field!(stats.requests_without_syn));
}

/// A request was completed on a CPU where no program has ever seen one being made.
#[inline(always)]
pub(crate) fn completed_without_request(listener: ListenerRef) {
    count(listener, |stats| field!(stats.completed_without_request));
}

/// A request was completed while no program saw a final ACK being checked.
#[inline(always)]
pub(crate) fn completed_without_check(listener: ListenerRef) {
    count(listener, |stats| field!(stats.completed_without_check));
}

/// A request left the SYN queue without a connection.
#[inline(always)]
pub(crate) fn request_given_up(listener: ListenerRef) {
    requests_given_up(listener, 1);
}

/// So many requests did.
#[inline(always)]
pub(crate) fn requests_given_up(listener: ListenerRef, requests: u32) {
    if let Some(stats) = stats::handshakes(listener) {
        field!(stats.given_up).add(u64::from(requests));
    }
}

/// A request of a shard that was closed goes on in this listener's SYN queue, or has just been completed for it.
#[inline(always)]
pub(crate) fn request_migrated(listener: ListenerRef, accept_depth: u32, syn_depth: u32) {
    requested(listener, accept_depth, syn_depth);
    migrated(listener);
}

/// A SYN was answered with a cookie.
#[inline(always)]
pub(crate) fn cookie_sent(listener: ListenerRef) {
    count(listener, |stats| field!(stats.cookies_sent));
}

/// A valid cookie came back.
#[inline(always)]
pub(crate) fn cookie_validated(listener: ListenerRef) {
    count(listener, |stats| field!(stats.cookies_validated));
}

/// A connection was moved to this listener's queue, because the shard that it waited on was closed.
#[inline(always)]
pub(crate) fn migrated(listener: ListenerRef) {
    count(listener, |stats| field!(stats.migrated));
}

/// A SYN was refused. `depths`: the larger of those before and after; `flood`: what the kernel decided about a full SYN
/// queue, if that was seen.
#[inline(always)]
pub(crate) fn syn_refused(listener: ListenerRef, depths: Depths, flood: u32, sock: LiveSocket, packet: Packet) {
    // The kernel's order (tcp_conn_request): a full SYN queue refuses unless cookies are allowed, then a full accept
    // queue does.
    let syn_queue_full = match flood {
        FLOOD_DROP => true,
        FLOOD_COOKIE => false,
        // The kernel would have decided what to do about a full queue, and this would have been seen.
        _ if config::floods_are_seen() => false,
        // Older kernels call it full at the backlog, newer ones above it. At the backlog, little else refuses than a
        // full accept queue.
        _ => {
            let full = depths.syn > depths.backlog || (depths.syn == depths.backlog && !depths.accept_queue_full());
            full && !kernel::cookies_allowed(sock)
        }
    };
    count(listener, |stats| {
        if syn_queue_full {
            field!(stats.syn_queue_full)
        } else if depths.accept_queue_full() {
            field!(stats.accept_queue_full)
        } else {
            field!(stats.syn_other)
        }
    });
    stats::peak(listener, depths.accept, depths.syn);
    if let Some(stats) = stats::of(listener) {
        refused::note_client(listener, stats, packet);
    }
}

/// A final ACK was refused.
#[inline(always)]
pub(crate) fn ack_refused(listener: ListenerRef, depths: Depths, cookie: bool, packet: Packet) {
    let Some(stats) = stats::of(listener) else { return };
    match (depths.accept_queue_full(), cookie) {
        (true, false) => field!(stats.ack_overflow).add(1),
        (true, true) => field!(stats.cookie_ack_overflow).add(1),
        // An allocation failed or there was no route.
        (false, false) => count(listener, |stats| field!(stats.ack_other)),
        // Its child is there already, made by a copy of the packet: nothing was refused, and the kernel counts nothing.
        (false, true) => return,
    }
    refused::note_client(listener, stats, packet);
}

/// `sk_drops` counted a packet though nothing was refused: a bare ACK to a listener with TCP_DEFER_ACCEPT, a SYN that
/// came again, or data in a SYN (TCP Fast Open) that goes on as an ordinary one.
#[inline(always)]
pub(crate) fn ignored(listener: ListenerRef) {
    if let Some(stats) = stats::of(listener) {
        field!(stats.not_attempts).add(1);
    }
}
