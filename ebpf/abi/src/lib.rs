//! What the probes and user space agree on: records, limits and the histogram layout.
//!
//! Every record is `#[repr(C)]`, of fixed-width integers only, with explicit padding and its size asserted: each byte
//! that crosses the border is named. Times are CLOCK_MONOTONIC nanoseconds (`bpf_ktime_get_ns`); 0 means "not yet" or
//! "not known".
#![no_std]

pub mod connection;
pub mod histogram;
pub mod limits;
pub mod listener;
pub mod loss;
pub mod settings;
pub mod syscall;
pub mod thread;
