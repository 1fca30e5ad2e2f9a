//! A distribution read from the kernel.

use listentop_abi::histogram::{BUCKETS, UNIT_NS, lower_bound, upper_bound};
use serde::{Deserialize, Serialize};

/// Counts in the buckets of [`listentop_abi::histogram`], sparse: only buckets that are not empty.
///
/// A unit is [`UNIT_NS`] nanoseconds in a distribution of durations and one byte in a distribution of sizes. A
/// bucket is read as its midpoint, which is at most 1/16 away from each value in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Histogram {
    /// (bucket, count), in ascending order of bucket, counts above 0.
    pub buckets: Vec<(u16, u64)>,
}

/// One bar of a drawn distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Smallest value in it, in units.
    pub low: u64,
    /// First value above it, in units.
    pub high: u64,
    /// How many values it holds.
    pub count: u64,
}

/// A histogram as a recording has it, not checked yet.
#[derive(Deserialize)]
struct Raw {
    buckets: Vec<(u16, u64)>,
}

/// A histogram that no source can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed histogram: bucket {0} is out of range, out of order or empty")]
pub struct Malformed(pub u16);

impl TryFrom<Raw> for Histogram {
    type Error = Malformed;

    fn try_from(raw: Raw) -> Result<Self, Malformed> {
        let mut previous = None;
        for &(bucket, count) in &raw.buckets {
            if usize::from(bucket) >= BUCKETS || count == 0 || previous.is_some_and(|p| p >= bucket) {
                return Err(Malformed(bucket));
            }
            previous = Some(bucket);
        }
        Ok(Histogram { buckets: raw.buckets })
    }
}

/// Smallest and first-above value of a bucket, in units; an index beyond the layout counts as the last bucket.
fn bounds(bucket: u16) -> (u64, u64) {
    let index = usize::from(bucket).min(BUCKETS - 1);
    (lower_bound(index), upper_bound(index))
}

const fn to_us(ns: u64) -> u64 {
    (ns + 500) / 1000
}

