//! Runs as root what needs root, and nothing else.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// Environment variables that the tool or its tests read, and that sudo would drop.
const PASSED_ON: [&str; 6] = ["CI", "COLORTERM", "NO_COLOR", "RUST_BACKTRACE", "RUST_LOG", "TERM"];

/// Whether this process has effective user id 0.
///
/// # Errors
/// When /proc is not mounted.
pub fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot see this process in /proc: is it mounted?")?.uid() == 0)
}

/// Fails where nothing could make us root later, before anybody waits for a build.
///
/// # Errors
/// When this user is not root and there is no sudo. `what` is the step that needs root.
pub fn ensure_reachable(what: &str) -> Result<()> {
    ensure!(is_root()? || process::find("sudo").is_some(), "{}", unreachable(what, NO_SUDO));
    Ok(())
}

/// The message for a step that needs root and cannot get it.
#[must_use]
pub fn unreachable(what: &str, reason: &str) -> String {
    format!("{what} loads probes into the kernel and needs root, but {reason}: run it as root")
}

const NO_SUDO: &str = "this user is not root and there is no sudo";

/// A command that runs `program` as root, through sudo when needed; or the reason why that is impossible.
///
/// # Errors
/// As [`is_root`].
pub fn command(program: &Path) -> Result<Result<Command, String>> {
    if is_root()? {
        return Ok(Ok(Command::new(program)));
    }
    let Some(sudo) = process::find("sudo") else {
        return Ok(Err(NO_SUDO.to_owned()));
    };
    match ask(&sudo, io::stdin().is_terminal())? {
        Some(refusal) => Ok(Err(refusal)),
        None => Ok(Ok(through(&sudo, program, |name| env::var_os(name)))),
    }
}

/// Asks sudo early, so that nothing depends on it yet when it refuses. Returns the refusal, if any.
fn ask(sudo: &Path, terminal: bool) -> Result<Option<String>> {
    let silent = Command::new(sudo).args(["--non-interactive", "true"]).stdin(Stdio::null()).output();
    if silent.context("cannot run sudo")?.status.success() {
        return Ok(None);
    }
    if !terminal {
        return Ok(Some("sudo would ask for a password and there is no terminal".to_owned()));
    }
    process::announce("root is needed: sudo may ask for your password");
    let granted = Command::new(sudo).arg("--validate").stdout(io::stderr()).status();
    Ok((!granted.context("cannot run sudo")?.success()).then(|| "sudo was refused".to_owned()))
}

/// The program through sudo, with the variables of this environment that it reads.
fn through(sudo: &Path, program: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Command {
    let mut command = Command::new(sudo);
    // Through env(1): not every sudoer may use sudo's --preserve-env.
    command.args(["--", "env"]);
    for name in PASSED_ON {
        if let Some(value) = variable(name) {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            command.arg(assignment);
        }
    }
    command.arg(program);
    command
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::{NO_SUDO, ask, command, is_root, through, unreachable};

    #[test]
    fn the_variables_that_the_program_reads_pass_sudo() {
        let variable = |name: &str| match name {
            "CI" => Some("true".into()),
            "TERM" => Some("xterm 256".into()),
            "PATH" | "LD_PRELOAD" => panic!("{name} is not for root"),
            _ => None,
        };
        let command = through(Path::new("/bin/sudo"), Path::new("/t/lab"), variable);
        assert_eq!(command.get_program(), "/bin/sudo");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["--", "env", "CI=true", "TERM=xterm 256", "/t/lab"]);
    }

    #[test]
    fn root_needs_no_sudo() {
        if is_root().unwrap() {
            let command = command(Path::new("/t/lab")).unwrap().unwrap();
            assert_eq!((command.get_program(), command.get_args().count()), ("/t/lab".as_ref(), 0));
        }
    }

    /// A program in place of sudo.
    fn sudo(name: &str, script: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("listentop-sudo-{name}-{}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_refusal_is_known_early() {
        let password = "sudo would ask for a password and there is no terminal";
        for (name, script, terminal, refusal) in [
            ("free", "exit 0", false, None),
            ("asks", "exit 1", false, Some(password)),
            ("refuses", "exit 1", true, Some("sudo was refused")),
            ("grants", "[ \"$*\" = --validate ]", true, None),
        ] {
            let sudo = sudo(name, script);
            assert_eq!(ask(&sudo, terminal).unwrap().as_deref(), refusal, "{name}");
            fs::remove_file(sudo).unwrap();
        }
    }

    #[test]
    fn the_message_names_the_remedy() {
        let message = unreachable("the demo", NO_SUDO);
        assert!(
            message.starts_with("the demo loads probes") && message.ends_with("no sudo: run it as root"),
            "{message}"
        );
    }
}
