//! The programs inside the virtual machines, `vm-init` and `vm-bench`, and the messages that they exchange with the
//! host.

pub mod counted;
pub mod plan;
