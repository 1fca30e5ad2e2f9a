//! How often to read what may take long to read.

use std::time::{Duration, Instant};

/// Readings that would be due again this soon are always due: samples are not much more frequent.
const SOON: Duration = Duration::from_millis(50);

/// Limits readings to their share of a core, for any interval between samples.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Instant,
    every: Duration,
    /// Readings since the last one that was postponed.
    in_time: u32,
    /// A reading is repeated after this many times the CPU time that it took at the earliest.
    thrift: u32,
    /// Every reading is due, regardless of its cost.
    lavish: bool,
}

impl Pace {
    /// Readings that take a part of a core at most: one of `thrift`.
    pub(crate) fn new(now: Instant, thrift: u32) -> Self {
        Self { due: now, every: Duration::ZERO, in_time: 2, thrift, lavish: false }
    }

    /// From now on a reading is always due.
    pub(crate) fn be_lavish(&mut self) {
        self.lavish = true;
    }

    /// The next reading is due, whenever that is.
    pub(crate) fn be_due(&mut self) {
        self.every = Duration::ZERO;
    }

    /// Whether a reading is due.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.lavish || self.every <= SOON || now >= self.due;
        if !due {
            self.in_time = 0;
        }
        due
    }

    /// A reading that began then has taken so much CPU time.
    pub(crate) fn has_read(&mut self, begin: Instant, cpu: Duration) {
        self.in_time = self.in_time.saturating_add(1);
        self.every = cpu * self.thrift;
        self.due = begin + self.every;
    }

    /// Time between two readings, if it is longer than that between two samples.
    pub(crate) fn every(&self) -> Option<Duration> {
        (self.in_time < 2).then_some(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_read_less_often() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut pace = Pace::new(start, 25);
        assert!(pace.is_due(start));
        pace.has_read(start, ms(20));
        assert_eq!(pace.every(), None);
        assert!(!pace.is_due(start + ms(499)));
        assert_eq!(pace.every(), Some(ms(500)));
        assert!(pace.is_due(start + ms(500)));
        pace.has_read(start + ms(500), ms(1));
        assert_eq!(pace.every(), Some(ms(25)));
        assert!(pace.is_due(start + ms(501)));
        pace.has_read(start + ms(501), ms(1));
        assert_eq!(pace.every(), None);
        pace.has_read(start + ms(501), ms(20));
        assert!(!pace.is_due(start + ms(502)));
        pace.be_lavish();
        assert!(pace.is_due(start + ms(502)));
    }
}
