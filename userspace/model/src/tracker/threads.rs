//! The threads of one listener: their work since the baseline, roles, shares and times.
//!
//! Ended threads that are no longer listed one by one are one row, their sum. A thread that goes from a row of its own
//! into the sum takes its work along, so the rows always add up to what the listener's threads did in the interval.

mod past;
mod recent;
mod sum;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use self::{recent::Recent, sum::Sum};
use super::{Clock, Counter, permute, turn::Turn};
use crate::{
    coverage::Measure,
    history::ThreadHistory,
    model::{Accepting, Role, ThreadModel},
    sample::{ThreadKey, ThreadSample},
};

/// Threads kept per listener after their source forgot them, unless the source has their sum. A server with a thread
/// per connection makes them without end.
const ENDED_KEPT: usize = 512;

/// Counters of a thread's work.
const WORK: usize = 8;
// Their places.
const ACCEPTS: usize = 0;
const WOULD_BLOCK: usize = 1;
const ACCEPT_FAILED: usize = 2;
const READS: usize = 3;
const READ_BYTES: usize = 4;
const FIRST_READS: usize = 5;
const WRITES: usize = 6;
const WRITE_BYTES: usize = 7;

/// The measures that they belong to.
const MEASURES: [Measure; WORK] = {
    let mut measures = [Measure::Accepts; WORK];
    measures[WOULD_BLOCK] = Measure::WouldBlock;
    (measures[READS], measures[READ_BYTES], measures[FIRST_READS]) = (Measure::Reads, Measure::Reads, Measure::Reads);
    (measures[WRITES], measures[WRITE_BYTES]) = (Measure::Writes, Measure::Writes);
    measures
};

/// Has these counters begin anew.
fn begin_anew(work: &mut [Counter; WORK], which: [bool; WORK]) {
    work.iter_mut().zip(which).filter(|(_, which)| *which).for_each(|(counter, _)| counter.begin_anew());
}

/// Bookkeeping of one thread.
#[derive(Debug, Clone)]
struct State {
    key: ThreadKey,
    work: [Counter; WORK],
    on_cpu: Counter,
    run_queue: Counter,
    /// The interval's length when it was first seen.
    first_seen_ns: u64,
    /// And when it was last seen alive, if it has ended.
    last_alive_ns: Option<u64>,
    /// Serial number of the last sample that had it.
    seen: u64,
    recent: Recent,
    /// What it had accepted, read and written at the last step of its history, if it is followed.
    noted: Option<[u64; 3]>,
}

/// A thread that had ended before the interval, as its source goes on showing it. It has no row.
#[derive(Debug, Clone)]
struct Former {
    work: [u64; WORK],
    /// Serial number of the last sample that had it.
    seen: u64,
}

/// The threads of a listener, in the order of its `ListenerModel::threads`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    states: Vec<State>,
    index: HashMap<ThreadKey, usize>,
    former: HashMap<ThreadKey, Former>,
    sum: Option<Sum>,
    /// Counters that begin anew with the next sample.
    turning: [bool; WORK],
}

impl Threads {
    /// Takes a sample's threads in. `serial` numbers the samples; `from_zero`: threads not seen before began at zero
    /// within the interval, otherwise what they did so far is the baseline. `alone`: its only thread needs no history,
    /// for the listener has one.
    pub(crate) fn read(
        &mut self,
        models: &mut Vec<ThreadModel>,
        threads: &[ThreadSample],
        (from_zero, alone): (bool, bool),
        clock: &Clock,
        serial: u64,
    ) {
        let row = self.sum.as_ref().and_then(|_| models.iter().position(|t| t.summed.is_some()));
        let row = row.map(|at| models.remove(at));
        if self.states.is_empty() {
            // Most listeners keep the threads that they have first: with 10,000 of one each, a vector's usual four
            // places take 12 MiB more.
            self.states.reserve_exact(threads.len());
            models.reserve_exact(threads.len());
        }
        let mut sum = None;
        for (place, thread) in threads.iter().enumerate() {
            if thread.summed.is_some() {
                sum = Some(thread);
            } else {
                self.read_thread(models, (place, thread), from_zero, clock, serial);
            }
        }
        for (state, model) in self.states.iter_mut().zip(models.iter_mut()) {
            if state.seen != serial {
                state.ended(model, true, clock);
            }
            (model.accepts_per_second, model.reads_per_second) =
                state.recent.rates((model.accepts, model.reads), clock);
        }
        if let Some(sample) = sum {
            self.read_sum(models, sample, from_zero, clock, serial);
        } else if self.states.len() > threads.len() + ENDED_KEPT {
            self.forget(models, clock, serial);
        }
        self.turned(models);
        past::note(&mut self.states, models, alone, clock);
        self.former.retain(|_, former| former.seen == serial);
        if !models.is_sorted_by_key(order) {
            let mut by: Vec<usize> = (0..models.len()).collect();
            by.sort_by_key(|&i| order(&models[i]));
            permute(models, &by);
            permute(&mut self.states, &by);
            self.reindex();
        }
        if let Some(row) = self.sum.as_mut().and_then(|sum| sum.row(row, clock)) {
            models.insert(models.partition_point(|model| order(model) <= order(&row)), row);
        }
    }

