//! The work seen at one listener, or at the shards of a group taken together.

use std::collections::HashMap;

use super::{percent, plural};
use crate::{
    catalogue::thresholds,
    model::{ListenerModel, Role},
};

thresholds! {
    /// A thread with this share of the accepts is an acceptor of its own; with less it helps out. The same share of the
    /// would-block accepts makes it one too: a thread that always comes too late still shows.
    ACCEPTOR_SHARE: f64 = 0.05, Share;
    /// Fewer would-block accepts make no acceptor: a thread may try once in a while.
    MIN_WOULD_BLOCK: u64 = 20, Count;
}

/// One thread's work, over all shards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worker<'a> {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) comm: &'a str,
    pub(super) start_ns: u64,
    pub(super) ended: bool,
    pub(super) accepts: u64,
    pub(super) would_block: u64,
    pub(super) reads: u64,
    pub(super) first_reads: u64,
    pub(super) writes: u64,
    /// The shard from which it accepted most, and how many.
    pub(super) main_shard: (usize, u64),
}

/// All work.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// Workers by accepts, descending.
    pub(super) workers: Vec<Worker<'a>>,
    /// Accepts of each listener: one, or a group's shards.
    pub(super) shards: Vec<u64>,
    pub(super) accepts: u64,
    would_block: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) accepts_measured: bool,
    pub(super) reads_measured: bool,
    pub(super) writes_measured: bool,
}

impl<'a> Work<'a> {
    /// Adds up the threads of these listeners.
    pub(crate) fn of(listeners: impl IntoIterator<Item = &'a ListenerModel>) -> Self {
        let mut workers: Vec<Worker<'a>> = Vec::new();
        let mut index: HashMap<(u32, u32, u64), usize> = HashMap::new();
        let mut shards = Vec::new();
        let (mut accepts_measured, mut reads_measured, mut writes_measured) = (true, true, true);
        for (shard, listener) in listeners.into_iter().enumerate() {
            accepts_measured &= listener.total.accepts.is_some();
            reads_measured &= listener.total.reads.is_some();
            writes_measured &= listener.total.writes.is_some();
            shards.push(listener.threads.iter().map(|t| t.accepts).sum());
            for thread in &listener.threads {
                let at = *index.entry((thread.pid, thread.tid, thread.start_ns)).or_insert_with(|| {
                    workers.push(Worker {
                        pid: thread.pid,
                        tid: thread.tid,
                        comm: &thread.comm,
                        start_ns: thread.start_ns,
                        ended: thread.ended,
                        accepts: 0,
                        would_block: 0,
                        reads: 0,
                        first_reads: 0,
                        writes: 0,
                        main_shard: (0, 0),
                    });
                    workers.len() - 1
                });
                let worker = &mut workers[at];
                worker.accepts += thread.accepts;
                worker.would_block += thread.would_block;
                worker.reads += thread.reads;
                worker.first_reads += thread.first_reads;
                worker.writes += thread.writes;
                if thread.accepts > worker.main_shard.1 {
                    worker.main_shard = (shard, thread.accepts);
                }
            }
        }
        workers.sort_by_key(|w| (std::cmp::Reverse(w.accepts), w.tid));
        let sum = |f: fn(&Worker<'_>) -> u64| workers.iter().map(f).sum();
        Work {
            accepts: sum(|w| w.accepts),
            would_block: sum(|w| w.would_block),
            reads: sum(|w| w.reads),
            writes: sum(|w| w.writes),
            workers,
            shards,
            accepts_measured,
            reads_measured,
            writes_measured,
        }
    }

    /// The threads that accept in earnest, most accepts first.
    pub(super) fn acceptors(&self) -> impl Iterator<Item = &Worker<'a>> {
        self.workers.iter().filter(|w| {
            share(w.accepts, self.accepts) >= ACCEPTOR_SHARE
                || w.would_block >= MIN_WOULD_BLOCK && share(w.would_block, self.would_block) >= ACCEPTOR_SHARE
        })
    }

    /// The only thread that accepts, if there is only one, with its share of the accepts.
    pub(super) fn only_acceptor(&self) -> Option<(&Worker<'a>, f64)> {
        let mut acceptors = self.acceptors();
        let only = acceptors.next()?;
        acceptors.next().is_none().then(|| (only, share(only.accepts, self.accepts)))
    }

