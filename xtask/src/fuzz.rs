//! `cargo xtask fuzz`: searches for input that breaks the readers of the kernel's BTF and of recordings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use xtask_support::{cargo, process, toolchain, tools};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// Limit for one input, in seconds. The slowest take some milliseconds.
const PATIENCE: u32 = 2;
/// The largest input, in bytes: twice the largest seed.
const MAX_LENGTH: u32 = 1 << 16;

/// For how long, or on which input.
#[derive(Args)]
pub(crate) struct Options {
    /// How long to search with each target, such as 30s or 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration_arg::parse)]
    time: Duration,
    /// Only this target
    #[arg(long, value_parser = ["btf", "recording"])]
    target: Option<String>,
    /// Run this one input instead, such as one that an earlier search found
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// A reader that takes any input.
struct Target {
    /// Its name: that of the target, and of the folder of what was found.
    name: &'static str,
    /// What it reads.
    what: &'static str,
    /// The fuzzer's package, with the folder `seeds`.
    package: &'static str,
}

const TARGETS: [Target; 2] = [
    Target { name: "btf", what: "the reader of the kernel's BTF", package: "userspace/btf/fuzz" },
    Target { name: "recording", what: "the reader of recordings", package: "userspace/recording/fuzz" },
];

/// Builds the fuzzers with the pinned compiler. Runs them on the committed seeds, on the running kernel's BTF and on
/// the inputs that earlier searches kept.
///
/// # Errors
/// When an input makes a reader panic or run for long, or a fuzzer cannot be built.
pub(crate) fn run(options: &Options) -> Result<()> {
    let seconds = options.time.as_secs();
    ensure!(seconds > 0, "--for {}: must be at least a second", humantime::format_duration(options.time));
    let input = options.input.as_deref().map(absolute).transpose()?;
    ensure!(input.is_none() || options.target.is_some(), "--input is for one target: name it with --target");
    ensure_cxx()?;
    for target in TARGETS.iter().filter(|target| options.target.as_deref().is_none_or(|name| name == target.name)) {
        fuzz(target, options, input.as_deref())?;
    }
    Ok(())
}

fn fuzz(target: &Target, options: &Options, input: Option<&Path>) -> Result<()> {
    let root = cargo::root();
    let fuzzer = tools::FUZZ.install(&root)?;
    let directory = root.join("target/fuzz").join(target.name);
    let (corpus, findings) = (directory.join("corpus"), directory.join("findings"));
    for directory in [&corpus, &findings] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let package = root.join(target.package);

    let mut command = Command::new(fuzzer);
    toolchain::forget_outer_build(&mut command);
    // Sanitizers and coverage are unstable flags. With this variable the pinned stable compiler takes them.
    command.current_dir(&root).env("RUSTC_BOOTSTRAP", "1").args(["run", "--fuzz-dir"]).arg(&package);
    command.arg("--target-dir").arg(root.join("target/fuzz/build")).arg(target.name);
    if let Some(input) = input {
        command.arg(input);
        return process::run(&mut command, "the fuzz target, on this input");
    }
    command.arg(&corpus).arg(package.join("seeds"));
    let kernel = directory.join("running-kernel");
    if target.name == "btf" && reduce_running_kernel(&kernel)? {
        command.arg(&kernel);
    }
    command.arg("--").args([
        format!("-max_total_time={}", options.time.as_secs()),
        format!("-timeout={PATIENCE}"),
        format!("-max_len={MAX_LENGTH}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    process::announce(&format!(
        "fuzzing {} for {} (the first time a build of a minute comes before)",
        target.what,
        humantime::format_duration(options.time)
    ));
    process::run(&mut command, "fuzzing").with_context(|| {
        format!(
            "an input that was found is in {}; `cargo xtask fuzz --target {} --input FILE` runs it again",
            findings.display(),
            target.name
        )
    })?;
    process::announce(&format!("fuzz: found no input that breaks {}", target.what));
    Ok(())
}

/// libFuzzer is C++.
fn ensure_cxx() -> Result<()> {
    ensure!(
        process::find("c++").is_some(),
        "no C++ compiler (`c++`), which libFuzzer needs: install one, such as Debian's and Ubuntu's package g++"
    );
    Ok(())
}

/// Makes more seeds from parts of the running kernel's BTF. Returns whether there are any.
fn reduce_running_kernel(directory: &Path) -> Result<bool> {
    if !Path::new(VMLINUX).exists() {
        process::announce(&format!("fuzz: this kernel has no {VMLINUX}: using the committed seeds only"));
        return Ok(false);
    }
    let mut reduce = cargo::command("run");
    reduce.args(["--quiet", "--package", "listentop-btf", "--features", "reduce", "--example", "reduce", "--"]);
    process::run(reduce.arg(directory), "taking seeds from the running kernel")?;
    Ok(true)
}

/// The command runs in the checkout's directory, perhaps not in the user's.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot read {}", path.display()))
}
