//! Exact counters per thread, in memory that forked children share.

use crate::server::shop;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Threads and processes that can count at the same time. They take about one megabyte, used from the start up.
const SLOTS: usize = 8192;

const FREE: u32 = 0;
const LIVE: u32 = 1;
const ENDED: u32 = 2;

/// What a thread does for the pattern. It is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Accepts, reads and writes alone.
    Single,
    /// Accepts (and, in `multi_acceptor`, reads and writes what it accepted).
    Acceptor,
    /// Reads and writes.
    Reader,
    /// Accepts and reads.
    Dispatch,
    /// Writes.
    Worker,
    /// Accepts from a listener of its own, reads and writes.
    Shard,
    /// Serves one connection.
    Connection,
}

impl Role {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Single, "single"),
        (Self::Acceptor, "acceptor"),
        (Self::Reader, "reader"),
        (Self::Dispatch, "dispatch"),
        (Self::Worker, "worker"),
        (Self::Shard, "shard"),
        (Self::Connection, "conn"),
    ];

    /// The name of a thread of this role: `acceptor`, `reader-1`. Numbers begin at 1, as in listentop.
    #[must_use]
    pub fn thread_name(self, number: Option<u32>) -> String {
        let name = Self::ALL[self as usize].1;
        number.map_or_else(|| name.to_owned(), |number| format!("{name}-{number}"))
    }
}

/// Counters of one thread. Only that thread writes them; any thread may read them.
#[repr(C, align(128))] // Two cache lines: no thread's counting slows another's.
#[derive(Debug)]
pub struct Slot {
    state: AtomicU32,
    /// Role in the highest byte, number in the others (0: no number).
    role: AtomicU32,
    pid: AtomicI32,
    tid: AtomicI32,
    /// Accept calls (or completions) that returned a connection.
    pub accepts: AtomicU64,
    /// Accept calls that returned EAGAIN.
    pub would_block: AtomicU64,
    /// Accept calls that failed with another error, such as EMFILE.
    pub accept_failures: AtomicU64,
    /// Read calls that returned at least one byte.
    pub reads: AtomicU64,
    /// Bytes that these calls returned.
    pub read_bytes: AtomicU64,
    /// Write calls that wrote at least one byte.
    pub writes: AtomicU64,
    /// Bytes that these calls wrote.
    pub write_bytes: AtomicU64,
    /// Requests that were read completely.
    pub requests: AtomicU64,
}

/// Adds to a counter that has one writer.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

impl Slot {
    /// Makes the calling thread the owner of these counters.
    pub fn adopt(&self) {
        self.pid.store(nix::unistd::getpid().as_raw(), Relaxed);
        self.tid.store(nix::unistd::gettid().as_raw(), Relaxed);
    }

    /// Notes that the thread has ended: when slots run out, its counts are folded.
    pub fn end(&self) {
        self.state.store(ENDED, Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            accepts: self.accepts.load(Relaxed),
            would_block: self.would_block.load(Relaxed),
            accept_failures: self.accept_failures.load(Relaxed),
            reads: self.reads.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            writes: self.writes.load(Relaxed),
            write_bytes: self.write_bytes.load(Relaxed),
            requests: self.requests.load(Relaxed),
        }
    }

