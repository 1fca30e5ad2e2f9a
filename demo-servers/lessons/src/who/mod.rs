//! Which threads and processes accept, which read.

pub(crate) mod patterns;
