//! Builds the probes (package `listentop-ebpf`) for the BPF target and puts the object at `$OUT_DIR/listentop-probes`.
//! Sets LISTENTOP_VERSION, for `--version`.
//!
//! The crate `aya-build` would take bpf-linker from PATH and leave RUSTC_BOOTSTRAP to the user. Plain `cargo build`
//! would then fail after `cargo xtask setup`, and no message would name what is missing.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

fn main() {
    if let Err(error) = build() {
        // Unlike a non-zero exit, this makes cargo print the message and not the whole log of the script.
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    // Not `env!`: cargo does not rebuild this script after the directory was moved or copied, and the script would
    // build the probes of the old one.
    let package = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&package).parent().ok_or("the package has no parent directory")?;
    let linker = build_support::bpf_linker(root);
    let inputs = ["ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].map(|name| root.join(name));
    for path in inputs.iter().chain([&linker, &build_support::stamp_file(root)]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-env-changed={}", build_support::TOOLS_VARIABLE);
    name_version(root);

    let rustc = variable("RUSTC")?;
    let toolchain = build_support::Toolchain::of(&rustc, root)?;
    if let Some(part) = toolchain.missing(root) {
        let message =
            format!("listentop's probes can't be built yet: {part} is missing; run \"cargo xtask setup\" once");
        return Err(message.into());
    }

    let arch = variable("CARGO_CFG_TARGET_ARCH")?.into_string().map_err(|_| "CARGO_CFG_TARGET_ARCH is not UTF-8")?;
    let big_endian = variable("CARGO_CFG_TARGET_ENDIAN")? == "big";
    let mut cargo = build_support::cargo_for_probes(&variable("CARGO")?, "build", root, &arch, big_endian);
    cargo.env("RUSTC", rustc);
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the probes: {error}"))?;
    if !output.status.success() {
        // The compiler's message has many lines. As the log of a failed script it stays readable.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        std::process::exit(1);
    }

    let built =
        build_support::probes_target_dir(root, &arch).join(build_support::bpf_target(big_endian)).join("release");
    let object = built.join(build_support::PROBES_BINARY);
    let copy = Path::new(&variable("OUT_DIR")?).join(build_support::PROBES_BINARY);
    // Five sixths of it are debug information for debuggers; the kernel reads BTF. Without an objcopy it stays.
    let stripped = toolchain.objcopy().is_some_and(|mut objcopy| {
        objcopy.arg("--strip-debug").args([&object, &copy]).status().is_ok_and(|status| status.success())
    });
    if !stripped {
        fs::copy(&object, &copy)
            .map_err(|error| format!("cannot copy {} to {}: {error}", object.display(), copy.display()))?;
    }
    Ok(())
}

/// The version, and in a release the commit. Other builds do without: they would be made anew after each commit.
fn name_version(root: &Path) {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let is_release = env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    println!("cargo::rerun-if-env-changed={}", build_support::COMMIT_VARIABLE);
    let commit = if is_release { build_support::commit(root) } else { None };
    let Some(commit) = commit else {
        println!("cargo::rustc-env=LISTENTOP_VERSION={version}");
        return;
    };
    for path in commit.depends_on {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rustc-env=LISTENTOP_VERSION={version} ({})", commit.name);
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: only cargo can run this script"))
}
