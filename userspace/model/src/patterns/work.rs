//! The work seen at one listener, or at the shards of a group taken together.

use std::collections::HashMap;

use super::percent;
use crate::{
    model::{ListenerModel, Role},
    words::grouped,
};

/// A thread counts as an acceptor of its own from this share of the accepts on (or of accepts in vain).
const ACCEPTOR_SHARE: f64 = 0.05;

/// One thread's work, over all shards.
#[derive(Debug, Clone)]
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
                || w.would_block >= super::MIN_ACCEPTS && share(w.would_block, self.would_block) >= ACCEPTOR_SHARE
        })
    }

    /// The only thread that accepts, if there is only one, with its share of the accepts.
    pub(super) fn only_acceptor(&self) -> Option<(&Worker<'a>, f64)> {
        let mut acceptors = self.acceptors();
        let only = acceptors.next()?;
        acceptors.next().is_none().then(|| (only, share(only.accepts, self.accepts)))
    }

    /// The threads that read, but for this one.
    pub(super) fn other_readers(&self, than: &Worker<'a>) -> Vec<&Worker<'a>> {
        let id = (than.pid, than.tid, than.start_ns);
        self.workers.iter().filter(|w| w.reads > 0 && (w.pid, w.tid, w.start_ns) != id).collect()
    }

    /// What was seen, for a pattern that fits none.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut seen = vec![format!("{} accepts by {} threads", grouped(self.accepts), count(self, Role::Acceptor))];
        match (self.reads_measured, self.only_acceptor()) {
            (false, _) => seen.push("reads are not measured here".to_owned()),
            (true, Some((acceptor, _))) if self.reads > 0 => {
                let own = share(acceptor.reads, self.reads);
                seen.push(format!(
                    "{} of {} reads by the acceptor, the rest by {} other threads",
                    percent(own),
                    grouped(self.reads),
                    self.other_readers(acceptor).len()
                ));
            }
            _ => seen.push(format!("{} reads by {} threads", grouped(self.reads), count(self, Role::Reader))),
        }
        if !self.writes_measured {
            seen.push("writes are not measured here".to_owned())
        } else {
            seen.push(format!("{} writes by {} threads", grouped(self.writes), count(self, Role::Writer)))
        }
        seen.push("this fits no pattern".to_owned());
        seen
    }
}

fn count(work: &Work<'_>, role: Role) -> usize {
    let has = |w: &&Worker<'_>| match role {
        Role::Acceptor => w.accepts > 0,
        Role::Reader => w.reads > 0,
        Role::Writer => w.writes > 0,
    };
    work.workers.iter().filter(has).count()
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
