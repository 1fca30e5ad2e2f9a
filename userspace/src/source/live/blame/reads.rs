//! Blame of readers: what their sums come to.

use std::collections::{BTreeMap, HashMap, HashSet};

use aya::maps::MapError;
use listentop_abi::{
    blame::{ASLEEP, ChargeKey, NO_STACK, QueueTime, RUNNABLE, RUNNING, ThreadId, WatchedThread},
    listener::ListenerRef,
    reading::{Reader, ReaderKey, nanoseconds, since, waited},
};

use super::maps::Maps;

/// What is added up while readers are watched.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Listeners, and a thread that alone can be a reader.
    pub only: HashSet<(u64, u32)>,
    /// By listener: the sum when it was read last, and what all came to, in ticks. The kernel's would wrap around.
    totals: HashMap<ListenerRef, (u64, u64)>,
}

impl Reads {
    /// Whether only this thread can read the listener's connections.
    pub(super) fn is_only(&self, listener: u64, tid: u32) -> bool {
        self.only.contains(&(listener, tid))
    }

    /// Adds up until `now_ns`.
    pub(super) fn sum(
        &mut self,
        maps: &Maps,
        listeners: &BTreeMap<u64, ListenerRef>,
        now_ns: u64,
    ) -> Result<(), MapError> {
        for listener in listeners.values() {
            let queue = maps.queues.get(&listener.slot, 0)?;
            if queue.listener == *listener {
                self.add(*listener, waited(queue.unread, now_ns));
            }
        }
        Ok(())
    }

    fn add(&mut self, listener: ListenerRef, waited: u64) {
        let (last, total) = self.totals.entry(listener).or_default();
        *total += since(waited, *last);
        *last = waited;
    }

    /// The record of a listener, with the total.
    pub(super) fn finished(&self, mut queue: QueueTime) -> QueueTime {
        queue.total_ns = nanoseconds(self.totals.get(&queue.listener).map_or(0, |(_, total)| *total));
        queue
    }
}

/// Makes room for what nobody reads.
pub(super) fn begin(maps: &mut Maps, listener: ListenerRef) -> Result<(), MapError> {
    maps.readers.insert(&ReaderKey { thread: ThreadId::default(), listener }, &Reader::default(), 0)
}

/// What was not charged by the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// To threads.
    pub charges: Vec<(ChargeKey, u64)>,
    /// To nobody, by listener.
    pub nobody: HashMap<ListenerRef, u64>,
}

/// Reads it.
pub(super) fn open(maps: &Maps, end_ns: u64) -> Result<Open, MapError> {
    let threads: Result<HashMap<u32, WatchedThread>, MapError> = maps.watched.iter().collect();
    let readers: Result<Vec<(ReaderKey, Reader)>, MapError> = maps.readers.iter().collect();
    Ok(divide(&threads?, &readers?, end_ns))
}

fn divide(threads: &HashMap<u32, WatchedThread>, readers: &[(ReaderKey, Reader)], end_ns: u64) -> Open {
    let mut open = Open::default();
    for (key, reader) in readers {
        let wait_ns = nanoseconds(since(waited(reader.sum, end_ns), reader.charged));
        let thread = threads.get(&(key.thread.tid as u32)).filter(|thread| {
            let seats = thread.seats.iter().take(thread.seated as usize);
            thread.start_ns == key.thread.start_ns && seats.into_iter().any(|seat| seat.listener == key.listener)
        });
        match thread {
            Some(thread) => open.charges.push((state_of(thread, *key), wait_ns)),
            // It has ended, or nobody is known.
            None => *open.nobody.entry(key.listener).or_default() += wait_ns,
        }
    }
    // What ran without a sample.
    for (tid, thread) in threads {
        for seat in thread.seats.iter().take(thread.seated as usize) {
            let id = ThreadId { start_ns: thread.start_ns, tid: u64::from(*tid) };
            let running = WatchedThread { state: RUNNING, ..*thread };
            open.charges.push((state_of(&running, ReaderKey { thread: id, listener: seat.listener }), seat.running_ns));
        }
    }
    open
}

/// What a thread does at the end.
fn state_of(thread: &WatchedThread, key: ReaderKey) -> ChargeKey {
    let (state, kernel_stack, user_stack) = match thread.state {
        ASLEEP => (ASLEEP, thread.kernel_stack, thread.user_stack),
        RUNNABLE => (RUNNABLE, NO_STACK, NO_STACK),
        _ => (RUNNING, NO_STACK, NO_STACK),
    };
    let ListenerRef { slot, generation } = key.listener;
    let ThreadId { start_ns, tid } = key.thread;
    ChargeKey { slot, generation, start_ns, tid: tid as u32, state, kernel_stack, user_stack }
}

#[cfg(test)]
mod tests {
    use listentop_abi::{
        blame::{SEATS, Seat},
        reading::{TICK_SHIFT, begins, ends},
    };

    use super::*;

    const LISTENER: ListenerRef = ListenerRef { slot: 3, generation: 1 };

    fn tick(ticks: u64) -> u64 {
        ticks << TICK_SHIFT
    }

    fn key(tid: u64) -> ReaderKey {
        ReaderKey { thread: ThreadId { start_ns: tid * 10, tid }, listener: LISTENER }
    }

    #[test]
    fn all_that_is_open_is_charged_to_somebody() {
        let mut seats = [Seat::default(); SEATS];
        seats[0] = Seat { listener: LISTENER, running_ns: 5, ..Seat::default() };
        let thread = WatchedThread {
            start_ns: 70,
            state: ASLEEP,
            kernel_stack: 1,
            user_stack: 2,
            seated: 1,
            seats,
            ..Default::default()
        };
        let threads = HashMap::from([(7, thread)]);
        let sum = |from| begins(tick(from));
        let readers = [
            (key(7), Reader { sum: sum(10), charged: 4 }),
            // It has ended, and its connection waits still.
            (key(8), Reader { sum: sum(20), charged: 1 }),
            (key(0), Reader { sum: sum(30).wrapping_add(ends(tick(40))), charged: 0 }),
        ];
        let open = divide(&threads, &readers, tick(100));
        assert_eq!(open.nobody, HashMap::from([(LISTENER, tick(79 + 10))]));
        let charges: Vec<(u32, i32, u64)> =
            open.charges.iter().map(|(key, ns)| (key.state, key.user_stack, *ns)).collect();
        assert_eq!(charges, [(ASLEEP, 2, tick(86)), (RUNNING, NO_STACK, 5)]);
    }

    #[test]
    fn a_total_goes_on_where_the_kernels_wraps_around() {
        let mut reads = Reads::default();
        let half = 1 << 42;
        for waited in [half, 2 * half, 3 * half, 0, half] {
            reads.add(LISTENER, waited);
        }
        let queue = reads.finished(QueueTime { listener: LISTENER, ..QueueTime::default() });
        assert_eq!(queue.total_ns, tick(5 * half));
    }
}
