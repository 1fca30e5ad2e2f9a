//! One listener's bookkeeping.

use super::{
    Clock,
    bursts::Bursts,
    counters::Counters,
    drops::{DropTracker, attribution::CAUSES},
    limit::Limit,
    recent::{Recent, for_each},
    threads::Threads,
    turn::Turn,
};
use crate::{
    findings::{Activity, Memory},
    histogram::Histogram,
    history::{History, HistoryPoint, Timeline, Waits},
    likely,
    model::{Counts, Distributions, Drops, Gauges, GroupId, ListenerModel, Pattern, PatternName, Rates},
    sample::ListenerSample,
};

/// What the tracker keeps about a listener in addition to its model.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// It opened within the interval: what is read for the first time was counted there.
    from_zero: bool,
    opened_ns: Option<u64>,
    counters: Counters,
    pub(crate) drops: DropTracker,
    /// Its drops must be worked out in this step.
    pub(crate) refuses: bool,
    /// The number of its drops is not known.
    pub(crate) blind: bool,
    /// Refused SYNs whose cause turned out wrong in the current step, by cause.
    pub(crate) returned: [u64; CAUSES],
    threads: Threads,
    /// Last readings of the distributions.
    last: Distributions,
    recent: Recent,
    /// Peak in the last sample.
    peak: Option<u32>,
    /// When it last did what, for the findings.
    pub(crate) activity: Activity,
    /// What was found before.
    pub(crate) findings: Memory,
    /// Something changed since patterns and findings were looked for, or they never were.
    dirty: bool,
    /// Its history ended, because it closed.
    ended: bool,
    /// Sums at the last point of history.
    point: Point,
    limit: Limit,
    bursts: Bursts,
    /// Distributions that were forgotten: none of them begins at zero.
    forgotten: [bool; Distributions::N],
    /// The step that ended with the last turn, and the counters that it concerned: over it they were not measured.
    turned: Option<(u64, [bool; Counts::N])>,
}

#[derive(Debug, Clone, Default)]
struct Point {
    accepts: u64,
    reads: u64,
    drops: u64,
}

impl Listener {
    /// A listener seen for the first time. `from_zero`: it opened within the interval, so that all it counted belongs
    /// there; otherwise what it counted so far is the baseline.
    pub(crate) fn new(sample: &ListenerSample, from_zero: bool, clock: &Clock, serial: u64) -> (Self, ListenerModel) {
        let mut state = Listener {
            from_zero,
            opened_ns: sample.opened_ns,
            counters: Counters::default(),
            drops: DropTracker::default(),
            refuses: true,
            blind: false,
            returned: [0; CAUSES],
            threads: Threads::default(),
            last: Distributions::default(),
            recent: Recent::default(),
            peak: None,
            activity: Activity::default(),
            findings: Memory::default(),
            dirty: true,
            ended: false,
            point: Point::default(),
            limit: Limit::default(),
            bursts: Bursts::default(),
            forgotten: [false; Distributions::N],
            turned: None,
        };
        let mut model = new_model(sample, from_zero);
        state.take_counts(&mut model, sample, clock);
        state.threads.read(&mut model.threads, &sample.threads, (from_zero, is_alone(sample)), clock, serial);
        state.take_state(&mut model, sample, clock);
        (state, model)
    }

    /// Takes a sample in; true if its place among the listeners, or its group, may have changed.
    pub(crate) fn read(
        &mut self,
        model: &mut ListenerModel,
        sample: &ListenerSample,
        clock: &Clock,
        serial: u64,
    ) -> bool {
        if model.closed && sample.opened_ns.is_some_and(|new| self.opened_ns.is_none_or(|old| new > old)) {
            self.restart(model);
        }
        self.opened_ns = sample.opened_ns;
        self.take_counts(model, sample, clock);
        // A thread that is new at a known listener has done all its work since the last sample.
        self.threads.read(&mut model.threads, &sample.threads, (true, is_alone(sample)), clock, serial);
        let moved = (model.namespace(), model.port, model.address, model.device, model.group)
            != (sample.namespace(), sample.port, sample.address, sample.device, group_of(sample));
        self.take_state(model, sample, clock);
        moved
    }

    /// The socket listens again after it had stopped: its counters were reset.
    fn restart(&mut self, model: &mut ListenerModel) {
        self.counters.restart();
        self.drops.restart();
        self.refuses = true;
        self.threads.restart();
        self.last.each_mut().into_iter().flatten().for_each(|last| last.buckets.clear());
        self.from_zero = true;
        self.forgotten = Default::default();
        self.ended = false;
        model.history.resume();
        model.opened_in_interval = true;
    }

