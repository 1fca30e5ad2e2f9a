//! What happened over time, for reports that draw it: a course of each listener that was used, and what began and
//! ended.

use std::collections::HashMap;

use listentop_model::{
    episodes::{Episodes, Event, now_ms},
    model::{ListenerModel, Model},
};

/// Steps of a course at most: as many as a page has room for. When they are used up, each two become one.
const STEPS: usize = 240;
/// Events that are kept: the first ones. How many there were is counted.
const EVENTS: usize = 2_000;
/// The first length of a step, in milliseconds.
const FIRST_MS: u64 = 250;

/// A step of a course: what was largest in it, or added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// The largest depth of the accept queue.
    pub accept_depth: u32,
    /// The largest depth of the SYN queue; `None` if it is not known.
    pub syn_depth: Option<u32>,
    /// Attempts that were refused.
    pub refused: Option<u64>,
    /// Connections that were accepted.
    pub accepts: Option<u64>,
    /// Reads.
    pub reads: Option<u64>,
    /// The 99th percentile of the accept wait; the largest of the recent ones, in microseconds.
    pub wait_p99_us: Option<u64>,
}

impl Step {
    /// Both together.
    fn merge(&mut self, other: &Self) {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.accept_depth = self.accept_depth.max(other.accept_depth);
        self.syn_depth = self.syn_depth.max(other.syn_depth);
        self.refused = sum(self.refused, other.refused);
        self.accepts = sum(self.accepts, other.accepts);
        self.reads = sum(self.reads, other.reads);
        self.wait_p99_us = self.wait_p99_us.max(other.wait_p99_us);
    }
}

/// The course of a listener.
#[derive(Debug, Clone, Default)]
struct Course {
    steps: Vec<Step>,
    before: Totals,
}

/// What a course counts.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    refused: Option<u64>,
    accepts: Option<u64>,
    reads: Option<u64>,
}

impl Totals {
    fn of(listener: &ListenerModel) -> Self {
        Self { refused: listener.drops.total, accepts: listener.total.accepts, reads: listener.total.reads }
    }
}

/// What happened over time.
#[derive(Debug)]
pub struct Story {
    episodes: Episodes,
    events: Vec<Event>,
    more_events: u64,
    courses: HashMap<u64, Course>,
    step_ms: u64,
    start_ms: u64,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            episodes: Episodes::default(),
            events: Vec::new(),
            more_events: 0,
            courses: HashMap::new(),
            step_ms: FIRST_MS,
            start_ms: 0,
        }
    }
}

impl Story {
    /// Takes a model in.
    pub fn push(&mut self, model: &Model) {
        let events = self.episodes.push(model);
        self.keep(events);
        self.start_ms = model.interval.start_unix_ms;
        let at_ms = now_ms(model).saturating_sub(self.start_ms);
        while at_ms / self.step_ms >= STEPS as u64 {
            self.step_ms *= 2;
            self.courses.values_mut().for_each(Course::halve);
        }
        let place = (at_ms / self.step_ms) as usize;
        for listener in &model.listeners {
            let idle = listener.now.accept_depth == 0 && listener.total.enqueued.unwrap_or(0) == 0;
            // One that was never used has no course, so that a thousand of them cost nothing.
            if idle && listener.drops.total.unwrap_or(0) == 0 && !self.courses.contains_key(&listener.id) {
                continue;
            }
            self.courses.entry(listener.id).or_default().take(place, listener);
        }
    }

    /// The end: episodes that have ended by then have their end.
    #[must_use]
    pub fn finish(mut self) -> Self {
        let events = self.episodes.finish();
        self.keep(events);
        self.events.sort_by_key(|event| event.unix_ms);
        self
    }

    fn keep(&mut self, events: Vec<Event>) {
        let room = EVENTS - self.events.len();
        self.more_events += events.len().saturating_sub(room) as u64;
        self.events.extend(events.into_iter().take(room));
    }

    /// What began and ended, in the order of time.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many more events there were.
    #[must_use]
    pub fn more_events(&self) -> u64 {
        self.more_events
    }

