//! From samples to the model, one sample at a time.

mod bursts;
mod clock;
mod counters;
mod drops;
mod groups;
mod limit;
mod listener;
mod namespaces;
mod recent;
mod threads;
mod turn;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

pub(crate) use clock::Clock;
pub(crate) use counters::{Counter, growth};

use self::{groups::Groups, listener::Listener, namespaces::Namespaces, turn::Turn};
use crate::{
    history::Timeline,
    model::{CostModel, Interval, ListenerModel, MARKS, Mark, Model},
    sample::{Cost, ListenerSample, MarkSample, Sample},
    shared::Shared,
};

/// Closed listeners that are kept. A machine that keeps opening and closing listeners must not fill the memory.
const CLOSED_KEPT: usize = 1_000;

/// Follows a sequence of samples. Pure: its model depends on the samples alone.
#[derive(Debug, Clone)]
pub struct Tracker {
    model: Model,
    clock: Clock,
    /// Number of samples taken in.
    serial: u64,
    cost: CostTracker,
    /// Bookkeeping of `model.listeners`, in the same order.
    listeners: Vec<Listener>,
    /// What every step reads of each of them, in the same order and close together in memory.
    slots: Vec<Slot>,
    groups: Groups,
    index: HashMap<u64, usize>,
    /// Where the listeners of the last sample are, in its order. Samples mostly keep their order.
    places: Vec<usize>,
    /// How many different listeners the sample at hand has had so far.
    present: usize,
    namespaces: Namespaces,
}

/// What shows whether a listener needs work in a step.
#[derive(Debug, Clone)]
struct Slot {
    /// Its last sample. If the next one is the same object, nothing is new.
    last: Arc<ListenerSample>,
    /// Serial number of the last sample that had it.
    seen: u64,
    /// It is idle: see [`Listener::is_idle`].
    is_idle: bool,
}

impl Tracker {
    /// Begins an interval: what this sample has counted so far is the baseline.
    #[must_use]
    pub fn new(first: &Sample) -> Self {
        let mut tracker = Tracker {
            model: Model {
                host: first.host.clone(),
                interval: Interval { start_unix_ms: first.unix_ms, seconds: 0.0, recent_seconds: 0.0 },
                coverage: first.coverage.clone(),
                cost: CostModel::default(),
                losses: first.losses.clone(),
                namespaces: Vec::new(),
                listeners: Shared::default(),
                groups: Shared::default(),
                timeline: Timeline::default(),
                monotonic_ns: first.monotonic_ns,
                listing: first.listing,
                blame: None,
                marks: Vec::new(),
            },
            clock: Clock::new(first.monotonic_ns),
            serial: 0,
            cost: CostTracker::default(),
            listeners: Vec::new(),
            slots: Vec::new(),
            groups: Groups::default(),
            index: HashMap::new(),
            places: Vec::new(),
            present: 0,
            namespaces: Namespaces::default(),
        };
        tracker.take(first);
        tracker.take_blame(first);
        tracker.judge();
        tracker
    }

    /// Takes the next sample in.
    ///
    /// Samples at the same instant, or from before, add to the counts but not to the time. Counters that go backwards
    /// start a new baseline. A listener that is missing counts as closed.
    pub fn push(&mut self, sample: &Sample) {
        let step_ns = self.clock.advance(sample.monotonic_ns);
        self.model.interval.seconds = self.clock.seconds();
        self.model.interval.recent_seconds = self.clock.recent_seconds();
        if self.model.host != sample.host {
            self.model.host = sample.host.clone();
        }
        let mut turn = None;
        if self.model.coverage != sample.coverage {
            turn = Turn::between(&self.model.coverage, &sample.coverage);
            self.model.coverage.clone_from(&sample.coverage);
        }
        self.model.losses = sample.losses.clone();
        (self.model.monotonic_ns, self.model.listing) = (sample.monotonic_ns, sample.listing);
        self.model.timeline.advance(self.clock.step(), self.clock.seconds());
        self.mark(&sample.marks);
        if let Some(turn) = &turn {
            self.turn(turn);
        }
        let known = self.listeners.len();
        self.take(sample);
        self.take_blame(sample);
        if let Some(turn) = turn {
            self.turn_new(&turn, sample, known);
        }
        let Model { listeners: models, timeline, .. } = &mut self.model;
        for at in live(&self.slots) {
            self.listeners[at].finish_step(&mut models[at], &self.clock, timeline, step_ns);
        }
        self.judge();
    }

    /// What the samples so far amount to.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes in what acceptors did. What is found at their listeners names it.
    fn take_blame(&mut self, sample: &Sample) {
        if self.model.blame == sample.blame {
            return;
        }
        let blamed = [&self.model.blame, &sample.blame].into_iter().flatten().flat_map(|blame| &blame.listeners);
        for at in blamed.filter_map(|blamed| self.index.get(&blamed.listener)) {
            self.slots[*at].is_idle = false;
            self.listeners[*at].note_news();
        }
        self.model.blame.clone_from(&sample.blame);
    }

