//! listentop: top(1) for listening sockets.

pub mod dashboard;
pub mod source;
pub mod report;