    /// The threads that read, except this one.
    pub(super) fn other_readers(&self, than: &Worker<'a>) -> Vec<&Worker<'a>> {
        let id = (than.pid, than.tid, than.start_ns);
        self.workers.iter().filter(|w| w.reads > 0 && (w.pid, w.tid, w.start_ns) != id).collect()
    }

    /// What was seen, for a pattern that fits none.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut seen = vec![by_threads(self, "accept", self.accepts, Role::Acceptor)];
        match (self.reads_measured, self.only_acceptor()) {
            (false, _) => seen.push("reads are not measured here".to_owned()),
            (true, Some((acceptor, _))) if self.reads > 0 => {
                let own = share(acceptor.reads, self.reads);
                let rest = match self.other_readers(acceptor).len() as u64 {
                    0 => String::new(),
                    n => format!(", the rest by {}", plural(n, "other thread")),
                };
                seen.push(format!("{} of {} by the acceptor{rest}", percent(own), plural(self.reads, "read")));
            }
            _ => seen.push(by_threads(self, "read", self.reads, Role::Reader)),
        }
        if self.writes_measured {
            seen.push(by_threads(self, "write", self.writes, Role::Writer));
        } else {
            seen.push("writes are not measured here".to_owned());
        }
        seen.push("this fits no pattern".to_owned());
        seen
    }
}

/// "345 accepts by 2 threads".
fn by_threads(work: &Work<'_>, what: &str, n: u64, role: Role) -> String {
    let has = |w: &&Worker<'_>| match role {
        Role::Acceptor => w.accepts > 0,
        Role::Reader => w.reads > 0,
        Role::Writer => w.writes > 0,
    };
    let threads = work.workers.iter().filter(has).count() as u64;
    format!("{} by {}", plural(n, what), plural(threads, "thread"))
}

/// `part` of `whole`; 0 of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Worker<'_> {
    /// How evidence names it.
    pub(super) fn label(&self) -> String {
        format!("{} (thread {})", self.comm, self.tid)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of},
        *,
    };

    const TWO: [(u32, u32); 2] = [(1, 1), (1, 2)];

    /// Of a thousand accepts, the second thread makes so many.
    fn helper(accepts: u64) -> &'static str {
        name(&of(&TWO, |l| {
            l.accept(0, 1_000 - accepts, 50);
            l.accept(1, accepts, 50);
            l.read(0, 100, 50, 50);
        }))
    }

    #[test]
    fn a_twentieth_of_the_accepts_makes_an_acceptor() {
        let expected = ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"];
        assert_eq!([47, 49, 50, 52].map(helper), expected);
    }

    /// Would-block accepts of the first thread, which makes all accepts, and of the second.
    fn would_block((first, second): (u64, u64)) -> &'static str {
        name(&of(&TWO, |l| {
            l.accept(0, 100, 50);
            l.read(0, 100, 50, 50);
            l.would_block(0, first);
            l.would_block(1, second);
        }))
    }

    #[test]
    fn a_twentieth_of_the_would_block_accepts_makes_an_acceptor() {
        let shares = [(953, 47), (951, 49), (950, 50), (948, 52)].map(would_block);
        assert_eq!(shares, ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"]);
        let counts = [(0, 19), (0, 20), (0, 21)].map(would_block);
        assert_eq!(counts, ["single_thread", "multi_acceptor", "multi_acceptor"]);
    }

    fn described(work: impl FnOnce(&mut crate::sample::ListenerSample)) -> Vec<String> {
        let pattern = of(&[(1, 1), (1, 2), (1, 3)], work);
        assert_eq!(name(&pattern), "unknown");
        pattern.evidence
    }

    #[test]
    fn a_description_has_one_and_several_of_each() {
        let one = described(|l| {
            l.accept(0, 1_345, 50);
            l.write(1, 1);
        });
        assert_eq!(
            one,
            ["1,345 accepts by 1 thread", "0 reads by 0 threads", "1 write by 1 thread", "this fits no pattern"]
        );
        let several = described(|l| {
            l.accept(0, 20, 50);
            l.read(0, 50, 20, 50);
            l.read(1, 50, 20, 50);
            (0..3).for_each(|t| l.write(t, 400));
        });
        assert_eq!(
            several[1..3],
            ["50% of 100 reads by the acceptor, the rest by 1 other thread", "1,200 writes by 3 threads"]
        );
        let one_read = described(|l| {
            l.accept(0, 20, 50);
            l.read(0, 1, 1, 50);
        });
        assert_eq!(one_read[1], "100% of 1 read by the acceptor");
        let three = described(|l| {
            l.accept(0, 20, 50);
            (0..3).for_each(|t| l.read(t, 40, 20, 50));
        });
        assert_eq!(three[1], "33% of 120 reads by the acceptor, the rest by 2 other threads");
    }

    #[test]
    fn readers_of_several_acceptors_are_counted() {
        // Three acceptors that make too little of the accepts together.
        let threads: Vec<_> = (1..=40).map(|tid| (1, tid)).collect();
        let pattern = of(&threads, |l| {
            (0..40).for_each(|t| l.accept(t, 10, 50));
            (0..2).for_each(|t| l.read(t, 10, 10, 50));
        });
        assert_eq!(pattern.evidence[..2], ["400 accepts by 40 threads", "20 reads by 2 threads"]);
    }

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!((share(0, 0).to_bits(), share(1, 4).to_bits()), (0.0f64.to_bits(), 0.25f64.to_bits()));
    }
}
