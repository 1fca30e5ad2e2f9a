//! The threads of one listener: their work since the baseline, roles, shares and times.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
};

use super::{Clock, Counter, permute};
use crate::{
    model::{Role, ThreadModel},
    sample::ThreadSample,
};

/// Threads kept per listener after their source forgot them. A server with a thread per connection makes them without
/// end.
const ENDED_KEPT: usize = 512;

/// Identity of a thread. Ids are reused; the start time distinguishes threads with the same id.
type Key = (u32, u32, u64);

fn key(t: &ThreadSample) -> Key {
    (t.pid, t.tid, t.start_ns)
}

/// Bookkeeping of one thread.
#[derive(Debug)]
struct State {
    key: Key,
    accepts: Counter,
    would_block: Counter,
    accept_failed: Counter,
    reads: Counter,
    read_bytes: Counter,
    first_reads: Counter,
    writes: Counter,
    write_bytes: Counter,
    on_cpu: Counter,
    run_queue: Counter,
    /// The interval's length when it was first seen.
    first_seen_ns: u64,
    /// And when it was last seen alive, if it has ended.
    last_alive_ns: Option<u64>,
    /// Serial number of the last sample that had it.
    seen: u64,
    /// (step, accepts, reads) at the start of the steps of the recent span in which it accepted or read.
    recent: VecDeque<(u64, u64, u64)>,
}

/// The threads of a listener, in the order of its `ListenerModel::threads`.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    states: Vec<State>,
    index: HashMap<Key, usize>,
}

impl Threads {
    /// Takes a sample's threads in. `serial` numbers the samples; `from_zero`: threads not seen before began at zero
    /// within the interval, otherwise what they did so far is the baseline.
    pub(crate) fn read(
        &mut self,
        models: &mut Vec<ThreadModel>,
        threads: &[ThreadSample],
        from_zero: bool,
        clock: &Clock,
        serial: u64,
    ) {
        for (place, thread) in threads.iter().enumerate() {
            // Most listeners have one thread, or few in a steady order: look there before asking the index.
            let key = key(thread);
            let at = match self.states.get(place) {
                Some(state) if state.key == key => place,
                _ => *self.index.entry(key).or_insert_with(|| {
                    self.states.push(State::new(thread, from_zero, clock));
                    models.push(new_model(thread));
                    models.len() - 1
                }),
            };
            self.states[at].read(&mut models[at], thread, clock, serial);
        }
        for (state, model) in self.states.iter_mut().zip(models.iter_mut()) {
            if state.seen != serial {
                state.ended(model, true, clock);
            }
            state.rates(model, clock);
        }
        if threads.iter().any(|thread| thread.tid == 0) {
            // Threads that are missing are in that sum: here too they would count twice.
            self.keep(models, |state| state.seen == serial);
        } else if self.states.len() > threads.len() + ENDED_KEPT {
            self.forget(models, serial);
        }
        let order =
            |t: &ThreadModel| (Reverse(t.accepts), Reverse(t.reads), Reverse(t.writes), t.pid, t.tid, t.start_ns);
        if !models.is_sorted_by_key(order) {
            let mut by: Vec<usize> = (0..models.len()).collect();
            by.sort_by_key(|&i| order(&models[i]));
            permute(models, &by);
            permute(&mut self.states, &by);
            self.reindex();
        }
    }

    /// Whether the same threads once more would leave everything about them as it is.
    pub(crate) fn rest(&self, clock: &Clock) -> bool {
        self.states.iter().all(|state| state.recent.is_empty() && state.first_seen_ns < clock.elapsed_ns())
    }

    /// Its listener was reset: earlier threads start from zero.
    pub(crate) fn restart(&mut self) {
        for state in &mut self.states {
            state.work().into_iter().for_each(Counter::restart);
        }
    }

    /// Forgets the threads that were missing from the last sample, those with the least work first.
    fn forget(&mut self, models: &mut Vec<ThreadModel>, serial: u64) {
        let mut gone: Vec<usize> = (0..models.len()).filter(|&i| self.states[i].seen != serial).collect();
        gone.sort_by_key(|&i| (Reverse(self.states[i].last_alive_ns), i));
        let gone: HashSet<Key> = gone.into_iter().skip(ENDED_KEPT / 2).map(|i| self.states[i].key).collect();
        self.keep(models, |state| !gone.contains(&state.key));
    }

    fn keep(&mut self, models: &mut Vec<ThreadModel>, wanted: impl Fn(&State) -> bool) {
        let mut keep = self.states.iter().map(&wanted).collect::<Vec<_>>().into_iter();
        models.retain(|_| keep.next() == Some(true));
        self.states.retain(wanted);
        self.reindex();
    }

    fn reindex(&mut self) {
        self.index.clear();
        self.index.extend(self.states.iter().enumerate().map(|(i, s)| (s.key, i)));
    }
}

impl State {
    fn new(thread: &ThreadSample, from_zero: bool, clock: &Clock) -> Self {
        let mut state = State {
            key: key(thread),
            accepts: Counter::default(),
            would_block: Counter::default(),
            accept_failed: Counter::default(),
            reads: Counter::default(),
            read_bytes: Counter::default(),
            first_reads: Counter::default(),
            writes: Counter::default(),
            write_bytes: Counter::default(),
            on_cpu: Counter::default(),
            run_queue: Counter::default(),
            first_seen_ns: clock.elapsed_ns(),
            last_alive_ns: None,
            seen: 0,
            recent: VecDeque::new(),
        };
        for (counter, now) in state.work().into_iter().zip(work_of(thread)) {
            // A thread did its work in the step in which it appears, so its counters start from zero there.
            counter.read(Some(if from_zero { 0 } else { now }), false);
        }
        state
    }

