//! Where the events come from: one file per family of hooks, with thin adaptors only.

mod blame;
mod drops;
mod functions;
mod handshake;
mod holders;
mod iterators;
mod lists;
mod reading;
mod resume;
mod sockets;
mod syscalls;
mod uring;
