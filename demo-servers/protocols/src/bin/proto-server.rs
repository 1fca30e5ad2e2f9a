//! A server that speaks a real protocol.

use clap::{Parser, Subcommand};
use demo_protocols::{echo, proxy, push, sessions};
use std::process::ExitCode;

/// Servers that speak real protocols, with exact counters.
///
/// When one listens it prints {"ready":true,…} on stdout. On SIGUSR1 and when it ends it prints its counters as one
/// line of JSON. It ends on SIGTERM, SIGINT or SIGHUP, or after --for.
#[derive(Debug, Parser)]
#[command(name = "proto-server", version)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Answer requests in one protocol, with TLS or without
    Echo(echo::Options),
    /// Bring messages to subscribers, by one of several methods
    Push(push::server::Options),
    /// Keep a session per user, in the memory of one shard or of all
    Sessions(sessions::ServerOptions),
    /// Stand between clients and a server
    Proxy(proxy::Options),
}

fn main() -> ExitCode {
    demo_servers::cli::main("proto-server", |options: Options| {
        match &options.mode {
            Mode::Echo(options) => echo::run(options),
            Mode::Push(options) => push::server::run(options),
            Mode::Sessions(options) => sessions::serve(options),
            Mode::Proxy(options) => proxy::run(options),
        }
        .map(|()| ExitCode::SUCCESS)
    })
}
