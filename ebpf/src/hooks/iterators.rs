//! Iterators: programs that user space runs on demand by reading a file.
//!
//! aya has no macro for them, so their sections and contexts are declared by hand (include/linux/bpf.h, `bpf_iter__*`).
//! The kernel passes a pointer to such a context, valid and unchanged while the program runs: hence the references. The
//! bench's empty programs do not concern them, because no event runs them.

use core::{ffi::c_void, ptr};

use listentop_abi::{
    connection::{Connection, PLACES, SHARD_UNKNOWN, STATE_BASELINE, STATE_SPILLED, STATE_WALKED},
    limits::{POLLED_AT_ONCE, QUEUE_STRETCH},
    listener::{AGAIN, FOUND, ListenerRef, NO_COOKIE, WALKED},
    loss::Loss,
};

use crate::{
    config, connections,
    events::listening,
    kernel::{
        CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, LiveSocket, MaybeGone, NEW_SYN_RECV,
        Position, Request,
    },
    maps::{self, INFO, SPILLED},
    origin::{self, Origin},
    record, stats,
    values::{Lookup as _, MapValue, Plain, field},
};

/// Time after which a socket that does not listen is closed, rather than changing its state: the hook runs before the
/// kernel sets the state.
const CLOSING_NS: u64 = 1_000_000_000;

/// Context of iter/bpf_map_elem.
#[repr(C)]
pub(crate) struct Element<K> {
    meta: *const c_void,
    map: *const c_void,
    key: *mut K,
    value: *mut c_void,
}

impl<K: Plain> Element<K> {
    /// Its key; `None` after the last element.
    #[inline(always)]
    pub(super) fn key(&self) -> Option<K> {
        if self.key.is_null() {
            return None;
        }
        // SAFETY: the iterator passes a pointer to the element's key, which stays as what a lookup finds, and is
        // aligned.
        Some(unsafe { MapValue::new(self.key) }.get())
    }
}

/// Context of a raw tracepoint's program, in a test run: the numbers that user space passes, which are keys of a map.
#[repr(C)]
pub(crate) struct TestRun<const N: usize> {
    keys: [u64; N],
}

impl<const N: usize> TestRun<N> {
    /// Does something with each key. Where there may be several, the first 0 ends them: no key is 0 there.
    #[inline(always)]
    pub(super) fn each(&self, visit: impl Fn(u64)) {
        if N == 1 {
            return visit(self.keys[0]);
        }
        // The verifier lets no program read its context at a place that a loop counts, so the keys are copied to the
        // stack. The compiler would leave a copy out that is not volatile.
        let mut keys = [0; N];
        for (key, passed) in keys.iter_mut().zip(&self.keys) {
            // SAFETY: a reference to an aligned number.
            *key = unsafe { ptr::read_volatile(passed) };
        }
        for key in keys {
            if key == 0 {
                return;
            }
            visit(key);
        }
    }
}

