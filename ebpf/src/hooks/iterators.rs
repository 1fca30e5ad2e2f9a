//! Iterators: programs that user space runs on demand by reading a file.
//!
//! aya has no macro for them, so their sections and contexts are declared by hand (include/linux/bpf.h, `bpf_iter__*`).

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_skc_to_tcp_sock;
use listentop_abi::{
    connection::{STATE_BASELINE, STATE_WALKED},
    limits::QUEUE_STRETCH,
    listener::{AGAIN, FOUND, ListenerRef, NO_COOKIE, WALKED},
    loss::Loss,
};

use crate::{
    config, connections,
    events::{enqueued, listening},
    kernel::{
        self, AF_INET, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, RawSock, Request, Sock,
    },
    maps::{ADDRESSES, AddressOwner, INFO, LocalAddress},
    stats::{self, add},
};

/// A socket that has not been listening for this long is not just changing its state: the hook runs before the state is
/// set.
const CLOSING_NS: u64 = 1_000_000_000;

/// Context of iter/bpf_map_elem.
#[repr(C)]
pub(crate) struct MapElement {
    meta: *const c_void,
    map: *const c_void,
    key: *const u64,
    value: *const ListenerRef,
}

/// Context of iter/tcp.
#[repr(C)]
pub(crate) struct TcpSocket {
    meta: *const c_void,
    socket: *const u8,
    uid: u64,
}

/// Walks [`LISTENERS`] and refreshes each listener's gauges: one pass covers every namespace, and no socket is locked.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub(crate) extern "C" fn poll(ctx: *const MapElement) -> i32 {
    let Some((raw, listener)) = (unsafe { element(ctx) }) else { return 0 };
    let Some(info) = INFO.get_ptr_mut(listener.slot) else { return 0 };
    // The socket may have closed, and its memory may be another's by now: the cookie tells.
    let cookie = unsafe { (*info).cookie };
    if raw.state() != LISTEN || (cookie & NO_COOKIE == 0 && raw.cookie() != cookie) {
        // The hook that should have seen it close was skipped by the kernel, unless it is closing, or opening, at this
        // moment.
        let now = stats::now();
        if now.saturating_sub(unsafe { (*info).opened_ns }.max(unsafe { (*info).polled_ns })) > CLOSING_NS {
            listening::forget(raw.0, info, now);
        }
        return 0;
    }
    if unsafe { (*info).port } == 0 || unsafe { (*info).inode } == 0 {
        listening::identify(raw, info);
    }
    let head = raw.accept_head();
    let oldest_ns = if head.is_null() {
        0
    } else {
        let tracked = connections::find(head.child().0).map_or(0, |connection| unsafe { (*connection).enqueued_ns });
        if tracked != 0 { tracked } else { head.enqueued_ns() }
    };
    unsafe {
        (*info).oldest_ns = oldest_ns;
        (*info).depth = raw.accept_depth();
        (*info).backlog = raw.backlog();
        (*info).syn_depth = raw.qlen();
        (*info).syn_young = raw.young();
        (*info).defer_accept = raw.defer_accept();
        (*info).socket_drops = raw.drops();
        (*info).polled_ns = stats::now();
    }
    0
}

/// Walks [`LISTENERS`] at start and takes over the connections that wait on their accept queues: of each queue a
/// stretch at a time, because the verifier follows every turn of a loop. [`ListenerInfo::cursor`] says where the next
/// pass goes on.
///
/// A request that leaves the queue meanwhile may be in use again at once, at the end of the same queue; what was
/// between is not met then. So each queue is gone through until nothing new is found.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
pub(crate) extern "C" fn walk_queues(ctx: *const MapElement) -> i32 {
    let Some((raw, listener)) = (unsafe { element(ctx) }) else { return 0 };
    let Some(info) = INFO.get_ptr_mut(listener.slot) else { return 0 };
    let cursor = unsafe { (*info).cursor };
    if cursor == WALKED || raw.state() != LISTEN {
        unsafe { (*info).cursor = WALKED };
        return 0;
    }
    let mut round = cursor & (FOUND | AGAIN);
    let mut request = Request(cursor & !(FOUND | AGAIN));
    // Since the last pass the request may have been accepted and its memory used again.
    if request.listener() != raw.0 {
        request = raw.accept_head();
    }
    for _ in 0..QUEUE_STRETCH {
        if request.is_null() {
            unsafe { (*info).cursor = if round & FOUND == 0 { WALKED } else { AGAIN } };
            return 0;
        }
        let child = request.child();
        if child.0 != 0 && child.is_locked() {
            // It is being enqueued perhaps, and its hook has yet to run: the next time.
            round |= FOUND;
        } else if child.0 != 0 && connections::find(child.0).is_none() && child.socket() == 0 && !child.dead() {
            // It was enqueued before the probes were attached, and has not been accepted since it was reached.
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
    unsafe { (*info).cursor = request.0 | round };
    0
}

/// Visits the TCP sockets of one namespace at start, for its listeners.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn find_listeners(ctx: *const TcpSocket) -> i32 {
    let Some(sock) = (unsafe { tcp_socket(ctx) }) else { return 0 };
    if sock.state() != LISTEN {
        return 0;
    }
    let Some(listener) = listening::begin(sock, 0) else {
        stats::lost(Loss::Listeners);
        return 0;
    };
    let Some(info) = INFO.get_ptr_mut(listener.slot) else { return 0 };
    let raw = RawSock(sock.key());
    listening::identify(raw, info);
    if unsafe { (*info).noticed } != 0 {
        // A connection came between the attaching and here: that it was noticed then says nothing about its age.
        unsafe { (*info).opened_ns = 0 };
    }
    let address = local_address(raw);
    if let Some(owner) = ADDRESSES.get_ptr_mut(&address) {
        if unsafe { (*owner).listener } != listener {
            unsafe { (*owner).shards += 1 };
        }
    } else {
        // There is room: the table has as many entries as there are slots, this listener has one, and none is given
        // back before the walk ends.
        let _ = ADDRESSES.insert(&address, &AddressOwner { listener, shards: 1 }, 0);
    }
    0
}

/// Visits them again once the accept queues have been walked, for the connections that are open by then: those that
/// were accepted before the probes were attached, and those that waited then and were accepted before the walk came to
/// them. And once more after the start, from when each accept makes the record that it misses: for those whose accept
/// began before the first visit and ended after it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn find_connections(ctx: *const TcpSocket) -> i32 {
    let Some(sock) = (unsafe { tcp_socket(ctx) }) else { return 0 };
    if !is_open(sock.state()) {
        return 0;
    }
    let raw = RawSock(sock.key());
    // Without a struct socket it waits on an accept queue, or was given up by its process.
    if raw.socket() == 0 || raw.dead() || connections::find(raw.0).is_some() {
        return 0;
    }
    let Some(owner) = owner_of(raw) else { return 0 };
    if !take_over(unsafe { (*owner).listener }, raw, 0, stats::now(), STATE_BASELINE) {
        // The second visit meets those again for which the first found no room.
        if !config::started() {
            stats::lost(Loss::Connections);
        }
    } else if unsafe { (*owner).shards } > 1 {
        // Which shard it came through cannot be told from outside any more. The group's sums are right all the same.
        stats::lost(Loss::AmbiguousShard);
    }
    0
}

