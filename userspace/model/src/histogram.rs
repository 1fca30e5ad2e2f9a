//! A distribution read from the kernel.

use listentop_abi::histogram::{BUCKETS, UNIT_NS, lower_bound, upper_bound};
use serde::{Deserialize, Serialize};

/// Cumulative counts in the buckets of [`listentop_abi::histogram`], sparse: only buckets that are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// (bucket, count), in ascending order of bucket, counts above 0.
    pub buckets: Vec<(u16, u64)>,
}
