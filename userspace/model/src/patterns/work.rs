//! The work seen at one listener, or at the shards of a group taken together.

use std::collections::{BTreeSet, HashMap};

use super::{percent, plural, succession};
use crate::{
    catalogue::thresholds,
    model::{Accepting, ListenerModel, Role, ThreadModel},
    sample::{Summed, ThreadKey},
};

thresholds! {
    /// A thread with this share of the accepts is an acceptor of its own; with less it helps out. The same share of the
    /// would-block accepts makes it one too: a thread that always comes too late still shows.
    ACCEPTOR_SHARE: f64 = 0.05, Share;
    /// Among many acceptors, this part of an equal share is enough.
    EQUAL_PART: f64 = 0.25, Share;
    /// More threads than this that accept less are no helpers: they wait at the socket too, and another one is faster.
    HELPERS: u64 = 3, Count;
    /// Fewer would-block accepts make no acceptor: a thread may try once in a while.
    MIN_WOULD_BLOCK: u64 = 20, Count;
}

/// A thread with this share of the accepts is one on which a listener depends.
pub(crate) const MAIN_ACCEPTOR: f64 = 0.1;
/// Where many accept, this part of an equal share makes a thread one of those.
pub(crate) const MAIN_PART: f64 = 0.5;

/// Whether a thread with this share of the accepts is one of those on which a listener depends. `acceptors` is how many
/// accept: of thirty that share evenly, each is one, though none has a tenth.
pub(crate) fn is_main_acceptor(share: f64, acceptors: u64) -> bool {
    share >= MAIN_ACCEPTOR.min(MAIN_PART / acceptors.max(1) as f64)
}

/// One thread's work, over all shards; or that of several, as one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Worker<'a> {
    pub(super) key: ThreadKey,
    /// Thread id as it is shown; 0 if it is not visible.
    pub(super) tid: u32,
    pub(super) comm: &'a str,
    pub(super) ended: bool,
    /// When it was last known to live, if it has ended, in microseconds of the interval.
    pub(super) lived_until_us: u64,
    /// When the last listener that it accepted from closed, in microseconds of the interval, if all have: whether its
    /// threads live is not looked up any more, but it accepts no more.
    pub(super) closed_us: Option<u64>,
    pub(super) accepts: u64,
    pub(super) would_block: u64,
    pub(super) reads: u64,
    pub(super) first_reads: u64,
    pub(super) writes: u64,
    /// The shard from which it accepted most, and how many.
    pub(super) main_shard: (usize, u64),
    pub(super) accepting: Option<Accepting>,
    /// It is the only thread seen of its process, and the first one; others work, too.
    pub(super) alone: bool,
    /// It stands for ended threads; what they were.
    pub(super) summed: Option<Summed>,
    /// The acceptors before it, whose work it has: it took over from them.
    pub(super) earlier: Earlier,
}

/// Acceptors whose place others have taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) threads: u64,
    /// Their processes, if not those of their successors.
    pub(super) pids: BTreeSet<u32>,
    /// Processes that are known by number only.
    pub(super) processes: u64,
}

/// All work.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// Workers by accepts, descending.
    pub(super) workers: Vec<Worker<'a>>,
    /// Each listener: one, or a group's shards.
    pub(super) shards: Vec<Shard>,
    pub(super) accepts: u64,
    would_block: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) accepts_measured: bool,
    pub(super) reads_measured: bool,
    pub(super) writes_measured: bool,
    /// The threads that wait for connections of the one listener: process, thread. Empty if that is not known, or
    /// there are several listeners.
    pub(super) waiting: Vec<(u32, u32)>,
}

/// One listener of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shard {
    pub(super) accepts: u64,
    pub(super) closed: bool,
}

