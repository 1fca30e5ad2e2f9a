//! Ended threads as one row: how many there were, and what they were, in numbers that add up.
//!
//! A server with a thread or process per connection makes threads without end. The latest that ended are listed one by
//! one, those before them are summed up. The sum keeps what a pattern needs.

use serde::{Deserialize, Serialize};

use crate::sample::ThreadSample;

/// Name of the row of a sum, in the place of a thread's.
pub const NAME: &str = "(ended)";

/// Identity of a thread. Ids are used again; the start distinguishes threads that had the same id one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadKey {
    /// Process id: in the initial PID namespace where that is known, otherwise in listentop's.
    pub pid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// When the thread started (CLOCK_BOOTTIME, nanoseconds).
    pub start_ns: u64,
}

impl ThreadKey {
    /// It is the thread that its process began with.
    #[must_use]
    pub const fn is_first_of_its_process(&self) -> bool {
        self.pid != 0 && self.pid == self.tid
    }
}

macro_rules! summed {
    ($($(#[$doc:meta])+ $field:ident,)+) => {
        /// What the threads of a sum were. Each number adds up: that of a sum is the sum over its threads.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Summed { $($(#[$doc])+ pub $field: u64,)+ }

        impl Summed {
            /// How many numbers there are.
            pub const N: usize = [$(stringify!($field)),+].len();

            /// The numbers.
            #[must_use]
            pub const fn values(&self) -> [u64; Self::N] {
                [$(self.$field),+]
            }

            /// From the numbers, in the order of [`Self::values`].
            #[must_use]
            pub const fn from_values([$($field),+]: [u64; Self::N]) -> Self {
                Self { $($field),+ }
            }

            /// Adds another sum.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

summed! {
    /// How many threads.
    threads,
    /// Those that were the first thread of their process: so many processes have ended with them.
    processes,
    /// Those that accepted.
    acceptors,
    /// Those that read, and accepted nothing.
    readers,
    /// Those that wrote, and accepted nothing.
    writers,
    /// Those among `readers` that were the first to read exactly one connection.
    one_connection,
    /// Reads by `acceptors`.
    acceptors_reads,
    /// Connections that `acceptors` were the first to read.
    acceptors_first_reads,
    /// Writes by `acceptors`.
    acceptors_writes,
}

/// The work that decides what a thread was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) accepts: u64,
    pub(crate) reads: u64,
    pub(crate) first_reads: u64,
    pub(crate) writes: u64,
}

impl Summed {
    /// One thread that did this.
    pub(crate) fn of(key: &ThreadKey, done: Done) -> Self {
        let Done { accepts, reads, first_reads, writes } = done;
        let accepted = accepts > 0;
        let when = |condition: bool, n: u64| if condition { n } else { 0 };
        Self {
            threads: 1,
            processes: key.is_first_of_its_process().into(),
            acceptors: accepted.into(),
            readers: (!accepted && reads > 0).into(),
            writers: (!accepted && writes > 0).into(),
            one_connection: (!accepted && first_reads == 1).into(),
            acceptors_reads: when(accepted, reads),
            acceptors_first_reads: when(accepted, first_reads),
            acceptors_writes: when(accepted, writes),
        }
    }
}

impl ThreadSample {
    /// Which thread it is. Not for a sum, which is none.
    #[must_use]
    pub const fn key(&self) -> ThreadKey {
        let (pid, tid) =
            if self.initial_tid == 0 { (self.pid, self.tid) } else { (self.initial_pid, self.initial_tid) };
        ThreadKey { pid, tid, start_ns: self.start_ns }
    }

    /// A sum over no threads.
    #[must_use]
    pub fn sum() -> Self {
        Self { comm: NAME.to_owned(), ended: true, summed: Some(Box::default()), ..Self::default() }
    }

    /// Adds a thread that has ended to this sum.
    pub fn sum_up(&mut self, thread: &Self) {
        self.accepts += thread.accepts;
        self.would_block += thread.would_block;
        self.accept_failed += thread.accept_failed;
        self.reads += thread.reads;
        self.read_bytes += thread.read_bytes;
        self.first_reads += thread.first_reads;
        self.writes += thread.writes;
        self.write_bytes += thread.write_bytes;
        self.summed.get_or_insert_default().add(&Summed::of(&thread.key(), thread.done()));
    }

    pub(crate) const fn done(&self) -> Done {
        Done { accepts: self.accepts, reads: self.reads, first_reads: self.first_reads, writes: self.writes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::thread;

    fn done(pid: u32, tid: u32, [accepts, reads, first_reads, writes]: [u64; 4]) -> ThreadSample {
        ThreadSample { accepts, reads, first_reads, writes, ended: true, ..thread(pid, tid, "t") }
    }

    #[test]
    fn each_thread_counts_as_what_it_was() {
        let mut sum = ThreadSample::sum();
        let threads = [
            done(1, 1, [5, 9, 4, 8]),  // accepted, the first of its process
            done(1, 2, [0, 3, 1, 2]),  // one connection
            done(3, 3, [0, 30, 1, 0]), // one connection, a process
            done(1, 4, [0, 7, 2, 1]),  // two connections
            done(1, 5, [0, 2, 0, 0]),  // reads on
            done(1, 6, [0, 0, 0, 6]),  // writes only
            done(1, 7, [0, 0, 0, 0]),  // would-block accepts only
            done(8, 8, [1, 1, 1, 0]),  // accepts its only connection itself
        ];
        threads.iter().for_each(|thread| sum.sum_up(thread));
        let expected = Summed {
            threads: 8,
            processes: 3,
            acceptors: 2,
            readers: 4,
            writers: 3,
            one_connection: 2,
            acceptors_reads: 10,
            acceptors_first_reads: 5,
            acceptors_writes: 8,
        };
        assert_eq!(sum.summed.as_deref(), Some(&expected));
        assert_eq!((sum.accepts, sum.reads, sum.first_reads, sum.writes), (6, 52, 9, 17));
        assert_eq!(Summed::from_values(expected.values()), expected);
    }

    #[test]
    fn every_counter_of_a_thread_is_in_the_sum() {
        let one = ThreadSample {
            accepts: 1,
            would_block: 2,
            accept_failed: 3,
            reads: 4,
            read_bytes: 5,
            first_reads: 6,
            writes: 7,
            write_bytes: 8,
            ..thread(1, 2, "t")
        };
        let mut sum = ThreadSample::sum();
        sum.sum_up(&one);
        sum.sum_up(&one);
        let work = |t: &ThreadSample| {
            [t.accepts, t.would_block, t.accept_failed, t.reads, t.read_bytes, t.first_reads, t.writes, t.write_bytes]
        };
        assert_eq!(work(&sum), work(&one).map(|n| 2 * n));
        assert_eq!((sum.ended, &sum.comm[..], sum.tid), (true, NAME, 0));
    }

    #[test]
    fn threads_that_are_not_visible_differ_by_their_ids_in_the_initial_namespace() {
        let hidden = |initial_pid, initial_tid| ThreadSample { initial_pid, initial_tid, ..thread(0, 0, "t") };
        let keys = [hidden(7, 7), hidden(7, 8)].map(|t| t.key());
        assert_ne!(keys[0], keys[1]);
        assert_eq!(keys.map(|k| k.is_first_of_its_process()), [true, false]);
        assert!(!thread(0, 0, "t").key().is_first_of_its_process(), "not known");
    }

    #[test]
    fn a_recording_from_before_sums_has_none() {
        let mut json = serde_json::to_value(thread(1, 2, "t")).unwrap();
        let fields = json.as_object_mut().unwrap();
        for field in ["summed", "initial_pid", "initial_tid", "first_accept_ns", "last_accept_ns"] {
            assert!(fields.remove(field).is_some(), "{field}");
        }
        assert_eq!(serde_json::from_value::<ThreadSample>(json).unwrap(), thread(1, 2, "t"));
    }
}
