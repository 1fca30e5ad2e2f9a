//! Calls of cargo on this workspace.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{process, toolchain};

/// The package of the protocols' servers and clients, which a build for users includes only where a lesson needs it.
pub const PROTOCOLS: &str = "demo-protocols";

/// Selects all packages but the probes, which are for the BPF target only. Checks and tests select nothing less: cargo
/// chooses the features of dependencies for the packages of one command together, and builds anew what differs.
pub const ALL_FOR_HOST: [&str; 3] = ["--workspace", "--exclude", "listentop-ebpf"];

/// A file that only the checkout's directory has.
const MARK: &str = "rust-toolchain.toml";

/// The checkout's directory.
#[must_use]
pub fn root() -> PathBuf {
    // `cargo run` sets the variable. It is right even when the checkout was moved after xtask was compiled.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let marked = package.ancestors().find(|directory| directory.join(MARK).is_file());
    marked.unwrap_or(&package).to_path_buf()
}

/// The cargo that runs us, or rustup's choice for this checkout when we were started by hand.
#[must_use]
pub fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo SUBCOMMAND` in the checkout, with the environment in which xtask was started.
#[must_use]
pub fn command(subcommand: &str) -> Command {
    let mut command = Command::new(program());
    // `cargo run` describes xtask in these variables. Build scripts that read them would run again and again.
    for (name, _) in env::vars_os() {
        let about_xtask = |text: &str| {
            ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| text.starts_with(prefix)) || text == "CARGO"
        };
        if name.to_str().is_some_and(about_xtask) {
            command.env_remove(name);
        }
    }
    command.current_dir(root()).arg(subcommand);
    command
}

/// The programs that the demo and the bench run.
#[derive(Debug)]
pub struct Binaries {
    /// The tool itself.
    pub listentop: PathBuf,
    /// Runs the lessons.
    pub lab: PathBuf,
    /// A server with a given acceptor/reader pattern.
    pub demo_server: PathBuf,
    /// The bench's closed-loop load generator.
    pub storm: PathBuf,
    /// The open-loop load generator.
    pub stress: PathBuf,
}

/// What a build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Whole,
    /// What the demo shows. The first time that is a good part faster; what was built whole before stays whole.
    Demo,
    /// The same, with `listentop blame`.
    DemoWithBlame,
}

/// A crate that a whole build has, and that the demo does without, as its file in the target directory begins.
const LARGE: &str = "libparquet-";

/// What `listentop blame` needs, which the first demo does without: the feature, and its crate.
const BLAME: (&str, &str) = ("listentop/blame", "libblazesym-");

/// Whether a crate was built already: then a build with it costs nothing more.
fn is_built(file: &str) -> bool {
    let built = root().join("target/release/deps").read_dir();
    built.is_ok_and(|files| files.flatten().any(|found| found.file_name().to_string_lossy().starts_with(file)))
}

/// Builds everything that users run, in release, and the programs of `extra` packages, and returns the paths. All are
/// in one directory.
///
/// # Errors
/// When the build fails (cargo has printed the reason) or lacks one of the binaries.
pub fn build_release(extent: Extent, extra: &[&str]) -> Result<Binaries> {
    process::announce("building listentop and the demo servers in release (the first time takes a few minutes)");
    let mut cargo = command("build");
    cargo.args(["--release", "--bins", "--package", "listentop", "--package", "demo-servers"]);
    cargo.args(extra.iter().flat_map(|package| ["--package", package]));
    if extent != Extent::Whole && !is_built(LARGE) {
        cargo.arg("--no-default-features");
        if extent == Extent::DemoWithBlame || is_built(BLAME.1) {
            cargo.args(["--features", BLAME.0]);
        }
    }
    let built = executables(&mut cargo, "the build")?;
    let binary = |name: &str| {
        let found = built.iter().find(|built| built.kind == "bin" && built.target == name);
        found.map(|built| built.path.clone()).with_context(|| format!("the workspace builds no binary called {name}"))
    };
    Ok(Binaries {
        listentop: binary("listentop")?,
        lab: binary("lab")?,
        demo_server: binary("demo-server")?,
        storm: binary("storm")?,
        stress: binary("stress")?,
    })
}

/// The target of programs that need no other file: every Linux of this architecture runs them.
#[must_use]
pub fn static_target() -> String {
    static_target_of(env::consts::ARCH)
}

/// The same, of an architecture.
#[must_use]
pub fn static_target_of(arch: &str) -> String {
    format!("{arch}-unknown-linux-musl")
}

/// `cargo SUBCOMMAND --release` for programs that need no other file.
#[must_use]
pub fn static_command(subcommand: &str) -> Command {
    static_command_for(subcommand, env::consts::ARCH)
}

/// `cargo SUBCOMMAND --release` for programs that need no other file, for an architecture.
///
/// The web server's cryptography has C in it, which calls no C library: where no compiler for musl is named or
/// installed, the usual one does. What Ubuntu's adds by itself (_FORTIFY_SOURCE) would need functions of glibc.
///
/// What is built names no directory of this machine, unless RUSTFLAGS says how to build.
#[must_use]
pub fn static_command_for(subcommand: &str, arch: &str) -> Command {
    let target = static_target_of(arch);
    let mut cargo = command(subcommand);
    cargo.args(["--release", "--target", &target]);
    if !["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"].iter().any(|name| env::var_os(name).is_some()) {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", toolchain::remap_flags(&root()).join("\x1f"));
    }
    let underscores = target.replace('-', "_");
    let compiler = format!("CC_{underscores}");
    let is_named =
        [compiler.as_str(), &format!("CC_{target}"), "TARGET_CC"].iter().any(|name| env::var_os(name).is_some());
    let is_own = arch == env::consts::ARCH;
    let for_musl = if is_own { "musl-gcc".to_owned() } else { format!("{arch}-linux-musl-gcc") };
    let usual = if is_own { "cc".to_owned() } else { cross_compiler(arch) };
    if !is_named && process::find(&for_musl).is_none() {
        cargo.env(compiler, &usual);
        cargo.env(format!("CFLAGS_{underscores}"), "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0");
    }
    let linker = format!("CARGO_TARGET_{}_LINKER", underscores.to_uppercase());
    if !is_own && env::var_os(&linker).is_none() {
        cargo.env(linker, usual);
    }
    cargo
}

/// Debian's name of the compiler for another architecture.
#[must_use]
pub fn cross_compiler(arch: &str) -> String {
    format!("{arch}-linux-gnu-gcc")
}

/// Builds listentop alone, as one file that needs no C library, and returns its path.
///
/// # Errors
/// As [`build_release`].
pub fn build_static(arch: &str) -> Result<PathBuf> {
    process::announce(&format!(
        "building listentop for {arch} as one static file (the first time takes a few minutes)"
    ));
    let mut cargo = static_command_for("build", arch);
    cargo.args(["--package", "listentop", "--bin", "listentop"]);
    let built = executables(&mut cargo, "the static build")?;
    let listentop = built.into_iter().find(|built| built.target == "listentop");
    listentop.map(|built| built.path).context("the static build made no listentop")
}

/// An executable that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The target's name in its package.
    pub target: String,
    /// `bin`, `test`, `lib`, …
    pub kind: String,
    /// Whether it runs tests: of a `bin` cargo builds the program and its unit tests.
    pub is_test: bool,
    /// The directory of the package's manifest.
    pub package_dir: PathBuf,
    /// The file.
    pub path: PathBuf,
}

/// Runs a cargo command that builds, shows its diagnostics, and returns the executables by path.
///
/// # Errors
/// When cargo fails or prints messages that cannot be read.
pub fn executables(cargo: &mut Command, what: &str) -> Result<Vec<Executable>> {
    let messages = process::capture(cargo.arg("--message-format=json-render-diagnostics"), what)?;
    parse_executables(&messages).with_context(|| format!("{what}: cannot read cargo's messages"))
}

fn parse_executables(messages: &str) -> Result<Vec<Executable>> {
    // By path: cargo reports a target twice when it checks it twice.
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        // Output of build scripts can be in between.
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let Some(path) = message["executable"].as_str() else { continue };
        let target = message["target"]["name"].as_str();
        let kind = message["target"]["kind"][0].as_str();
        let manifest = message["manifest_path"].as_str().and_then(|manifest| Path::new(manifest).parent());
        let (Some(target), Some(kind), Some(package_dir)) = (target, kind, manifest) else {
            bail!("an artifact without target or manifest: {line}");
        };
        let executable = Executable {
            target: target.to_owned(),
            kind: kind.to_owned(),
            is_test: message["profile"]["test"] == true,
            package_dir: package_dir.to_owned(),
            path: path.into(),
        };
        found.insert(executable.path.clone(), executable);
    }
    Ok(found.into_values().collect())
}

/// The compiler that cargo uses here.
#[must_use]
pub fn rustc() -> OsString {
    // If cargo's directory has no rustc, PATH decides, as it does for cargo.
    let beside = Path::new(&program()).with_file_name("rustc");
    if beside.is_absolute() && beside.is_file() { beside.into() } else { OsStr::new("rustc").into() }
}

#[cfg(test)]
mod tests {
    use super::{Executable, parse_executables};

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["lib"],"name":"a"},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["test"],"name":"kernel"},"profile":{"test":true},"executable":"/w/t/kernel-1"}
not a message
{"reason":"build-finished","success":true}"#;
        let expected = Executable {
            target: "kernel".to_owned(),
            kind: "test".to_owned(),
            is_test: true,
            package_dir: "/w/a".into(),
            path: "/w/t/kernel-1".into(),
        };
        assert_eq!(parse_executables(messages).unwrap(), [expected]);
    }

    #[test]
    fn an_artifact_without_a_target_is_an_error() {
        assert!(parse_executables(r#"{"reason":"compiler-artifact","executable":"/x"}"#).is_err());
    }
}
