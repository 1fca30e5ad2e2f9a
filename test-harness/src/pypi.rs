//! Programs that tests take from PyPI, because no distribution's package has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A virtual environment with a package, made once; returns its directory. Skips the test where Python, its module venv
/// or the network is missing.
///
/// `directory`: where it is kept. `requirement`: the package, as pip names it. `module`: what can be imported
/// then. It is fetched through the network namespace in which the process was started, whichever the test is in.
///
/// # Panics
/// When pip succeeds, and the module cannot be imported.
#[must_use]
pub fn environment(directory: &Path, requirement: &str, module: &str) -> PathBuf {
    let python = directory.join("bin/python");
    let is_there = || {
        let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if is_there() {
        return directory.to_owned();
    }
    match Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory).output() {
        Err(error) => skip(format!("there is no python3: {error}")),
        Ok(output) if !output.status.success() => {
            skip(format!("python3 -m venv fails (package python3-venv): {}", String::from_utf8_lossy(&output.stdout)))
        }
        Ok(_) => {}
    }
    let installed =
        outside(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]).output();
    match installed {
        Err(error) => skip(format!("pip cannot be run: {error}")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            skip(format!("pip cannot install {requirement}: {}", said.lines().last().unwrap_or_default()));
        }
        Ok(_) => {}
    }
    assert!(is_there(), "{requirement} was installed, and {module} cannot be imported");
    directory.to_owned()
}

/// A command in the network namespace of the process's first thread.
fn outside(program: &Path) -> Command {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let first = std::process::id().to_string();
    if namespace("thread-self") == namespace(&first) {
        return Command::new(program);
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{first}/ns/net")).arg(program);
    command
}
