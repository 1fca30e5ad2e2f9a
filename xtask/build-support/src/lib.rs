//! What a build of the probes needs, and how to call cargo for it.
//!
//! It needs rustc's own sources (for `core`) and a bpf-linker that shares rustc's LLVM. Two programs use this crate:
//! `userspace/build.rs` builds the probes; xtask installs the missing parts and lints the probes. Every build of
//! listentop compiles it, so it has no dependencies.

mod commit;

pub use commit::{COMMIT_VARIABLE, Commit, commit};

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of bpf-linker. 0.13 is the first with a feature for LLVM 23, which rustc 1.99 contains.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// The environment variable that names another directory of tools: for a copy of the checkout without tools.
pub const TOOLS_VARIABLE: &str = "LISTENTOP_TOOLS";

/// The directory of installed tools. It is inside the checkout, independent of CARGO_TARGET_DIR, so a build finds what
/// an earlier `setup` installed.
#[must_use]
pub fn tools_dir(root: &Path) -> PathBuf {
    env::var_os(TOOLS_VARIABLE).map_or_else(|| root.join("target/tools"), PathBuf::from)
}

/// The path of the linker for the BPF target.
#[must_use]
pub fn bpf_linker(root: &Path) -> PathBuf {
    tools_dir(root).join("bin/bpf-linker")
}

/// The file that says what the installed bpf-linker was built from. It is written last: an interrupted build has none.
#[must_use]
pub fn stamp_file(root: &Path) -> PathBuf {
    tools_dir(root).join("bpf-linker.stamp")
}

/// The package of the probes.
pub const PROBES_PACKAGE: &str = "listentop-ebpf";
/// Their binary: the object that user space loads.
pub const PROBES_BINARY: &str = "listentop-probes";

/// The target directory of builds for the BPF target. The cargo that waits for such a build holds the lock of the usual
/// directory, so this is another one. It is outside any OUT_DIR: all profiles share one build.
#[must_use]
pub fn probes_target_dir(root: &Path, arch: &str) -> PathBuf {
    root.join("target/ebpf").join(arch)
}

/// The BPF target for hosts with this byte order.
#[must_use]
pub fn bpf_target(big_endian: bool) -> &'static str {
    if big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// `cargo SUBCOMMAND` on the probes, in release, for hosts of `arch`. Flags of an outer build do not reach it.
#[must_use]
pub fn cargo_for_probes(cargo: &OsStr, subcommand: &str, root: &Path, arch: &str, big_endian: bool) -> Command {
    let mut command = Command::new(cargo);
    forget_outer_build(&mut command);
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        format!("-Clinker={}", bpf_linker(root).display()),
        // `.maps` definitions need BTF to load, and bpf-linker makes BTF from full debug info.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
    ];
    flags.extend(remap_flags(root));
    command
        .current_dir(root)
        // Building `core` is unstable. With this variable the pinned stable compiler does it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args([subcommand, "--package", PROBES_PACKAGE, "--bin", PROBES_BINARY, "--release"])
        .args(["--target", bpf_target(big_endian), "-Z", "build-std=core", "--target-dir"])
        .arg(probes_target_dir(root, arch));
    command
}

/// Flags with which rustc names no directory of this machine in what it builds: it is the same from any checkout.
#[must_use]
pub fn remap_flags(root: &Path) -> Vec<String> {
    let home = |variable: &str, name: &str| {
        let usual = || env::home_dir().map(|home| home.join(name));
        env::var_os(variable).map(PathBuf::from).or_else(usual)
    };
    let registry = home("CARGO_HOME", ".cargo").map(|home| (home.join("registry/src"), "/usr/src/registry"));
    // Toolchains lie below it; a distribution's own compiler has the same path everywhere.
    let toolchains = home("RUSTUP_HOME", ".rustup").map(|home| (home.join("toolchains"), "/usr/src/rust"));
    let all = [Some((root.to_owned(), "/usr/src/listentop")), registry, toolchains];
    all.into_iter().flatten().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
}

/// Removes what describes an outer build from the command's environment: flags, target, directories, clippy as
/// compiler. The settings of the network and the job server stay.
pub fn forget_outer_build(command: &mut Command) {
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
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_cargo = text.starts_with("CARGO_") && !KEPT.iter().any(|prefix| text.starts_with(prefix));
        if of_cargo || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
            command.env_remove(name);
        }
    }
}