    /// Measures come or go with the next sample: what was counted of them is forgotten.
    pub(crate) fn turn(&mut self, model: &mut ListenerModel, turn: &Turn, clock: &Clock) {
        let (counts, distributions) = (turn.counts(), turn.distributions());
        self.counters.forget(counts);
        self.recent.forget(counts, distributions);
        model.total = self.counters.sums();
        let own = self.last.each_mut().into_iter().zip(&mut self.forgotten);
        let models = model.distributions.each_mut().into_iter().zip(model.recent_distributions.each_mut());
        for (((last, forgotten), (interval, recent)), _) in
            own.zip(models).zip(distributions).filter(|(_, concerned)| *concerned)
        {
            (*last, *interval, *recent, *forgotten) = (None, None, None, true);
        }
        self.threads.turn(turn);
        // What happened when is not known over the gap.
        self.activity = Activity::default();
        self.turned = Some((clock.step(), counts));
        self.dirty = true;
    }

    /// Whether a turn came with the last sample.
    pub(crate) fn has_turned(&self, clock: &Clock) -> bool {
        self.turned.is_some_and(|(step, _)| step == clock.step())
    }

    /// The rates of what was measured all the time.
    fn rates(&self, model: &ListenerModel, clock: &Clock) -> Rates {
        let mut rates = self.recent.rates(&model.total, &model.drops, clock.recent_seconds());
        if let Some((step, counts)) = self.turned.filter(|(step, _)| *step >= clock.first_recent()) {
            debug_assert!(step <= clock.step(), "a turn comes with a sample");
            for (rate, _) in rates.values_mut().into_iter().zip(counts).filter(|(_, concerned)| *concerned) {
                *rate = None;
            }
        }
        rates
    }

    /// Whether a counter was measured over the whole step at hand.
    fn is_whole(&self, name: &str, clock: &Clock) -> bool {
        let concerned = |counts: [bool; Counts::N]| Counts::NAMES.iter().zip(counts).any(|(of, is)| is && *of == name);
        !self.turned.is_some_and(|(step, counts)| step == clock.step() && concerned(counts))
    }

    fn take_state(&mut self, model: &mut ListenerModel, sample: &ListenerSample, clock: &Clock) {
        let before = (model.now, model.closed);
        model.now.take(&sample.gauges);
        model.now.recent_accept_peak = model.now.recent_accept_peak.max(peak(sample));
        self.dirty |= before != (model.now, sample.closed);
        self.peak = peak(sample);
        model.closed = sample.closed;
        model.closed_us = model.closed_us.or(Some(clock.elapsed_ns() / 1_000)).filter(|_| sample.closed);
        // The holder of a closed listener is still worth knowing.
        if model.process != sample.process && !(sample.closed && sample.process.is_none()) {
            model.process.clone_from(&sample.process);
        }
        model.holders.clone_from(&sample.holders);
        self.take_surroundings(model, sample);
        if model.connections != sample.connections {
            model.connections.clone_from(&sample.connections);
        }
        model.netns = sample.netns;
        model.net_cookie = sample.net_cookie;
        model.protocol = sample.protocol;
        model.address = sample.address;
        model.port = sample.port;
        model.device = sample.device;
        model.v6only = sample.v6only;
        model.group = group_of(sample);
    }

    /// What is known of the processes behind it, and of its limit.
    fn take_surroundings(&mut self, model: &mut ListenerModel, sample: &ListenerSample) {
        self.dirty |= model.waiters != sample.waiters
            || model.descriptors != sample.descriptors
            || model.somaxconn != sample.somaxconn;
        if model.waiters != sample.waiters {
            model.waiters.clone_from(&sample.waiters);
        }
        let likely = likely::acceptors(&model.threads, sample);
        if model.likely_acceptors != likely {
            (self.dirty, model.likely_acceptors) = (true, likely);
        }
        model.descriptors = sample.descriptors;
        model.backlog_wanted = sample.backlog_wanted;
        // Of a closed listener they may not be read any more.
        model.somaxconn = sample.somaxconn.or(model.somaxconn.filter(|_| sample.closed));
        model.limit_set_by = self.limit.set_by(sample.gauges.backlog, model.somaxconn, sample.backlog_wanted);
    }

