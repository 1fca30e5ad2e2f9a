//! What graphs over time show: the last steps, and how each listener was at each.
//!
//! An idle listener is not touched. Its history notes from which step on it stayed the same. The timeline, which all
//! listeners share, says when each step was.

mod threads;

use std::collections::VecDeque;

use listentop_abi::histogram::{UNIT_NS, lower_bound};

pub use self::threads::{ThreadHistory, ThreadRates};

use crate::histogram::Histogram;

/// Steps of history kept: the widest graph of a 200-column screen, and a little more; one minute at 4 Hz.
pub const HISTORY: usize = 240;

/// How a listener was at a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HistoryPoint {
    /// Seconds since the start of the interval.
    pub at: f64,
    /// Accept queue depth.
    pub accept_depth: u32,
    /// Peak accept queue depth since the point before.
    pub accept_peak: Option<u32>,
    /// SYN queue depth.
    pub syn_depth: Option<u32>,
    /// Refused attempts since the point before.
    pub drops: Option<u64>,
    /// Accepts per second since the point before.
    pub accepts: Option<f64>,
    /// Reads per second since the point before.
    pub reads: Option<f64>,
    /// How long the connections that were accepted since the point before had waited.
    pub waits: Waits,
}

/// Bands of accept waits: the first wait that is too long for each but the last, in microseconds. A step of three is
/// about what makes a difference.
const LIMITS_US: [u64; 11] = [30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000];

/// How many bands there are.
pub const BANDS: usize = LIMITS_US.len() + 1;

/// How many connections had waited how long: a distribution that is coarse enough to be kept for each step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits(pub [u16; BANDS]);

impl Waits {
    /// A distribution of accept waits, coarsely.
    #[must_use]
    pub fn of(waits: &Histogram) -> Self {
        let mut bands = Self::default();
        for &(bucket, count) in &waits.buckets {
            let us = lower_bound(usize::from(bucket)) * UNIT_NS / 1_000;
            let band = &mut bands.0[Self::band(us)];
            *band = band.saturating_add(count.min(u64::from(u16::MAX)) as u16);
        }
        bands
    }

    /// The band of a wait.
    fn band(us: u64) -> usize {
        LIMITS_US.iter().position(|limit| us < *limit).unwrap_or(BANDS - 1)
    }

    /// The first wait that is too long for a band, in microseconds; `None` for the last one.
    #[must_use]
    pub fn limit_us(band: usize) -> Option<u64> {
        LIMITS_US.get(band).copied()
    }

    /// Adds those of another listener or step.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Whether nothing was accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }
}

/// When the last steps were, at most [`HISTORY`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// Number of the first.
    first: u64,
    /// Seconds since the start of the interval, oldest first.
    at: VecDeque<f64>,
}

impl Timeline {
    /// Goes on to a step. Numbers go up by one; the last number again changes nothing.
    pub(crate) fn advance(&mut self, step: u64, at: f64) {
        if self.at.is_empty() {
            self.first = step;
        } else if step < self.end() {
            return;
        }
        self.at.push_back(at);
        if self.at.len() > HISTORY {
            self.at.pop_front();
            self.first += 1;
        }
    }

    /// The number after the last step's.
    fn end(&self) -> u64 {
        self.first + self.at.len() as u64
    }

    fn when(&self, step: u64) -> f64 {
        step.checked_sub(self.first).and_then(|back| self.at.get(back as usize)).copied().unwrap_or_default()
    }
}

/// How a listener was at each step since it appeared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Oldest first; each lasts until the next begins.
    stretches: VecDeque<Stretch>,
    /// The last step, once the history has ended. The last stretch lasts until then.
    last: Option<u64>,
}

/// Steps at which nothing changed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    from: u64,
    /// The point at each of these steps; the time is that of the first.
    point: HistoryPoint,
}

impl History {
    /// Notes a step. Its number is above all noted before. Steps that are left out were like the one before them.
    pub fn push(&mut self, step: u64, point: HistoryPoint) {
        if self.latest().is_some_and(|latest| HistoryPoint { at: latest.at, ..point } == latest) {
            return;
        }
        if let Some(same) = self.stretches.back_mut().filter(|last| last.from == step) {
            same.point = point;
            return;
        }
        self.stretches.push_back(Stretch { from: step, point });
        while self.stretches.get(1).is_some_and(|second| second.from + HISTORY as u64 <= step + 1) {
            self.stretches.pop_front();
        }
    }

    /// Changes the point of the last step, which is `step`.
    pub(crate) fn amend(&mut self, step: u64, change: impl FnOnce(&mut HistoryPoint)) {
        let Some(mut point) = self.latest() else { return };
        change(&mut point);
        self.push(step, point);
    }

    /// Ends the history: no step follows this one.
    pub(crate) fn end(&mut self, step: u64) {
        self.last = Some(step);
    }

    /// Resumes a history that ended. Of the steps in between it is only known that no connection waited.
    pub(crate) fn resume(&mut self) {
        if let Some(last) = self.last.take() {
            self.push(last + 1, HistoryPoint::default());
        }
    }

    /// The latest point, with the time since which it is the same.
    #[must_use]
    pub fn latest(&self) -> Option<HistoryPoint> {
        self.stretches.back().map(|stretch| stretch.point)
    }

    /// Whether all points from this step on are equal, apart from their times.
    pub(crate) fn is_steady_from(&self, step: u64) -> bool {
        self.stretches.back().is_none_or(|last| last.from <= step)
    }

