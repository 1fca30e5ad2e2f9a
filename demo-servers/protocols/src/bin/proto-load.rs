//! Clients that speak a real protocol.

use clap::{Parser, Subcommand};
use demo_protocols::{load, push, sessions};
use std::process::ExitCode;

/// Clients of proto-server. Connections start at fixed times, however slow the server is (open loop).
///
/// Prints its results as one line of JSON on stdout when it ends, also by SIGTERM, SIGINT or SIGHUP; on SIGUSR1 those
/// so far.
#[derive(Debug, Parser)]
#[command(name = "proto-load", version)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Send requests in one protocol, with TLS or without
    Echo(load::Options),
    /// Subscribe, and measure how late messages come
    Push(push::client::Options),
    /// Users who come back on new connections
    Sessions(sessions::LoadOptions),
}

fn main() -> ExitCode {
    demo_servers::cli::main("proto-load", |options: Options| {
        match options.mode {
            Mode::Echo(options) => load::run(options),
            Mode::Push(options) => push::client::run(options),
            Mode::Sessions(options) => sessions::load(options),
        }
        .map(|()| ExitCode::SUCCESS)
    })
}
