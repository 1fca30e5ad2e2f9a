//! What happens to a listener and its connections: one body per event, whichever hook brings it.

pub(crate) mod accepted;
pub(crate) mod arrived;
pub(crate) mod destroyed;
pub(crate) mod enqueued;
pub(crate) mod handshake;
pub(crate) mod listening;
pub(crate) mod read;
pub(crate) mod refused;
pub(crate) mod written;