    fn reset(&self) {
        for counter in [
            &self.accepts,
            &self.would_block,
            &self.accept_failures,
            &self.reads,
            &self.read_bytes,
            &self.writes,
            &self.write_bytes,
            &self.requests,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

/// Counters as printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Accept calls (or io_uring completions) that returned a connection.
    pub accepts: u64,
    /// Accept calls that returned EAGAIN.
    pub would_block: u64,
    /// Accept calls that failed with another error, such as EMFILE.
    pub accept_failures: u64,
    /// Read calls that returned at least one byte.
    pub reads: u64,
    /// Bytes that these calls returned.
    pub read_bytes: u64,
    /// Write calls that wrote at least one byte.
    pub writes: u64,
    /// Bytes that these calls wrote.
    pub write_bytes: u64,
    /// Requests that were read completely.
    pub requests: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.accepts += other.accepts;
        self.would_block += other.would_block;
        self.accept_failures += other.accept_failures;
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.writes += other.writes;
        self.write_bytes += other.write_bytes;
        self.requests += other.requests;
    }
}

/// Counters of one thread as printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadReport {
    /// Process; 0 in the entry that sums up ended threads.
    pub pid: i32,
    /// Thread; 0 in the entry that sums up ended threads.
    pub tid: i32,
    /// The thread's name, or `ended`.
    pub role: String,
    /// Its counters.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Sums over all threads, and what belongs to the process as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalReport {
    /// Sums of the threads' counters.
    #[serde(flatten)]
    pub counts: Counts,
    /// Accepted connections that were closed again.
    pub closed: u64,
    /// Accepted connections that are open.
    pub open: u64,
    /// Threads or processes that ended and whose counters were folded into the entry `ended`.
    pub folded: u64,
    /// CPU time of the server's process and of its children, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// How often a thread of the server's process, or of its children that have ended, gave up the CPU to wait
    /// (voluntary context switches).
    #[serde(default)]
    pub switches: u64,
}

/// What `demo-server` prints on SIGUSR1 and at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The pattern's name.
    pub pattern: String,
    /// The server's (first) process.
    pub pid: i32,
    /// Time since the start in milliseconds.
    pub uptime_ms: u64,
    /// A row for each thread or process that ever served.
    pub threads: Vec<ThreadReport>,
    /// Their sums.
    pub total: TotalReport,
    /// What the orders of a shop took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<shop::Report>,
}

/// The memory that forked children share.
#[repr(C)]
#[derive(Debug)]
pub struct Shared {
    /// Accepted connections that were closed.
    pub closed: AtomicU64,
    /// Nothing is accepted until this time (CLOCK_MONOTONIC, nanoseconds), in addition to the scheduled stalls. It
    /// holds for threads that started before [`Self::stalled_since_ns`].
    pub stalled_until_ns: AtomicU64,
    /// When that stall was ordered.
    pub stalled_since_ns: AtomicU64,
    /// Requests whose work has begun.
    pub worked: AtomicU64,
    /// The server is ending.
    pub stopping: AtomicBool,
    slots: [Slot; SLOTS],
}

#[derive(Debug, Default)]
struct Allocator {
    next: usize,
    folded: Counts,
    folded_threads: u64,
}

/// The counters of all threads of all processes of one server.
#[derive(Debug)]
pub struct Board {
    shared: &'static Shared,
    allocator: Mutex<Allocator>,
}

