//! Records of one listener. Its *slot* is the index of its [`ListenerInfo`]; the index of its [`ListenerCounters`] and
//! [`ListenerDistributions`], one per shard, follows from it.

use crate::histogram::BUCKETS;

/// Where a listening socket's records are. Aligned, so that the probes read both parts by one load.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerRef {
    /// Index of its records.
    pub slot: u32,
    /// [`ListenerInfo::generation`] when the slot was taken: distinguishes this listener from a later one in the slot.
    pub generation: u32,
}

/// Identity and gauges: written when the listener opens or closes and at each poll, read by user space through a
/// mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Socket cookie; 0 while the slot is free.
    pub cookie: u64,
    /// When it began to listen; 0 if before the probes were attached.
    pub opened_ns: u64,
    /// When it stopped listening; 0 while it listens.
    pub closed_ns: u64,
    /// When the gauges below were read.
    pub polled_ns: u64,
    /// When the connection at the head of the accept queue was enqueued; 0 if the queue was empty at the poll.
    pub oldest_ns: u64,
    /// Inode number of the socket, as in `socket:[N]` under /proc/PID/fd.
    pub inode: u64,
    /// Since when the oldest byte waits that an accepted connection has not read, at the last walk over the
    /// connections; 0 if none waits. User space clears it before each walk, as the next two.
    pub unread_ns: u64,
    /// Bytes that count as waiting and do not, at that walk: the sockets have passed them without a counted read.
    pub passed_bytes: u64,
    /// Bytes that wait on accepted connections, at that walk.
    pub accepted_unread: u64,
    /// Where the takeover of its accept queue goes on: a request's address, 0 at the beginning, with [`FOUND`] and
    /// [`AGAIN`]; [`WALKED`] when it has found nothing new.
    pub cursor: u64,
    /// Cookie of the network namespace; 0 where the kernel has none.
    pub net_cookie: u64,
    /// Counts the listeners that have had this slot. Written by user space only.
    pub generation: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address; an IPv4 one is in the first four bytes. Network byte order.
    pub address: [u8; 16],
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// Local port, host byte order.
    pub port: u16,
    /// [`FLAG_REUSEPORT`] | [`FLAG_V6ONLY`] | [`FLAG_MPTCP`].
    pub flags: u32,
    /// `sk_ack_backlog` at the poll.
    pub depth: u32,
    /// `sk_max_ack_backlog` at the poll.
    pub backlog: u32,
    /// `icsk_accept_queue.qlen` at the poll.
    pub syn_depth: u32,
    /// `icsk_accept_queue.young` at the poll.
    pub syn_young: u32,
    /// `sk_drops` at the poll (or at the end, for a closed listener): wraps at 32 bits.
    pub socket_drops: u32,
    /// `sk_drops` when the listener was first tracked.
    pub first_drops: u32,
    /// `rskq_defer_accept` at the poll: not 0 if TCP_DEFER_ACCEPT is set.
    pub defer_accept: u32,
    /// 1 if a connection showed it and not its opening. At the start it may be older than [`ListenerInfo::opened_ns`].
    pub noticed: u32,
    /// net.core.somaxconn of its namespace at the poll; 0 if that cannot be read.
    pub somaxconn: u32,
    /// 1 if the listen(2) by which it began to listen was seen; the next two are of that call.
    pub asked: u32,
    /// The backlog that the program asked for.
    pub asked_backlog: u32,
    /// The backlog that it got.
    pub first_backlog: u32,
    /// Index of the interface that it is bound to; 0 if to none.
    pub device: u32,
    /// At the start: [`HOLDERS_FOUND`] or [`HOLDERS_MISSING`]; 0 while no process was seen that holds it.
    pub holders: u32,
}