    /// Measures come or go with the sample that is taken in next.
    fn turn(&mut self, turn: &Turn) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if !self.model.listeners[at].closed {
                slot.is_idle = false;
                self.listeners[at].turn(&mut self.model.listeners[at], turn, &self.clock);
            }
        }
    }

    /// The listeners that such a sample has for the first time: what they had counted by then was partly unseen.
    fn turn_new(&mut self, turn: &Turn, sample: &Sample, known: usize) {
        if self.listeners.len() == known {
            return;
        }
        let before: HashSet<u64> = self
            .listeners
            .iter()
            .zip(&self.model.listeners)
            .filter(|(l, _)| l.has_turned(&self.clock))
            .map(|(_, m)| m.id)
            .collect();
        for listener in sample.listeners.iter().filter(|listener| !before.contains(&listener.id)) {
            let Some(at) = self.index.get(&listener.id).copied() else { continue };
            self.listeners[at].turn(&mut self.model.listeners[at], turn, &self.clock);
            self.listeners[at].read(&mut self.model.listeners[at], listener, &self.clock, self.serial);
        }
    }

    /// Takes in what was done within the interval.
    fn mark(&mut self, marks: &[MarkSample]) {
        for mark in marks {
            let at = self.clock.elapsed_at(mark.monotonic_ns);
            if at == 0 {
                continue; // before the interval began
            }
            let MarkSample { monotonic_ns, what, netns, port } = mark.clone();
            self.model.marks.push(Mark { monotonic_ns, at: at as f64 / 1e9, what, netns, port });
        }
        let spare = self.model.marks.len().saturating_sub(MARKS);
        self.model.marks.drain(..spare);
    }

    /// Looks for patterns and findings, and notes which listeners are idle.
    fn judge(&mut self) {
        let mut live = live(&self.slots);
        self.groups.judge(&mut self.model, &mut self.listeners, &mut live);
        for at in live {
            self.slots[at].is_idle = self.listeners[at].is_idle(&self.model.listeners[at], &self.clock);
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.serial += 1;
        self.cost.read(&mut self.model.cost, &sample.cost, &self.clock);
        let mut reorder = false;
        self.places.resize(sample.listeners.len(), usize::MAX);
        self.present = 0;
        // A socket that stopped listening and listens again is in the sample more than once: its earlier life comes
        // first, wherever in the sample it is.
        let mut begun = Vec::new();
        for (place, listener) in sample.listeners.handles().iter().enumerate() {
            if self.begins(place, listener) {
                begun.push((place, listener));
            } else {
                reorder |= self.take_listener(place, listener);
            }
        }
        begun.sort_by_key(|(_, listener)| listener.opened_ns);
        for (place, listener) in begun {
            reorder |= self.take_listener(place, listener);
        }
        // Not the length of the sample: a socket that is in it twice may hide one that is missing.
        if self.listeners.len() > self.present {
            for (at, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.seen != self.serial) {
                if !self.model.listeners[at].closed {
                    self.listeners[at].vanish(&mut self.model.listeners[at], &self.clock);
                    slot.is_idle = false;
                }
            }
            reorder |= self.forget_closed();
        }
        if reorder {
            self.sort();
        }
        for at in self.namespaces.read(sample, &live(&self.slots), &mut self.listeners, &mut self.model) {
            self.slots[at].is_idle = false;
        }
    }

    /// Whether it began to listen after the last sample, for the first time or again.
    fn begins(&self, place: usize, sample: &Arc<ListenerSample>) -> bool {
        let slot = self.known(place, sample).map(|at| &self.slots[at]);
        slot.is_none_or(|slot| !Arc::ptr_eq(&slot.last, sample) && sample.opened_ns > slot.last.opened_ns)
    }

    /// Where a listener is; `place` is its place in the sample.
    fn known(&self, place: usize, sample: &Arc<ListenerSample>) -> Option<usize> {
        match self.slots.get(self.places[place]) {
            Some(slot) if Arc::ptr_eq(&slot.last, sample) || slot.last.id == sample.id => Some(self.places[place]),
            _ => self.index.get(&sample.id).copied(),
        }
    }

    /// Takes one listener in; true if the order of listeners may have changed.
    fn take_listener(&mut self, place: usize, sample: &Arc<ListenerSample>) -> bool {
        let known = self.known(place, sample);
        self.places[place] = known.unwrap_or(self.listeners.len());
        if let Some(at) = known {
            let slot = &mut self.slots[at];
            self.present += usize::from(slot.seen != self.serial);
            slot.seen = self.serial;
            if slot.is_idle && Arc::ptr_eq(&slot.last, sample) {
                return false;
            }
            slot.is_idle = false;
            if !Arc::ptr_eq(&slot.last, sample) {
                slot.last = sample.clone();
            }
            return self.listeners[at].read(&mut self.model.listeners[at], sample, &self.clock, self.serial);
        }
        // The counts in the first sample are the baseline. A listener that opened later begins at zero.
        let from_zero = self.serial > 1 && sample.opened_ns.is_some();
        let (state, model) = Listener::new(sample, from_zero, &self.clock, self.serial);
        self.present += 1;
        self.index.insert(sample.id, self.listeners.len());
        self.listeners.push(state);
        self.slots.push(Slot { last: sample.clone(), seen: self.serial, is_idle: false });
        self.model.listeners.push(model);
        true
    }

    /// Forgets the listeners that closed first, once there are too many; true if it did.
    fn forget_closed(&mut self) -> bool {
        let mut closed: Vec<(u64, u64)> = self
            .model
            .listeners
            .iter()
            .zip(&self.slots)
            .filter(|(model, _)| model.closed)
            .map(|(model, slot)| (slot.seen, model.id))
            .collect();
        if closed.len() <= CLOSED_KEPT {
            return false;
        }
        closed.sort_unstable();
        closed.truncate(closed.len() - CLOSED_KEPT * 9 / 10);
        let forgotten: HashSet<u64> = closed.into_iter().map(|(_, id)| id).collect();
        let kept: Vec<usize> = self
            .model
            .listeners
            .iter()
            .enumerate()
            .filter(|(_, m)| !forgotten.contains(&m.id))
            .map(|(at, _)| at)
            .collect();
        permute(&mut self.listeners, &kept);
        permute(&mut self.slots, &kept);
        self.model.listeners.retain(|m| !forgotten.contains(&m.id));
        true
    }

    /// Orders listeners by (netns, port, address, device, id).
    fn sort(&mut self) {
        let key = |m: &ListenerModel| (m.namespace(), m.port, m.address, m.device, m.id);
        let mut order: Vec<usize> = (0..self.listeners.len()).collect();
        order.sort_by_key(|&i| key(&self.model.listeners[i]));
        permute(&mut self.listeners, &order);
        permute(&mut self.slots, &order);
        permute(self.model.listeners.handles_mut(), &order);
        self.index.clear();
        self.index.extend(self.model.listeners.iter().enumerate().map(|(i, m)| (m.id, i)));
        self.groups.rebuild(&mut self.model);
    }
}

