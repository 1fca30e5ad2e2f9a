//! The record of a connection: what several events do with it.

use listentop_abi::{
    connection::{Connection, MARKS, STATE_BASELINE, STATE_PRESUMED},
    listener::ListenerRef,
    loss::Loss,
};

use crate::{
    connections,
    kernel::{MaybeGone, Position},
    stats,
    values::{MapValue, field},
};

/// Makes the record of a connection; returns how many payload bytes it already holds. `None` if there is no room: the
/// caller counts that as a loss, once per connection.
///
/// The bytes that it holds were announced before the record existed, so they count as arrived at `arrived_ns`. If that
/// is 0 the time is unknown, and they have no residency.
#[inline(always)]
pub(crate) fn track(
    listener: ListenerRef,
    child: MaybeGone,
    position: Position,
    enqueued_ns: u64,
    accepted_ns: u64,
    arrived_ns: u64,
    state: u32,
) -> Option<u32> {
    let Position { copied, end, identity } = position;
    let arrived = end.wrapping_sub(copied);
    let inserted = connections::insert(child.0, |connection, bits| {
        field!(connection.listener).set(listener);
        field!(connection.enqueued_ns).set(enqueued_ns);
        field!(connection.accepted_ns).set(accepted_ns);
        field!(connection.slot).set(listener.slot);
        field!(connection.arrived).set(end);
        field!(connection.consumed).set(copied);
        field!(connection.state).set(state | bits);
        field!(connection.reader).set(0);
        field!(connection.writer).set(0);
        field!(connection.holder).set(0);
        field!(connection.identity).set(identity);
        field!(connection.identity_kept).set(identity);
        field!(connection.asked_ns).set(0);
        field!(connection.ending).set(0);
        // No walk has come by yet.
        field!(connection.checked).set(copied.wrapping_sub(1));
        set_marks(connection, copied, end, arrived_ns);
    });
    if inserted { Some(arrived) } else { None }
}

/// The marks of a connection whose bytes from `copied` to `end` arrived at `arrived_ns`; 0: nobody knows when.
#[inline(always)]
fn set_marks(connection: MapValue<Connection>, copied: u32, end: u32, arrived_ns: u64) {
    // A mark that ends where reading began has no meaning.
    for mark in 0..MARKS {
        field!(connection.mark_end).wrapping(mark).set(copied);
        field!(connection.kept_end).wrapping(mark).set(copied);
    }
    field!(connection.next_mark).set(0);
    if end != copied && arrived_ns != 0 {
        field!(connection.mark_end).wrapping(0).set(end);
        field!(connection.kept_end).wrapping(0).set(end);
        field!(connection.mark_ns).wrapping(0).set(arrived_ns);
        field!(connection.next_mark).set(1);
    }
}

/// Brings the record of a connection up to date, of which accepts, reads or arrivals were not measured for a time: as
/// if it had been open at the start. Its counters follow, so what waits unread is right again. What was seen of it all
/// the time stays.
#[inline(always)]
pub(crate) fn resume(socket: MaybeGone, connection: MapValue<Connection>) {
    let Some(Position { copied, end, identity }) = socket.position() else { return };
    if field!(connection.live).get() == 0 || field!(connection.identity).get() != identity {
        // The event that finds it out ends the record.
        return;
    }
    let listener = field!(connection.listener).get();
    let Some(stats) = stats::of(listener) else { return };
    let now = stats::now();
    let waits = field!(connection.accepted_ns).get() == 0;
    if waits {
        presume_accepted(socket, connection, now);
    } else {
        field!(connection.state).set(field!(connection.state).get() | STATE_BASELINE);
    }
    let (arrived, consumed) = (field!(connection.arrived).get(), field!(connection.consumed).get());
    field!(connection.arrived).set(end);
    field!(connection.consumed).set(copied);
    field!(connection.asked_ns).set(0);
    field!(connection.checked).set(copied.wrapping_sub(1));
    // What it holds came no later than now; that of one that waits, no earlier than it was enqueued.
    let enqueued_ns = field!(connection.enqueued_ns).get();
    set_marks(connection, copied, end, if waits && enqueued_ns != 0 { enqueued_ns } else { now });
    // Modulo 2^64, as the position may be before what was counted: bytes that arrived before their FIN did, say.
    field!(stats.arrived_bytes).add(i64::from(end.wrapping_sub(arrived) as i32) as u64);
    field!(stats.otherwise_consumed_bytes).add(i64::from(copied.wrapping_sub(consumed) as i32) as u64);
}

