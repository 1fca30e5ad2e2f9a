//! The bench and the virtual machines: programs of their own, which cargo builds when they are asked for.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};
use clap::Args;
use xtask_support::cargo;

/// What is passed on. The program parses it: `--help` too.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

/// Builds a package of this workspace and turns into its program; returns only when that fails.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(package: &str, arguments: &Arguments) -> Result<Infallible> {
    let mut command = cargo::command("run");
    command.args(["--quiet", "--package", package, "--bin", package, "--"]).args(&arguments.arguments);
    // Replaced: signals, the terminal and the exit status are the program's.
    Err(command.exec()).with_context(|| format!("cannot run {}", command.get_program().display()))
}
