//! Record of what one thread did for one listener.

use crate::listener::Work;

/// Which thread, for which listener.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadKey {
    /// Slot of the listener.
    pub slot: u32,
    /// Thread id in the initial PID namespace.
    pub tid: u32,
    /// When the thread started (`start_boottime`): tells it from another that got the same id later.
    pub start_ns: u64,
}

/// What it did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadStats {
    /// Process id (thread group id).
    pub pid: u32,
    /// Generation of the listener's slot.
    pub generation: u32,
    /// Command name when the record was made, NUL-padded.
    pub comm: [u8; 16],
    /// Its work.
    pub work: Work,
}

const _: () = assert!(size_of::<ThreadKey>() == 16);
const _: () = assert!(size_of::<ThreadStats>() == 88);

#[cfg(feature = "user")]
// SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
unsafe impl aya::Pod for ThreadKey {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl aya::Pod for ThreadStats {}
