//! The programs that the bench runs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use xtask_support::cargo::Binaries;

/// Paths of the measured program and of the load generators.
#[derive(Args)]
pub(crate) struct Programs {
    /// The measured program.
    #[arg(long)]
    pub(crate) listentop: PathBuf,
    /// A server.
    #[arg(long)]
    pub(crate) demo_server: PathBuf,
    /// The closed-loop load generator.
    #[arg(long)]
    pub(crate) storm: PathBuf,
    /// The open-loop load generator.
    #[arg(long)]
    pub(crate) stress: PathBuf,
}

/// The arguments that name these programs.
pub(crate) fn arguments(binaries: Binaries) -> impl Iterator<Item = OsString> {
    let programs = [
        ("--listentop", binaries.listentop),
        ("--demo-server", binaries.demo_server),
        ("--storm", binaries.storm),
        ("--stress", binaries.stress),
    ];
    programs.into_iter().flat_map(|(flag, path)| [flag.into(), path.into()])
}
