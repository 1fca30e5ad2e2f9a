//! What a listener and its acceptors did lately.

use std::collections::VecDeque;

use super::HOLD_US;
use crate::{
    model::{Counts, ListenerModel, ThreadModel},
    sample::{Descriptors, ThreadKey},
};

/// How far back the work of a thread is known, in microseconds. Its CPU time is read once a second.
const THREADS_US: u64 = 3_000_000;
/// Acceptors that are followed: those with most accepts.
const THREADS: usize = 32;

/// When a listener was last seen doing something, in microseconds of the interval, and what its acceptors did lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity {
    /// When it was first looked at.
    begun_us: Option<u64>,
    accepts: Option<u64>,
    accepted_us: Option<u64>,
    reads: Option<u64>,
    read_us: Option<u64>,
    failures: Option<u64>,
    failed_us: Option<u64>,
    /// Accepts that had succeeded when one last failed.
    accepts_at_failure: Option<u64>,
    /// While accepts failed last, when they were nearest to their limit.
    descriptors: Option<Descriptors>,
    threads: Vec<Thread>,
    /// The living threads that read in the interval, by key.
    readers: Vec<Reader>,
}

/// A thread that has read, as it was when it was last seen doing so.
#[derive(Debug, Clone)]
struct Reader {
    key: ThreadKey,
    reads: u64,
    read_us: u64,
    /// Time on a CPU or waiting for one, as far as it is known.
    running_us: Option<u64>,
}

/// An acceptor over the last seconds.
#[derive(Debug, Clone)]
struct Thread {
    key: ThreadKey,
    points: VecDeque<Point>,
}

/// What it had done at a time.
#[derive(Debug, Clone)]
struct Point {
    at_us: u64,
    writes: u64,
    on_cpu_us: Option<u64>,
    run_queue_us: Option<u64>,
}

/// What a thread did lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lately {
    /// In how many microseconds.
    pub(crate) span_us: u64,
    pub(crate) writes: u64,
    pub(crate) on_cpu_us: Option<u64>,
    pub(crate) run_queue_us: Option<u64>,
}

impl Lately {
    /// The share of the time that it was on a CPU.
    pub(crate) fn on_cpu(&self) -> Option<f64> {
        Some(self.on_cpu_us? as f64 / self.span_us.max(1) as f64)
    }
}

impl Thread {
    fn note(&mut self, t: &ThreadModel, now_us: u64) {
        self.points.retain(|point| point.at_us < now_us);
        // One point from before stays, so that the whole span is covered.
        while self.points.get(1).is_some_and(|second| second.at_us + THREADS_US <= now_us) {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            at_us: now_us,
            writes: t.writes,
            on_cpu_us: t.on_cpu_us,
            run_queue_us: t.run_queue_us,
        });
    }
}

/// The living threads that accept, the one with most accepts first.
pub(crate) fn acceptors(l: &ListenerModel) -> impl Iterator<Item = &ThreadModel> {
    l.threads.iter().filter(|t| !t.ended && t.summed.is_none() && t.accepts + t.would_block > 0)
}

/// Time on a CPU or waiting for one.
fn running_us(t: &ThreadModel) -> Option<u64> {
    Some(t.on_cpu_us? + t.run_queue_us.unwrap_or(0))
}

impl Activity {
    /// Takes a listener as it is now.
    pub(crate) fn observe(&mut self, l: &ListenerModel, now_us: u64) {
        self.count(&l.total, now_us);
        // They are looked at a little later than the failure is known.
        if let Some(now) = l.descriptors.filter(|_| self.fails(false, now_us)) {
            self.descriptors = Some(self.descriptors.map_or(now, |most| most.max_by_use(now)));
        }
        self.note_readers(l, now_us);
        let acceptors: Vec<&ThreadModel> = acceptors(l).take(THREADS).collect();
        self.threads.retain(|thread| acceptors.iter().any(|t| t.key == thread.key));
        for t in acceptors {
            let at = self.threads.iter().position(|thread| thread.key == t.key).unwrap_or_else(|| {
                self.threads.push(Thread { key: t.key, points: VecDeque::new() });
                self.threads.len() - 1
            });
            self.threads[at].note(t, now_us);
        }
    }

    /// What a thread did since `ago_us` before now, or a little longer; `None` if it is not followed.
    pub(crate) fn lately(&self, t: &ThreadModel, ago_us: u64, now_us: u64) -> Option<Lately> {
        self.since(t, ago_us, u64::MAX, now_us)
    }

