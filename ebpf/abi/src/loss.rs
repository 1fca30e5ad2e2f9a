//! What the probes could not track, counted in one array.

/// Index of a loss counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A listener found no free slot.
    Listeners = 0,
    /// A connection found the connection table full.
    Connections = 1,
    /// A call (accept, read, write) of a thread that found the thread table full. Nothing remembers which threads those
    /// are.
    Threads = 2,
    /// An open connection at the start could have come through several listeners. It counts for one of them if they
    /// are shards of one group, else for none.
    AmbiguousOrigin = 3,
    /// A child was enqueued, and the hook did not know its socket.
    UnknownChild = 4,
    /// No probe saw a connection end: found out when another connection got its socket's memory.
    UnseenEnd = 5,
}

/// Number of loss counters: the losses above, and room for more.
pub const LOSSES: u32 = 8;
