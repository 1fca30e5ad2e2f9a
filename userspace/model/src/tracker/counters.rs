//! Counters: how much each has grown, whatever the source does to it.

use crate::model::Counts;

/// How much a counter grew between two readings.
///
/// A counter that went backwards was reset. It has not grown, and counting continues from the new value. A counter that
/// is read for the first time has grown by its value, if it began at zero within the interval (`from_zero`).
pub(crate) fn growth(last: Option<u64>, now: Option<u64>, from_zero: bool) -> u64 {
    match (last, now) {
        (Some(last), Some(now)) => now.saturating_sub(last),
        (None, Some(now)) if from_zero => now,
        _ => 0,
    }
}

/// The sum of a counter's growth, with its last reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counter {
    last: Option<u64>,
    /// Growth since the baseline; `None` while it was never read.
    pub(crate) sum: Option<u64>,
}

impl Counter {
    /// Takes a reading in and returns the growth.
    pub(crate) fn read(&mut self, now: Option<u64>, from_zero: bool) -> u64 {
        let grown = growth(self.last, now, from_zero);
        if now.is_some() {
            self.last = now;
            self.sum = Some(self.sum.unwrap_or(0) + grown);
        }
        grown
    }

    /// The next reading starts from zero, because its owner started again.
    pub(crate) fn restart(&mut self) {
        self.last = self.last.map(|_| 0);
    }

    /// Nothing is known of it. The next reading is its baseline.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// What it has grown by so far counts no more.
    pub(crate) fn begin_anew(&mut self) {
        self.sum = self.sum.map(|_| 0);
    }

    /// The last reading; 0 if there was none.
    pub(crate) fn last(&self) -> u64 {
        self.last.unwrap_or(0)
    }

    /// Takes over what another counter has grown by.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sum = Some(self.sum.unwrap_or(0) + other.sum.unwrap_or(0));
    }

    /// From now on the readings hold so much more, by which this counter has not grown.
    pub(crate) fn shift(&mut self, by: u64) {
        self.last = Some(self.last() + by);
    }
}

/// All counters of a listener, in the order of [`Counts::values`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    all: [Counter; Counts::N],
    /// They were forgotten: none of these begins at zero.
    forgotten: [bool; Counts::N],
}

impl Counters {
    /// Takes readings in; true if any grew.
    pub(crate) fn read(&mut self, counts: &Counts, from_zero: bool) -> bool {
        let mut grown = false;
        for ((counter, now), forgotten) in self.all.iter_mut().zip(counts.values()).zip(self.forgotten) {
            grown |= counter.read(now, from_zero && !forgotten) > 0;
        }
        grown
    }

    pub(crate) fn restart(&mut self) {
        self.all.iter_mut().for_each(Counter::restart);
        self.forgotten = Default::default();
    }

    /// Forgets these.
    pub(crate) fn forget(&mut self, which: [bool; Counts::N]) {
        for ((counter, forgotten), which) in self.all.iter_mut().zip(&mut self.forgotten).zip(which) {
            if which {
                counter.forget();
                *forgotten = true;
            }
        }
    }

    pub(crate) fn sums(&self) -> Counts {
        Counts::from_values(self.all.map(|counter| counter.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_table() {
        let cases = [
            // readings, from zero, sum
            (&[Some(5), Some(9), Some(9)][..], false, Some(4)),
            (&[Some(5), Some(9)], true, Some(9)),
            (&[Some(100), Some(3), Some(7)], false, Some(4)),
            (&[None, None], false, None),
            (&[None, Some(8), Some(10)], false, Some(2)),
            (&[None, Some(8), Some(10)], true, Some(10)),
            (&[Some(5), None, Some(12)], false, Some(7)),
            (&[Some(u64::MAX), Some(0), Some(1)], false, Some(1)),
        ];
        for (readings, from_zero, sum) in cases {
            let mut counter = Counter::default();
            for reading in readings {
                counter.read(*reading, from_zero);
            }
            assert_eq!(counter.sum, sum, "{readings:?} from zero: {from_zero}");
        }
    }

    #[test]
    fn a_counter_takes_over_another() {
        let (mut one, mut other) = (Counter::default(), Counter::default());
        one.read(Some(5), true);
        other.read(Some(100), false);
        other.read(Some(130), false);
        one.add(&other);
        one.shift(other.last());
        assert_eq!((one.sum, one.last()), (Some(35), 135));
        assert_eq!(one.read(Some(137), false), 2, "what the other counted after its last reading");
        assert_eq!(one.sum, Some(37));
    }

    #[test]
    fn an_owner_that_began_anew_counts_from_zero() {
        let mut counter = Counter::default();
        counter.read(Some(50), false);
        counter.read(Some(60), false);
        counter.restart();
        assert_eq!(counter.read(Some(3), false), 3);
        assert_eq!(counter.sum, Some(13));
    }
}