    /// The same, but never for longer than `most_us`: then it is what it did since something happened.
    pub(crate) fn since(&self, t: &ThreadModel, ago_us: u64, most_us: u64, now_us: u64) -> Option<Lately> {
        let points = &self.threads.iter().find(|thread| thread.key == t.key)?.points;
        let mut allowed = points.iter().filter(|point| now_us.saturating_sub(point.at_us) <= most_us);
        let from = allowed.clone().rev().find(|point| point.at_us + ago_us <= now_us).or_else(|| allowed.next())?;
        let grown = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Some(Lately {
            span_us: now_us.saturating_sub(from.at_us),
            writes: t.writes.saturating_sub(from.writes),
            on_cpu_us: grown(t.on_cpu_us, from.on_cpu_us),
            run_queue_us: grown(t.run_queue_us, from.run_queue_us),
        })
    }

    /// Notes which threads have read since the last look.
    fn note_readers(&mut self, l: &ListenerModel, now_us: u64) {
        let mut living: Vec<&ThreadModel> =
            l.threads.iter().filter(|t| !t.ended && t.summed.is_none() && t.reads > 0).collect();
        living.sort_unstable_by_key(|t| t.key);
        let known = std::mem::take(&mut self.readers);
        let mut known = known.into_iter().peekable();
        self.readers.reserve_exact(living.len());
        for t in living {
            while known.next_if(|reader| reader.key < t.key).is_some() {}
            let before = known.next_if(|reader| reader.key == t.key && reader.reads == t.reads);
            self.readers.push(before.unwrap_or_else(|| Reader {
                key: t.key,
                reads: t.reads,
                read_us: now_us,
                running_us: running_us(t),
            }));
        }
    }

    /// For how long this thread has read nothing, at least; `None` if it was never seen reading.
    pub(crate) fn reader_without_read_us(&self, t: &ThreadModel, now_us: u64) -> Option<u64> {
        Some(now_us.saturating_sub(self.reader(t)?.read_us))
    }

    /// The share of the time since its last read that the thread ran or waited for a CPU; `None` if that is not known.
    pub(crate) fn running_since_read(&self, t: &ThreadModel, now_us: u64) -> Option<f64> {
        let reader = self.reader(t)?;
        let ran = running_us(t)?.saturating_sub(reader.running_us?);
        Some(ran as f64 / now_us.saturating_sub(reader.read_us).max(1) as f64)
    }

    fn reader(&self, t: &ThreadModel) -> Option<&Reader> {
        self.readers.binary_search_by_key(&t.key, |reader| reader.key).ok().map(|at| &self.readers[at])
    }

    fn count(&mut self, total: &Counts, now_us: u64) {
        self.begun_us.get_or_insert(now_us);
        if total.accepts > self.accepts.or(Some(0)) {
            self.accepted_us = Some(now_us);
        }
        if total.reads > self.reads.or(Some(0)) {
            self.read_us = Some(now_us);
        }
        if total.accept_failed > self.failures.or(Some(0)) {
            if !self.fails(true, now_us) {
                self.descriptors = None;
            }
            self.failed_us = Some(now_us);
            self.accepts_at_failure = total.accepts;
        }
        (self.accepts, self.reads, self.failures) = (total.accepts, total.reads, total.accept_failed);
    }

