//! The record of a connection: what several events do with it.

use listentop_abi::{
    connection::{Connection, MARKS},
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
        // A mark that ends where reading began has no meaning.
        for mark in 0..MARKS {
            field!(connection.mark_end).wrapping(mark).set(copied);
            field!(connection.kept_end).wrapping(mark).set(copied);
        }
        field!(connection.next_mark).set(0);
        if arrived != 0 && arrived_ns != 0 {
            field!(connection.mark_end).wrapping(0).set(end);
            field!(connection.kept_end).wrapping(0).set(end);
            field!(connection.mark_ns).wrapping(0).set(arrived_ns);
            field!(connection.next_mark).set(1);
        }
    });
    if inserted { Some(arrived) } else { None }
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
