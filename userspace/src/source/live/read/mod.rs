//! Reading what the probes wrote: maps, made into samples.

pub(crate) mod cost;
pub(crate) mod distributions;
pub(crate) mod listeners;
pub(crate) mod lists;
pub(crate) mod log;
pub(crate) mod losses;
pub(crate) mod shared;
pub(crate) mod tables;
pub(crate) mod threads;
mod tracked;
pub(crate) mod unread;
