//! listentop: top(1) for listening sockets.
//!
//! Data has one way: [`source`] reads samples, `listentop_model` makes a model of them, [`dashboard`] and [`report`]
//! show it. [`cli`] puts them together; [`rights`] is about what it may do, and gives up what it need not.

// They panic where nothing can be written. `say` does not, and reports are written by what tells of an error.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod dashboard;
pub mod doctor;
mod errors;
mod losses;
pub mod report;
pub mod rights;
mod say;
pub mod source;
