//! Connections with unread bytes, and whose they are: see `listentop_abi::reading`.
//!
//! Whether a connection has unread bytes is what its socket says when something happened to it: payload came, a thread
//! read, the connection was accepted or ends. The events say when to look. So nothing is counted twice or forgotten,
//! in whatever order the programs on different CPUs run.

use core::mem::MaybeUninit;

use listentop_abi::{
    blame::{BlameLoss, QueueTime, ThreadId},
    connection::Connection,
    listener::ListenerRef,
    reading::{self, Reader, ReaderKey, Reading},
};

use super::{claim, lost, queue::watched, release};
use crate::{
    kernel,
    maps::{READERS, READING},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// `BPF_NOEXIST`.
const NEW: u64 = 1;
/// Looks at a connection that changes while it is looked at. The next event looks again in any case.
const LOOKS: usize = 4;
/// Nobody is known to read it.
const NOBODY: ThreadId = ThreadId { start_ns: 0, tid: 0 };

/// The current thread.
#[inline(always)]
fn current() -> ThreadId {
    let (tid, start_ns) = kernel::current_thread();
    ThreadId { start_ns, tid: u64::from(tid) }
}

/// The current thread read from a connection, or accepted it: it is the reader from now on.
#[inline(always)]
pub(crate) fn used(connection: MapValue<Connection>, key: u64, unread: impl Fn() -> bool) {
    let listener = field!(connection.listener).get();
    if watched(listener).is_none() {
        return;
    }
    super::accepts(listener);
    let reader = current();
    let Some(state) = state(connection, key, reader) else { return };
    if field!(state.reader.tid).get() != reader.tid || field!(state.reader.start_ns).get() != reader.start_ns {
        field!(state.reader.start_ns).set(reader.start_ns);
        field!(state.reader.tid).set(reader.tid);
    }
    look(state, unread);
}

/// A connection is found at the start.
#[inline(always)]
pub(crate) fn found(connection: MapValue<Connection>, key: u64, reader: impl FnOnce() -> ThreadId) {
    let listener = field!(connection.listener).get();
    if field!(connection.accepted_ns).get() != 0 && watched(listener).is_some() && READING.value(&key).is_none() {
        let _ = insert(connection, key, reader());
    }
}

/// Payload came for a connection; `reader`: who reads it, if it is new here.
#[inline(always)]
pub(crate) fn seen(
    connection: MapValue<Connection>,
    key: u64,
    reader: impl FnOnce() -> ThreadId,
    unread: impl Fn() -> bool,
) {
    let known = READING.value(&key);
    let state = if known.is_some_and(|state| field!(state.identity).get() == field!(connection.identity_kept).get()) {
        known
    } else if field!(connection.accepted_ns).get() != 0 && watched(field!(connection.listener).get()).is_some() {
        state(connection, key, reader())
    } else {
        // What waits before the accept is the accept queue's.
        None
    };
    if let Some(state) = state {
        look(state, unread);
    }
}

/// The current thread accepted a connection, if it is new here.
#[inline(always)]
pub(crate) fn accepted(connection: MapValue<Connection>, key: u64, unread: impl Fn() -> bool) {
    let reader = || {
        super::accepts(field!(connection.listener).get());
        current()
    };
    seen(connection, key, reader, unread);
}

/// Nobody is known to read it: for [`seen`].
#[inline(always)]
pub(crate) fn nobody() -> ThreadId {
    NOBODY
}

/// A connection ends.
#[inline(always)]
pub(crate) fn ended(key: u64) {
    if let Some(state) = READING.value(&key) {
        look(state, || false);
        let _ = READING.remove(&key);
    }
}

/// Looks at a connection again, in case a change of it was not seen; `unread` is `None` if it is another one by now.
#[inline(always)]
pub(crate) fn look_again(key: u64, unread: impl Fn(u32) -> Option<bool>) {
    let Some(state) = READING.value(&key) else { return };
    match unread(field!(state.identity).get()) {
        Some(unread) => look(state, || unread),
        None => ended(key),
    }
}

/// The record of a connection, which is made if there is none.
#[inline(always)]
fn state(connection: MapValue<Connection>, key: u64, reader: ThreadId) -> Option<MapValue<Reading>> {
    let identity = field!(connection.identity).get();
    if let Some(state) = READING.value(&key) {
        if field!(state.identity).get() == identity {
            return Some(state);
        }
        // The end of another connection, which had the address, was not seen.
        ended(key);
    }
    insert(connection, key, reader)
}

#[inline(always)]
fn insert(connection: MapValue<Connection>, key: u64, reader: ThreadId) -> Option<MapValue<Reading>> {
    let listener = field!(connection.listener).get();
    let identity = field!(connection.identity).get();
    let mut new = MaybeUninit::<Reading>::uninit();
    let at = new.as_mut_ptr();
    // SAFETY: all fields of our own record are written, and there is no room between them. Word by word: of several
    // zeros the compiler makes a call of memset, and older kernels refuse an object with such calls.
    let new = unsafe {
        (&raw mut (*at).claims).write_volatile(0);
        (&raw mut (*at).changes).write_volatile(0);
        (&raw mut (*at).listener).write_volatile(listener);
        (&raw mut (*at).identity).write_volatile(identity);
        (&raw mut (*at).is_unread).write_volatile(0);
        for (to, from) in [(&raw mut (*at).reader, reader), (&raw mut (*at).charged, NOBODY)] {
            (&raw mut (*to).start_ns).write_volatile(from.start_ns);
            (&raw mut (*to).tid).write_volatile(from.tid);
        }
        new.assume_init_ref()
    };
    let _ = READING.insert(&key, new, NEW);
    let state = READING.value(&key);
    if state.is_none() {
        lost(BlameLoss::Connections);
    }
    state
}

/// Has the sums say what the socket says.
#[inline(always)]
fn look(state: MapValue<Reading>, unread: impl Fn() -> bool) {
    // Before the attempt: whoever has the record sees it, and looks again.
    field!(state.changes).add(1);
    for _ in 0..LOOKS {
        if !claim(field!(state.claims)) {
            return;
        }
        let changes = field!(state.changes).get();
        agree(state, unread());
        release(field!(state.claims));
        if field!(state.changes).get() == changes {
            return;
        }
    }
}

#[inline(always)]
fn agree(state: MapValue<Reading>, unread: bool) {
    let was_unread = field!(state.is_unread).get() != 0;
    if !unread && !was_unread {
        return;
    }
    let listener = field!(state.listener).get();
    let Some(queue) = watched(listener) else { return };
    let mut reader = ThreadId { start_ns: field!(state.reader.start_ns).get(), tid: field!(state.reader.tid).get() };
    if reader.tid == 0 {
        // One that cannot have another reader.
        reader = ThreadId { start_ns: field!(queue.only.start_ns).get(), tid: field!(queue.only.tid).get() };
    }
    let charged = ThreadId { start_ns: field!(state.charged.start_ns).get(), tid: field!(state.charged.tid).get() };
    if unread && was_unread && reader.tid == charged.tid && reader.start_ns == charged.start_ns {
        return;
    }
    let now = stats::now();
    if was_unread {
        add(queue, charged, listener, reading::ends(now));
        field!(state.is_unread).set(0);
    }
    if unread {
        let reader = if add(queue, reader, listener, reading::begins(now)) {
            reader
        } else {
            lost(BlameLoss::Threads);
            if !add(queue, NOBODY, listener, reading::begins(now)) {
                return;
            }
            NOBODY
        };
        field!(state.charged.start_ns).set(reader.start_ns);
        field!(state.charged.tid).set(reader.tid);
        field!(state.is_unread).set(1);
    }
}

/// Adds to the sums of a reader and of the listener; `false` if there is no room for the reader.
#[inline(always)]
fn add(queue: MapValue<QueueTime>, thread: ThreadId, listener: ListenerRef, change: u64) -> bool {
    let mut key = MaybeUninit::<ReaderKey>::uninit();
    // SAFETY: all fields are written, word by word as above: nobody's are zeros.
    let key = unsafe {
        (&raw mut (*key.as_mut_ptr()).thread.start_ns).write_volatile(thread.start_ns);
        (&raw mut (*key.as_mut_ptr()).thread.tid).write_volatile(thread.tid);
        (&raw mut (*key.as_mut_ptr()).listener).write_volatile(listener);
        key.assume_init_ref()
    };
    let mut reader = READERS.value(key);
    if reader.is_none() {
        let mut new = MaybeUninit::<Reader>::uninit();
        // SAFETY: all fields are written, word by word as above.
        let new = unsafe {
            (&raw mut (*new.as_mut_ptr()).sum).write_volatile(0);
            (&raw mut (*new.as_mut_ptr()).charged).write_volatile(0);
            new.assume_init_ref()
        };
        let _ = READERS.insert(key, new, NEW);
        reader = READERS.value(key);
    }
    let Some(reader) = reader else { return false };
    field!(reader.sum).add(change);
    field!(queue.unread).add(change);
    true
}

/// What a thread is to be charged with since the last time. The thread has been claimed.
#[inline(always)]
pub(super) fn gained(thread: ThreadId, listener: ListenerRef) -> u64 {
    let Some(reader) = READERS.value(&ReaderKey { thread, listener }) else { return 0 };
    let waited = reading::waited(field!(reader.sum).get(), stats::now());
    let gained = reading::since(waited, field!(reader.charged).get());
    if gained != 0 {
        field!(reader.charged).set(waited);
    }
    reading::nanoseconds(gained)
}
