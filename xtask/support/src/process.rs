//! Running other programs, with an announcement on stderr.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Announces the next step on stderr: stdout is for results.
pub fn announce(step: &str) {
    eprintln!("xtask: {step}");
}

/// Runs the command to its end. Its stdout goes to our stderr.
///
/// # Errors
/// When it cannot be started or fails; the message names the step, `what`.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.stdout(io::stderr()).status().with_context(|| cannot_run(command, what))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

/// Runs the command to its end and returns its stdout. Its stderr is shown at once.
///
/// # Errors
/// As [`run`], and when the output is not UTF-8.
pub fn capture(command: &mut Command, what: &str) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| cannot_run(command, what))?;
    if !output.status.success() {
        bail!("{what} failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what}: the output is not UTF-8"))
}

fn cannot_run(command: &Command, what: &str) -> String {
    format!("{what}: cannot run {}", command.get_program().display())
}

/// Finds an executable file in PATH.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(program, &env::var_os("PATH")?)
}

fn find_in(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(program)).find(|file| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::find_in;

    #[test]
    fn finds_executables_only() {
        assert_eq!(find_in("sh", OsStr::new("/nonexistent:/bin")), Some("/bin/sh".into()));
        assert_eq!(find_in("passwd", OsStr::new("/etc")), None, "/etc/passwd is not executable");
        assert_eq!(find_in("etc", OsStr::new("/")), None, "a directory is not a program");
    }
}