impl<'a> Work<'a> {
    /// Adds up the threads of these listeners.
    pub(crate) fn of(listeners: impl IntoIterator<Item = &'a ListenerModel>) -> Self {
        let mut workers: Vec<Worker<'a>> = Vec::new();
        let mut index: HashMap<ThreadKey, usize> = HashMap::new();
        let mut shards = Vec::new();
        let mut waiting = Vec::new();
        let (mut accepts_measured, mut reads_measured, mut writes_measured) = (true, true, true);
        for (shard, listener) in listeners.into_iter().enumerate() {
            accepts_measured &= listener.total.accepts.is_some();
            reads_measured &= listener.total.reads.is_some();
            writes_measured &= listener.total.writes.is_some();
            let accepts = listener.threads.iter().map(|t| t.accepts).sum();
            let waiters = listener.waiters.iter().flatten().filter(|waiter| waiter.waits && waiter.tid != 0);
            waiting.extend(waiters.map(|waiter| (waiter.pid, waiter.tid)));
            shards.push(Shard { accepts, closed: listener.closed });
            for thread in &listener.threads {
                if let Some(summed) = thread.summed.as_deref() {
                    workers.extend(Worker::of_sum(thread, summed, shard));
                    continue;
                }
                let at = *index.entry(thread.key).or_insert_with(|| {
                    workers.push(Worker { closed_us: Some(0), ..Worker::new(thread) });
                    workers.len() - 1
                });
                workers[at].add(thread, shard);
                if thread.accepts > 0 {
                    let closed_us = listener.closed_us.filter(|_| listener.closed);
                    workers[at].closed_us = workers[at].closed_us.zip(closed_us).map(|(a, b)| a.max(b));
                }
            }
        }
        if shards.len() > 1 {
            waiting.clear();
        }
        note_alone(&mut workers);
        let mut workers = succession::merged(workers);
        workers.sort_by_key(|w| (std::cmp::Reverse(w.accepts), w.key.tid));
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
            waiting,
        }
    }

    /// The threads that accept in earnest, most accepts first.
    pub(super) fn acceptors(&self) -> impl Iterator<Item = &Worker<'a>> {
        let enough = |of: fn(&Worker<'_>) -> u64| {
            let n = self.workers.iter().filter(|w| of(w) > 0).count().max(1);
            ACCEPTOR_SHARE.min(EQUAL_PART / n as f64)
        };
        let (accepts, would_block) = (enough(|w| w.accepts), enough(|w| w.would_block));
        let in_earnest = move |w: &Worker<'_>| {
            share(w.accepts, self.accepts) >= accepts
                || w.would_block >= MIN_WOULD_BLOCK && share(w.would_block, self.would_block) >= would_block
        };
        let helpers = self.workers.iter().filter(|w| w.accepts > 0 && !in_earnest(w)).count() as u64;
        self.workers.iter().filter(move |w| in_earnest(w) || w.accepts > 0 && helpers > HELPERS)
    }

    /// The only thread that accepts, if there is only one, with its share of the accepts.
    pub(super) fn only_acceptor(&self) -> Option<(&Worker<'a>, f64)> {
        let mut acceptors = self.acceptors();
        let only = acceptors.next()?;
        acceptors.next().is_none().then(|| (only, share(only.accepts, self.accepts)))
    }

    /// The threads that read, except this one.
    pub(super) fn other_readers(&self, than: &Worker<'a>) -> Vec<&Worker<'a>> {
        self.workers.iter().filter(|w| w.reads > 0 && !std::ptr::eq(*w, than)).collect()
    }

    /// The threads that write, except this one.
    pub(super) fn other_writers(&self, than: &Worker<'a>) -> Vec<&Worker<'a>> {
        self.workers.iter().filter(|w| w.writes > 0 && !std::ptr::eq(*w, than)).collect()
    }

    /// What was seen, for a pattern that fits none.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut seen = vec![by_threads(self, "accept", self.accepts, Role::Acceptor)];
        seen.extend(succession::evidence(self.acceptors()));
        match (self.reads_measured, self.only_acceptor()) {
            (false, _) => seen.push("reads are not measured here".to_owned()),
            (true, Some((acceptor, _))) if self.reads > 0 => {
                let own = share(acceptor.reads, self.reads);
                let rest = match &self.other_readers(acceptor)[..] {
                    [] => String::new(),
                    others => format!(", the rest by {}", crowd(others, Role::Reader, Some(acceptor))),
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
    let those: Vec<_> = work.workers.iter().filter(|w| w.number(role) > 0).collect();
    format!("{} by {}", plural(n, what), crowd(&those, role, None))
}

/// How many these are, and in how many processes: "3 threads", "3 processes", "6 threads of 3 processes". `than`: they
/// are others than this one, "3 other threads" of its process or "3 other processes".
pub(super) fn crowd(those: &[&Worker<'_>], role: Role, than: Option<&Worker<'_>>) -> String {
    // One without accepts is an acceptor too if it tries.
    let threads: u64 = those.iter().map(|w| if w.summed.is_some() { w.number(role) } else { 1 }).sum();
    let processes = processes(those, role);
    let elsewhere = than.is_some_and(|than| those.iter().all(|w| w.key.pid != than.key.pid));
    let other = if than.is_some() { "other " } else { "" };
    let separate = processes == threads && (elsewhere || than.is_none() && threads > 1);
    match processes {
        _ if separate && threads > 0 => plural(threads, &format!("{other}process")),
        1 if elsewhere => format!("{} of another process", plural(threads, "thread")),
        0 | 1 => plural(threads, &format!("{other}thread")),
        _ => format!("{} of {}", plural(threads, &format!("{other}thread")), plural(processes, "process")),
    }
}

/// How many processes these are. Of those in a sum that were not the first thread of theirs, none is known.
pub(super) fn processes(those: &[&Worker<'_>], role: Role) -> u64 {
    let known: BTreeSet<u32> = those.iter().filter(|w| w.summed.is_none()).map(|w| w.key.pid).collect();
    known.len() as u64 + those.iter().map(|w| w.processes(role)).sum::<u64>()
}

/// Notes which workers are the only one seen of their process, where there are several processes.
fn note_alone(workers: &mut [Worker<'_>]) {
    let mut of_process: HashMap<u32, usize> = HashMap::new();
    workers.iter().for_each(|w| *of_process.entry(w.key.pid).or_default() += 1);
    for worker in workers {
        let only = of_process.len() > 1 && of_process[&worker.key.pid] == 1;
        worker.alone = only && worker.key.is_first_of_its_process();
    }
}

/// `part` of `whole`; 0 of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl<'a> Worker<'a> {
    /// A thread that has done nothing yet.
    fn new(thread: &'a ThreadModel) -> Self {
        let lived_until_us = thread.lived_until_us.unwrap_or(0);
        let (key, tid, comm, ended) = (thread.key, thread.tid, &thread.comm, thread.ended);
        Self { key, tid, comm, ended, lived_until_us, ..Self::default() }
    }

    /// Adds what the thread did for one shard.
    fn add(&mut self, thread: &ThreadModel, shard: usize) {
        self.accepts += thread.accepts;
        self.would_block += thread.would_block;
        self.reads += thread.reads;
        self.first_reads += thread.first_reads;
        self.writes += thread.writes;
        if thread.accepts > self.main_shard.1 {
            self.main_shard = (shard, thread.accepts);
        }
        self.accepting = match (self.accepting, thread.accepting) {
            (Some(a), Some(b)) => Some(Accepting {
                from_us: a.from_us.min(b.from_us),
                begun_us: a.begun_us.min(b.begun_us),
                ending_us: a.ending_us.max(b.ending_us),
                until_us: a.until_us.max(b.until_us),
            }),
            (a, b) => a.or(b),
        };
    }

    /// The threads of a sum: those that accepted, and the others.
    fn of_sum(row: &'a ThreadModel, summed: &Summed, shard: usize) -> [Self; 2] {
        let of = |summed: Summed| Self { summed: Some(summed), ended: true, ..Self::new(row) };
        // The first threads of processes may be of either kind; most are of the one that has most threads.
        let accepting = summed.acceptors.min(summed.processes.saturating_sub(summed.threads - summed.acceptors));
        let acceptors = Self {
            accepts: row.accepts,
            would_block: row.would_block,
            reads: summed.acceptors_reads,
            first_reads: summed.acceptors_first_reads,
            writes: summed.acceptors_writes,
            main_shard: (shard, row.accepts),
            ..of(Summed {
                threads: summed.acceptors,
                acceptors: summed.acceptors,
                processes: accepting,
                ..Summed::default()
            })
        };
        let others = Self {
            reads: row.reads.saturating_sub(summed.acceptors_reads),
            first_reads: row.first_reads.saturating_sub(summed.acceptors_first_reads),
            writes: row.writes.saturating_sub(summed.acceptors_writes),
            ..of(Summed {
                threads: summed.threads - summed.acceptors.min(summed.threads),
                processes: summed.processes - accepting,
                readers: summed.readers,
                writers: summed.writers,
                one_connection: summed.one_connection,
                ..Summed::default()
            })
        };
        [acceptors, others]
    }

    /// How evidence names it.
    pub(super) fn label(&self) -> String {
        match (self.tid, self.alone) {
            _ if self.summed.is_some() => "ended threads".to_owned(),
            (0, _) => self.comm.to_owned(),
            (tid, true) => format!("{} (process {tid})", self.comm),
            (tid, false) => format!("{} (thread {tid})", self.comm),
        }
    }

    /// How many threads in this role it stands for.
    pub(super) fn number(&self, role: Role) -> u64 {
        match (&self.summed, role) {
            (Some(summed), Role::Acceptor) => summed.acceptors,
            // Those that accepted and those that did not are apart.
            (Some(summed), Role::Reader) if summed.acceptors > 0 => summed.acceptors * u64::from(self.reads > 0),
            (Some(summed), Role::Writer) if summed.acceptors > 0 => summed.acceptors * u64::from(self.writes > 0),
            (Some(summed), Role::Reader) => summed.readers,
            (Some(summed), Role::Writer) => summed.writers,
            (None, Role::Acceptor) => u64::from(self.accepts > 0),
            (None, Role::Reader) => u64::from(self.reads > 0),
            (None, Role::Writer) => u64::from(self.writes > 0),
        }
    }

    /// How many processes ended with its threads, if it stands for several.
    fn processes(&self, role: Role) -> u64 {
        self.summed.map_or(0, |summed| summed.processes.min(self.number(role)))
    }
}

#[cfg(test)]
mod tests;