    fn take_counts(&mut self, model: &mut ListenerModel, sample: &ListenerSample, clock: &Clock) {
        let before = model.total;
        let mut grown = self.counters.read(&sample.counts, self.from_zero);
        let refused = self.drops.read(sample, self.from_zero);
        self.refuses |= refused || self.drops.newly_known;
        grown |= refused;
        let added = self.take_distributions(&mut model.distributions, sample);
        if let Some(added) = &added {
            for_each(&mut model.recent_distributions, added, Histogram::merge);
        }
        if grown || added.is_some() {
            self.recent.begin(clock.step(), &before, &model.drops, added);
        }
        model.total = self.counters.sums();
    }

    /// It is missing from a sample: closed.
    pub(crate) fn vanish(&mut self, model: &mut ListenerModel, clock: &Clock) {
        self.dirty |= !model.closed;
        model.closed = true;
        model.connections = None;
        model.closed_us = model.closed_us.or(Some(clock.elapsed_ns() / 1_000));
    }

    /// Adds what the distributions gained to the interval's and returns it; `None` if they gained nothing.
    fn take_distributions(&mut self, interval: &mut Distributions, sample: &ListenerSample) -> Option<Distributions> {
        let mut added: Option<Distributions> = None;
        for (i, ((now, last), interval)) in
            sample.distributions.each().into_iter().zip(self.last.each_mut()).zip(interval.each_mut()).enumerate()
        {
            let Some(now) = now else { continue };
            let interval = interval.get_or_insert_default();
            let gained = match last {
                Some(last) if last == now => continue,
                Some(last) => now.since(last),
                None => (self.from_zero && !self.forgotten[i]).then(|| now.clone()),
            };
            match last {
                Some(last) => last.buckets.clone_from(&now.buckets),
                None => *last = Some(now.clone()),
            }
            if let Some(gained) = gained.filter(|g| !g.is_empty()) {
                interval.merge(&gained);
                *added.get_or_insert_default().each_mut()[i] = Some(gained);
            }
        }
        added
    }

    /// Whether patterns or findings may have changed. Those of an idle listener stay the same, and so does a finding
    /// that has passed.
    pub(crate) fn is_dirty(&self, model: &ListenerModel) -> bool {
        let waiting = model.now.accept_depth > 0 || model.now.queued_bytes.is_some_and(|n| n > 0);
        let holds = || model.findings.iter().any(|finding| finding.until_unix_ms.is_none());
        let open = !model.closed && (waiting || holds());
        self.dirty || open || self.findings.is_settling()
    }

    /// Something is known of it that its sample does not have.
    pub(crate) fn note_news(&mut self) {
        self.dirty = true;
    }

    /// Patterns and findings are up to date.
    pub(crate) fn judged(&mut self) {
        self.dirty = false;
    }

    /// Ends a step, after drops were given their causes: recent figures and history.
    pub(crate) fn finish_step(&mut self, model: &mut ListenerModel, clock: &Clock, timeline: &Timeline, step_ns: u64) {
        let idle = self.recent.is_empty();
        self.dirty |= !idle;
        self.recent.expire(clock.first_recent(), &mut model.recent_distributions);
        // The first span turns unknown rates into zeros, also for an idle listener.
        if !idle || clock.recent_steps() == 1 || model.rate.accepts.is_none() || self.turned.is_some() {
            model.rate = self.rates(model, clock);
            self.turned = self.turned.filter(|(step, _)| *step >= clock.first_recent());
            model.recent_drops = self.recent.drops(&model.drops);
            for (recent, interval) in model.recent_distributions.each_mut().into_iter().zip(model.distributions.each())
            {
                if interval.is_some() {
                    recent.get_or_insert_default();
                }
            }
        }
        let needed = self.bursts.step(&model.now, &model.drops, step_ns);
        model.backlog_needed = model.backlog_needed.max(needed);
        self.history(model, clock, timeline, step_ns);
    }

    /// How long those had waited that were accepted in this step.
    fn waits(&self, clock: &Clock) -> Waits {
        let added = self.recent.added(clock.step()).and_then(|added| added.accept_wait.as_ref());
        added.map(Waits::of).unwrap_or_default()
    }