/// A walk over the elements of a map, by two programs that do the same for an element: an iterator, which one call runs
/// for all of them; and one that a test run runs for one, or for a few (`by $few`), because there are kernels that
/// refuse iterators through which a program could write to the values.
///
/// `$visit` has a constant as a parameter of its type, so that each program has closures of its own, which the compiler
/// inlines: one that two programs share would be a function in `.text`.
macro_rules! walk {
    ($(#[$doc:meta])* $iterator:ident, $one:ident: $key:ty => $visit:ident) => {
        $crate::hooks::iterators::walk! { $(#[$doc])* $iterator, $one by 1; $key => $visit }
    };
    ($(#[$doc:meta])* $iterator:ident, $one:ident by $few:expr; $key:ty => $visit:ident) => {
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "iter/bpf_map_elem")]
        pub(crate) extern "C" fn $iterator(ctx: &$crate::hooks::iterators::Element<$key>) -> i32 {
            if let Some(key) = ctx.key() {
                $visit::<false>(key);
            }
            0
        }

        #[doc = concat!("[`", stringify!($iterator), "`] for the elements that a test run passes.")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "raw_tp/test_run")]
        pub(crate) extern "C" fn $one(ctx: &$crate::hooks::iterators::TestRun<{ $few }>) -> i32 {
            ctx.each(|key| $visit::<true>(key as $key));
            0
        }
    };
}
pub(super) use walk;

/// Context of iter/tcp.
#[repr(C)]
pub(crate) struct TcpSocket {
    meta: *const c_void,
    socket: *const u8,
    uid: u64,
}

impl TcpSocket {
    /// The request that the iterator is at, as an address.
    #[inline(always)]
    pub(super) fn request(&self) -> Option<Request> {
        if self.socket.is_null() {
            return None;
        }
        let raw = MaybeGone::of(self.socket);
        (raw.state() == NEW_SYN_RECV).then_some(Request(raw.0))
    }

    /// The full socket that the iterator is at, if it is one.
    #[inline(always)]
    pub(super) fn get(&self) -> Option<LiveSocket> {
        // SAFETY: the socket in the iterator's context, which the iterator locks or holds while the program runs.
        unsafe { LiveSocket::visited(self.socket) }
    }
}

walk! {
    /// Walks [`LISTENERS`](crate::maps) and refreshes each listener's gauges: one pass covers every namespace, and no
    /// socket is locked.
    poll, poll_one by POLLED_AT_ONCE; u64 => refresh
}

#[inline(always)]
fn refresh<const ONE: bool>(key: u64) {
    let raw = MaybeGone(key);
    let Some(listener) = maps::listener_at(key) else { return };
    let Some(info) = INFO.value(listener.slot) else { return };
    // The socket may have closed, and its memory may be another's by now: the cookie shows that.
    let cookie = field!(info.cookie).get();
    if raw.state() != LISTEN || (cookie & NO_COOKIE == 0 && raw.cookie() != cookie) {
        // The kernel skipped the hook on its closing, unless it closes or opens at this moment.
        let now = stats::now();
        let last_seen = field!(info.opened_ns).get().max(field!(info.polled_ns).get());
        if now.saturating_sub(last_seen) > CLOSING_NS {
            listening::forget(raw.0, info, now);
        }
        return;
    }
    if !raw.has_listened() {
        // listen(2) is under way, and may fail.
        return;
    }
    if field!(info.port).get() == 0 || field!(info.inode).get() == 0 {
        listening::identify(raw, info);
    }
    let head = raw.accept_head();
    let oldest_ns = if head.is_null() {
        0
    } else {
        // Only if it waits still, and is not another connection that had the address before.
        let child = head.child();
        let tracked = connections::find(child.0)
            .filter(|connection| {
                let connection = *connection;
                field!(connection.accepted_ns).get() == 0 && child.identity() == Some(field!(connection.identity).get())
            })
            .map_or(0, |connection| field!(connection.enqueued_ns).get());
        if tracked != 0 { tracked } else { head.enqueued_ns() }
    };
    field!(info.oldest_ns).set(oldest_ns);
    field!(info.depth).set(raw.accept_depth());
    field!(info.backlog).set(raw.backlog());
    field!(info.somaxconn).set(raw.somaxconn());
    field!(info.syn_depth).set(raw.qlen());
    field!(info.syn_young).set(raw.young());
    field!(info.defer_accept).set(raw.defer_accept());
    field!(info.socket_drops).set(raw.drops());
    // A listener may be bound to another one at any time.
    field!(info.device).set(raw.device());
    field!(info.polled_ns).set(stats::now());
}

walk! {
    /// Walks over the sets of connections in use, for bytes that wait unread: some of
    /// [`USED_SETS`](crate::maps) at a time.
    unread, unread_one: u32 => unread_in_sets
}

#[inline(always)]
fn unread_in_sets<const ONE: bool>(place: u32) {
    connections::each_used(place, |set| {
        for place in 0..PLACES {
            if let Some((key, connection)) = connections::at(set, place) {
                note_unread(MaybeGone(key), connection);
            }
        }
    });
}

walk! {
    /// The same for [`SPILLED`].
    unread_spilled, unread_spilled_one: u64 => unread_in_spilled
}

#[inline(always)]
fn unread_in_spilled<const ONE: bool>(key: u64) {
    if let Some(connection) = SPILLED.value(&key) {
        note_unread(MaybeGone(key), connection);
    }
}

/// Notes with its listener since when the connection's oldest unread byte waits, how many do, and how many seem to wait
/// that its socket has passed.
///
/// The record alone is read if all was read. Otherwise the socket is asked: something in the kernel may have taken the
/// bytes (sockmap, zero-copy receive), an urgent byte is passed over, and a disconnected socket holds nothing.
#[inline(always)]
fn note_unread(socket: MaybeGone, connection: MapValue<Connection>) {
    // What waits before the accept is the accept queue's.
    let accepted_ns = field!(connection.accepted_ns).get();
    if field!(connection.live).get() == 0 || accepted_ns == 0 {
        return;
    }
    let consumed = field!(connection.consumed).get();
    let arrived = field!(connection.arrived).get();
    if arrived.wrapping_sub(consumed) as i32 <= 0 {
        return;
    }
    let listener = field!(connection.listener).get();
    let Some(info) = INFO.value(listener.slot) else { return };
    if field!(info.generation).get() != listener.generation {
        return;
    }
    let position = reader_of(socket, connection, consumed, arrived);
    let waiting = arrived.wrapping_sub(position) as i32 > 0;
    // A read that is under way has moved the socket's reader, and its probe has yet to run. If nothing was read since
    // the walk before, that is not the reason.
    if field!(connection.checked).get() == consumed {
        field!(info.passed_bytes).add_alone(u64::from(position.wrapping_sub(consumed)));
    } else {
        field!(connection.checked).set(consumed);
    }
    if waiting {
        field!(info.accepted_unread).add_alone(u64::from(arrived.wrapping_sub(position)));
        // What came unannounced was there when the connection was accepted.
        let since = record::first_unread(connection, position).max(accepted_ns);
        let oldest = field!(info.unread_ns).get();
        if oldest == 0 || since < oldest {
            field!(info.unread_ns).set(since);
        }
    }
}

/// Where a connection's reader is, by its socket, between `consumed` and `arrived`.
#[inline(always)]
pub(super) fn reader_of(socket: MaybeGone, connection: MapValue<Connection>, consumed: u32, arrived: u32) -> u32 {
    if socket.identity() != Some(field!(connection.identity).get()) {
        // It is another connection by now.
        return arrived;
    }
    // A subflow's bytes move on to the socket above it before they are read.
    if socket.mptcp().is_some() {
        return consumed;
    }
    let Some(copied) = socket.copied_seq() else { return consumed };
    let passed = copied.wrapping_sub(consumed) as i32 > 0;
    let reader = Position::within(if passed { copied } else { consumed }, arrived);
    if reader != arrived && socket.is_urgent(reader) { reader.wrapping_add(1) } else { reader }
}

walk! {
    /// Walks [`LISTENERS`](crate::maps) at start and takes over the connections that wait on their accept queues. Each
    /// pass covers a stretch of each queue, because the verifier follows every turn of a loop.
    /// [`cursor`](listentop_abi::listener::ListenerInfo::cursor) says where the next pass goes on.
    ///
    /// A request that leaves the queue meanwhile may be used again at once, at the end of the same queue; then the walk
    /// misses what was in between. So it repeats each queue until it finds nothing new.
    walk_queues, walk_queues_one: u64 => walk_queue
}

#[inline(always)]
fn walk_queue<const ONE: bool>(key: u64) {
    let raw = MaybeGone(key);
    let Some(listener) = maps::listener_at(key) else { return };
    let Some(info) = INFO.value(listener.slot) else { return };
    let cursor = field!(info.cursor).get();
    if cursor == WALKED || raw.state() != LISTEN {
        field!(info.cursor).set(WALKED);
        return;
    }
    let mut round = cursor & (FOUND | AGAIN);
    let mut request = Request(cursor & !(FOUND | AGAIN));
    // Since the last pass the request may have been accepted and its memory used again.
    if request.listener() != raw.0 {
        request = raw.accept_head();
    }
    for _ in 0..QUEUE_STRETCH {
        if request.is_null() {
            field!(info.cursor).set(if round & FOUND == 0 { WALKED } else { AGAIN });
            return;
        }
        let child = request.child();
        if child.0 != 0 && child.is_locked() {
            // Perhaps the kernel enqueues it now, and its hook has yet to run: it is left to the next pass.
            round |= FOUND;
        } else if child.0 != 0 && connections::find(child.0).is_none() && child.socket() == 0 && !child.dead() {
            // It was enqueued before the probes were attached, and is not accepted yet.
            if take_over(listener, child, request.enqueued_ns(), 0, STATE_WALKED) {
                round |= FOUND;
                if child.socket() != 0 || request.has_left(child) {
                    opened_meanwhile(listener, child);
                }
            } else if round & AGAIN == 0 {
                stats::lost(Loss::Connections);
            }
        }
        request = request.next();
    }
    field!(info.cursor).set(request.0 | round);
}

/// Visits the TCP sockets of one namespace at start, for its listeners.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn find_listeners(ctx: &TcpSocket) -> i32 {
    let Some(sock) = ctx.get() else { return 0 };
    if sock.state() != LISTEN {
        return 0;
    }
    let Some(listener) = listening::begin(sock, 0) else {
        stats::lost(Loss::Listeners);
        return 0;
    };
    let Some(info) = INFO.value(listener.slot) else { return 0 };
    let raw = sock.address();
    listening::identify(raw, info);
    if field!(info.noticed).get() != 0 {
        // A connection came after the probes were attached and showed the listener: that says nothing about its age.
        field!(info.opened_ns).set(0);
    }
    origin::note(raw, listener, info);
    0
}

/// Visits the sockets again after the walk of the accept queues, for the connections that are open by then. Some were
/// accepted before the probes were attached. Others waited then, and were accepted before the walk reached them. A last
/// visit comes after the start, when each accept makes a missing record itself. It finds connections whose accept began
/// before the first visit and ended after it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn find_connections(ctx: &TcpSocket) -> i32 {
    let Some(sock) = ctx.get() else { return 0 };
    if !is_open(sock.state()) {
        return 0;
    }
    let raw = sock.address();
    // Without a struct socket it waits on an accept queue, or was given up by its process.
    if raw.socket() == 0 || raw.dead() || connections::find(raw.0).is_some() {
        return 0;
    }
    let (listener, shards) = match origin::of(raw) {
        Origin::None => return 0,
        Origin::Listener(listener, shards) => (listener, shards),
        Origin::Ambiguous => {
            // Both visits find it; what the first counted may be gone.
            if config::started() {
                stats::lost(Loss::AmbiguousOrigin);
            }
            return 0;
        }
    };
    if !take_over(listener, raw, 0, stats::now(), STATE_BASELINE) {
        // The second visit also finds connections for which the first had no room.
        if !config::started() {
            stats::lost(Loss::Connections);
        }
    } else if shards > 1 {
        // The shard that it came through is unknown. The group's sums are right.
        stats::lost(Loss::AmbiguousOrigin);
        if let Some(connection) = connections::find(raw.0) {
            field!(connection.holder).set(SHARD_UNKNOWN);
        }
    }
    0
}