/// Whether a connection in this state may have a process that reads or writes, one that has shut down its side among
/// them.
#[inline(always)]
fn is_open(state: i32) -> bool {
    matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
}

/// The socket that an iterator is at. Request and time-wait sockets are visited too, and are no full sockets.
#[inline(always)]
unsafe fn tcp_socket(ctx: *const TcpSocket) -> Option<Sock> {
    let pointer = unsafe { (*ctx).socket };
    if pointer.is_null() {
        return None;
    }
    let tcp = unsafe { bpf_skc_to_tcp_sock(pointer.cast_mut().cast()) };
    if tcp.is_null() { None } else { Some(Sock::new(tcp.cast_const().cast())) }
}

#[inline(always)]
unsafe fn element(ctx: *const MapElement) -> Option<(RawSock, ListenerRef)> {
    let (key, value) = unsafe { ((*ctx).key, (*ctx).value) };
    if key.is_null() || value.is_null() {
        return None;
    }
    Some((RawSock(unsafe { *key }), unsafe { *value }))
}

/// Makes the record of a connection that was there before the start; `false` if there is no room.
#[inline(always)]
fn take_over(listener: ListenerRef, socket: RawSock, enqueued_ns: u64, accepted_ns: u64, state: u32) -> bool {
    let Some(stats) = stats::of(listener) else { return true };
    // It is gone, if that cannot be read.
    let Some(span) = socket.receive_span() else { return true };
    // What it holds came at some time since the handshake: no later than now.
    let arrived_ns = if enqueued_ns != 0 { enqueued_ns } else { stats::now() };
    let Some(arrived) = enqueued::track(listener, socket, span, enqueued_ns, accepted_ns, arrived_ns, state) else {
        return false;
    };
    unsafe {
        add(&raw mut (*stats).arrived_bytes, u64::from(arrived));
        if accepted_ns == 0 {
            add(&raw mut (*stats).inherited_waiting, 1);
        } else {
            add(&raw mut (*stats).inherited_open, 1);
        }
    }
    true
}

/// A connection left its queue while [`walk_queues`] made its record, and the probes of the accept may have run before
/// there was one: it is open then, and was accepted before the start. If they run later they find that it was accepted,
/// and count one more that was unknown.
///
/// That it left is to be looked for after the record was made, so that either those probes see the record or this sees
/// that it left; between the two lie [`take_over`]'s atomic additions, which on x86 order them.
#[inline(always)]
fn opened_meanwhile(listener: ListenerRef, child: RawSock) {
    let Some(connection) = connections::find(child.0) else { return };
    let Some(stats) = stats::of(listener) else { return };
    unsafe {
        if (*connection).accepted_ns != 0 || (*connection).state & STATE_WALKED == 0 {
            return;
        }
        (*connection).accepted_ns = stats::now();
        (*connection).state = STATE_BASELINE;
        add(&raw mut (*stats).inherited_waiting, u64::MAX);
        add(&raw mut (*stats).inherited_open, 1);
    }
}

#[inline(always)]
fn local_address(raw: RawSock) -> LocalAddress {
    let address = if raw.family() == AF_INET { kernel::v4_mapped(raw.v4_address()) } else { raw.v6_address() };
    LocalAddress { address, netns: raw.netns(), port: u32::from(raw.port()) }
}

/// The listener that a connection came through, judged by its local address: the exact one, else IPv4's wildcard, else
/// IPv6's.
#[inline(always)]
fn owner_of(raw: RawSock) -> Option<*const AddressOwner> {
    let mut key = local_address(raw);
    if let Some(owner) = ADDRESSES.get_ptr(&key) {
        return Some(owner);
    }
    let is_v4 = key.address[..10] == [0; 10] && key.address[10] == 0xff && key.address[11] == 0xff;
    if is_v4 {
        key.address = kernel::v4_mapped([0; 4]);
        if let Some(owner) = ADDRESSES.get_ptr(&key) {
            return Some(owner);
        }
    }
    key.address = [0; 16];
    ADDRESSES.get_ptr(&key)
}
