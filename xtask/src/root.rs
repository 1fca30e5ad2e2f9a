//! Becoming root for what needs it, and for nothing else.

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// What sudo would drop and the tool or its tests look at.
const PASSED_ON: [&str; 6] = ["CI", "COLORTERM", "NO_COLOR", "RUST_BACKTRACE", "RUST_LOG", "TERM"];

/// Whether this process has effective user id 0.
///
/// # Errors
/// When /proc is not mounted.
pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot see this process in /proc: is it mounted?")?.uid() == 0)
}

/// Fails at once where nothing could make us root later, so that nobody waits for a build in vain.
///
/// # Errors
/// When this user is not root and there is no sudo; `what` needs it.
pub(crate) fn ensure_reachable(what: &str) -> Result<()> {
    ensure!(is_root()? || process::find("sudo").is_some(), "{}", unreachable(what, NO_SUDO));
    Ok(())
}

/// The message for what needs root and cannot have it.
pub(crate) fn unreachable(what: &str, reason: &str) -> String {
    format!("{what} loads probes into the kernel and needs root, but {reason}: run it as root")
}

const NO_SUDO: &str = "this user is not root and there is no sudo";

/// A command that runs `program` as root, with sudo in front when we are not, or the reason why there can be none.
///
/// # Errors
/// As [`is_root`].
pub(crate) fn command(program: &Path) -> Result<Result<Command, String>> {
    if is_root()? {
        return Ok(Ok(Command::new(program)));
    }
    let Some(sudo) = process::find("sudo") else {
        return Ok(Err(NO_SUDO.to_owned()));
    };
    let silent = Command::new(&sudo).args(["--non-interactive", "true"]).stdin(Stdio::null()).output();
    if !silent.context("cannot run sudo")?.status.success() {
        if !io::stdin().is_terminal() {
            return Ok(Err("sudo would ask for a password and there is no terminal".to_owned()));
        }
        process::announce("root is needed: sudo may ask for your password");
        // Asked here, so that a refusal is known before anything depends on it.
        let granted = Command::new(&sudo).arg("--validate").stdout(io::stderr()).status();
        if !granted.context("cannot run sudo")?.success() {
            return Ok(Err("sudo was refused".to_owned()));
        }
    }
    let mut command = Command::new(sudo);
    // Through env(1): sudo's own --preserve-env needs a right that not every sudoer has.
    command.args(["--", "env"]);
    for name in PASSED_ON {
        if let Some(value) = env::var_os(name) {
            let mut assignment = std::ffi::OsString::from(format!("{name}="));
            assignment.push(value);
            command.arg(assignment);
        }
    }
    command.arg(program);
    Ok(Ok(command))
}
