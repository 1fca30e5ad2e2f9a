//! `cargo xtask lint`: what must be clean before a change is proposed.

use std::process::Command;

use anyhow::{Result, bail};

use xtask_support::{cargo, process, setup, toolchain};

/// Runs all checks, also after one has failed, and lists at the end which did.
///
/// # Errors
/// When a check finds something.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    let mut fmt = cargo::command("fmt");
    fmt.args(["--all", "--check"]);
    let mut host = cargo::command("clippy");
    host.args(["--all-targets", "--", "-D", "warnings"]);
    let mut docs = cargo::command("doc");
    docs.env("RUSTDOCFLAGS", "-D warnings").args(["--no-deps", "--quiet"]);

    let checks = [("fmt", fmt), ("clippy", host), ("clippy for the BPF target", clippy_for_probes()), ("docs", docs)];
    let mut failed = Vec::new();
    for (name, mut command) in checks {
        process::announce(&format!("lint: {name}"));
        if let Err(error) = process::run(&mut command, name) {
            eprintln!("xtask: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint found something: {}", failed.join(", "));
    }
    process::announce("lint: clean");
    Ok(())
}

fn clippy_for_probes() -> Command {
    let (arch, big_endian) = (std::env::consts::ARCH, cfg!(target_endian = "big"));
    let mut clippy = toolchain::cargo_for_probes(&cargo::program(), "clippy", &cargo::root(), arch, big_endian);
    clippy.args(["--", "-D", "warnings"]);
    clippy
}
