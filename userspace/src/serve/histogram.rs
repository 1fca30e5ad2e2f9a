//! A distribution as Prometheus has them: classic buckets, and a native histogram.

use listentop_abi::histogram::{BUCKETS, UNIT_NS, UNIT_SHIFT, lower_bound, upper_bound};
use listentop_model::histogram::Histogram;
use prometheus_client::encoding::{NativeHistogram, NativeHistogramBuckets};

/// Classic buckets end at powers of two of the layout's unit, where its own buckets end too: so their counts are exact.
/// The first ends at 131 µs, the last at 17.2 s.
const FIRST: u32 = 10;
const LAST: u32 = 27;
/// How many classic buckets there are, `+Inf` included.
pub(super) const CLASSIC: usize = (LAST - FIRST) as usize + 2;
/// Series of a classic histogram: its buckets, the sum, the count.
pub(super) const SERIES: usize = CLASSIC + 2;

/// Eight native buckets for each power of two, as many as the layout has.
const SCHEMA: i32 = 3;
/// What is below a unit is zero.
pub(super) const ZERO: f64 = UNIT_NS as f64 / 1e9;

/// A distribution of durations, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exported {
    pub(super) count: u64,
    /// In seconds, from the buckets' middles: within 1/16.
    pub(super) sum: f64,
    /// Upper bound in seconds, and the values in this bucket alone.
    pub(super) classic: [(f64, u64); CLASSIC],
    zero: u64,
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
    /// As it was measured.
    #[cfg(feature = "otlp")]
    measured: Histogram,
}

/// A histogram whose buckets are powers of `2^(1/16)`.
#[cfg(feature = "otlp")]
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exponential {
    /// Values below [`ZERO`].
    pub(super) zero: u64,
    /// The first bucket: bucket `n` has what is above `2^(n/16)` and not above `2^((n+1)/16)`, in seconds.
    pub(super) offset: i32,
    /// One count for each bucket from there on.
    pub(super) counts: Vec<u64>,
}

/// Sixteen buckets for each power of two: so every bucket of the layout has one of its own, and nothing is lost.
#[cfg(feature = "otlp")]
pub(super) const SCALE: i32 = 4;

impl Exported {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let mut classic = bounds().map(|bound| (bound, 0));
        let (mut count, mut sum, mut zero) = (0, 0.0, 0);
        let mut native: Vec<(i32, u64)> = Vec::new();
        for &(bucket, held) in &histogram.buckets {
            let (low, high) = edges(bucket);
            count += held;
            let middle = (low + high) as f64 / 2.0 * ZERO;
            sum += middle * held as f64;
            let place = (FIRST..=LAST).position(|power| high <= 1 << power).unwrap_or(CLASSIC - 1);
            classic[place].1 += held;
            if low == 0 {
                zero += held;
                continue;
            }
            // The bucket `n` ends at 2^(n/8), its end included.
            let bucket = (middle.log2() * f64::from(1 << SCHEMA)).ceil() as i32;
            match native.last_mut() {
                Some((last, sum)) if *last == bucket => *sum += held,
                _ => native.push((bucket, held)),
            }
        }
        let (spans, deltas) = spans(&native);
        Self {
            count,
            sum,
            classic,
            zero,
            spans,
            deltas,
            #[cfg(feature = "otlp")]
            measured: histogram.clone(),
        }
    }

    /// Its exponential form, by the middles of the layout's buckets.
    #[cfg(feature = "otlp")]
    pub(super) fn exponential(&self) -> Exponential {
        let mut found = Exponential { zero: self.zero, offset: 0, counts: Vec::new() };
        for &(bucket, held) in self.measured.buckets.iter().filter(|(bucket, _)| edges(*bucket).0 > 0) {
            let (low, high) = edges(bucket);
            let middle = (low + high) as f64 / 2.0 * ZERO;
            let place = (middle.log2() * f64::from(1 << SCALE)).ceil() as i32 - 1;
            if found.counts.is_empty() {
                found.offset = place;
            }
            // The layout's buckets come in ascending order.
            found.counts.resize((place - found.offset) as usize + 1, 0);
            *found.counts.last_mut().expect("it has one at least") += held;
        }
        found
    }

    /// Its native form.
    pub(super) fn native(&self) -> NativeHistogram<'_> {
        NativeHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO,
            zero_count: self.zero,
            negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
            positive: NativeHistogramBuckets { spans: &self.spans, deltas: &self.deltas },
            created: None,
        }
    }
}

/// The smallest value of one of the layout's buckets, and the first above it, in units.
fn edges(bucket: u16) -> (u64, u64) {
    let index = usize::from(bucket).min(BUCKETS - 1);
    (lower_bound(index), upper_bound(index))
}

