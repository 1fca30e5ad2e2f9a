//! From samples to the model, one sample at a time.

mod clock;
mod counters;
mod drops;
mod groups;
mod listener;
mod namespaces;
mod recent;
mod threads;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

pub(crate) use clock::Clock;
pub(crate) use counters::{Counter, growth};

use self::{groups::Groups, listener::Listener, namespaces::Namespaces};
use crate::{
    history::Timeline,
    model::{CostModel, Interval, ListenerModel, Model},
    sample::{Cost, ListenerSample, Sample},
    shared::Shared,
};

/// Closed listeners kept. A machine that opens and closes listeners without end must not fill the memory.
const CLOSED_KEPT: usize = 1_000;

/// Follows a sequence of samples. Pure: what it gives depends on the samples alone.
#[derive(Debug)]
pub struct Tracker {
    model: Model,
    clock: Clock,
    /// Number of samples taken in.
    serial: u64,
    cost: CostTracker,
    /// Bookkeeping of `model.listeners`, in the same order.
    listeners: Vec<Listener>,
    /// What has to be looked at for each of them in every step, in the same order and close together.
    seats: Vec<Seat>,
    groups: Groups,
    index: HashMap<u64, usize>,
    /// Where the listeners of the last sample are, in its order: samples keep their order mostly.
    places: Vec<usize>,
    namespaces: Namespaces,
}

/// Of one listener, what tells whether anything is to be done about it.
#[derive(Debug)]
struct Seat {
    /// Its last sample. One that is the same, by identity, brings nothing new.
    last: Arc<ListenerSample>,
    /// Serial number of the last sample that had it.
    seen: u64,
    /// It is at rest: see [`Listener::rests`].
    rests: bool,
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
                timeline: Timeline::default(),
            },
            clock: Clock::new(first.monotonic_ns),
            serial: 0,
            cost: CostTracker::default(),
            listeners: Vec::new(),
            seats: Vec::new(),
            groups: Groups::default(),
            index: HashMap::new(),
            places: Vec::new(),
            namespaces: Namespaces::default(),
        };
        tracker.take(first);
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
        if self.model.coverage != sample.coverage {
            self.model.coverage.clone_from(&sample.coverage);
        }
        self.model.losses = sample.losses.clone();
        self.model.timeline.advance(self.clock.step(), self.clock.seconds());
        self.take(sample);
        let Model { listeners: models, timeline, .. } = &mut self.model;
        for at in live(&self.seats) {
            self.listeners[at].settle(&mut models[at], &self.clock, timeline, step_ns);
        }
        self.judge();
    }

    /// What the samples so far amount to.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Looks for patterns and findings, and at who is at rest.
    fn judge(&mut self) {
        let mut live = live(&self.seats);
        self.groups.judge(&mut self.model, &mut self.listeners, &mut live);
        for at in live {
            self.seats[at].rests = self.listeners[at].rests(&self.model.listeners[at], &self.clock);
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.serial += 1;
        self.cost.read(&mut self.model.cost, &sample.cost, &self.clock);
        let mut reorder = false;
        self.places.resize(sample.listeners.len(), usize::MAX);
        // A socket that stopped to listen and listens again comes more than once: what it was first, wherever in the
        // sample that is.
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
        if self.listeners.len() > sample.listeners.len() {
            for (at, seat) in self.seats.iter_mut().enumerate().filter(|(_, seat)| seat.seen != self.serial) {
                if !self.model.listeners[at].closed {
                    self.listeners[at].vanish(&mut self.model.listeners[at]);
                    seat.rests = false;
                }
            }
            reorder |= self.forget_closed();
        }
        if reorder {
            self.sort();
        }
        for at in self.namespaces.read(sample, &live(&self.seats), &mut self.listeners, &mut self.model) {
            self.seats[at].rests = false;
        }
    }

    /// Whether it began to listen since the last sample, for the first time or again.
    fn begins(&self, place: usize, sample: &Arc<ListenerSample>) -> bool {
        let seat = self.known(place, sample).map(|at| &self.seats[at]);
        seat.is_none_or(|seat| !Arc::ptr_eq(&seat.last, sample) && sample.opened_ns > seat.last.opened_ns)
    }

    /// Where a listener is; `place` is its place in the sample.
    fn known(&self, place: usize, sample: &Arc<ListenerSample>) -> Option<usize> {
        match self.seats.get(self.places[place]) {
            Some(seat) if Arc::ptr_eq(&seat.last, sample) || seat.last.id == sample.id => Some(self.places[place]),
            _ => self.index.get(&sample.id).copied(),
        }
    }

    /// Takes one listener in; true if the order of listeners may have changed.
    fn take_listener(&mut self, place: usize, sample: &Arc<ListenerSample>) -> bool {
        let known = self.known(place, sample);
        self.places[place] = known.unwrap_or(self.listeners.len());
        if let Some(at) = known {
            let seat = &mut self.seats[at];
            seat.seen = self.serial;
            if seat.rests && Arc::ptr_eq(&seat.last, sample) {
                return false;
            }
            seat.rests = false;
            if !Arc::ptr_eq(&seat.last, sample) {
                seat.last = sample.clone();
            }
            return self.listeners[at].read(&mut self.model.listeners[at], sample, &self.clock, self.serial);
        }
        // In the first sample every listener's counts are its baseline; later, those that opened since begin at zero.
        let from_zero = self.serial > 1 && sample.opened_ns.is_some();
        let (state, model) = Listener::new(sample, from_zero, &self.clock, self.serial);
        self.index.insert(sample.id, self.listeners.len());
        self.listeners.push(state);
        self.seats.push(Seat { last: sample.clone(), seen: self.serial, rests: false });
        self.model.listeners.push(model);
        true
    }

    /// Forgets the listeners that closed first, once there are too many; true if it did.
    fn forget_closed(&mut self) -> bool {
        let mut closed: Vec<(u64, u64)> = self
            .model
            .listeners
            .iter()
            .zip(&self.seats)
            .filter(|(model, _)| model.closed)
            .map(|(model, seat)| (seat.seen, model.id))
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
        permute(&mut self.seats, &kept);
        self.model.listeners.retain(|m| !forgotten.contains(&m.id));
        true
    }

    /// Orders listeners by (netns, port, address, id).
    fn sort(&mut self) {
        let key = |m: &ListenerModel| (m.netns, m.port, m.address, m.id);
        let mut order: Vec<usize> = (0..self.listeners.len()).collect();
        order.sort_by_key(|&i| key(&self.model.listeners[i]));
        permute(&mut self.listeners, &order);
        permute(&mut self.seats, &order);
        permute(self.model.listeners.handles_mut(), &order);
        self.index.clear();
        self.index.extend(self.model.listeners.iter().enumerate().map(|(i, m)| (m.id, i)));
        self.groups.rebuild(&self.model);
    }
}

/// The places of all listeners but those at rest, ascending.
fn live(seats: &[Seat]) -> Vec<usize> {
    seats.iter().enumerate().filter(|(_, seat)| !seat.rests).map(|(at, _)| at).collect()
}

/// Puts `items` into this order: their indices, each once at most.
pub(crate) fn permute<T>(items: &mut Vec<T>, order: &[usize]) {
    let mut from: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|&i| from[i].take()));
}

/// The tool's own cost.
#[derive(Debug, Default)]
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