    /// For how long nothing was accepted, at least.
    pub(crate) fn without_accept_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.accepted_us.or(self.begun_us).unwrap_or(0))
    }

    /// For how long nothing was read, at least.
    pub(crate) fn without_read_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.read_us.or(self.begun_us).unwrap_or(0))
    }

    /// Whether accepts fail: one did a moment ago, or none has succeeded since and some connection `waits`. A server
    /// may wait before it tries again.
    pub(crate) fn fails(&self, waits: bool, now_us: u64) -> bool {
        let lately = |at: u64| now_us.saturating_sub(at) <= HOLD_US;
        self.failed_us.is_some_and(|at| lately(at) || waits && self.accepts == self.accepts_at_failure)
    }

    /// When an accept last failed, at the latest.
    pub(crate) fn failed_us(&self) -> Option<u64> {
        self.failed_us
    }

    /// The descriptors of the accepting process when accepts failed last: as near to its limit as it was seen.
    pub(crate) fn descriptors_at_failure(&self) -> Option<Descriptors> {
        self.descriptors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::support::Case;

    const S: u64 = 1_000_000;

    #[test]
    fn a_listener_is_active_when_its_counts_grow() {
        let counts = |accepts, reads, failed| Counts {
            accepts: Some(accepts),
            reads: Some(reads),
            accept_failed: Some(failed),
            ..Counts::default()
        };
        let mut activity = Activity::default();
        activity.count(&counts(0, 0, 0), 0);
        assert_eq!((activity.without_accept_us(5 * S), activity.fails(true, 5 * S)), (5 * S, false));
        activity.count(&counts(3, 1, 0), 2 * S);
        activity.count(&counts(3, 2, 0), 3 * S);
        assert_eq!((activity.without_accept_us(5 * S), activity.without_read_us(5 * S)), (3 * S, 2 * S));
        activity.count(&counts(3, 2, 1), 4 * S);
        assert!(activity.fails(false, 4 * S) && activity.fails(true, 100 * S), "none has succeeded since");
        assert_eq!([activity.fails(false, 9 * S), activity.fails(false, 10 * S)], [true, false], "nothing waits");
        assert_eq!(activity.failed_us(), Some(4 * S));
        activity.count(&counts(4, 2, 1), 5 * S);
        assert_eq!((activity.fails(true, 9 * S), activity.fails(true, 10 * S)), (true, false));
    }

    #[test]
    fn descriptors_are_those_of_the_failure() {
        let mut l = Case::new().listener;
        let mut activity = Activity::default();
        let mut at = |second: u64, failed, open| {
            l.total.accept_failed = Some(failed);
            l.descriptors = Some(Descriptors { pid: 1, open, soft_limit: 60 });
            activity.observe(&l, second * S);
            activity.descriptors_at_failure().map(|descriptors| descriptors.open)
        };
        assert_eq!(at(1, 0, 30), None, "none has failed");
        let open = [(2, 1, 22), (3, 1, 60), (4, 2, 50), (20, 2, 10), (21, 3, 40)].map(|(s, n, open)| at(s, n, open));
        assert_eq!(
            open,
            [Some(22), Some(60), Some(60), Some(60), Some(60)],
            "none has succeeded since: it is one failure"
        );
        l.total.accepts = Some(9);
        activity.observe(&l, 22 * S);
        l.total.accept_failed = Some(4);
        l.descriptors = Some(Descriptors { pid: 1, open: 55, soft_limit: 60 });
        activity.observe(&l, 40 * S);
        assert_eq!(activity.descriptors_at_failure().map(|descriptors| descriptors.open), Some(55), "another failure");
    }

    #[test]
    fn each_reader_has_a_last_read_of_its_own() {
        let mut l = Case::new().listener;
        let mut activity = Activity::default();
        let ran = |thread: &mut ThreadModel, us: u64| (thread.on_cpu_us, thread.run_queue_us) = (Some(us), Some(us));
        l.threads[0].reads = 3;
        l.threads[2].reads = 1;
        l.threads.iter_mut().for_each(|t| ran(t, 0));
        activity.observe(&l, S);
        l.threads[2].reads = 2;
        ran(&mut l.threads[0], S / 2);
        activity.observe(&l, 3 * S);
        let quiet: Vec<_> = l.threads.iter().map(|t| activity.reader_without_read_us(t, 5 * S)).collect();
        assert_eq!(quiet, [Some(4 * S), None, Some(2 * S), None]);
        let running: Vec<_> = l.threads.iter().map(|t| activity.running_since_read(t, 5 * S)).collect();
        assert_eq!(running, [Some(0.25), None, Some(0.0), None]);
        l.threads[0].on_cpu_us = None;
        assert_eq!(activity.running_since_read(&l.threads[0], 5 * S), None);
        l.threads[0].ended = true;
        activity.observe(&l, 6 * S);
        assert_eq!(activity.reader_without_read_us(&l.threads[0], 6 * S), None);
        assert_eq!(activity.reader_without_read_us(&l.threads[2], 6 * S), Some(3 * S));
    }

    #[test]
    fn the_last_seconds_of_an_acceptor() {
        let mut l = Case::new().listener;
        let mut activity = Activity::default();
        l.threads[0].accepts = 1;
        for second in 0..=9 {
            l.threads[0].writes = second * second;
            l.threads[0].on_cpu_us = (second > 2).then_some(second * S / 2);
            activity.observe(&l, second * S);
        }
        let lately = activity.lately(&l.threads[0], S, 9 * S).unwrap();
        assert_eq!((lately.span_us, lately.writes, lately.on_cpu()), (S, 81 - 64, Some(0.5)));
        let longer = activity.lately(&l.threads[0], 3 * S, 9 * S).unwrap();
        assert_eq!((longer.span_us, longer.writes, longer.on_cpu_us), (3 * S, 81 - 36, Some(3 * S / 2)));
        let since = activity.since(&l.threads[0], 3 * S, 2 * S + 1, 9 * S).unwrap();
        assert_eq!((since.span_us, since.writes), (2 * S, 81 - 49), "what it did before is not in it");
        assert!(activity.lately(&l.threads[0], 60 * S, 9 * S).unwrap().span_us <= 4 * S, "no older point is kept");
        assert_eq!(activity.lately(&l.threads[1], S, 9 * S), None, "it does not accept");
        l.threads[0].ended = true;
        activity.observe(&l, 10 * S);
        assert!(activity.threads.is_empty());
    }
}