/// Upper bounds of the classic buckets, in seconds.
fn bounds() -> [f64; CLASSIC] {
    let mut bounds = [f64::INFINITY; CLASSIC];
    for (bound, power) in bounds.iter_mut().zip(FIRST..=LAST) {
        *bound = (1u64 << (power + UNIT_SHIFT)) as f64 / 1e9;
    }
    bounds
}

/// Runs of buckets that follow each other, each with the gap before it; and the growth from bucket to bucket.
fn spans(buckets: &[(i32, u64)]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<(i32, u32)>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for &(bucket, count) in buckets {
        match spans.last_mut() {
            Some((_, length)) if bucket == next => *length += 1,
            _ => spans.push((bucket - next, 1)),
        }
        deltas.push(count as i64 - before);
        (next, before) = (bucket + 1, count as i64);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: f64 = 1e9 / UNIT_NS as f64;

    fn exported(seconds: &[f64]) -> Exported {
        Exported::of(&Histogram::of_units(seconds.iter().map(|value| (value * SECOND) as u64)))
    }

    #[test]
    fn classic_buckets_count_exactly_what_is_below_their_bounds() {
        let values = [0.0, 0.000_05, 0.000_131, 0.000_132, 0.001, 0.5, 17.0, 18.0, 400.0];
        let found = exported(&values);
        assert_eq!(found.count, values.len() as u64);
        let mut below = 0;
        for (bound, count) in found.classic {
            below += count;
            assert_eq!(below, values.iter().filter(|value| **value <= bound).count() as u64, "{bound}");
        }
        let sum: f64 = values.iter().sum();
        assert!((found.sum - sum).abs() <= sum / 16.0, "{} is not nearly {sum}", found.sum);
        assert!(found.classic.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(Exported::of(&Histogram::default()).count, 0);
    }

    /// The native buckets as pairs of upper bound and count, as a reader takes spans and growths apart.
    fn decoded(found: &Exported) -> Vec<(f64, u64)> {
        let (mut bucket, mut count, mut deltas) = (0, 0, found.deltas.iter());
        let mut all = Vec::new();
        for (offset, length) in &found.spans {
            bucket += offset;
            for _ in 0..*length {
                count += deltas.next().expect("one for each bucket");
                all.push((f64::from(bucket).div_euclid(1.0) / 8.0, count as u64));
                bucket += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        all.into_iter().map(|(power, count)| (power.exp2(), count)).collect()
    }

    #[test]
    fn native_buckets_hold_each_value_within_an_eighth() {
        for value in [0.000_02, 0.000_5, 0.003, 0.25, 1.0, 9.0, 120.0] {
            let found = exported(&[value; 3]);
            let [(bound, 3)] = decoded(&found)[..] else { panic!("one bucket: {:?}", decoded(&found)) };
            assert!(bound >= value * (1.0 - 1.0 / 8.0) && bound <= value * (1.0 + 1.0 / 6.0), "{value}: {bound}");
        }
        let mixed = exported(&[0.0, 0.001, 0.001, 0.001_2, 5.0]);
        let counts: Vec<u64> = decoded(&mixed).into_iter().map(|(_, count)| count).collect();
        assert_eq!((mixed.zero, counts), (1, vec![2, 1, 1]));
        assert!(mixed.spans.len() >= 2, "a gap: {:?}", mixed.spans);
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn every_bucket_of_the_layout_has_an_exponential_one_of_its_own() {
        let all = Histogram { buckets: (0..BUCKETS as u16).map(|bucket| (bucket, u64::from(bucket) + 1)).collect() };
        let found = Exported::of(&all).exponential();
        assert_eq!(found.zero, 1, "the first bucket");
        let counts: Vec<u64> = found.counts.iter().copied().filter(|count| *count > 0).collect();
        assert_eq!(counts, (2..=BUCKETS as u64).collect::<Vec<_>>(), "no two share one");
        assert_eq!(Exported::of(&Histogram::default()).exponential().counts, [0; 0]);
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn exponential_buckets_hold_each_value_within_a_ninth() {
        for value in [0.000_02, 0.000_5, 0.003, 0.25, 1.0, 9.0, 120.0] {
            let found = exported(&[value; 3]).exponential();
            assert_eq!((found.zero, &*found.counts), (0, &[3][..]), "{value}");
            let bound = |place: i32| (f64::from(place) / 16.0).exp2();
            let (low, high) = (bound(found.offset), bound(found.offset + 1));
            assert!(low <= value * 10.0 / 9.0 && high >= value * 8.0 / 9.0, "{value}: {low} to {high}");
        }
    }
}