/// The places of all listeners that are not idle, ascending.
fn live(slots: &[Slot]) -> Vec<usize> {
    slots.iter().enumerate().filter(|(_, slot)| !slot.is_idle).map(|(at, _)| at).collect()
}

/// Puts `items` into the order of these indices. An item whose index is missing is dropped.
pub(crate) fn permute<T>(items: &mut Vec<T>, order: &[usize]) {
    let mut from: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|&i| from[i].take()));
}

/// The tool's own cost.
#[derive(Debug, Clone, Default)]
struct CostTracker {
    runs: Counter,
    probe_ns: Counter,
    cpu_ns: Counter,
    /// (step, probe nanoseconds, CPU nanoseconds) at the start of each recent step.
    recent: VecDeque<(u64, Option<u64>, u64)>,
}

impl CostTracker {
    fn read(&mut self, model: &mut CostModel, cost: &Cost, clock: &Clock) {
        if self.recent.back().is_none_or(|r| r.0 != clock.step()) {
            self.recent.push_back((clock.step(), self.probe_ns.sum, self.cpu_ns.sum.unwrap_or(0)));
        }
        while self.recent.front().is_some_and(|r| r.0 < clock.first_recent()) {
            self.recent.pop_front();
        }
        self.runs.read(cost.probe_runs, false);
        self.probe_ns.read(cost.probe_ns, false);
        self.cpu_ns.read(Some(cost.cpu_ns), false);
        let cpu_ns = self.cpu_ns.sum.unwrap_or(0);
        let share = |ns: u64| match clock.recent_seconds() {
            seconds if seconds > 0.0 => ns as f64 / 1e9 / seconds,
            _ => 0.0,
        };
        let (probes_before, cpu_before) = self.recent.front().map_or((None, 0), |r| (r.1, r.2));
        *model = CostModel {
            probe_runs: self.runs.sum,
            probe_ns: self.probe_ns.sum,
            probe_cpu: self.probe_ns.sum.map(|ns| share(ns - probes_before.unwrap_or(0))),
            cpu_seconds: cpu_ns as f64 / 1e9,
            process_cpu: share(cpu_ns - cpu_before),
            rss_bytes: cost.rss_bytes,
        };
    }
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;
