//! The log-linear histogram layout of every distribution.
//!
//! Each octave (a doubling) is cut into [`SUB_BUCKETS`] equal parts. So a bucket's width is at most 1/8 of its lower
//! bound, and its midpoint is at most 1/16 away from any value in it. Durations are counted in units of [`UNIT_NS`],
//! sizes in bytes.

/// Bits of the mantissa kept: 2^3 = 8 parts per octave give the relative error of 1/16 at a bucket's midpoint.
pub const SUB_BITS: u32 = 3;
/// Parts per octave.
pub const SUB_BUCKETS: u32 = 1 << SUB_BITS;
/// Buckets per histogram. They cover values below 2^32 units; larger ones land in the last bucket.
///
/// Values below 8 have a bucket each; the 29 octaves above them, up to 2^32, have 8 each.
pub const BUCKETS: usize = ((32 - SUB_BITS + 1) * SUB_BUCKETS) as usize;
/// Nanoseconds per unit of a duration histogram, as a shift: 2^7 = 128 ns, so durations up to 2^32 × 128 ns = 549 s.
pub const UNIT_SHIFT: u32 = 7;
/// Nanoseconds per unit of a duration histogram.
pub const UNIT_NS: u64 = 1 << UNIT_SHIFT;

/// The bucket of `value`, in units. Branch-light and loop-free, because probes call it per event.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn index(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    if value > u32::MAX as u64 {
        return BUCKETS - 1;
    }
    let value = value as u32;
    // Not `ilog2`, which calls a function to panic for 0: a program that contains such a call is refused.
    let exponent = u32::BITS - 1 - value.leading_zeros();
    let mantissa = (value >> (exponent - SUB_BITS)) & (SUB_BUCKETS - 1);
    ((exponent - SUB_BITS + 1) * SUB_BUCKETS + mantissa) as usize
}

/// The smallest value, in units, that lands in bucket `index`.
#[must_use]
pub const fn lower_bound(index: usize) -> u64 {
    let index = index as u64;
    let sub = SUB_BUCKETS as u64;
    if index < sub {
        return index;
    }
    let octave = index / sub - 1;
    (sub + index % sub) << octave
}

/// The first value, in units, above bucket `index`.
#[must_use]
pub const fn upper_bound(index: usize) -> u64 {
    lower_bound(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_value_without_gap() {
        for i in 0..BUCKETS - 1 {
            assert_eq!(index(lower_bound(i)), i, "lower bound of {i}");
            assert_eq!(index(upper_bound(i) - 1), i, "last value of {i}");
        }
        assert_eq!(index(u64::from(u32::MAX)), BUCKETS - 1);
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_midpoint_is_within_a_sixteenth() {
        for i in 0..BUCKETS {
            let (low, high) = (lower_bound(i), upper_bound(i) - 1);
            let middle = (low + high) as f64 / 2.0;
            for value in [low, high] {
                assert!((middle - value as f64).abs() <= value as f64 / 16.0, "bucket {i}: {low}..={high}");
            }
        }
    }
}
