//! The maps. Where the comment says "size at load", the size here is a placeholder: user space sets it from its
//! options.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue, RingBuf, StackTrace},
};
use listentop_abi::{
    blame::{BLAME_LOSSES, BeforeStack, Charge, ChargeKey, QueueTime, ThreadId, ThreadName, Wanted, WatchedThread},
    connection::{Connection, LISTED, PLACES, Set},
    limits::{DEFAULT_CONNECTIONS, DEFAULT_LISTENERS, DEFAULT_THREADS, DROPPED_CLIENTS},
    listed::{Listing, Lists, PAGES as LIST_PAGES, Page},
    listener::{HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerInfo, ListenerRef, Peaks},
    loss::LOSSES as LOSS_COUNTERS,
    reading::{Reader, ReaderKey, Reading},
    stack_copy::CopyingCpu,
    thread::{ThreadKey, ThreadRecord},
};

use crate::{
    config,
    values::{Lookup as _, MapValue},
};

/// `BPF_F_MMAPABLE`: user space maps the array and reads it without a system call per record.
const MMAPABLE: u32 = 1 << 10;

/// Listening socket (`struct sock *`) → its records. A hash, because accepts and drops find the listener by a plain
/// address, which socket storage refuses. Entries go when the listener closes. Size at load.
#[map]
pub(crate) static LISTENERS: HashMap<u64, ListenerRef> = HashMap::with_max_entries(DEFAULT_LISTENERS, 0);

/// The records of the listening socket at an address, if it is tracked.
#[inline(always)]
pub(crate) fn listener_at(key: u64) -> Option<ListenerRef> {
    Some(LISTENERS.value(&key)?.get())
}

/// Free slots. A queue, because the probes take slots while user space returns them. Size at load.
#[map]
pub(crate) static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(DEFAULT_LISTENERS, 0);

/// Identity and gauges by slot. An array: a lookup costs an addition. Size at load.
#[map]
pub(crate) static INFO: Array<ListenerInfo> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Counters by slot × shards + shard. Shared and atomic rather than per CPU, since per-CPU maps cost their size times
/// the possible CPUs; shards keep busy CPUs apart. Size at load.
#[map]
pub(crate) static COUNTERS: Array<ListenerCounters> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Counters of handshakes by the same index. A map of their own, because only hooks on functions count them. Size at
/// load.
#[map]
pub(crate) static HANDSHAKES: Array<HandshakeCounters> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Distributions by the same index. A map of their own, so that the counters of all listeners lie close together and
/// reading them touches few pages. Size at load.
#[map]
pub(crate) static DISTRIBUTIONS: Array<ListenerDistributions> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Peak depths by CPU × listeners + slot. Size at load.
#[map]
pub(crate) static PEAKS: Array<Peaks> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Connections, in sets by the hash of their `struct sock *`; see `connections`. Mappable, though nobody maps it: such
/// an array begins at a page, and the records are laid out by cache lines. Size at load: a power of two.
#[map]
pub(crate) static CONNECTIONS: Array<Set> = Array::with_max_entries(DEFAULT_CONNECTIONS / PLACES as u32, MMAPABLE);

/// Which sets have ever held a connection: a byte each, which is written once. The walk over the connections passes the
/// others by. Size at load.
#[map]
pub(crate) static USED_SETS: Array<[u8; LISTED]> =
    Array::with_max_entries(DEFAULT_CONNECTIONS / PLACES as u32 / LISTED as u32, 0);

/// Connections that found their set full. Preallocated: no allocation in softirq. Size at load.
#[map]
pub(crate) static SPILLED: HashMap<u64, Connection> = HashMap::with_max_entries(DEFAULT_CONNECTIONS / 4, 0);

/// What a record in [`SPILLED`] is copied from. Nobody writes it. One on the stack would have to be cleared byte by
/// byte.
#[map]
pub(crate) static BLANK: Array<Connection> = Array::with_max_entries(1, 0);

/// What holds for the lists of connections.
#[map]
pub(crate) static LISTING: Array<Listing> = Array::with_max_entries(1, MMAPABLE);

/// Where a listener's lists of connections are, by slot. Size at load.
#[map]
pub(crate) static LISTS: Array<Lists> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// The lists. Not by slot: few listeners have connections that wait, and those of ten thousand would take 20 MiB.
#[map]
pub(crate) static PAGES: Array<Page> = Array::with_max_entries(LIST_PAGES, MMAPABLE);

