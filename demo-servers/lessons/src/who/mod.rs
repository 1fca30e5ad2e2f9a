//! Which threads and processes accept, which read.

pub(crate) mod cold_shard;
pub(crate) mod patterns;