/// A Rust toolchain, as its compiler describes itself.
#[derive(Debug)]
pub struct Toolchain {
    /// First line of `rustc --version --verbose`, with release and commit.
    pub rustc: String,
    /// The major version of rustc's own LLVM, such as `22`.
    pub llvm: String,
    /// The triple that the compiler runs on.
    pub host: String,
    /// The toolchain's directory.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the compiler.
    ///
    /// # Errors
    /// When it cannot be run, fails (its stderr is then the message) or leaves out a field.
    pub fn of(rustc: &OsStr, dir: &Path) -> io::Result<Self> {
        // Messages of rustup and rustc have several lines.
        let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<&str>>().join(" ");
        let ask = |args: &[&str]| {
            let output = Command::new(rustc).args(args).current_dir(dir).output()?;
            if !output.status.success() {
                return Err(io::Error::other(in_one_line(&String::from_utf8_lossy(&output.stderr))));
            }
            String::from_utf8(output.stdout).map_err(io::Error::other)
        };
        let description = ask(&["--version", "--verbose"])?;
        let sysroot = ask(&["--print", "sysroot"])?;
        Self::parse(&description, sysroot.trim_end()).ok_or_else(|| {
            let said = in_one_line(&description);
            io::Error::other(format!("`rustc --version --verbose` names no host or no LLVM version: {said}"))
        })
    }

    fn parse(description: &str, sysroot: &str) -> Option<Self> {
        let field = |name: &str| description.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            rustc: description.lines().next()?.to_owned(),
            llvm: field("LLVM version:")?.split('.').next()?.to_owned(),
            host: field("host:")?.to_owned(),
            sysroot: sysroot.into(),
        })
    }

    /// Whether the component rust-src is installed: the source of `core` for the BPF target.
    #[must_use]
    pub fn has_rust_src(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    }

    /// LLVM's objcopy, which comes with rustc and handles every architecture. `None` where a toolchain lacks it.
    #[must_use]
    pub fn objcopy(&self) -> Option<Command> {
        let program = self.sysroot.join("lib/rustlib").join(&self.host).join("bin/rust-objcopy");
        program.is_file().then(|| {
            let mut command = Command::new(program);
            // It is linked to rustc's LLVM, and finds it only so.
            command.env("LD_LIBRARY_PATH", self.sysroot.join("lib"));
            command
        })
    }

    /// The stamp of a bpf-linker that fits this toolchain.
    #[must_use]
    pub fn stamp(&self) -> String {
        format!("bpf-linker {BPF_LINKER_VERSION}\n{}\n{}\n", self.rustc, self.sysroot.display())
    }

    /// Whether the checkout has a bpf-linker whose build for this toolchain was finished.
    #[must_use]
    pub fn has_bpf_linker(&self, root: &Path) -> bool {
        bpf_linker(root).is_file() && fs::read_to_string(stamp_file(root)).is_ok_and(|stamp| stamp == self.stamp())
    }

    /// The name of the first missing part, if any.
    #[must_use]
    pub fn missing(&self, root: &Path) -> Option<String> {
        if !self.has_rust_src() {
            Some("the Rust component rust-src".to_owned())
        } else if !self.has_bpf_linker(root) {
            Some(format!("bpf-linker {BPF_LINKER_VERSION} for this toolchain"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BPF_LINKER_VERSION, Toolchain};
    use std::path::Path;

    const DESCRIPTION: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                               release: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn a_compiler_describes_itself() {
        let toolchain = Toolchain::parse(DESCRIPTION, "/t/1.95.0").unwrap();
        assert_eq!((&*toolchain.rustc, &*toolchain.llvm), ("rustc 1.95.0 (59807616e 2026-04-14)", "22"));
        assert_eq!((&*toolchain.host, &*toolchain.sysroot), ("x86_64-unknown-linux-gnu", Path::new("/t/1.95.0")));
    }

    #[test]
    fn a_description_that_lacks_something_is_none() {
        assert!(Toolchain::parse("", "/t").is_none());
        for field in ["host:", "LLVM version:"] {
            assert!(Toolchain::parse(&DESCRIPTION.replace(field, "other:"), "/t").is_none(), "{field}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let toolchain = Toolchain::parse(DESCRIPTION, "/nonexistent").unwrap();
        assert_eq!(toolchain.missing(Path::new("/")).as_deref(), Some("the Rust component rust-src"));
        let stamp = toolchain.stamp();
        assert_eq!(
            stamp,
            format!("bpf-linker {BPF_LINKER_VERSION}\nrustc 1.95.0 (59807616e 2026-04-14)\n/nonexistent\n")
        );
    }
}
