//! Servers with known acceptor/reader patterns, load generators for them, and the lab that shows both.
//!
//! All counts of these programs are exact: listentop's probes are tested against them without tolerance.

pub mod cli;
pub mod counters;
pub mod flood;
pub mod lab;
pub mod protocol;
pub mod real;
pub mod server;
pub mod storm;
pub mod stress;
pub mod sys;
pub mod target;
pub mod wire;

use duration_arg as duration;
