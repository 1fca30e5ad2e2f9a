//! The outcomes of SYNs and final ACKs.

use listentop_abi::listener::{HandshakeCounters, ListenerRef};

use crate::{
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
    /// Whether a full accept queue is the cause of a refusal. The kernel refuses above the backlog
    /// (`sk_acceptq_is_full`). But this looks later, and another CPU may have accepted a connection in between.
    #[inline(always)]
    pub(crate) fn accept_queue_full(self) -> bool {
        self.accept >= self.backlog
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

/// A request left the SYN queue without a connection.
#[inline(always)]
pub(crate) fn request_given_up(listener: ListenerRef) {
    count(listener, |stats| field!(stats.given_up));
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
        // Older kernels call it full at the backlog, newer ones above it. At the backlog little else refuses.
        _ => depths.syn >= depths.backlog && !kernel::cookies_allowed(sock),
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