/// Set in a [`ListenerInfo::cookie`] that is a number of our own: the socket has no cookie, and before 5.12 a program
/// cannot have one made.
pub const NO_COOKIE: u64 = 1 << 63;
/// Bit of a [`ListenerInfo::cursor`], which addresses leave free: this round has found something new.
pub const FOUND: u64 = 1;
/// Likewise: this is not the first round.
pub const AGAIN: u64 = 2;
/// A [`ListenerInfo::cursor`] that has reached the end of the queue without finding anything new.
pub const WALKED: u64 = u64::MAX;
/// A [`ListenerInfo::holders`]: all processes that hold it and can be seen are known.
pub const HOLDERS_FOUND: u32 = 1;
/// A [`ListenerInfo::holders`]: there were too many to remember.
pub const HOLDERS_MISSING: u32 = 2;
/// SO_REUSEPORT is set.
pub const FLAG_REUSEPORT: u32 = 1;
/// IPV6_V6ONLY is set.
pub const FLAG_V6ONLY: u32 = 2;
/// It accepts multipath connections: it is the first subflow of an MPTCP listener.
pub const FLAG_MPTCP: u32 = 4;

/// Peak depths since user space last took them: it swaps them for 0. One record per CPU and slot, so that no two CPUs
/// write the same maximum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Largest accept queue depth at an enqueue.
    pub accept_queue: u32,
    /// Largest SYN queue depth at an enqueue or a SYN-ACK retransmit.
    pub syn_queue: u32,
}

/// A distribution; wraps at 32 bits per bucket, which user space unwraps.
pub type Buckets = [u32; BUCKETS];

/// Cumulative counters, one record per slot and shard; a listener's figure is the sum over the shards. The
/// distributions, thirty times as large, are separate: user space reads the counters of every listener at each sample,
/// but the distributions only of those that were used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerCounters {
    /// Connections put on the accept queue.
    pub enqueued: u64,
    /// Connections that left the queue because the listener closed or they died unaccepted.
    pub aborted: u64,
    /// Accepted connections that were destroyed.
    pub closed: u64,
    /// Accepts of connections that were not in the table (it was full, they were queued before the start, or no probe
    /// saw them enqueued).
    pub accepted_unknown: u64,
    /// Connections that were on the queue at the start.
    pub inherited_waiting: u64,
    /// Connections without a record that were taken over when they were open: at the start, or when they were
    /// accepted.
    pub inherited_open: u64,
    /// Connections among `enqueued` that have no record: the table was full, or the hook did not know which they are.
    pub untracked_enqueued: u64,
    /// SYN-ACKs sent again.
    pub synack_retransmits: u64,
    /// Final ACKs refused (SKB_DROP_REASON_TCP_LISTEN_OVERFLOW): two in `sk_drops` each.
    pub ack_overflow: u64,
    /// Final ACKs with a valid cookie refused: one in `sk_drops` each.
    pub cookie_ack_overflow: u64,
    /// Packets dropped in tcp_v4_rcv or tcp_v6_rcv that refuse no attempt: one in `sk_drops` each.
    pub not_attempts: u64,
    /// Distinct remote address and port pairs among refused final ACKs.
    pub clients: u64,
    /// Payload bytes that arrived for its connections.
    pub arrived_bytes: u64,
    /// Payload bytes that left receive queues without a counted read (in-kernel readers, zero copy, connections that
    /// ended with unread bytes). Counts modulo 2^64: a reader that transforms, such as kTLS, makes it negative.
    pub otherwise_consumed_bytes: u64,
    /// Index + 1 of the record of the thread that accepted last on this shard's CPUs, to try first at the next accept;
    /// 0: none.
    pub acceptor: u64,
    /// Work of threads that found the thread table full.
    pub untracked: Work,
    /// Connections that moved to another shard's queue because this listener was closed.
    pub moved_away: u64,
}

