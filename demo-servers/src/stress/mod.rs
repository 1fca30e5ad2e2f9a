//! `stress`: an open-loop load generator.

mod attempts;
mod connection;
mod engine;
pub mod kind;
mod misbehave;
pub mod options;
mod orders;
mod pool;
mod requests;
pub mod schedule;
pub mod summary;
mod table;
mod tcp_info;
mod timers;

pub(crate) use connection::reset_on_close;

use crate::sys::{block, limit_open_files, print_json};
use crate::target::Place;
use anyhow::Context;
use lab_control::{Connection, Role};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use options::Options;
use std::process::ExitCode;

/// Runs the load and prints the summary.
///
/// # Errors
/// A refused target, bad options, or a failed system call of the generator itself. Failed connections are results, not
/// errors.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    options.check(&Place::here())?;
    limit_open_files(None)?;
    let mask = block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1])?;
    let lab = Connection::of_environment(Role::Load).context("the lab's control socket")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
    let summary = engine::Engine::new(options, &signals, lab)?.run()?;
    print_json(&summary)?;
    Ok(ExitCode::SUCCESS)
}