impl Histogram {
    /// A histogram of these values, in units.
    #[must_use]
    pub fn of_units(values: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.add(listentop_abi::histogram::index(value) as u16, 1);
        }
        histogram
    }

    /// Adds `count` values to a bucket.
    pub fn add(&mut self, bucket: u16, count: u64) {
        if count == 0 {
            return;
        }
        match self.buckets.binary_search_by_key(&bucket, |b| b.0) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// No values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, b| sum.saturating_add(b.1))
    }

    /// Adds all values of another one.
    pub fn merge(&mut self, other: &Histogram) {
        if self.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        for &(bucket, count) in &other.buckets {
            self.add(bucket, count);
        }
    }

    /// Takes away values that were merged before. A count never goes below 0.
    pub fn subtract(&mut self, other: &Histogram) {
        for &(bucket, count) in &other.buckets {
            if let Ok(at) = self.buckets.binary_search_by_key(&bucket, |b| b.0) {
                self.buckets[at].1 = self.buckets[at].1.saturating_sub(count);
            }
        }
        self.buckets.retain(|b| b.1 > 0);
    }

    /// What a cumulative histogram gained since an earlier reading. `None` if a bucket shrank: then it was reset in
    /// between.
    #[must_use]
    pub fn since(&self, earlier: &Histogram) -> Option<Histogram> {
        let mut added = Vec::new();
        let mut old = earlier.buckets.iter().copied().peekable();
        for &(bucket, count) in &self.buckets {
            let before = match old.peek() {
                Some(&(b, n)) if b == bucket => {
                    old.next();
                    n
                }
                _ => 0,
            };
            match count.checked_sub(before)? {
                0 => {}
                n => added.push((bucket, n)),
            }
        }
        // A bucket that is no longer there stays in `old`, together with all after it.
        old.peek().is_none().then_some(Histogram { buckets: added })
    }

    /// The bucket that holds the value of rank ⌈p·count⌉.
    fn quantile_bounds(&self, p: f64) -> Option<(u64, u64)> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((p.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0u64;
        for &(bucket, n) in &self.buckets {
            seen = seen.saturating_add(n);
            if seen >= rank {
                return Some(bounds(bucket));
            }
        }
        None
    }

    /// The `p` quantile (0 to 1) in units, at most 1/16 off; `None` if there are no values.
    #[must_use]
    pub fn quantile_units(&self, p: f64) -> Option<u64> {
        self.quantile_bounds(p).map(|(low, high)| low + (high - 1 - low) / 2)
    }

    /// The `p` quantile of durations, in nanoseconds.
    #[must_use]
    pub fn quantile_ns(&self, p: f64) -> Option<u64> {
        self.quantile_bounds(p).map(|(low, high)| (low + high) * UNIT_NS / 2)
    }

    /// The `p` quantile of durations, in microseconds, rounded.
    #[must_use]
    pub fn quantile_us(&self, p: f64) -> Option<u64> {
        self.quantile_ns(p).map(to_us)
    }

    /// The mean in units, from the middles of the buckets; `None` if there are no values.
    fn mean(&self) -> Option<f64> {
        let sum = self.buckets.iter().map(|&(bucket, count)| {
            let (low, high) = bounds(bucket);
            (low + high - 1) as f64 / 2.0 * count as f64
        });
        (!self.is_empty()).then(|| sum.sum::<f64>() / self.count() as f64)
    }

    /// The mean of sizes, rounded, at most 1/16 off; `None` if there are no values.
    #[must_use]
    pub fn mean_units(&self) -> Option<u64> {
        self.mean().map(|mean| mean.round() as u64)
    }

    /// The mean of durations in microseconds, rounded, at most 1/16 off; `None` if there are no values.
    #[must_use]
    pub fn mean_us(&self) -> Option<u64> {
        // A duration of n units is anywhere in the nth unit.
        self.mean().map(|mean| ((mean + 0.5) * UNIT_NS as f64 / 1000.0).round() as u64)
    }

    /// The largest value that the top bucket can hold, in units. No value is above it, except those past the layout's
    /// end.
    #[must_use]
    pub fn max_units(&self) -> Option<u64> {
        self.buckets.last().map(|b| bounds(b.0).1 - 1)
    }

    /// The upper edge of the top bucket of durations, in microseconds, rounded up.
    #[must_use]
    pub fn max_us(&self) -> Option<u64> {
        self.buckets.last().map(|b| (bounds(b.0).1 * UNIT_NS).div_ceil(1000))
    }

    /// At most `n` adjoining bars from the smallest value to the largest. Each covers the same number of buckets, give
    /// or take one, so widths grow with values: a logarithmic axis. Empty if there are no values.
    #[must_use]
    pub fn bars(&self, n: usize) -> Vec<Bar> {
        let (Some(first), Some(last)) = (self.buckets.first(), self.buckets.last()) else { return Vec::new() };
        let (first, last) = (usize::from(first.0).min(BUCKETS - 1), usize::from(last.0).min(BUCKETS - 1));
        let span = last - first + 1;
        let n = n.min(span);
        let edge = |bar: usize| first + bar * span / n;
        let mut bars: Vec<Bar> =
            (0..n).map(|bar| Bar { low: lower_bound(edge(bar)), high: lower_bound(edge(bar + 1)), count: 0 }).collect();
        let mut bar = 0;
        for &(bucket, count) in &self.buckets {
            while bar + 1 < n && usize::from(bucket) >= edge(bar + 1) {
                bar += 1;
            }
            if let Some(bar) = bars.get_mut(bar) {
                bar.count = bar.count.saturating_add(count);
            }
        }
        bars
    }
}

#[cfg(test)]
mod tests {
    use listentop_abi::histogram::index;

    use super::*;

