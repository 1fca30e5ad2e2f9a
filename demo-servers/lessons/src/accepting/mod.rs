//! From the SYN to accept(2).

pub(crate) mod abort_on_overflow;
pub(crate) mod burst_or_overload;
pub(crate) mod defer_accept;
pub(crate) mod fast_open;
pub(crate) mod handshake;
pub(crate) mod out_of_descriptors;
pub(crate) mod overflow;
pub(crate) mod restart;
pub(crate) mod somaxconn_clamp;
pub(crate) mod stalled_acceptor;
pub(crate) mod syn_flood;
