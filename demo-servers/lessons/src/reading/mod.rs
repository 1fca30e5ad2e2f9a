//! Receive queue and send queue, and the delays between them.

pub(crate) mod eager_acceptor;
pub(crate) mod nagle;
pub(crate) mod slow_client;
pub(crate) mod slow_reader;
