//! Calls of cargo on this workspace.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{process, setup};

/// The checkout's directory.
pub(crate) fn root() -> PathBuf {
    // Set by `cargo run`, and right even when the checkout has been moved since xtask was compiled.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// The cargo that runs us; rustup's choice for this checkout when started by hand.
pub(crate) fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo SUBCOMMAND` in the checkout, with the environment of whoever started us.
pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new(program());
    // `cargo run` describes xtask to us; build scripts that look at these would run again for each way of being
    // started.
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

/// What the demo and the bench run, as cargo built it.
pub(crate) struct Binaries {
    /// The tool itself.
    pub(crate) listentop: PathBuf,
    /// The scenarios' host.
    pub(crate) lab: PathBuf,
    /// A server of a given pattern.
    pub(crate) demo_server: PathBuf,
    /// The closed-loop load of the bench.
    pub(crate) storm: PathBuf,
    /// The open-loop load, with requests.
    pub(crate) stress: PathBuf,
}

/// Builds everything that is run by users, in release, and says where it is.
///
/// # Errors
/// When the build fails (cargo has said why) or lacks one of the binaries.
pub(crate) fn build_release() -> Result<Binaries> {
    process::announce("building listentop and the demo servers in release (the first time takes a few minutes)");
    let mut cargo = command("build");
    cargo.args(["--release", "--bins", "--package", "listentop", "--package", "demo-servers"]);
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

/// Builds listentop alone, as one file that needs no C library, and says where it is.
///
/// # Errors
/// As [`build_release`].
pub(crate) fn build_static() -> Result<PathBuf> {
    process::announce("building listentop as one static file (the first time takes a few minutes)");
    let mut cargo = command("build");
    cargo.args(["--release", "--target", &setup::static_target(), "--package", "listentop", "--bin", "listentop"]);
    let built = executables(&mut cargo, "the static build")?;
    let listentop = built.into_iter().find(|built| built.target == "listentop");
    listentop.map(|built| built.path).context("the static build made no listentop")
}

/// An executable that cargo has built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The target's name in its package.
    pub(crate) target: String,
    /// `bin`, `test`, `lib`, …
    pub(crate) kind: String,
    /// The directory of the package's manifest.
    pub(crate) package_dir: PathBuf,
    /// The file.
    pub(crate) path: PathBuf,
}

/// Runs a cargo command that builds, with its diagnostics shown, and returns the executables in its order.
///
/// # Errors
/// When cargo fails or prints what cannot be read.
pub(crate) fn executables(cargo: &mut Command, what: &str) -> Result<Vec<Executable>> {
    let messages = process::capture(cargo.arg("--message-format=json-render-diagnostics"), what)?;
    parse_executables(&messages).with_context(|| format!("{what}: cannot read cargo's messages"))
}

fn parse_executables(messages: &str) -> Result<Vec<Executable>> {
    // By path: a target that is checked twice is reported twice.
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        // Tests' and build scripts' output can be in between.
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
            package_dir: package_dir.to_owned(),
            path: path.into(),
        };
        found.insert(executable.path.clone(), executable);
    }
    Ok(found.into_values().collect())
}

/// The compiler that cargo uses here.
pub(crate) fn rustc() -> OsString {
    // Without a toolchain's own rustc beside cargo it is found as cargo finds it: in PATH.
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
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"kind":["test"],"name":"kernel"},"executable":"/w/t/kernel-1"}
not a message
{"reason":"build-finished","success":true}"#;
        let expected = Executable {
            target: "kernel".to_owned(),
            kind: "test".to_owned(),
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