/// Listener and thread → index of the record in [`THREADS`]. User space removes the entries of threads that ended. Size
/// at load.
#[map]
pub(crate) static THREAD_INDEX: HashMap<ThreadKey, u32> = HashMap::with_max_entries(DEFAULT_THREADS, 0);

/// Free indices of [`THREADS`]. Size at load.
#[map]
pub(crate) static FREE_THREADS: Queue<u32> = Queue::with_max_entries(DEFAULT_THREADS, 0);

/// Work by listener and thread. An array behind an index: a connection remembers where its reader's record is, and a
/// read computes no hash. Size at load.
#[map]
pub(crate) static THREADS: Array<ThreadRecord> = Array::with_max_entries(DEFAULT_THREADS, MMAPABLE);

/// The handshake that this CPU processes.
///
/// Softirq writes it, with bottom halves off, so no other program of the CPU comes in between: see [`completing`].
/// Where a listener opens or wakes in a process, `crate::config::exclusive` decides whether the remembered listener may
/// be used. Size at load: more than 1 on real-time kernels.
#[map]
static COMPLETING: PerCpuArray<Completing> = PerCpuArray::with_max_entries(1, 0);

/// The value of [`COMPLETING`].
#[repr(C)]
pub(crate) struct Completing {
    /// The child that is being made: set when it is cloned (LISTEN → SYN_RECV), taken when its listener is woken, with
    /// bottom halves off in between.
    pub(crate) child: u64,
    /// The listener that was looked up last: the next connection is probably for the same one.
    pub(crate) listener_key: u64,
    /// The place of its records, for as long as it listens.
    pub(crate) listener: ListenerRef,
}

/// The value of [`COMPLETING`] for the handshake at hand.
#[inline(always)]
pub(crate) fn completing() -> Option<MapValue<Completing>> {
    COMPLETING.value(config::packet_place())
}

/// What the kernel's functions have shown about the packet that this CPU processes. They run in softirq, with bottom
/// halves off, so one packet's functions follow one another and nothing else writes the record: see [`attempt`]. Size
/// at load: more than 1 on real-time kernels.
#[map]
static ATTEMPTS: PerCpuArray<Attempt> = PerCpuArray::with_max_entries(1, 0);

/// The value of [`ATTEMPTS`] for the packet at hand.
#[inline(always)]
pub(crate) fn attempt() -> Option<MapValue<Attempt>> {
    ATTEMPTS.value(config::packet_place())
}

/// Clients that were refused, to count each once. LRU, so that a flood of clients does not fill it for good. Size at
/// load.
#[map]
pub(crate) static DROPPED: LruHashMap<DroppedClient, u8> = LruHashMap::with_max_entries(DROPPED_CLIENTS, 0);

/// Loss counters by [`listentop_abi::loss::Loss`].
#[map]
pub(crate) static LOSSES: Array<u64> = Array::with_max_entries(LOSS_COUNTERS, MMAPABLE);

/// Local address → the listeners there, for the connections that are open at the start; and all listeners of a
/// namespace. Used at the start only. Size at load.
#[map]
pub(crate) static ADDRESSES: HashMap<LocalAddress, AddressOwner> = HashMap::with_max_entries(DEFAULT_LISTENERS, 0);

/// Processes that hold a listener. Used at the start only. Size at load.
#[map]
pub(crate) static HOLDERS: HashMap<Holder, u8> = HashMap::with_max_entries(DEFAULT_LISTENERS, 0);

/// Waiting by slot. Like the maps below it has its size only where blame is wanted. Size at load.
#[map]
pub(crate) static QUEUES: Array<QueueTime> = Array::with_max_entries(1, MMAPABLE);

/// Acceptors by their id in the initial PID namespace: an entry ends with its thread. Preallocated, because the
/// scheduler's hooks may not allocate. Size at load.
#[map]
pub(crate) static WATCHED: HashMap<u32, WatchedThread> = HashMap::with_max_entries(1, 0);

/// What a record in [`WATCHED`] is copied from; nobody writes it.
#[map]
pub(crate) static BLANK_THREAD: Array<WatchedThread> = Array::with_max_entries(1, 0);

/// Acceptors that user space knows, by their id in its PID namespace. Size at load.
#[map]
pub(crate) static WANTED: HashMap<u32, Wanted> = HashMap::with_max_entries(1, 0);

/// Whose each acceptor is or was. Size at load.
#[map]
pub(crate) static ACCEPTORS: HashMap<ThreadId, ThreadName> = HashMap::with_max_entries(1, 0);

/// Kernel stacks of acceptors that slept already. Size at load.
#[map]
pub(crate) static BEFORE: HashMap<ThreadId, BeforeStack> = HashMap::with_max_entries(1, 0);

