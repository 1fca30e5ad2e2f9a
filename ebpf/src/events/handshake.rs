//! What becomes of SYNs and final ACKs.

use listentop_abi::listener::{HandshakeCounters, ListenerRef};

use crate::{
    events::refused,
    kernel::{self, FLOOD_COOKIE, FLOOD_DROP, Sock},
    stats::{self, add},
};

/// Depths of a listener's queues.
#[derive(Clone, Copy)]
pub(crate) struct Depths {
    pub(crate) accept: u32,
    pub(crate) backlog: u32,
    pub(crate) syn: u32,
}

impl Depths {
    /// Whether a full accept queue is why something was refused. `sk_acceptq_is_full` says above the backlog; but this
    /// looks later than the kernel did, and another CPU may have accepted one in between.
    #[inline(always)]
    pub(crate) fn accept_queue_full(self) -> bool {
        self.accept >= self.backlog
    }
}

#[inline(always)]
fn count(listener: ListenerRef, counter: impl Fn(*mut HandshakeCounters) -> *mut u64) {
    if let Some(stats) = stats::handshakes(listener) {
        unsafe { add(counter(stats), 1) };
    }
}

/// A request was put into the SYN queue, `syn_depth` with it.
#[inline(always)]
pub(crate) fn requested(listener: ListenerRef, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    count(listener, |stats| unsafe { &raw mut (*stats).requests });
}

/// A request left the SYN queue without a connection.
#[inline(always)]
pub(crate) fn request_given_up(listener: ListenerRef) {
    count(listener, |stats| unsafe { &raw mut (*stats).given_up });
}

/// A SYN was answered with a cookie.
#[inline(always)]
pub(crate) fn cookie_sent(listener: ListenerRef) {
    count(listener, |stats| unsafe { &raw mut (*stats).cookies_sent });
}

/// A valid cookie came back.
#[inline(always)]
pub(crate) fn cookie_validated(listener: ListenerRef) {
    count(listener, |stats| unsafe { &raw mut (*stats).cookies_validated });
}

/// A connection was moved to this listener's queue, because the shard that it waited on was closed.
#[inline(always)]
pub(crate) fn migrated(listener: ListenerRef) {
    count(listener, |stats| unsafe { &raw mut (*stats).migrated });
}

/// A SYN was refused. `depths`: the most that was seen before and after; `flood`: what the kernel decided about a full
/// SYN queue, if that was seen.
#[inline(always)]
pub(crate) unsafe fn syn_refused(listener: ListenerRef, depths: Depths, flood: u32, sock: Sock, skb: *const u8) {
    // The kernel's order (tcp_conn_request): a full SYN queue refuses unless cookies are allowed, then a full accept
    // queue does.
    let syn_queue_full = match flood {
        FLOOD_DROP => true,
        FLOOD_COOKIE => false,
        // Up to some version it is full at the backlog, since then above it; in between little else refuses.
        _ => depths.syn >= depths.backlog && !kernel::cookies_allowed(sock),
    };
    count(listener, |stats| unsafe {
        if syn_queue_full {
            &raw mut (*stats).syn_queue_full
        } else if depths.accept_queue_full() {
            &raw mut (*stats).accept_queue_full
        } else {
            &raw mut (*stats).syn_other
        }
    });
    stats::peak(listener, depths.accept, depths.syn);
    if let Some(stats) = stats::of(listener) {
        unsafe { refused::note_client(listener, stats, skb) };
    }
}

/// A final ACK was refused.
#[inline(always)]
pub(crate) unsafe fn ack_refused(listener: ListenerRef, depths: Depths, cookie: bool, skb: *const u8) {
    let Some(stats) = stats::of(listener) else { return };
    unsafe {
        match (depths.accept_queue_full(), cookie) {
            (true, false) => add(&raw mut (*stats).ack_overflow, 1),
            (true, true) => add(&raw mut (*stats).cookie_ack_overflow, 1),
            // An allocation failed or there was no route.
            (false, false) => count(listener, |stats| &raw mut (*stats).ack_other),
            // Its child is there already, made of a copy of the packet: nothing was refused, and the kernel counts
            // nothing.
            (false, true) => return,
        }
        refused::note_client(listener, stats, skb);
    }
}

/// A packet was counted in `sk_drops` though it refused nothing: a bare ACK that TCP_DEFER_ACCEPT waits behind, a SYN
/// that came again, data in a SYN (TCP Fast Open) that goes on as an ordinary one.
#[inline(always)]
pub(crate) fn ignored(listener: ListenerRef) {
    if let Some(stats) = stats::of(listener) {
        unsafe { add(&raw mut (*stats).not_attempts, 1) };
    }
}
