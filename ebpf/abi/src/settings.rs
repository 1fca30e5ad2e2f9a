//! Settings that user space changes while the probes run: bits of one number.

/// Each CPU has statistics records of its own, and no program is preempted. It depends on which hooks attach.
pub const EXCLUSIVE: u64 = 1;
/// The takeover of what was there before the start is complete. Until then a connection without a record is left to it,
/// so that none gets two records.
pub const STARTED: u64 = 2;
/// Completions of io_uring count its accepts that bring a connection: no other hook does.
pub const URING_ACCEPTS: u64 = 4;
/// They count its splices, too.
pub const URING_SPLICES: u64 = 8;
/// A hook shows each SYN that finds the SYN queue full: one that it does not show found room.
pub const FLOODS: u64 = 16;
/// Payload that arrives is noted, where a hook on listeners shows it and the level may change.
pub const ARRIVALS: u64 = 32;
