//! The maps. Sizes given here are placeholders where the comment says "at load": user space sets them from its options.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, Queue},
};
use listentop_abi::{
    connection::{Connection, PLACES, Set},
    limits::{DEFAULT_CONNECTIONS, DEFAULT_LISTENERS, DEFAULT_THREADS, DROPPED_CLIENTS},
    listener::{HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerInfo, ListenerRef, Peaks},
    loss::LOSSES as LOSS_COUNTERS,
    thread::{ThreadKey, ThreadRecord},
};

/// `BPF_F_MMAPABLE`: user space maps the array and reads it without a system call per record.
const MMAPABLE: u32 = 1 << 10;

/// Listening socket (`struct sock *`) → its records. A hash, because accepts and drops find the listener by a plain
/// pointer, which socket storage refuses. Entries go when the listener closes. Size at load.
#[map]
pub(crate) static LISTENERS: HashMap<u64, ListenerRef> = HashMap::with_max_entries(DEFAULT_LISTENERS, 0);

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

/// Counters of handshakes by the same index. A map of their own, because only functions tell them. Size at load.
#[map]
pub(crate) static HANDSHAKES: Array<HandshakeCounters> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Distributions by the same index. A map of their own, so that the counters of all listeners lie close together and
/// reading them touches few pages. Size at load.
#[map]
pub(crate) static DISTRIBUTIONS: Array<ListenerDistributions> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Peak depths by CPU × listeners + slot. Size at load.
#[map]
pub(crate) static PEAKS: Array<Peaks> = Array::with_max_entries(DEFAULT_LISTENERS, MMAPABLE);

/// Connections, in sets by the hash of their `struct sock *`; see `connections`. Mappable not to be mapped, but because
/// such an array begins at a page, and the records are laid out by cache lines. Size at load: a power of two.
#[map]
pub(crate) static CONNECTIONS: Array<Set> = Array::with_max_entries(DEFAULT_CONNECTIONS / PLACES as u32, MMAPABLE);

/// Connections that found their set full. Preallocated: no allocation in softirq. Size at load.
#[map]
pub(crate) static SPILLED: HashMap<u64, Connection> = HashMap::with_max_entries(DEFAULT_CONNECTIONS / 4, 0);

/// What a record in [`SPILLED`] is made from: on the stack it would have to be cleared, byte by byte.
#[map]
pub(crate) static BLANK: Array<Connection> = Array::with_max_entries(1, 0);

/// Listener and thread → index of the record in [`THREADS`]. User space removes the entries of threads that ended. Size
/// at load.
#[map]
pub(crate) static THREAD_INDEX: HashMap<ThreadKey, u32> = HashMap::with_max_entries(DEFAULT_THREADS, 0);

/// Free indices of [`THREADS`]. Size at load.
#[map]
pub(crate) static FREE_THREADS: Queue<u32> = Queue::with_max_entries(DEFAULT_THREADS, 0);

/// Work by listener and thread. An array behind an index, so that a connection can remember where its reader's record
/// is, and a read need not hash. Size at load.
#[map]
pub(crate) static THREADS: Array<ThreadRecord> = Array::with_max_entries(DEFAULT_THREADS, MMAPABLE);

/// What this CPU's handshakes are about.
#[map]
pub(crate) static COMPLETING: PerCpuArray<Completing> = PerCpuArray::with_max_entries(1, 0);

/// The value of [`COMPLETING`].
#[repr(C)]
pub(crate) struct Completing {
    /// The child that is being made: set when it is cloned (LISTEN → SYN_RECV), taken when its listener is woken, with
    /// bottom halves off in between.
    pub(crate) child: u64,
    /// The listener that was looked up last, because the next connection is likely to be another one of it.
    pub(crate) listener_key: u64,
    /// Its records' place, for as long as it listens.
    pub(crate) listener: ListenerRef,
}

/// What the functions that this CPU is in have told about the packet at hand.
#[map]
pub(crate) static ATTEMPTS: PerCpuArray<Attempt> = PerCpuArray::with_max_entries(1, 0);

/// Clients that were refused, to count each once. LRU: a flood of clients must not fill it for good. Size at load.
#[map]
pub(crate) static DROPPED: LruHashMap<DroppedClient, u8> = LruHashMap::with_max_entries(DROPPED_CLIENTS, 0);

/// Loss counters by [`listentop_abi::loss::Loss`].
#[map]
pub(crate) static LOSSES: Array<u64> = Array::with_max_entries(LOSS_COUNTERS, MMAPABLE);

/// Local address → the listener there, for the connections that are open at start. Filled and used at the start only.
/// Size at load.
#[map]
pub(crate) static ADDRESSES: HashMap<LocalAddress, AddressOwner> = HashMap::with_max_entries(DEFAULT_LISTENERS, 0);

/// Value of [`ATTEMPTS`]. What the numbers mean: `crate::kernel`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    /// 1 while in tcp_conn_request.
    pub(crate) inside: u32,
    /// What became of the SYN so far.
    pub(crate) outcome: u32,
    /// What the kernel decided about a full SYN queue.
    pub(crate) flood: u32,
    /// Depths when the SYN came.
    pub(crate) accept: u32,
    pub(crate) syn: u32,
    /// 1 while in inet_csk_complete_hashdance with a child to be put on the accept queue of `listener`.
    pub(crate) queueing: u32,
    pub(crate) listener: ListenerRef,
    /// Whether a child was made of the final ACK, until tcp_check_req returns.
    pub(crate) child: u32,
}

/// Key of [`DROPPED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DroppedClient {
    pub(crate) address: [u8; 16],
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) port: u16,
    pub(crate) reserved: [u16; 3],
}

/// Key of [`ADDRESSES`]; IPv4 as v4-mapped IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LocalAddress {
    pub(crate) address: [u8; 16],
    pub(crate) netns: u32,
    pub(crate) port: u32,
}

/// Value of [`ADDRESSES`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AddressOwner {
    pub(crate) listener: ListenerRef,
    /// Listeners with that address: more than one if they share it by SO_REUSEPORT.
    pub(crate) shards: u64,
}