    #[test]
    fn quantiles_are_within_a_sixteenth() {
        let values: Vec<u64> = (1..=20_000).map(|i| i * 37).collect();
        let histogram = Histogram::of_units(values.iter().copied());
        assert_eq!(histogram.count(), 20_000);
        for p in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[((p * 20_000f64).ceil() as usize).clamp(1, 20_000) - 1] as f64;
            let got = histogram.quantile_units(p).unwrap() as f64;
            assert!((got - exact).abs() <= exact / 16.0, "p{p}: {got} for {exact}");
            let us = histogram.quantile_us(p).unwrap() as f64;
            let exact_us = exact * 0.128;
            assert!((us - exact_us).abs() <= exact_us / 16.0 + 0.6, "p{p}: {us} µs for {exact_us}");
        }
        let exact = values.iter().sum::<u64>() as f64 / 20_000.0;
        let mean = histogram.mean_units().unwrap() as f64;
        assert!((mean - exact).abs() <= exact / 16.0, "{mean} for {exact}");
        let us = histogram.mean_us().unwrap() as f64;
        assert!((us - exact * 0.128).abs() <= exact * 0.128 / 16.0 + 0.6, "{us} µs");
        assert!(histogram.max_units().unwrap() >= 740_000 && histogram.max_units().unwrap() <= 832_500);
        assert!(histogram.max_us() >= histogram.quantile_us(1.0));
    }

    #[test]
    fn nothing_is_none() {
        let empty = Histogram::default();
        assert_eq!((empty.count(), empty.quantile_units(0.5), empty.quantile_us(0.5)), (0, None, None));
        assert_eq!((empty.max_us(), empty.max_units()), (None, None));
        assert_eq!((empty.mean_us(), empty.mean_units()), (None, None));
        assert_eq!(empty.bars(10), []);
        assert_eq!(Histogram::of_units([5]).bars(0), []);
    }

    #[test]
    fn small_sizes_are_exact() {
        let sizes = Histogram::of_units([1, 1, 1, 7]);
        assert_eq!((sizes.quantile_units(0.5), sizes.max_units()), (Some(1), Some(7)));
        assert_eq!(Histogram::of_units([1, 1, 7]).mean_units(), Some(3));
    }

    #[test]
    fn difference_undoes_merge_and_sees_a_restart() {
        let early = Histogram::of_units([3, 100, 100, 5_000]);
        let added = Histogram::of_units([2, 100, 900_000]);
        let mut late = early.clone();
        late.merge(&added);
        assert_eq!(late.since(&early), Some(added.clone()));
        assert_eq!(late.since(&late), Some(Histogram::default()));
        assert_eq!(early.since(&late), None, "a count shrank");
        assert_eq!(Histogram::of_units([3]).since(&early), None, "a bucket vanished at the end");
        assert_eq!(Histogram::of_units([100, 100, 5_000]).since(&early), None, "a bucket vanished at the start");
        late.subtract(&added);
        assert_eq!(late, early);
    }

    #[test]
    fn bars_cover_the_values_without_gap_and_keep_the_count() {
        let histogram = Histogram::of_units((0..5_000).map(|i| 8 + i * i));
        for n in [1, 2, 7, 40, 1_000] {
            let bars = histogram.bars(n);
            assert!(!bars.is_empty() && bars.len() <= n);
            assert_eq!(bars.iter().map(|b| b.count).sum::<u64>(), 5_000);
            assert!(bars.windows(2).all(|w| w[0].high == w[1].low && w[0].low < w[0].high));
            assert_eq!(bars[0].low, 8);
            assert_eq!(bars.last().unwrap().high, histogram.max_units().unwrap() + 1);
        }
        let three = Histogram::of_units([8, 9, 11]).bars(40);
        assert_eq!(three.iter().map(|b| b.count).collect::<Vec<_>>(), [1, 1, 0, 1]);
    }

    #[test]
    fn a_recording_with_an_impossible_histogram_is_refused() {
        for bad in [r#"{"buckets":[[9999,1]]}"#, r#"{"buckets":[[3,1],[3,1]]}"#, r#"{"buckets":[[3,0]]}"#] {
            let error = serde_json::from_str::<Histogram>(bad).unwrap_err().to_string();
            assert!(error.contains("malformed histogram"), "{error}");
        }
        let good = Histogram::of_units([1, 50]);
        assert_eq!(serde_json::from_str::<Histogram>(&serde_json::to_string(&good).unwrap()).unwrap(), good);
    }

    #[test]
    fn an_index_past_the_layout_does_not_panic() {
        let odd = Histogram { buckets: vec![(u16::MAX, 2)] };
        assert_eq!(odd.max_units(), Some(u64::from(u32::MAX)));
        assert_eq!(odd.bars(3).iter().map(|b| b.count).sum::<u64>(), 2);
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }
}
