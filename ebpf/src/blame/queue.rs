//! Depth × time of a listener's accept queue, and its division among the acceptors.
//!
//! Programs on all CPUs write the record, one at a time. Who cannot get it does without: a change of the depth is
//! summed once more by whoever has it. A thread that begins or ceases to be an acceptor leaves a [`Note`] with the
//! moment. Every program reads the clock, then looks for notes, and divides the wait at each. So no time behind a note
//! is ever divided without it, however late the next program comes.

use listentop_abi::{
    blame::{FREE, JOINED, JOINS, LEFT, NOTES, Note, QueueTime, ThreadId},
    listener::ListenerRef,
};

use super::{claim, release, try_claim};
use crate::{
    kernel::MaybeGone,
    maps::{INFO, QUEUES},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// One acceptor less, modulo 2^64.
const LESS: u64 = u64::MAX;

/// The record of a listener, if it is watched.
#[inline(always)]
pub(crate) fn watched(listener: ListenerRef) -> Option<MapValue<QueueTime>> {
    let queue = QUEUES.value(listener.slot)?;
    if field!(queue.watched).get() != 0 && field!(queue.listener).get() == listener { Some(queue) } else { None }
}

/// Sums the wait up to now, and reads the depth from here on. Returns the share of one acceptor; `None` if another CPU
/// has the record.
#[inline(always)]
pub(crate) fn advance(queue: MapValue<QueueTime>) -> Option<u64> {
    change(queue, 0)
}

/// The same, and an acceptor more from here on.
#[inline(always)]
pub(super) fn join(queue: MapValue<QueueTime>) -> Option<u64> {
    change(queue, 1)
}

/// The same, and an acceptor less.
#[inline(always)]
pub(super) fn leave(queue: MapValue<QueueTime>) -> Option<u64> {
    change(queue, LESS)
}

#[inline(always)]
fn change(queue: MapValue<QueueTime>, more: u64) -> Option<u64> {
    if !claim(field!(queue.claims)) {
        field!(queue.missed).add(1);
        return None;
    }
    let missed = field!(queue.missed).get();
    sum(queue);
    if field!(queue.missed).get() != missed {
        // The depth has changed meanwhile, and who changed it could not sum. That was less than a microsecond ago.
        read_depth(queue);
    }
    if more != 0 {
        let acceptors = field!(queue.acceptors).get();
        field!(queue.acceptors).set(acceptors.wrapping_add(more));
    }
    let share = field!(queue.share_ns).get();
    release(field!(queue.claims));
    Some(share)
}

#[inline(always)]
fn sum(queue: MapValue<QueueTime>) {
    let listener = field!(queue.listener).get();
    let Some(info) = INFO.value(listener.slot) else { return };
    let closed_ns = field!(info.closed_ns).get();
    let now = stats::now();
    let until = if closed_ns != 0 && closed_ns < now { closed_ns } else { now };
    // The clock was read before: what has no note yet comes later.
    if field!(queue.noted).get() != 0 {
        for index in 0..NOTES {
            heed(queue, field!(queue.notes).wrapping(index), until);
        }
    }
    divide(queue, until);
    if closed_ns == 0 {
        read_depth(queue);
    } else {
        field!(queue.depth).set(0);
    }
}

/// Reads how many connections wait from now on.
#[inline(always)]
fn read_depth(queue: MapValue<QueueTime>) {
    field!(queue.depth).set(MaybeGone(field!(queue.socket).get()).accept_depth());
}

/// Divides the wait at a note.
#[inline(always)]
fn heed(queue: MapValue<QueueTime>, note: MapValue<Note>, until: u64) {
    let mut kind = field!(note.kind).get();
    // Twice: it may have joined and left.
    for _ in 0..2 {
        let left_ns = field!(note.until_ns).get();
        let (at, more, share, next) = if kind == JOINS {
            (field!(note.since_ns).get(), 1, field!(note.share_ns), JOINED)
        } else if kind == JOINED && left_ns != 0 {
            (left_ns, LESS, field!(note.last_share_ns), LEFT)
        } else {
            return;
        };
        divide(queue, if at < until { at } else { until });
        let acceptors = field!(queue.acceptors).get();
        field!(queue.acceptors).set(acceptors.wrapping_add(more));
        share.set(field!(queue.share_ns).get());
        field!(note.kind).set(next);
        kind = next;
    }
}

/// Divides the wait up to a moment, with the depth as it was read last.
#[inline(always)]
fn divide(queue: MapValue<QueueTime>, until: u64) {
    let since = field!(queue.until_ns).get();
    if until <= since {
        return;
    }
    if since != 0 {
        let wait = u64::from(field!(queue.depth).get()) * (until - since);
        field!(queue.total_ns).add_alone(wait);
        let acceptors = field!(queue.acceptors).get();
        if acceptors == 0 {
            field!(queue.nobody_ns).add_alone(wait);
        } else if wait != 0 {
            let wait = wait + field!(queue.rest).get();
            field!(queue.share_ns).add_alone(wait / acceptors);
            field!(queue.rest).set(wait % acceptors);
        }
    }
    field!(queue.until_ns).set(until);
}

/// Notes that a thread is an acceptor from now on. Returns which note; `None` if all are taken.
#[inline(always)]
pub(super) fn note_joining(queue: MapValue<QueueTime>, thread: ThreadId) -> Option<u32> {
    write(queue, JOINS, (stats::now(), 0), 0, thread)
}

/// Notes that a thread, which has been charged up to `share_ns`, is no acceptor from now on; `None` if all are taken.
#[inline(always)]
pub(super) fn note_leaving(queue: MapValue<QueueTime>, share_ns: u64, thread: ThreadId) -> Option<u32> {
    write(queue, JOINED, (0, stats::now()), share_ns, thread)
}

#[inline(always)]
fn write(
    queue: MapValue<QueueTime>,
    kind: u64,
    (since_ns, until_ns): (u64, u64),
    share_ns: u64,
    thread: ThreadId,
) -> Option<u32> {
    for index in 0..NOTES {
        let note = field!(queue.notes).wrapping(index);
        if field!(note.claims).get() != 0 || !try_claim(field!(note.claims)) {
            continue;
        }
        field!(note.since_ns).set(since_ns);
        field!(note.share_ns).set(share_ns);
        field!(note.until_ns).set(until_ns);
        field!(note.thread.start_ns).set(thread.start_ns);
        field!(note.thread.tid).set(thread.tid);
        // Last: who sums looks at what is not free.
        field!(note.kind).set(kind);
        field!(queue.noted).add(1);
        return Some(index as u32);
    }
    None
}

/// A note at a place below [`NOTES`].
#[inline(always)]
pub(super) fn note(queue: MapValue<QueueTime>, index: u32) -> MapValue<Note> {
    field!(queue.notes).wrapping(index as usize)
}

/// Gives a note back that nobody sums any more.
#[inline(always)]
pub(super) fn free(queue: MapValue<QueueTime>, note: MapValue<Note>) {
    field!(note.kind).set(FREE);
    release(field!(note.claims));
    field!(queue.noted).add(LESS);
}
