//! Durations by the test's own clock, to compare with those that listentop measures.

use crate::now_ns;

/// The earliest and the latest moment at which an event happened.
#[derive(Clone, Copy)]
pub struct When {
    /// The earliest, in nanoseconds of [`now_ns`].
    pub from: u64,
    /// The latest.
    pub to: u64,
}

impl When {
    /// Does `work`: the event happened between its beginning and its end.
    pub fn doing<T>(work: impl FnOnce() -> T) -> (When, T) {
        let from = now_ns();
        let result = work();
        (When { from, to: now_ns() }, result)
    }
}

/// Bounds of durations.
#[derive(Default)]
pub struct Spans {
    low: Vec<u64>,
    high: Vec<u64>,
}

impl Spans {
    /// Adds the duration from one event to another.
    pub fn add(&mut self, start: When, end: When) {
        self.low.push(end.from.saturating_sub(start.to));
        self.high.push(end.to - start.from);
    }

    /// Bounds of a quantile: the quantile of the lower and that of the upper bounds.
    pub fn quantile(&self, p: f64) -> (u64, u64) {
        let at = |values: &[u64]| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            sorted[((p * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
        };
        (at(&self.low), at(&self.high))
    }
}