    /// Takes one thread in; `place` is its place in the sample.
    fn read_thread(
        &mut self,
        models: &mut Vec<ThreadModel>,
        (place, thread): (usize, &ThreadSample),
        from_zero: bool,
        clock: &Clock,
        serial: u64,
    ) {
        // Most listeners have one thread, or few in a steady order: look there before asking the index.
        let key = thread.key();
        let at = match self.states.get(place) {
            Some(state) if state.key == key => Some(place),
            _ => self.index.get(&key).copied(),
        };
        let at = at.unwrap_or(self.states.len());
        if at == self.states.len() {
            let Some(baseline) = self.baseline(key, thread, from_zero, serial) else { return };
            self.index.insert(key, at);
            self.states.push(State::new(key, &baseline, clock));
            models.push(new_model(key, thread));
        }
        self.states[at].read(&mut models[at], thread, clock, serial);
    }

    /// What a thread without a row had done before the interval; `None` if it gets no row, because it had ended by
    /// then.
    fn baseline(&mut self, key: ThreadKey, thread: &ThreadSample, from_zero: bool, serial: u64) -> Option<[u64; WORK]> {
        let work = work_of(thread);
        match self.former.get_mut(&key) {
            Some(former) if thread.ended && former.work == work => former.seen = serial,
            // It was taken for ended.
            Some(_) => return self.former.remove(&key).map(|former| former.work),
            None if from_zero => return Some([0; WORK]),
            None if thread.ended => drop(self.former.insert(key, Former { work, seen: serial })),
            None => return Some(work),
        }
        None
    }

    /// Takes the source's sum in: it has every thread that is missing from the sample.
    fn read_sum(
        &mut self,
        models: &mut Vec<ThreadModel>,
        sample: &ThreadSample,
        from_zero: bool,
        clock: &Clock,
        serial: u64,
    ) {
        let sum = self.sum.get_or_insert_with(|| Sum::new((!from_zero).then_some(sample), clock));
        let mut missing = false;
        for (state, model) in self.states.iter().zip(&*models).filter(|(state, _)| state.seen != serial) {
            missing = true;
            sum.take(state, model);
            sum.expect(&state.key, state.work.map(|counter| counter.last()));
        }
        for (key, former) in self.former.iter().filter(|(_, former)| former.seen != serial) {
            sum.expect(key, former.work);
        }
        sum.read(sample, clock);
        if missing {
            self.keep(models, |state| state.seen == serial);
        }
    }

    /// Whether the same threads once more would leave everything about them as it is.
    pub(crate) fn rest(&self, clock: &Clock) -> bool {
        self.states.iter().all(|state| state.recent.is_empty() && state.first_seen_ns < clock.elapsed_ns())
            && self.sum.as_ref().is_none_or(Sum::rests)
    }

    /// Measures come or go with the next sample: with it, what was counted of them begins anew.
    pub(crate) fn turn(&mut self, turn: &Turn) {
        self.turning = MEASURES.map(|measure| turn.has(measure));
    }

    /// Such a sample was taken in.
    fn turned(&mut self, models: &mut [ThreadModel]) {
        let which = std::mem::take(&mut self.turning);
        if which == [false; WORK] {
            return;
        }
        for (state, model) in self.states.iter_mut().zip(models) {
            begin_anew(&mut state.work, which);
            show(&state.work, model);
            roles(model);
            (model.accepts_per_second, model.reads_per_second) = (0.0, 0.0);
            (state.recent, state.noted) = (Recent::default(), None);
            if which[ACCEPTS] {
                model.accepting = None;
            }
        }
        if let Some(sum) = &mut self.sum {
            sum.turned(which);
        }
    }

    /// Its listener was reset: earlier threads start from zero.
    pub(crate) fn restart(&mut self) {
        for state in &mut self.states {
            state.work.iter_mut().for_each(Counter::restart);
        }
        self.former.clear();
        if let Some(sum) = &mut self.sum {
            sum.restart();
        }
    }