    fn history(&mut self, model: &mut ListenerModel, clock: &Clock, timeline: &Timeline, step_ns: u64) {
        if self.ended {
            return;
        }
        self.ended = model.closed;
        let total = model.drops.total;
        let drops = total.map(|now| now.saturating_sub(self.point.drops));
        if step_ns == 0 && model.history.latest().is_some() {
            let waits = self.waits(clock);
            model.history.amend(clock.step(), |last| {
                last.accept_depth = model.now.accept_depth;
                last.accept_peak = last.accept_peak.max(self.peak);
                last.syn_depth = model.now.syn_depth;
                last.drops = last.drops.zip(drops).map(|(before, now)| before + now).or(drops);
                last.waits = waits;
            });
        } else {
            let rate = |now: Option<u64>, before: u64| match now {
                Some(now) if step_ns > 0 => Some(now.saturating_sub(before) as f64 * 1e9 / step_ns as f64),
                _ => None,
            };
            let point = HistoryPoint {
                at: clock.seconds(),
                accept_depth: model.now.accept_depth,
                accept_peak: self.peak,
                syn_depth: model.now.syn_depth,
                drops,
                accepts: rate(model.total.accepts, self.point.accepts).filter(|_| self.is_whole("accepts", clock)),
                reads: rate(model.total.reads, self.point.reads).filter(|_| self.is_whole("reads", clock)),
                waits: self.waits(clock),
            };
            model.history.push(clock.step(), point);
            self.point.accepts = model.total.accepts.unwrap_or(0);
            self.point.reads = model.total.reads.unwrap_or(0);
        }
        // A sum may be too high for a moment. Graphs keep what they showed, and do not show it twice.
        self.point.drops = self.point.drops.max(total.unwrap_or(0));
        if self.ended {
            model.history.end(clock.step());
        }
        // The value that came with the gauges covers the recent span and one step more: it can only be too high.
        if model.now.recent_accept_peak != self.peak {
            let recent = model.history.last(clock.recent_steps().max(1), timeline);
            model.now.recent_accept_peak = recent.map(|p| p.accept_peak).max().flatten();
        }
    }

    /// Whether the same sample, however much later, would change nothing about it. Its history then says that it stays
    /// as it is.
    pub(crate) fn is_idle(&self, model: &ListenerModel, clock: &Clock) -> bool {
        // Without a span, rates are not known yet.
        if clock.recent_seconds() <= 0.0 || !self.recent.is_empty() || self.refuses || self.is_dirty(model) {
            return false;
        }
        if model.closed {
            return self.ended;
        }
        let point = model.history.latest().unwrap_or_default();
        let quiet = HistoryPoint {
            at: point.at,
            accept_depth: model.now.accept_depth,
            accept_peak: self.peak,
            syn_depth: model.now.syn_depth,
            drops: model.drops.total.map(|_| 0),
            accepts: model.total.accepts.map(|_| 0.0),
            reads: model.total.reads.map(|_| 0.0),
            waits: Waits::default(),
        };
        self.threads.rest(clock)
            && self.turned.is_none()
            && model.rate == self.recent.rates(&model.total, &model.drops, clock.recent_seconds())
            && model.recent_drops == self.recent.drops(&model.drops)
            && self.drops.is_steady()
            && self.bursts.is_over()
            && model.now.recent_accept_peak == self.peak
            && model.history.is_steady_from(clock.first_recent())
            && point == quiet
    }
}

/// Largest depth since the sample before, never below the depth.
fn peak(sample: &ListenerSample) -> Option<u32> {
    sample.gauges.accept_peak.map(|peak| peak.max(sample.gauges.accept_depth))
}

/// Whether one thread does everything. A shard's is compared with those of the others.
fn is_alone(sample: &ListenerSample) -> bool {
    sample.threads.len() < 2 && !sample.reuseport
}

fn group_of(sample: &ListenerSample) -> Option<GroupId> {
    sample.reuseport.then_some(GroupId {
        namespace: sample.namespace(),
        protocol: sample.protocol,
        port: sample.port,
        address: sample.address,
        device: sample.device,
    })
}

fn new_model(sample: &ListenerSample, opened_in_interval: bool) -> ListenerModel {
    ListenerModel {
        id: sample.id,
        netns: sample.netns,
        net_cookie: sample.net_cookie,
        netns_name: None,
        protocol: sample.protocol,
        address: sample.address,
        port: sample.port,
        device: sample.device,
        v6only: sample.v6only,
        group: group_of(sample),
        process: sample.process.clone(),
        holders: sample.holders.clone(),
        waiters: None,
        likely_acceptors: None,
        descriptors: None,
        somaxconn: None,
        limit_set_by: None,
        backlog_wanted: None,
        backlog_needed: None,
        opened_in_interval,
        closed: false,
        closed_us: None,
        now: Gauges::default(),
        total: Counts::default(),
        rate: Rates::default(),
        drops: Drops::default(),
        recent_drops: Drops::default(),
        distributions: Distributions::default(),
        recent_distributions: Distributions::default(),
        threads: Vec::new(),
        pattern: Pattern { name: PatternName::Unknown, confidence: 0.0, evidence: Vec::new() },
        findings: Vec::new(),
        history: History::default(),
        connections: None,
    }
}

#[cfg(test)]
mod tests;
