//! Builds the probes (package `listentop-ebpf`) for the BPF target and puts the object at `$OUT_DIR/listentop-probes`.
//!
//! Not done with the crate `aya-build`: it takes bpf-linker from PATH and leaves RUSTC_BOOTSTRAP to whoever runs cargo,
//! so plain `cargo build` would not work after `cargo xtask setup`, and what is missing would not be named.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "the file is shared with xtask, which also installs what is missing")]
mod toolchain;

fn main() {
    if let Err(error) = build() {
        // Unlike a non-zero exit, this makes cargo print the message and not the whole log of the script.
        for line in error.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    // Not `env!`: cargo takes the script for current after the directory was moved or copied, and it would build the
    // old one's probes.
    let package = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&package).parent().ok_or("the package has no parent directory")?;
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
    let big_endian = variable("CARGO_CFG_TARGET_ENDIAN")? == "big";
    let mut cargo = toolchain::cargo_for_probes(&variable("CARGO")?, "build", root, &arch, big_endian);
    cargo.env("RUSTC", rustc);
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the probes: {error}"))?;
    if !output.status.success() {
        // The compiler's own words are many lines: as the log of a failed script they stay readable.
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        std::process::exit(1);
    }

    let built = toolchain::probes_target_dir(root, &arch).join(toolchain::bpf_target(big_endian)).join("release");
    let object = built.join(toolchain::PROBES_BINARY);
    let copy = Path::new(&variable("OUT_DIR")?).join(toolchain::PROBES_BINARY);
    fs::copy(&object, &copy)
        .map_err(|error| format!("cannot copy {} to {}: {error}", object.display(), copy.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this script is to be run by cargo"))
}
