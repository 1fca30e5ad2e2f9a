//! A connection is put on an accept queue.

use listentop_abi::{
    connection::{Connection, MARKS},
    listener::ListenerRef,
    loss::Loss,
};

use crate::{
    connections,
    events::{destroyed, handshake},
    kernel::{Child, RawSock},
    stats::{self, add, count, record},
};

/// Counts it, and remembers when. No `child` if the hook could not tell which connection it was.
#[inline(always)]
pub(crate) fn enqueued(listener: ListenerRef, child: Option<Child>, accept_depth: u32, syn_depth: u32) {
    let Some(child) = child else {
        stats::peak(listener, accept_depth, syn_depth);
        stats::lost(Loss::UnknownChild);
        if let Some(stats) = stats::of(listener) {
            unsafe {
                add(&raw mut (*stats).enqueued, 1);
                add(&raw mut (*stats).untracked_enqueued, 1);
            }
        }
        return;
    };
    // Nanoseconds are rounded up to 1 µs by the kernel, so 0 stands for "not measured" only.
    let handshake = child.srtt_us;
    // A handshake was measured just now, so the packet's stamp is this moment's. With TCP Fast Open there is none yet.
    let stamped = if handshake != 0 { child.packet_ns } else { 0 };
    let enqueued_ns = if stamped != 0 { stamped } else { stats::now() };
    queued(listener, child.sock, child.span, enqueued_ns, u64::from(handshake) * 1000, accept_depth, syn_depth);
}

/// Counts it, and remembers that it was put there at `enqueued_ns`. `span` is its [`RawSock::receive_span`];
/// `handshake_ns` is 0 if that time is not known.
#[inline(always)]
pub(crate) fn queued(
    listener: ListenerRef,
    child: RawSock,
    span: Option<(u32, u32)>,
    enqueued_ns: u64,
    handshake_ns: u64,
    accept_depth: u32,
    syn_depth: u32,
) {
    stats::peak(listener, accept_depth, syn_depth);
    let Some(stats) = stats::of(listener) else { return };
    unsafe { count(&raw mut (*stats).enqueued, 1) };
    if let Some(earlier) = connections::find(child.0) {
        // This one is new, so that is another's, whose end the kernel showed to no probe.
        destroyed::unseen(child.0, earlier);
    }
    if handshake_ns != 0
        && let Some(distributions) = stats::distributions(listener)
    {
        let units = handshake_ns >> listentop_abi::histogram::UNIT_SHIFT;
        unsafe { record(&raw mut (*distributions).handshake, units) };
    }
    // Without a span its memory could not be read: then it is no connection's any more.
    if let Some(span) = span {
        if let Some(arrived) = track(listener, child, span, enqueued_ns, 0, enqueued_ns, 0) {
            if arrived != 0 {
                unsafe { count(&raw mut (*stats).arrived_bytes, u64::from(arrived)) };
            }
            return;
        }
        stats::lost(Loss::Connections);
    }
    unsafe { add(&raw mut (*stats).untracked_enqueued, 1) };
}

/// A connection that was counted did not get onto the queue, because the listener closed at that moment: it was
/// destroyed at once.
#[inline(always)]
pub(crate) fn not_queued(listener: ListenerRef) {
    if let Some(stats) = stats::of(listener) {
        // One less of each, modulo 2^64.
        unsafe {
            add(&raw mut (*stats).enqueued, u64::MAX);
            add(&raw mut (*stats).aborted, u64::MAX);
        }
    }
}

/// The shard that it waited on was closed, and another's queue takes it. It goes on waiting.
#[inline(always)]
pub(crate) fn moved(listener: ListenerRef, connection: *mut Connection, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    let before = unsafe { (*connection).listener };
    let unread = unsafe { (*connection).arrived.wrapping_sub((*connection).consumed) };
    if let Some(stats) = stats::of(before) {
        unsafe {
            add(&raw mut (*stats).moved_away, 1);
            add(&raw mut (*stats).otherwise_consumed_bytes, u64::from(unread));
        }
    }
    if let Some(stats) = stats::of(listener) {
        unsafe {
            count(&raw mut (*stats).enqueued, 1);
            add(&raw mut (*stats).arrived_bytes, u64::from(unread));
        }
    }
    unsafe {
        (*connection).listener = listener;
        (*connection).slot = listener.slot;
    }
    handshake::migrated(listener);
}

/// Makes the record of a connection; returns how many payload bytes it already holds. `None` if there is no room: that
/// is for the caller to count as lost, once per connection.
///
/// What it holds was announced before the record existed, so it counts as arrived at `arrived_ns`; 0 if that is not
/// known, and then it has no residency.
#[inline(always)]
pub(crate) fn track(
    listener: ListenerRef,
    child: RawSock,
    (copied, end): (u32, u32),
    enqueued_ns: u64,
    accepted_ns: u64,
    arrived_ns: u64,
    state: u32,
) -> Option<u32> {
    let arrived = end.wrapping_sub(copied);
    let inserted = connections::insert(child.0, |connection| unsafe {
        (*connection).listener = listener;
        (*connection).enqueued_ns = enqueued_ns;
        (*connection).accepted_ns = accepted_ns;
        (*connection).slot = listener.slot;
        (*connection).arrived = end;
        (*connection).consumed = copied;
        (*connection).state = state;
        (*connection).reader = 0;
        (*connection).writer = 0;
        // Marks at what was read already mean nothing.
        (*connection).mark_end = [copied; MARKS];
        (*connection).kept_end = [copied; MARKS];
        (*connection).next_mark = 0;
        if arrived != 0 && arrived_ns != 0 {
            (*connection).mark_end[0] = end;
            (*connection).kept_end[0] = end;
            (*connection).mark_ns[0] = arrived_ns;
            (*connection).next_mark = 1;
        }
    });
    if inserted { Some(arrived) } else { None }
}