/// Counters that are seldom added to, one record per slot and shard, added to atomically: of handshakes, which only
/// hooks on functions of the kernel show, and of clients that were gone when they were accepted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounters {
    /// Request sockets put into the SYN queue: made, or taken over from a shard that was closed.
    pub requests: u64,
    /// Request sockets that left the SYN queue without a connection: timed out, reset, or closed with their listener.
    pub given_up: u64,
    /// SYNs answered with a cookie.
    pub cookies_sent: u64,
    /// Valid cookies that came back.
    pub cookies_validated: u64,
    /// SYNs refused because the accept queue was full: one in `sk_drops` each, as the next two.
    pub accept_queue_full: u64,
    /// SYNs refused because the SYN queue was full.
    pub syn_queue_full: u64,
    /// SYNs refused otherwise (allocation, route, the last quarter of tcp_max_syn_backlog).
    pub syn_other: u64,
    /// Final ACKs refused otherwise (allocation, route): two in `sk_drops` each.
    pub ack_other: u64,
    /// Connections among `enqueued`, and request sockets among `requests`, that came from another shard's queues when
    /// that shard was closed.
    pub migrated: u64,
    /// Accepted connections whose client had sent its FIN by then.
    pub client_closed: u64,
    /// Accepted connections that had ended by then: reset, or timed out.
    pub client_reset: u64,
    /// Accepts that failed with EMFILE: the process has no descriptor left.
    pub accept_failed_emfile: u64,
    /// Accepts that failed with ENFILE: the machine has none left.
    pub accept_failed_enfile: u64,
    /// Accepts that failed with ENOMEM or ENOBUFS.
    pub accept_failed_nomem: u64,
    /// Request sockets among `requests` that were made while no probe saw a SYN being processed.
    pub requests_without_syn: u64,
    /// Completed requests on CPUs where no probe has ever seen a request being made.
    pub completed_without_request: u64,
    /// Requests that were completed while no probe saw a final ACK being checked.
    pub completed_without_check: u64,
    /// Fills the cache lines.
    pub reserved: [u64; 7],
}

/// Distributions, one record per slot and shard, added to atomically; the sum over the shards counts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ListenerDistributions {
    /// Accept wait.
    pub wait: Buckets,
    /// Handshake time, of connections whose SYN-ACK was not retransmitted.
    pub handshake: Buckets,
    /// First-byte time.
    pub first_byte: Buckets,
    /// First-read time.
    pub first_read: Buckets,
    /// Residency.
    pub residency: Buckets,
    /// Bytes per read; the unit is a byte.
    pub bytes_per_read: Buckets,
    /// Accept wait of the connections whose client was gone by then.
    pub client_gone_wait: Buckets,
    /// Answer time.
    pub answer: Buckets,
}

/// What was done for a listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    // Reads and writes first: in a thread's record they share the cache line with the key.
    /// Reads of at least one byte.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Successful writes.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Connections accepted.
    pub accepts: u64,
    /// Accepts that returned EAGAIN.
    pub would_block: u64,
    /// Accepts that failed otherwise, EINTR and ECONNABORTED left out.
    pub accept_failed: u64,
    /// Connections that were first read here.
    pub first_reads: u64,
}

const _: () = assert!(size_of::<ListenerRef>() == 8);
const _: () = assert!(size_of::<ListenerInfo>() == 176);
const _: () = assert!(core::mem::offset_of!(ListenerInfo, address).is_multiple_of(8), "the probes write it in words");
const _: () = assert!(size_of::<Peaks>() == 8);
const _: () = assert!(size_of::<Work>() == 64);
const _: () = assert!(size_of::<ListenerCounters>() == 15 * 8 + 64 + 8);
const _: () = assert!(size_of::<ListenerCounters>().is_multiple_of(64), "two CPUs' records share no cache line");
const _: () = assert!(size_of::<HandshakeCounters>() == 192);
const _: () = assert!(size_of::<ListenerDistributions>() == 8 * 4 * BUCKETS);
const _: () = assert!(size_of::<ListenerDistributions>().is_multiple_of(64), "as above");
