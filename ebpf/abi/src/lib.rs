//! What the probes and user space agree on: records, limits and the histogram layout.
//!
//! Every record is `#[repr(C)]` and has fixed-width integers only. Padding is explicit and the size asserted, so each
//! byte has a name. Times are CLOCK_MONOTONIC nanoseconds (`bpf_ktime_get_ns`); 0 means "not yet" or
//! "unknown".
#![no_std]

pub mod blame;
pub mod connection;
pub mod histogram;
pub mod limits;
pub mod listed;
pub mod listener;
pub mod loss;
pub mod reading;
pub mod settings;
pub mod stack_copy;
pub mod syscall;
pub mod thread;
