//! What the probes could not track, counted in one array.

/// Index of a loss counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A listener found no free slot.
    Listeners = 0,
    /// A connection found the connection table full.
    Connections = 1,
    /// A call (accept, read, write) of a thread that found the thread table full. Which threads those are is in no
    /// table.
    Threads = 2,
    /// An open connection at the start could have come through several shards: it counts for one of them.
    AmbiguousShard = 3,
    /// A child was enqueued whose socket was not known.
    UnknownChild = 4,
    /// A connection ended without any probe seeing it: found when its socket's memory came to be another connection's.
    UnseenEnd = 5,
}

/// Loss counters.
pub const LOSSES: u32 = 8;
