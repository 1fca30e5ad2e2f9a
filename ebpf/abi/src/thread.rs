//! Record of what one thread did for one listener. Its *index* is its place in the array of [`ThreadRecord`]s.

use crate::listener::Work;

/// Which thread, for which listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadKey {
    /// Slot of the listener.
    pub slot: u32,
    /// Thread id in the initial PID namespace.
    pub tid: u32,
    /// When the thread started (`start_boottime`): distinguishes it from another that got the same id later.
    pub start_ns: u64,
}

/// What it did. Only the thread's own system calls write it, so no addition is atomic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRecord {
    /// Whose record it is; a thread id of 0 marks a free record.
    pub key: ThreadKey,
    /// Generation of the listener's slot.
    pub generation: u32,
    /// Process id (thread group id) in listentop's PID namespace; 0 if it is not visible there.
    pub pid: u32,
    /// Thread id in listentop's PID namespace; 0 likewise.
    pub tid: u32,
    /// Process id in the initial PID namespace, in which [`ThreadKey::tid`] is, too.
    pub initial_pid: u32,
    /// Its work.
    pub work: Work,
    /// Command name when the record was made, NUL-padded.
    pub comm: [u8; 16],
    /// When it first accepted a connection; 0 if it did not. The record fills two cache lines: threads on different
    /// CPUs must not share one.
    pub first_accept_ns: u64,
    /// When it last did.
    pub last_accept_ns: u64,
}

const _: () = assert!(size_of::<ThreadKey>() == 16);
const _: () = assert!(size_of::<ThreadRecord>() == 128);
const _: () = assert!(core::mem::offset_of!(ThreadRecord, work) + core::mem::offset_of!(Work, write_bytes) + 8 == 64);
const _: () = assert!(core::mem::offset_of!(ThreadRecord, comm).is_multiple_of(8), "the probes write it in words");

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers only, no padding (the size above is the sum of the fields).
unsafe impl aya::Pod for ThreadKey {}