    fn work(&mut self) -> [&mut Counter; 8] {
        [
            &mut self.accepts,
            &mut self.would_block,
            &mut self.accept_failed,
            &mut self.reads,
            &mut self.read_bytes,
            &mut self.first_reads,
            &mut self.writes,
            &mut self.write_bytes,
        ]
    }

    fn read(&mut self, model: &mut ThreadModel, thread: &ThreadSample, clock: &Clock, serial: u64) {
        self.seen = serial;
        let (accepts, reads) = (model.accepts, model.reads);
        for (counter, now) in self.work().into_iter().zip(work_of(thread)) {
            counter.read(Some(now), false);
        }
        let sum = |c: &Counter| c.sum.unwrap_or(0);
        model.accepts = sum(&self.accepts);
        model.would_block = sum(&self.would_block);
        model.accept_failed = sum(&self.accept_failed);
        model.reads = sum(&self.reads);
        model.read_bytes = sum(&self.read_bytes);
        model.first_reads = sum(&self.first_reads);
        model.writes = sum(&self.writes);
        model.write_bytes = sum(&self.write_bytes);
        if (model.accepts, model.reads) != (accepts, reads)
            && self.recent.back().is_none_or(|&(step, ..)| step != clock.step())
        {
            self.recent.push_back((clock.step(), accepts, reads));
        }
        self.times(model, thread, clock);
        roles(model);
        if thread.state != model.state {
            model.state.clone_from(&thread.state);
        }
        if thread.comm != model.comm {
            model.comm.clone_from(&thread.comm);
        }
    }

    fn times(&mut self, model: &mut ThreadModel, thread: &ThreadSample, clock: &Clock) {
        self.ended(model, thread.ended, clock);
        self.on_cpu.read(thread.on_cpu_ns, false);
        self.run_queue.read(thread.run_queue_ns, false);
        if self.last_alive_ns.unwrap_or(clock.elapsed_ns()) == self.first_seen_ns {
            return; // one reading is no span: unknown, not 0
        }
        model.on_cpu_us = self.on_cpu.sum.map(|ns| ns / 1000);
        model.run_queue_us = self.run_queue.sum.map(|ns| ns / 1000);
    }

    /// Notes whether it has ended. If so, it was alive in the sample before.
    fn ended(&mut self, model: &mut ThreadModel, ended: bool, clock: &Clock) {
        model.ended = ended;
        self.last_alive_ns =
            ended.then(|| self.last_alive_ns.unwrap_or_else(|| clock.previous_ns().max(self.first_seen_ns)));
        model.known_from_us = self.first_seen_ns / 1000;
        model.lived_until_us = self.last_alive_ns.map(|ns| ns / 1000);
    }

    fn rates(&mut self, model: &mut ThreadModel, clock: &Clock) {
        while self.recent.front().is_some_and(|&(step, ..)| step < clock.first_recent()) {
            self.recent.pop_front();
        }
        // A recent step has a length, so the recent span has one.
        let seconds = clock.recent_seconds();
        let rate = |now: u64, before: Option<u64>| match before {
            Some(before) => now.saturating_sub(before) as f64 / seconds,
            None => 0.0,
        };
        model.accepts_per_second = rate(model.accepts, self.recent.front().map(|r| r.1));
        model.reads_per_second = rate(model.reads, self.recent.front().map(|r| r.2));
    }
}

fn work_of(t: &ThreadSample) -> [u64; 8] {
    [t.accepts, t.would_block, t.accept_failed, t.reads, t.read_bytes, t.first_reads, t.writes, t.write_bytes]
}

fn new_model(thread: &ThreadSample) -> ThreadModel {
    ThreadModel {
        pid: thread.pid,
        tid: thread.tid,
        comm: thread.comm.clone(),
        start_ns: thread.start_ns,
        ended: thread.ended,
        roles: Vec::new(),
        accepts: 0,
        accept_share: None,
        would_block: 0,
        accept_failed: 0,
        reads: 0,
        read_share: None,
        read_bytes: 0,
        first_reads: 0,
        writes: 0,
        write_bytes: 0,
        accepts_per_second: 0.0,
        reads_per_second: 0.0,
        on_cpu_us: None,
        run_queue_us: None,
        state: None,
        known_from_us: 0,
        lived_until_us: None,
    }
}

/// A thread has each role that it was seen in. A would-block accept makes it an acceptor too.
fn roles(model: &mut ThreadModel) {
    let seen = [
        (Role::Acceptor, model.accepts + model.would_block + model.accept_failed > 0),
        (Role::Reader, model.reads > 0),
        (Role::Writer, model.writes > 0),
    ];
    if seen.iter().filter(|(_, seen)| *seen).count() != model.roles.len() {
        model.roles = seen.into_iter().filter(|(_, seen)| *seen).map(|(role, _)| role).collect();
    }
}

/// Sets the shares of a listener's threads, given the accepts and reads of the listener, or of its whole group.
pub(crate) fn set_shares(threads: &mut [ThreadModel], accepts: u64, reads: u64) {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    for thread in threads {
        thread.accept_share = share(thread.accepts, accepts);
        thread.read_share = share(thread.reads, reads);
    }
}

#[cfg(test)]
mod tests;
