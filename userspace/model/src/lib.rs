//! The model of listentop: pure functions from samples to what views show. It uses no aya, tokio or ratatui, and does
//! no input or output.

pub mod blame;
pub mod catalogue;
pub mod connections;
pub mod coverage;
pub mod device;
pub mod episodes;
pub mod figures;
pub mod findings;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod group;
pub mod histogram;
pub mod history;
pub mod likely;
pub mod model;
pub mod patterns;
pub mod sample;
pub mod shared;
pub mod summed;
pub mod tracker;
pub mod words;

mod names;

#[cfg(test)]
mod small_tests;
