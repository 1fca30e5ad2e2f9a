//! Settings that user space changes while the probes run: bits of one number.

/// Each CPU has statistics records of its own, and no program is preempted. Known only when it is known which hooks
/// attach.
pub const EXCLUSIVE: u64 = 1;
/// What was there before the start has been taken over. Until then a connection in no table is left to that, or it
/// might get two records.
pub const STARTED: u64 = 2;
/// Completions of io_uring tell of its accepts that bring a connection: nothing else does.
pub const URING_ACCEPTS: u64 = 4;
/// They tell of its splices, too.
pub const URING_SPLICES: u64 = 8;
