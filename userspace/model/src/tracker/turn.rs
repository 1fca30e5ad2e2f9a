//! A turn: measures that came or went while the source runs, because its level changed.
//!
//! What went is unknown from then on. What came back begins anew: what was counted before the gap and after it are not
//! one count. Everything else goes on.

use crate::{
    coverage::{Coverage, Measure},
    figures::{Counts, Distributions},
};

/// The measures that came or went with a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Turn(Vec<Measure>);

/// It takes accepts to tell connections that leave the queue unaccepted.
const TAKES_ACCEPTS: &str = "aborted";

impl Turn {
    /// Between the coverage of two samples; `None` if no measure came or went.
    pub(super) fn between(before: &[Coverage], now: &[Coverage]) -> Option<Self> {
        let since = |coverage: &[Coverage], measure| coverage.iter().find(|c| c.measure == measure)?.since_ns;
        let changed = now.iter().filter(|c| c.since_ns.is_some() && c.since_ns != since(before, c.measure));
        let measures: Vec<Measure> = changed.map(|c| c.measure).collect();
        (!measures.is_empty()).then_some(Self(measures))
    }

    /// Whether it concerns a measure.
    pub(super) fn has(&self, measure: Measure) -> bool {
        self.0.contains(&measure)
    }

    /// Which counters it concerns, in their order.
    pub(super) fn counts(&self) -> [bool; Counts::N] {
        let mut concerned = Counts::MEASURES.map(|measure| self.has(measure));
        for (concerned, name) in concerned.iter_mut().zip(Counts::NAMES) {
            *concerned |= name == TAKES_ACCEPTS && self.has(Measure::Accepts);
        }
        concerned
    }

    /// Which distributions, likewise.
    pub(super) fn distributions(&self) -> [bool; Distributions::N] {
        Distributions::MEASURES.map(|measure| self.has(measure))
    }
}
