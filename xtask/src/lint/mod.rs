//! `cargo xtask lint`: the checks that every change must pass.

mod width;

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use xtask_support::{cargo, process, setup, toolchain, tools};

/// Runs all checks, even after a failure, and lists the failed ones at the end.
///
/// # Errors
/// When a check finds something.
pub(crate) fn run() -> Result<()> {
    setup::run_for_lint()?;
    let root = cargo::root();
    let mut failed = Vec::new();
    let mut check = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        process::announce(&format!("lint: {name}"));
        if let Err(error) = work() {
            eprintln!("xtask: {error:#}");
            failed.push(name);
        }
    };
    check("fmt", &mut || process::run(cargo::command("fmt").args(["--all", "--check"]), "fmt"));
    check("comments", &mut || comments(&root));
    check("clippy", &mut || {
        let mut clippy = cargo::command("clippy");
        clippy.args(cargo::ALL_FOR_HOST).args(["--all-targets", "--", "-D", "warnings"]);
        process::run(&mut clippy, "clippy")
    });
    check("clippy for the BPF target", &mut || {
        process::run(&mut clippy_for_probes(&root), "clippy for the BPF target")
    });
    check("docs", &mut || {
        let mut docs = cargo::command("doc");
        docs.env("RUSTDOCFLAGS", "-D warnings").args(cargo::ALL_FOR_HOST).args(["--no-deps", "--quiet"]);
        process::run(&mut docs, "docs")
    });
    check("dependencies", &mut || dependencies(&root));
    if !failed.is_empty() {
        bail!("lint found something: {}", failed.join(", "));
    }
    process::announce("lint: clean");
    Ok(())
}

/// rustfmt wraps comments only with a nightly compiler.
fn comments(root: &Path) -> Result<()> {
    let wide = width::wide_comments(root)?;
    wide.iter().for_each(|place| eprintln!("{place}"));
    ensure!(wide.is_empty(), "comments wider than {} columns: {}", width::COLUMNS, wide.len());
    Ok(())
}

fn clippy_for_probes(root: &Path) -> Command {
    let (arch, big_endian) = (std::env::consts::ARCH, cfg!(target_endian = "big"));
    let mut clippy = toolchain::cargo_for_probes(&cargo::program(), "clippy", root, arch, big_endian);
    clippy.args(["--", "-D", "warnings"]);
    clippy
}

/// Checks licences, bans and sources by deny.toml. Advisories need a download from GitHub, so only the workflow there
/// checks them.
fn dependencies(root: &Path) -> Result<()> {
    let mut deny = Command::new(tools::DENY.install(root)?);
    toolchain::forget_outer_build(&mut deny);
    deny.current_dir(root).args(["--log-level", "warn", "check", "--hide-inclusion-graph"]);
    process::run(deny.args(["bans", "licenses", "sources"]), "dependencies")
}