    /// Sums up threads that were missing from the last sample, those that ended first.
    fn forget(&mut self, models: &mut Vec<ThreadModel>, clock: &Clock, serial: u64) {
        let mut gone: Vec<usize> = (0..models.len()).filter(|&i| self.states[i].seen != serial).collect();
        gone.sort_by_key(|&i| (Reverse(self.states[i].last_alive_ns), i));
        let gone = gone.split_off(gone.len().min(ENDED_KEPT / 2));
        let sum = self.sum.get_or_insert_with(|| Sum::new(None, clock));
        gone.iter().for_each(|&i| sum.take(&self.states[i], &models[i]));
        let gone: HashSet<ThreadKey> = gone.into_iter().map(|i| self.states[i].key).collect();
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

/// The order of the rows.
fn order(t: &ThreadModel) -> (Reverse<u64>, Reverse<u64>, Reverse<u64>, u32, u32, u64) {
    (Reverse(t.accepts), Reverse(t.reads), Reverse(t.writes), t.pid, t.tid, t.start_ns)
}

impl State {
    /// A thread that had done `baseline` before the interval.
    fn new(key: ThreadKey, baseline: &[u64; WORK], clock: &Clock) -> Self {
        let mut state = State {
            key,
            work: [Counter::default(); WORK],
            on_cpu: Counter::default(),
            run_queue: Counter::default(),
            first_seen_ns: clock.elapsed_ns(),
            last_alive_ns: None,
            seen: 0,
            recent: Recent::default(),
            noted: None,
        };
        for (counter, before) in state.work.iter_mut().zip(baseline) {
            counter.read(Some(*before), false);
        }
        state
    }

    fn read(&mut self, model: &mut ThreadModel, thread: &ThreadSample, clock: &Clock, serial: u64) {
        self.seen = serial;
        let (accepts, reads) = (model.accepts, model.reads);
        for (counter, now) in self.work.iter_mut().zip(work_of(thread)) {
            counter.read(Some(now), false);
        }
        show(&self.work, model);
        if (model.accepts, model.reads) != (accepts, reads) {
            self.recent.begin(clock.step(), (accepts, reads));
        }
        if model.accepts != accepts {
            accepted(model, thread, clock);
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
}

/// Notes when it accepted since the sample before.
fn accepted(model: &mut ThreadModel, thread: &ThreadSample, clock: &Clock) {
    let between = (clock.previous_ns(), clock.elapsed_ns());
    let exact = |ns: u64| (clock.elapsed_at(ns), clock.elapsed_at(ns));
    let (from, begun) = thread.first_accept_ns.map_or(between, exact);
    let (ending, until) = thread.last_accept_ns.map_or(between, exact);
    let accepting =
        model.accepting.get_or_insert(Accepting { from_us: from / 1000, begun_us: begun / 1000, ..<_>::default() });
    (accepting.ending_us, accepting.until_us) = (ending / 1000, until / 1000);
}

fn work_of(t: &ThreadSample) -> [u64; WORK] {
    let mut work = [0; WORK];
    work[ACCEPTS] = t.accepts;
    work[WOULD_BLOCK] = t.would_block;
    work[ACCEPT_FAILED] = t.accept_failed;
    work[READS] = t.reads;
    work[READ_BYTES] = t.read_bytes;
    work[FIRST_READS] = t.first_reads;
    work[WRITES] = t.writes;
    work[WRITE_BYTES] = t.write_bytes;
    work
}

/// Writes the growth of a row's counters into its model.
fn show(work: &[Counter; WORK], model: &mut ThreadModel) {
    let sum = |place: usize| work[place].sum.unwrap_or(0);
    model.accepts = sum(ACCEPTS);
    model.would_block = sum(WOULD_BLOCK);
    model.accept_failed = sum(ACCEPT_FAILED);
    model.reads = sum(READS);
    model.read_bytes = sum(READ_BYTES);
    model.first_reads = sum(FIRST_READS);
    model.writes = sum(WRITES);
    model.write_bytes = sum(WRITE_BYTES);
}

fn new_model(key: ThreadKey, thread: &ThreadSample) -> ThreadModel {
    ThreadModel {
        key,
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
        history: ThreadHistory::default(),
        on_cpu_us: None,
        run_queue_us: None,
        state: None,
        known_from_us: 0,
        lived_until_us: None,
        accepting: None,
        summed: None,
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
#[cfg(test)]
mod truth_tests;
