//! How often something is read that may take long.

use std::time::{Duration, Instant};

/// A reading is repeated after this many times its own duration at the earliest: 4 % of a core at most.
const THRIFT: u32 = 25;

/// What would be due again so soon may be read at any time: nobody asks much more often.
const SOON: Duration = Duration::from_millis(50);

/// Keeps a reading from taking more than its share of a core, whatever the interval between samples is.
#[derive(Debug)]
pub(super) struct Pace {
    due: Instant,
    every: Duration,
    /// Samples since it was last due later than it was asked for.
    in_time: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { due: Instant::now(), every: Duration::ZERO, in_time: 2 }
    }

    /// Now, if it is due.
    pub(super) fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.every > SOON && now < self.due {
            self.in_time = 0;
            return None;
        }
        Some(now)
    }

    /// A reading that began then has ended.
    pub(super) fn end(&mut self, begin: Instant) {
        self.in_time = self.in_time.saturating_add(1);
        self.every = begin.elapsed() * THRIFT;
        self.due = begin + self.every;
    }

    /// Time between two readings, if it is longer than that between two samples.
    pub(super) fn every(&self) -> Option<Duration> {
        (self.in_time < 2).then_some(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping(pace: &mut Pace, ms: u64) -> bool {
        let Some(begin) = pace.begin() else { return false };
        std::thread::sleep(Duration::from_millis(ms));
        pace.end(begin);
        true
    }

    #[test]
    fn what_takes_long_is_read_less_often() {
        let mut pace = Pace::new();
        assert!(sleeping(&mut pace, 20));
        assert_eq!(pace.every(), None);
        assert!(!sleeping(&mut pace, 0));
        assert!(pace.every().is_some_and(|every| every >= Duration::from_millis(500)));
        std::thread::sleep(pace.due.saturating_duration_since(Instant::now()));
        assert!(sleeping(&mut pace, 0));
        assert!(sleeping(&mut pace, 0) && pace.every().is_none());
    }
}
