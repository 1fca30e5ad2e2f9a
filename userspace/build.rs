//! Builds the probes (package `listentop-ebpf`) for the BPF target and puts the object at `$OUT_DIR/listentop-probes`.
//!
//! Not done with the crate `aya-build`: it takes bpf-linker from PATH and leaves RUSTC_BOOTSTRAP to whoever runs cargo, so plain
//! `cargo build` would not work after `cargo xtask setup`, and what is missing would not be named.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "the file is shared with xtask, which also installs what is missing")]
mod toolchain;

const PACKAGE: &str = "listentop-ebpf";
const OBJECT: &str = "listentop-probes";

fn main() {
    if let Err(error) = build() {
        // Unlike a non-zero exit, this makes cargo print the message and not the whole log of the script.
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the package has no parent directory")?;
    let linker = toolchain::bpf_linker(root);
    let inputs = ["ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].map(|name| root.join(name));
    for path in inputs.iter().chain([&linker, &toolchain::stamp_file(root)]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }

    let rustc = variable("RUSTC")?;
    let missing = toolchain::Toolchain::of(&rustc, root)?.missing(root);
    if let Some(part) = missing {
        let message =
            format!("listentop's probes can't be built yet: {part} is missing; run \"cargo xtask setup\" once");
        return Err(message.into());
    }

    let arch = variable("CARGO_CFG_TARGET_ARCH")?.into_string().map_err(|_| "CARGO_CFG_TARGET_ARCH is not UTF-8")?;
    let target =
        if variable("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    // A directory of its own, as cargo holds the lock of the outer one; not in OUT_DIR, so that all profiles share one build.
    let target_dir = root.join("target/ebpf").join(&arch);

    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_outer_build)) {
        cargo.env_remove(name);
    }
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        format!("-Clinker={}", linker.display()),
        // `.maps` definitions load only with BTF, which bpf-linker makes from full debug info.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    cargo
        .current_dir(root)
        .env("RUSTC", rustc)
        // Building `core` is unstable; the pinned stable compiler does it when told so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--package", PACKAGE, "--bin", OBJECT, "--release", "--target", target])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir);
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the probes: {error}"))?;
    if !output.status.success() {
        // The compiler's own words are many lines: as the log of a failed script they stay readable.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        std::process::exit(1);
    }

    let object = target_dir.join(target).join("release").join(OBJECT);
    let copy = Path::new(&variable("OUT_DIR")?).join(OBJECT);
    fs::copy(&object, &copy)
        .map_err(|error| format!("cannot copy {} to {}: {error}", object.display(), copy.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this script is to be run by cargo"))
}

/// Whether an environment variable describes the build around this one: its flags, its target, clippy as its compiler.
/// What says how to reach the network, and the job server, stays.
fn is_of_outer_build(name: &str) -> bool {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    let kept = KEPT.iter().any(|prefix| name.starts_with(prefix));
    (name.starts_with("CARGO_") && !kept) || name.starts_with("RUSTC") || name == "RUSTFLAGS"
}
