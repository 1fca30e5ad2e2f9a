//! listentop: top(1) for listening sockets.
//!
//! Data flows one way: [`source`] reads samples, `listentop_model` makes a model of them, [`dashboard`], [`report`] and
//! [`export`] show it. [`past`] has the models of other moments. [`cli`] puts them together. [`rights`] checks the
//! privileges, and gives up those that are no longer required.

// These macros panic if nothing can be written. `say` does not, and reports return write errors.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(feature = "blame")]
pub mod blame;
pub mod cli;
pub mod dashboard;
pub mod doctor;
mod errors;
pub mod export;
pub mod lab;
mod output;
pub mod past;
pub mod report;
pub mod rights;
mod say;
#[cfg(feature = "serve")]
pub mod serve;
pub mod source;

/// Exit code of a program that has too few descriptors, threads or bytes of memory.
pub const SHORT: u8 = 6;
