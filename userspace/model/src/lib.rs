//! The model of listentop: pure functions from samples to what is shown. No aya, no tokio, no ratatui, no input or
//! output.

pub mod catalogue;
pub mod coverage;
pub mod findings;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod histogram;
pub mod history;
pub mod model;
pub mod patterns;
pub mod sample;
pub mod shared;
pub mod tracker;
pub mod words;

#[cfg(test)]
mod small_tests;
