//! `cargo xtask fuzz`: whether anything can break the reader of the kernel's BTF.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{cargo, duration, process, toolchain};

const CARGO_FUZZ_VERSION: &str = "0.13.2";
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// What one input may take, in seconds. The slowest take some milliseconds.
const PATIENCE: u32 = 2;
/// The largest input, in bytes: twice the largest seed.
const MAX_LENGTH: u32 = 1 << 16;

/// For how long, or on what.
#[derive(Args)]
pub(crate) struct Options {
    /// How long to look, such as 30s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    time: Duration,
    /// Run this one input instead, such as one that was found
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Builds the fuzzer with the pinned compiler and runs it on the committed seeds, on the running kernel's BTF and on
/// what earlier runs found worth keeping.
///
/// # Errors
/// When an input was found that makes the reader panic or work for long, or the fuzzer cannot be built.
pub(crate) fn run(options: &Options) -> Result<()> {
    let seconds = options.time.as_secs();
    ensure!(seconds > 0, "--for {}: a second at least", humantime::format_duration(options.time));
    let input = options.input.as_deref().map(absolute).transpose()?;
    let root = cargo::root();
    let fuzzer = cargo_fuzz(&root)?;
    let directory = root.join("target/fuzz");
    let (corpus, findings) = (directory.join("corpus"), directory.join("findings"));
    for directory in [&corpus, &findings] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let package = root.join("userspace/btf/fuzz");

    let mut command = Command::new(fuzzer);
    toolchain::forget_outer_build(&mut command);
    // Sanitizers and coverage are unstable flags; the pinned stable compiler takes them when told so.
    command.current_dir(&root).env("RUSTC_BOOTSTRAP", "1").args(["run", "--fuzz-dir"]).arg(&package);
    command.arg("--target-dir").arg(directory.join("build")).arg("btf");
    if let Some(input) = input {
        command.arg(input);
        return process::run(&mut command, "the fuzz target, on this input");
    }
    let kernel = directory.join("running-kernel");
    let of_kernel = reduce_running_kernel(&kernel)?;
    command.arg(&corpus).arg(package.join("seeds"));
    if of_kernel {
        command.arg(&kernel);
    }
    command.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={PATIENCE}"),
        format!("-max_len={MAX_LENGTH}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    process::announce(&format!(
        "fuzzing the BTF reader for {} (the build before takes a minute the first time)",
        humantime::format_duration(options.time)
    ));
    process::run(&mut command, "fuzzing").with_context(|| {
        format!("if an input was found, it is in {}; `cargo xtask fuzz --input FILE` runs it again", findings.display())
    })?;
    process::announce("fuzz: nothing breaks the BTF reader");
    Ok(())
}

/// cargo-fuzz, installed inside the checkout if it is not there.
fn cargo_fuzz(root: &Path) -> Result<PathBuf> {
    ensure!(
        process::find("c++").is_some(),
        "no C++ compiler (`c++`), which libFuzzer needs: install one, such as Debian's and Ubuntu's package g++"
    );
    let tools = toolchain::tools_dir(root);
    let program = tools.join("bin/cargo-fuzz");
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|output| is_wanted(&String::from_utf8_lossy(&output.stdout))) {
        return Ok(program);
    }
    process::announce(&format!("installing cargo-fuzz {CARGO_FUZZ_VERSION} inside the checkout (a minute)"));
    let mut install = Command::new(cargo::program());
    toolchain::forget_outer_build(&mut install);
    install.current_dir(root).args(["install", "cargo-fuzz", "--locked", "--force", "--version"]);
    install.arg(format!("={CARGO_FUZZ_VERSION}")).arg("--root").arg(&tools);
    install.arg("--target-dir").arg(root.join("target/fuzz/cargo-fuzz"));
    process::run(&mut install, "installing cargo-fuzz").context("the first time it needs the network")?;
    Ok(program)
}

fn is_wanted(version: &str) -> bool {
    version.trim() == format!("cargo-fuzz {CARGO_FUZZ_VERSION}")
}

/// Parts of the running kernel's BTF as further seeds. Whether there are any.
fn reduce_running_kernel(directory: &Path) -> Result<bool> {
    if !Path::new(VMLINUX).exists() {
        process::announce(&format!("fuzz: this kernel has no {VMLINUX}: with the committed seeds only"));
        return Ok(false);
    }
    let mut reduce = cargo::command("run");
    reduce.args(["--quiet", "--package", "listentop-btf", "--features", "reduce", "--example", "reduce", "--"]);
    process::run(reduce.arg(directory), "taking seeds from the running kernel")?;
    Ok(true)
}

/// The command runs in the checkout's directory, the user may be elsewhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn another_version_is_replaced() {
        assert!(is_wanted("cargo-fuzz 0.13.2\n"));
        assert!(!is_wanted("cargo-fuzz 0.12.0\n") && !is_wanted(""));
    }
}
