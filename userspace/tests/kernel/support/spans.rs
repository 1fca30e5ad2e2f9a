//! What a program's own clock says of durations that listentop measures too.

use super::now_ns;

/// When something happened at the earliest and at the latest.
#[derive(Clone, Copy)]
pub(crate) struct When {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl When {
    pub(crate) fn doing<T>(work: impl FnOnce() -> T) -> (When, T) {
        let from = now_ns();
        let result = work();
        (When { from, to: now_ns() }, result)
    }
}

/// Bounds of durations.
#[derive(Default)]
pub(crate) struct Spans {
    low: Vec<u64>,
    high: Vec<u64>,
}

impl Spans {
    pub(crate) fn add(&mut self, start: When, end: When) {
        self.low.push(end.from.saturating_sub(start.to));
        self.high.push(end.to - start.from);
    }

    /// Bounds of a quantile: the quantile of the lower and that of the upper bounds.
    pub(crate) fn quantile(&self, p: f64) -> (u64, u64) {
        let at = |values: &[u64]| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            sorted[((p * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
        };
        (at(&self.low), at(&self.high))
    }
}
