//! What a protocol costs before the handler runs.

pub(crate) mod protocols;
pub(crate) mod tls;