impl Board {
    /// Maps the shared memory. It is never unmapped: threads and children use it until the process ends.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new() -> nix::Result<Self> {
        const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<Shared>()).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping overlaps nothing.
        let memory = unsafe { mmap_anonymous(None, LENGTH, protection, MapFlags::MAP_SHARED)? };
        // SAFETY: the mapping is page-aligned, large enough, zeroed, and never unmapped; zero is valid for every
        // member, and all are atomics, so that shared references from several processes are sound.
        let shared = unsafe { memory.cast::<Shared>().as_ref() };
        Ok(Self { shared, allocator: Mutex::default() })
    }

    /// The shared memory.
    pub fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// A slot for a new thread or child, with its number from 1 if it has one. When no slot is free, those of ended
    /// threads are folded into one entry. `None` if the threads of all slots are alive.
    pub fn register(&self, role: Role, number: Option<u32>) -> Option<&'static Slot> {
        let mut allocator = self.allocator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for _ in 0..SLOTS {
            let slot = &self.shared.slots[allocator.next % SLOTS];
            allocator.next += 1;
            match slot.state.load(Relaxed) {
                LIVE => continue,
                ENDED => {
                    allocator.folded.add(&slot.counts());
                    allocator.folded_threads += 1;
                    slot.reset();
                }
                _ => {}
            }
            let number = number.map_or(0, |number| number.wrapping_sub(1) % 0x00ff_ffff + 1);
            slot.role.store(((role as u32) << 24) | number, Relaxed);
            slot.pid.store(0, Relaxed);
            slot.tid.store(0, Relaxed);
            slot.state.store(LIVE, Relaxed);
            return Some(slot);
        }
        None
    }

    /// The present values of all counters.
    pub fn report(&self, pattern: &str, uptime_ms: u64) -> Report {
        let allocator = self.allocator.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Read before the accepts, so that `open` is not negative.
        let closed = self.shared.closed.load(Relaxed);
        let mut threads = Vec::new();
        if allocator.folded_threads > 0 {
            threads.push(ThreadReport { pid: 0, tid: 0, role: "ended".to_owned(), counts: allocator.folded });
        }
        for slot in self.shared.slots.iter().filter(|slot| slot.state.load(Relaxed) != FREE) {
            let role = slot.role.load(Relaxed);
            let number = Some(role & 0x00ff_ffff).filter(|number| *number > 0);
            threads.push(ThreadReport {
                pid: slot.pid.load(Relaxed),
                tid: slot.tid.load(Relaxed),
                role: Role::ALL[(role >> 24) as usize].0.thread_name(number),
                counts: slot.counts(),
            });
        }
        let mut counts = Counts::default();
        for thread in &threads {
            counts.add(&thread.counts);
        }
        let open = counts.accepts.saturating_sub(closed);
        let (cpu_us, switches) = used();
        Report {
            pattern: pattern.to_owned(),
            pid: nix::unistd::getpid().as_raw(),
            uptime_ms,
            threads,
            total: TotalReport { counts, closed, open, folded: allocator.folded_threads, cpu_us, switches },
            shop: None,
        }
    }
}

/// CPU time in microseconds and voluntary context switches of this process and of its children that were reaped.
#[must_use]
pub fn used() -> (u64, u64) {
    let of = |who| {
        getrusage(who).map_or((0, 0), |usage| {
            let times = [usage.user_time(), usage.system_time()];
            let micros = times.iter().map(|time| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64).sum();
            (micros, usage.voluntary_context_switches() as u64)
        })
    };
    let (own, children) = (of(UsageWho::RUSAGE_SELF), of(UsageWho::RUSAGE_CHILDREN));
    (own.0 + children.0, own.1 + children.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_in_their_own_order() {
        for (place, (role, _)) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, place);
        }
        assert_eq!(Role::Acceptor.thread_name(None), "acceptor");
        assert_eq!(Role::Reader.thread_name(Some(3)), "reader-3");
    }

    #[test]
    fn nothing_is_lost_when_slots_are_used_again() {
        let board = Board::new().unwrap();
        let long_lived = board.register(Role::Acceptor, None).unwrap();
        let threads = 3 * SLOTS as u64;
        for number in 1..=threads {
            add(&long_lived.accepts, 1);
            let slot = board.register(Role::Connection, Some(number as u32)).unwrap();
            add(&slot.reads, 1);
            add(&slot.read_bytes, 10);
            slot.end();
        }
        let report = board.report("test", 0);
        assert_eq!(report.total.counts.accepts, threads);
        assert_eq!(report.total.counts.reads, threads);
        assert_eq!(report.total.counts.read_bytes, 10 * threads);
        assert!(report.total.folded > 0);
        assert_eq!(report.threads.iter().filter(|thread| thread.role == "acceptor").count(), 1);
    }

    #[test]
    fn too_many_live_threads_are_refused() {
        let board = Board::new().unwrap();
        for _ in 0..SLOTS {
            board.register(Role::Connection, None).unwrap();
        }
        assert!(board.register(Role::Connection, None).is_none());
    }
}
