//! A connection is put on an accept queue.

use listentop_abi::{connection::Connection, histogram::UNIT_SHIFT, listener::ListenerRef, loss::Loss};

use crate::{
    connections,
    events::handshake,
    kernel::{Child, MaybeGone, Position},
    record::{self, track},
    stats::{self, count},
    values::{MapValue, field},
};

/// Counts it, and remembers when. No `child` if the hook does not know which connection it was.
#[inline(always)]
pub(crate) fn enqueued(listener: ListenerRef, child: Option<Child>, accept_depth: u32, syn_depth: u32) {
    let Some(child) = child else {
        stats::peak(listener, accept_depth, syn_depth);
        stats::lost(Loss::UnknownChild);
        if let Some(stats) = stats::of(listener) {
            field!(stats.enqueued).add(1);
            field!(stats.untracked_enqueued).add(1);
        }
        return;
    };
    // The kernel rounds up to 1 µs, so 0 means "not measured" only.
    let handshake = child.srtt_us;
    // If a handshake was measured just now, the packet's stamp is this moment's. With TCP Fast Open there is none yet.
    let stamped = if handshake != 0 { child.packet_ns } else { 0 };
    let enqueued_ns = if stamped != 0 { stamped } else { stats::now() };
    queued(listener, child.sock, child.position, enqueued_ns, u64::from(handshake) * 1000, accept_depth, syn_depth);
}

/// Counts it, and remembers that it was put there at `enqueued_ns`. `position` is its [`MaybeGone::position`];
/// `handshake_ns` is 0 if that time is unknown.
#[inline(always)]
pub(crate) fn queued(
    listener: ListenerRef,
    child: MaybeGone,
    position: Option<Position>,
    enqueued_ns: u64,
    handshake_ns: u64,
    accept_depth: u32,
    syn_depth: u32,
) {
    stats::peak(listener, accept_depth, syn_depth);
    let Some(stats) = stats::of(listener) else { return };
    count(field!(stats.enqueued), 1);
    if let Some(earlier) = connections::find(child.0) {
        // This connection is new, so the record belongs to another one, whose end no probe saw.
        record::end_unseen(child.0, earlier);
    }
    if handshake_ns != 0
        && let Some(distributions) = stats::distributions(listener)
    {
        stats::record(field!(distributions.handshake), handshake_ns >> UNIT_SHIFT);
    }
    // Without a position its memory could not be read, so it is no longer a connection.
    if let Some(position) = position {
        if let Some(arrived) = track(listener, child, position, enqueued_ns, 0, enqueued_ns, 0) {
            if arrived != 0 {
                count(field!(stats.arrived_bytes), u64::from(arrived));
            }
            return;
        }
        stats::lost(Loss::Connections);
    }
    field!(stats.untracked_enqueued).add(1);
}

/// A connection that was counted did not get onto the queue, because the listener closed at that moment: it was
/// destroyed at once.
#[inline(always)]
pub(crate) fn not_queued(listener: ListenerRef) {
    if let Some(stats) = stats::of(listener) {
        // One less of each, modulo 2^64.
        field!(stats.enqueued).add(u64::MAX);
        field!(stats.aborted).add(u64::MAX);
    }
}

/// The shard that it waited on was closed, and the queue of another shard takes it. It continues to wait.
#[inline(always)]
pub(crate) fn moved(listener: ListenerRef, connection: MapValue<Connection>, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    let before = field!(connection.listener).get();
    let unread = field!(connection.arrived).get().wrapping_sub(field!(connection.consumed).get());
    if let Some(stats) = stats::of(before) {
        field!(stats.moved_away).add(1);
        field!(stats.otherwise_consumed_bytes).add(u64::from(unread));
    }
    if let Some(stats) = stats::of(listener) {
        count(field!(stats.enqueued), 1);
        field!(stats.arrived_bytes).add(u64::from(unread));
    }
    field!(connection.listener).set(listener);
    field!(connection.slot).set(listener.slot);
    handshake::migrated(listener);
}