    /// The length of a step, in milliseconds.
    #[must_use]
    pub fn step_ms(&self) -> u64 {
        self.step_ms
    }

    /// The course of a listener, from the beginning of the interval on; empty if it was never used. Steps past its end
    /// were like the last, without events.
    #[must_use]
    pub fn course(&self, listener: u64) -> &[Step] {
        self.courses.get(&listener).map_or(&[], |course| &course.steps)
    }
}

impl Course {
    fn take(&mut self, place: usize, listener: &ListenerModel) {
        let totals = Totals::of(listener);
        let grown = |now: Option<u64>, before: Option<u64>| now.map(|now| now.saturating_sub(before.unwrap_or(0)));
        let wait = listener.recent_distributions.accept_wait.as_ref();
        let step = Step {
            accept_depth: listener.now.accept_depth.max(listener.now.recent_accept_peak.unwrap_or(0)),
            syn_depth: listener.now.syn_depth,
            refused: grown(totals.refused, self.before.refused),
            accepts: grown(totals.accepts, self.before.accepts),
            reads: grown(totals.reads, self.before.reads),
            wait_p99_us: wait.and_then(|wait| wait.quantile_us(0.99)),
        };
        self.before = totals;
        if self.steps.len() <= place {
            self.steps.resize(place + 1, Step::default());
        }
        self.steps[place].merge(&step);
    }

    /// Has each step last twice as long.
    fn halve(&mut self) {
        let pair = |pair: &[Step]| {
            let mut step = pair[0];
            pair[1..].iter().for_each(|other| step.merge(other));
            step
        };
        self.steps = self.steps.chunks(2).map(pair).collect();
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, sample::Sample, tracker::Tracker};

    use super::*;

    fn story(samples: &[Sample]) -> (Story, Model) {
        let mut tracker = Tracker::new(&samples[0]);
        let mut story = Story::default();
        story.push(tracker.model());
        for sample in &samples[1..] {
            tracker.push(sample);
            story.push(tracker.model());
        }
        (story.finish(), tracker.model().clone())
    }

    #[test]
    fn the_steps_of_a_course_add_up_to_the_totals() {
        for stretch in [1, 7, 40, 1_000] {
            let mut samples = fixtures::overflow();
            let first = samples[0].monotonic_ns;
            samples.iter_mut().for_each(|sample| {
                sample.monotonic_ns = first + (sample.monotonic_ns - first) * stretch;
            });
            let (story, model) = story(&samples);
            let listener = &model.listeners[0];
            let course = story.course(listener.id);
            assert!(course.len() <= STEPS && !course.is_empty());
            let sum = |of: fn(&Step) -> Option<u64>| course.iter().filter_map(of).sum::<u64>();
            assert_eq!(Some(sum(|step| step.refused)), listener.drops.total, "×{stretch}");
            assert_eq!(Some(sum(|step| step.accepts)), listener.total.accepts);
            assert_eq!(Some(sum(|step| step.reads)), listener.total.reads);
            assert_eq!(course.iter().map(|step| step.accept_depth).max(), listener.now.accept_peak);
            assert!((course.len() as u64 - 1) * story.step_ms() <= (model.interval.seconds * 1e3) as u64);
        }
    }

    #[test]
    fn what_was_never_used_has_no_course() {
        let (story, model) = story(&fixtures::quiet());
        let used = |id| !story.course(id).is_empty();
        assert_eq!(model.listeners.iter().map(|listener| used(listener.id)).collect::<Vec<_>>(), [false, true, true]);
    }

    #[test]
    fn events_are_kept_up_to_a_number_and_counted_beyond() {
        let (mut story, _) = story(&fixtures::overflow());
        assert!(!story.events().is_empty() && story.more_events() == 0);
        assert!(story.events().is_sorted_by_key(|event| event.unix_ms));
        let event = story.events()[0].clone();
        story.keep(vec![event; EVENTS + 3]);
        assert_eq!(story.events().len(), EVENTS);
        assert!(story.more_events() >= 3);
    }
}