/// Whether a process may read or write a connection in this state; it may have shut down its side.
#[inline(always)]
fn is_open(state: i32) -> bool {
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

/// Makes the record of a connection that was there before the start; `false` if there is no room.
#[inline(always)]
fn take_over(listener: ListenerRef, socket: MaybeGone, enqueued_ns: u64, accepted_ns: u64, state: u32) -> bool {
    let Some(stats) = stats::of(listener) else { return true };
    // If that cannot be read, the socket is gone.
    let Some(position) = socket.position() else { return true };
    // What it holds came after the handshake, and no later than now.
    let arrived_ns = match (enqueued_ns, accepted_ns) {
        (0, 0) => stats::now(),
        (0, accepted_ns) => accepted_ns,
        (enqueued_ns, _) => enqueued_ns,
    };
    let Some(arrived) = record::track(listener, socket, position, enqueued_ns, accepted_ns, arrived_ns, state) else {
        return false;
    };
    field!(stats.arrived_bytes).add(u64::from(arrived));
    if accepted_ns == 0 {
        field!(stats.inherited_waiting).add(1);
    } else {
        field!(stats.inherited_open).add(1);
    }
    true
}

/// A connection left its queue while [`walk_queues`] made its record. The probes of the accept may have run before
/// there was a record: then it is open, and counts as accepted before the start. If they run later, they find an
/// accepted record, and count one more unknown connection.
///
/// The caller looks whether it left after it made the record. So either those probes see the record, or the caller sees
/// that it left. Between the two lie the atomic additions of [`take_over`], which order them on x86.
#[inline(always)]
fn opened_meanwhile(listener: ListenerRef, child: MaybeGone) {
    let Some(connection) = connections::find(child.0) else { return };
    let Some(stats) = stats::of(listener) else { return };
    if field!(connection.accepted_ns).get() != 0 || field!(connection.state).get() & STATE_WALKED == 0 {
        return;
    }
    field!(connection.accepted_ns).set(stats::now());
    field!(connection.state).set(STATE_BASELINE | field!(connection.state).get() & STATE_SPILLED);
    field!(stats.inherited_waiting).add(u64::MAX);
    field!(stats.inherited_open).add(1);
}
