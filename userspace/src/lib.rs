//! listentop: top(1) for listening sockets.
//!
//! Data has one way: [`source`] reads samples, `listentop_model` makes a model of them, [`dashboard`] and [`report`] show it.
//! [`cli`] puts them together.

pub mod cli;
pub mod dashboard;
pub mod report;
pub mod source;
