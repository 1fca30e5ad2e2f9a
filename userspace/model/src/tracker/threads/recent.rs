//! What a row accepted and read in the recent span.

use std::collections::VecDeque;

use super::Clock;

/// Counts of accepts and reads.
type Counts = (u64, u64);

/// Step and counts at the start of the steps of the recent span in which a row accepted or read.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(VecDeque<(u64, Counts)>);

impl Recent {
    /// In this step it accepts or reads; it had these counts at the step's start.
    pub(super) fn begin(&mut self, step: u64, counts: Counts) {
        if self.0.back().is_none_or(|(last, _)| *last != step) {
            self.0.push_back((step, counts));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Accepts and reads per second, given the counts now. Forgets what is not recent.
    pub(super) fn rates(&mut self, now: Counts, clock: &Clock) -> (f64, f64) {
        while self.0.front().is_some_and(|(step, _)| *step < clock.first_recent()) {
            self.0.pop_front();
        }
        let Some((_, before)) = self.0.front() else { return (0.0, 0.0) };
        // A recent step has a length, so the recent span has one.
        let seconds = clock.recent_seconds();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (rate(now.0, before.0), rate(now.1, before.1))
    }

    /// The counts at the start of a step, given those now.
    fn at(&self, step: u64, now: Counts) -> Counts {
        self.0.iter().find(|(of, _)| *of >= step).map_or(now, |(_, counts)| *counts)
    }

    /// Takes another row in; both are given with their counts now.
    pub(super) fn take(&mut self, own: Counts, other: &Self, others: Counts) {
        let mut steps: Vec<u64> = self.0.iter().chain(&other.0).map(|(step, _)| *step).collect();
        steps.sort_unstable();
        steps.dedup();
        let both = |step: u64| {
            let (a, b) = (self.at(step, own), other.at(step, others));
            (step, (a.0 + b.0, a.1 + b.1))
        };
        self.0 = steps.into_iter().map(both).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_together_have_their_rates_together() {
        let mut clock = Clock::new(0);
        let (mut one, mut other) = (Recent::default(), Recent::default());
        // Steps of 0.5 s; the recent span has two.
        clock.advance(500_000_000);
        one.begin(clock.step(), (0, 0));
        clock.advance(1_000_000_000);
        one.begin(clock.step(), (4, 40));
        other.begin(clock.step(), (100, 1_000));
        clock.advance(1_500_000_000);
        other.begin(clock.step(), (101, 1_010));
        let (ones, others) = ((5, 50), (103, 1_030));
        one.take(ones, &other, others);
        let (a, b) = (other.rates(others, &clock), one.rates((108, 1_080), &clock));
        assert_eq!((a, b), ((3.0, 30.0), (4.0, 40.0)), "the first accepted 1 and read 10 in the span");
        clock.advance(2_000_000_000);
        assert_eq!(one.rates((108, 1_080), &clock), (2.0, 20.0), "the last recent step is the third");
        clock.advance(2_500_000_000);
        assert_eq!(one.rates((108, 1_080), &clock), (0.0, 0.0));
        assert!(one.is_empty());
    }
}