/// What a record in [`BEFORE`] is copied from; nobody writes it.
#[map]
pub(crate) static BLANK_STACK: Array<BeforeStack> = Array::with_max_entries(1, 0);

/// Charges. Size at load.
#[map]
pub(crate) static CHARGES: HashMap<ChargeKey, Charge> = HashMap::with_max_entries(1, 0);

/// Stacks of the kernel's and of programs. Size at load.
#[map]
pub(crate) static STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// Those whose place there is taken. Size at load.
#[map]
pub(crate) static MORE_STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// Copies of stacks, for user space. Size at load: no ring is smaller than a page.
#[map]
pub(crate) static COPIES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// How to follow the stacks of a process, by its id in the initial PID namespace: user space finds out. Size at load.
#[map]
pub(crate) static FOLLOWING: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// What each CPU has copied lately.
#[map]
pub(crate) static COPYING_CPU: PerCpuArray<CopyingCpu> = PerCpuArray::with_max_entries(1, 0);

/// What blame could not do, by [`listentop_abi::blame::BlameLoss`].
#[map]
pub(crate) static BLAME_LOST: Array<u64> = Array::with_max_entries(BLAME_LOSSES, MMAPABLE);

/// What waits for each reader. Size at load, as of the next.
#[map]
pub(crate) static READERS: HashMap<ReaderKey, Reader> = HashMap::with_max_entries(1, 0);

/// Connections whose readers are watched, by `struct sock *`. Preallocated: no allocation in softirq.
#[map]
pub(crate) static READING: HashMap<u64, Reading> = HashMap::with_max_entries(1, 0);

/// Key of [`HOLDERS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Holder {
    /// Process id in the initial PID namespace.
    pub(crate) process: u32,
    /// The listener's slot.
    pub(crate) slot: u32,
}

/// Value of [`ATTEMPTS`]. What the numbers mean: `crate::kernel`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    /// 1 while in tcp_conn_request.
    pub(crate) inside: u32,
    /// The outcome of the SYN so far.
    pub(crate) outcome: u32,
    /// What the kernel decided about a full SYN queue.
    pub(crate) flood: u32,
    /// Depth of the accept queue when the SYN came.
    pub(crate) accept: u32,
    /// Depth of the SYN queue then.
    pub(crate) syn: u32,
    /// Not 0 while in inet_csk_complete_hashdance with a child for the accept queue of `listener`.
    pub(crate) queueing: u32,
    /// See `queueing`.
    pub(crate) listener: ListenerRef,
    /// Whether a child was made of the final ACK, until tcp_check_req returns.
    pub(crate) child: u32,
    /// 1 while in tcp_check_req.
    pub(crate) checking: u32,
    /// 1 once a request was seen being made. Never cleared.
    pub(crate) requested: u32,
    /// Depth of the accept queue when the final ACK came; 0 if that was not seen.
    pub(crate) ack_accept: u32,
    /// How often the request's timer had expired before, in the kernel's units.
    pub(crate) expiries: u32,
    /// Fills the word.
    pub(crate) reserved: u32,
    /// The request whose timer expires, until reqsk_timer_handler returns; else 0.
    pub(crate) expiring: u64,
    /// The listener that the request belongs to.
    pub(crate) expiring_of: u64,
    /// The copy of the request that goes on in another shard's SYN queue; 0 if there is none.
    pub(crate) copy: u64,
}

/// Key of [`DROPPED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DroppedClient {
    /// Remote address; IPv4 as v4-mapped IPv6.
    pub(crate) address: [u8; 16],
    /// The listener's slot.
    pub(crate) slot: u32,
    /// The slot's generation.
    pub(crate) generation: u32,
    /// Remote port; as wide as this, so that the key has no padding.
    pub(crate) port: u64,
}

/// Key of [`ADDRESSES`]; IPv4 as v4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LocalAddress {
    /// Local address.
    pub(crate) address: [u8; 16],
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
    /// Local port; as wide as this, so that the key has no padding. 0 in an entry for a whole namespace.
    pub(crate) port: u32,
    /// Index of the interface that it is bound to; 0 if to none.
    pub(crate) device: u32,
    /// What else a connection inherits: see `crate::origin`.
    pub(crate) traits: u32,
}

/// Value of [`ADDRESSES`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AddressOwner {
    /// The first listener that was found there.
    pub(crate) listener: ListenerRef,
    /// Listeners with that key: more than one if they share the address by SO_REUSEPORT.
    pub(crate) shards: u32,
    /// See `crate::origin`.
    pub(crate) flags: u32,
}