    /// The steps for which it has points, as far back as `timeline` goes.
    #[must_use]
    pub fn steps(&self, timeline: &Timeline) -> std::ops::Range<u64> {
        let Some(first) = self.stretches.front() else { return 0..0 };
        let end = self.last.map_or(timeline.end(), |last| timeline.end().min(last + 1));
        first.from.max(timeline.first).min(end)..end
    }

    /// The point at a step; `None` where it has none.
    #[must_use]
    pub fn at(&self, step: u64, timeline: &Timeline) -> Option<HistoryPoint> {
        if !self.steps(timeline).contains(&step) {
            return None;
        }
        let after = self.stretches.partition_point(|stretch| stretch.from <= step);
        let point = self.stretches.get(after.checked_sub(1)?)?.point;
        Some(HistoryPoint { at: timeline.when(step), ..point })
    }

    /// The last `count` points, oldest first.
    pub fn last(&self, count: usize, timeline: &Timeline) -> impl DoubleEndedIterator<Item = HistoryPoint> {
        let steps = self.steps(timeline);
        let from = steps.end.saturating_sub(count as u64).max(steps.start);
        (from..steps.end).filter_map(|step| self.at(step, timeline))
    }

    /// All points, oldest first.
    pub fn points(&self, timeline: &Timeline) -> impl DoubleEndedIterator<Item = HistoryPoint> {
        self.last(HISTORY, timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(accept_depth: u32) -> HistoryPoint {
        HistoryPoint { accept_depth, ..HistoryPoint::default() }
    }

    fn seen(history: &History, timeline: &Timeline) -> Vec<(f64, u32)> {
        history.points(timeline).map(|point| (point.at, point.accept_depth)).collect()
    }

    #[test]
    fn a_quiet_stretch_has_a_point_at_each_step() {
        let (mut history, mut timeline) = (History::default(), Timeline::default());
        for (step, value) in [(1, 7), (2, 0), (3, 0), (4, 0), (5, 3)] {
            timeline.advance(step, step as f64 / 4.0);
            if step != 4 {
                history.push(step, depth(value)); // a quiet step may be left out
            }
        }
        timeline.advance(6, 9.0);
        assert_eq!(seen(&history, &timeline), [(0.25, 7), (0.5, 0), (0.75, 0), (1.0, 0), (1.25, 3), (9.0, 3)]);
        assert_eq!(history.stretches.len(), 3);
        let last: Vec<u32> = history.last(2, &timeline).map(|point| point.accept_depth).collect();
        assert_eq!(last, [3, 3]);
    }

    #[test]
    fn it_goes_back_no_further_than_the_timeline() {
        let (mut history, mut timeline) = (History::default(), Timeline::default());
        for step in 1..=1_000 {
            timeline.advance(step, step as f64);
            history.push(step, depth(u32::from(step < 900) * step as u32));
        }
        assert_eq!(history.points(&timeline).count(), HISTORY);
        assert_eq!(seen(&history, &timeline)[0], (761.0, 761));
        assert!(history.stretches.len() <= HISTORY);
        timeline.advance(1_001, 1_001.0);
        assert_eq!(seen(&history, &timeline)[0], (762.0, 762));
        for step in 1_002..=2_000 {
            timeline.advance(step, step as f64);
        }
        assert_eq!(seen(&history, &timeline), (1_761..=2_000).map(|at| (f64::from(at), 0)).collect::<Vec<_>>());
    }

    #[test]
    fn it_begins_late_and_ends_early() {
        let (mut history, mut timeline) = (History::default(), Timeline::default());
        for step in 1..=6 {
            timeline.advance(step, step as f64);
            if step == 3 {
                history.push(step, depth(1));
            }
            if step == 4 {
                history.end(step);
            }
        }
        assert_eq!(seen(&history, &timeline), [(3.0, 1), (4.0, 1)]);
        assert_eq!(seen(&History::default(), &timeline), []);
        history.resume();
        history.push(6, depth(2));
        assert_eq!(seen(&history, &timeline), [(3.0, 1), (4.0, 1), (5.0, 0), (6.0, 2)]);
    }

    #[test]
    fn waits_are_in_the_band_below_their_limit() {
        for (us, band) in
            [(0, 0), (29, 0), (30, 1), (99, 1), (100, 2), (2_999_999, 10), (3_000_000, 11), (u64::MAX, 11)]
        {
            assert_eq!(Waits::band(us), band, "{us}");
            assert!(Waits::limit_us(band).is_none_or(|limit| us < limit), "{us}");
        }
        let units = |us: u64| us * 1_000 / UNIT_NS;
        let mut waits = Waits::of(&Histogram::of_units([units(5), units(60), units(60), units(2_000_000)]));
        assert_eq!((waits.0[0], waits.0[1], waits.0[10], waits.is_empty()), (1, 2, 1, false));
        waits.add(&waits.clone());
        assert_eq!((waits.0[0], waits.0[1]), (2, 4));
        let many = Histogram { buckets: vec![(0, u64::MAX)] };
        assert_eq!(Waits::of(&many).0[0], u16::MAX);
        assert!(Waits::default().is_empty());
    }

    #[test]
    fn amending_the_last_step_leaves_those_before() {
        let (mut history, mut timeline) = (History::default(), Timeline::default());
        for step in 1..=3 {
            timeline.advance(step, step as f64);
            timeline.advance(step, 77.0);
            history.push(step, depth(1));
        }
        history.amend(3, |point| point.accept_depth = 5);
        history.amend(3, |point| point.accept_depth += 1);
        assert_eq!(seen(&history, &timeline), [(1.0, 1), (2.0, 1), (3.0, 6)]);
    }
}
