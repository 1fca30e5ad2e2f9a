//! Time: the interval, and the span of recent figures.

use std::collections::VecDeque;

/// Length of the recent span: long enough that a rate read at 4 Hz does not flicker, short enough to mean "now".
const RECENT_NS: u64 = 1_000_000_000;
/// How much shorter than [`RECENT_NS`] a span may be before one more step is kept. Timers are late, never early; the
/// step after a late one is short.
const SLACK_NS: u64 = 50_000_000;

/// The steps between samples.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    last_ns: u64,
    elapsed_ns: u64,
    previous_ns: u64,
    /// Number of the last step; steps count from 1.
    step: u64,
    /// Lengths of the steps in the recent span, oldest first, none of them 0.
    recent: VecDeque<u64>,
    recent_ns: u64,
}

impl Clock {
    pub(crate) fn new(now_ns: u64) -> Self {
        Clock { last_ns: now_ns, elapsed_ns: 0, previous_ns: 0, step: 0, recent: VecDeque::new(), recent_ns: 0 }
    }

    /// Goes on to the time of the next sample and returns the step's length.
    ///
    /// A sample at the same instant, or from before, makes no step: its counts belong to the last step. After a sample
    /// from before, the clock runs on from there.
    pub(crate) fn advance(&mut self, now_ns: u64) -> u64 {
        let length = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        self.previous_ns = self.elapsed_ns;
        if length == 0 {
            return 0;
        }
        self.step += 1;
        self.elapsed_ns = self.elapsed_ns.saturating_add(length);
        self.recent.push_back(length);
        self.recent_ns = self.recent_ns.saturating_add(length);
        while let Some(&oldest) = self.recent.front() {
            if self.recent.len() == 1 || self.recent_ns - oldest < RECENT_NS - SLACK_NS {
                break;
            }
            self.recent.pop_front();
            self.recent_ns -= oldest;
        }
        length
    }

    /// Number of the step that the last sample ended.
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// Number of the first step in the recent span.
    pub(crate) fn first_recent(&self) -> u64 {
        self.step + 1 - self.recent.len() as u64
    }

    /// Steps in the recent span.
    pub(crate) fn recent_steps(&self) -> usize {
        self.recent.len()
    }

    /// The interval's length at a time of the samples' clock, at most now; 0 if that was before it began.
    pub(crate) fn elapsed_at(&self, ns: u64) -> u64 {
        self.elapsed_ns.saturating_sub(self.last_ns.saturating_sub(ns))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.elapsed_ns as f64 / 1e9
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }

    /// The interval's length at the sample before the last one.
    pub(crate) fn previous_ns(&self) -> u64 {
        self.previous_ns
    }

    pub(crate) fn recent_seconds(&self) -> f64 {
        self.recent_ns as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of the samples → (interval, recent span).
    fn run(at_ms: &[u64]) -> (f64, f64) {
        let mut clock = Clock::new(at_ms[0] * 1_000_000);
        for ms in &at_ms[1..] {
            clock.advance(ms * 1_000_000);
        }
        (clock.seconds(), clock.recent_seconds())
    }

    #[test]
    fn spans_by_table() {
        let cases: [(&[u64], f64, f64); 9] = [
            (&[100], 0.0, 0.0),
            (&[0, 250], 0.25, 0.25),
            (&[0, 250, 500, 750, 1000, 1250, 1500], 1.5, 1.0),
            (&[0, 251, 500, 751, 1000, 1249], 1.249, 0.998),
            (&[0, 2000, 4000], 4.0, 2.0),
            (&[0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200], 1.2, 1.0),
            (&[0, 1000, 1000, 1000], 1.0, 1.0),
            (&[5000, 6000, 2000, 3000], 2.0, 1.0),
            (&[0, 1000, 11000], 11.0, 10.0),
        ];
        for (at, interval, recent) in cases {
            let (i, r) = run(at);
            assert!((i - interval).abs() < 1e-9 && (r - recent).abs() < 1e-9, "{at:?}: {i} {r}");
        }
    }

    #[test]
    fn times_of_the_samples_clock_are_times_of_the_interval() {
        let mut clock = Clock::new(1_000);
        clock.advance(3_000);
        assert_eq!([0, 999, 1_000, 2_500, 3_000, 3_001].map(|ns| clock.elapsed_at(ns)), [0, 0, 0, 1_500, 2_000, 2_000]);
    }

    #[test]
    fn a_span_that_is_just_long_enough_takes_no_further_step() {
        let steps = |at_ms: &[u64]| {
            let mut clock = Clock::new(0);
            at_ms.iter().for_each(|ms| {
                clock.advance(ms * 1_000_000);
            });
            (clock.step(), clock.first_recent(), clock.recent_steps())
        };
        // The last two steps are 950 ms, then 949 ms long.
        assert_eq!(steps(&[500, 1_000, 1_450]), (3, 2, 2));
        assert_eq!(steps(&[500, 1_000, 1_449]), (3, 1, 3));
        assert_eq!(steps(&[]), (0, 1, 0));
    }

    #[test]
    fn at_every_refresh_rate_the_span_is_about_a_second() {
        for step_ms in [10u64, 50, 100, 125, 200, 250, 333, 500, 900, 1000] {
            let at: Vec<u64> = (0..300).map(|i| i * step_ms).collect();
            let (_, recent) = run(&at);
            assert!((0.95..=1.0 + step_ms as f64 / 1e3).contains(&recent), "{step_ms} ms: {recent}");
        }
    }
}
