//! What the probes and user space agree on: records, limits and the histogram layout.
#![no_std]

pub mod histogram;
