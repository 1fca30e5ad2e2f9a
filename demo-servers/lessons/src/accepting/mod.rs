//! From the SYN to accept(2).

pub(crate) mod overflow;