/// Counts a connection as accepted that left its queue unseen, by no thread.
#[inline(always)]
fn presume_accepted(socket: MaybeGone, connection: MapValue<Connection>, now: u64) {
    if socket.socket() == 0 && !socket.dead() {
        return;
    }
    if let Some(stats) = stats::of(field!(connection.listener).get()) {
        field!(connection.state).set(field!(connection.state).get() | STATE_BASELINE | STATE_PRESUMED);
        field!(connection.accepted_ns).set(now);
        field!(stats.untracked.accepts).add(1);
    }
}

/// Notes what arrived, or was accepted, behind [`resume`] and before the hooks were there. To be called while nothing
/// can arrive. A read of that time is left to the next read, and to the walk for unread bytes: the probe of one that is
/// under way would count it again.
#[inline(always)]
pub(crate) fn catch_up(socket: MaybeGone, connection: MapValue<Connection>) {
    let Some(Position { end, .. }) = socket.position() else { return };
    let now = stats::now();
    if field!(connection.accepted_ns).get() == 0 {
        presume_accepted(socket, connection, now);
    }
    let fresh = end.wrapping_sub(field!(connection.arrived).get());
    if fresh as i32 <= 0 {
        return;
    }
    let next = field!(connection.next_mark).get() as usize % MARKS;
    field!(connection.mark_ns).wrapping(next).set(now);
    field!(connection.mark_end).wrapping(next).set(end);
    field!(connection.kept_end).wrapping(next).set(end);
    field!(connection.next_mark).set((next as u32).wrapping_add(1));
    field!(connection.arrived).set(end);
    if let Some(stats) = stats::of(field!(connection.listener).get()) {
        field!(stats.arrived_bytes).add(u64::from(fresh));
    }
}

/// When the first byte behind `consumed` arrived, which is the time of the mark that ends nearest behind it. 0 if it
/// was read before its arrival was announced (SO_RCVLOWAT, busy polling).
#[inline(always)]
pub(crate) fn first_unread(connection: MapValue<Connection>, consumed: u32) -> u64 {
    let mut nearest = i32::MAX;
    let mut since = 0;
    for index in 0..MARKS {
        let beyond = field!(connection.mark_end).wrapping(index).get().wrapping_sub(consumed) as i32;
        if beyond > 0 && beyond < nearest {
            nearest = beyond;
            since = field!(connection.mark_ns).wrapping(index).get();
        }
    }
    since
}

/// Ends the record of a connection that was taken over at the start, and takes back what that counted.
#[inline(always)]
pub(crate) fn let_go(key: u64, connection: MapValue<Connection>) {
    if let Some(stats) = stats::of(field!(connection.listener).get()) {
        // One less, modulo 2^64.
        field!(stats.inherited_open).add(u64::MAX);
        let unread = field!(connection.arrived).get().wrapping_sub(field!(connection.consumed).get());
        field!(stats.otherwise_consumed_bytes).add(i64::from(unread as i32) as u64);
    }
    connections::end(key, connection);
}

/// The record of the connection at an address, which has this `identity`. If the record is of another one, which had
/// the address before, it ends.
#[inline(always)]
pub(crate) fn find(key: u64, identity: impl FnOnce() -> Option<u32>) -> Option<MapValue<Connection>> {
    let connection = connections::find(key)?;
    let identity = identity()?;
    if field!(connection.identity).get() == identity {
        return Some(connection);
    }
    end_unseen(key, connection);
    None
}

/// The same of a socket that may be gone.
#[inline(always)]
pub(crate) fn of(socket: MaybeGone) -> Option<MapValue<Connection>> {
    find(socket.0, || socket.identity())
}

/// Ends the record of a connection whose end no probe saw: another one has its address by now.
#[inline(always)]
pub(crate) fn end_unseen(key: u64, connection: MapValue<Connection>) {
    // Two threads that use the socket at the same time may find that out together.
    let ending = field!(connection.ending);
    ending.add(1);
    if ending.get() != 1 {
        ending.add(-1);
        return;
    }
    stats::lost(Loss::UnseenEnd);
    if let Some(stats) = stats::of(field!(connection.listener).get()) {
        let accepted = field!(connection.accepted_ns).get() != 0;
        let counter = if accepted { field!(stats.closed) } else { field!(stats.aborted) };
        counter.add(1);
        let unread = field!(connection.arrived).get().wrapping_sub(field!(connection.consumed).get());
        field!(stats.otherwise_consumed_bytes).add(i64::from(unread as i32) as u64);
    }
    connections::end(key, connection);
}
