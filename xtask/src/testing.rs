//! `cargo xtask test`: unit tests as the user, kernel tests as root, and what came of them.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, Executable};
use crate::{ci, process, root, setup};

/// The test target, in the package listentop, whose tests load probes into the running kernel.
const KERNEL_TESTS: &str = "kernel";

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(how) => write!(f, "FAILED: {how}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// Builds and runs all tests; a failure does not keep the others from running.
///
/// # Errors
/// When the build or a test fails, or where CI is set and the kernel tests could not run.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    process::announce("building the tests (the first time takes a few minutes)");
    let built = cargo::executables(cargo::command("test").arg("--no-run"), "the build of the tests")?;
    let kernel = built.iter().find(|built| built.kind == "test" && built.target == KERNEL_TESTS);
    let kernel = kernel.with_context(|| format!("the package listentop has no test target `{KERNEL_TESTS}`"))?;

    let outcomes = [
        ("unit and integration tests", unprivileged(&built)),
        ("documentation tests", cargo_test(cargo::command("test").arg("--doc"), "the documentation tests")),
        ("kernel tests", as_root(kernel)?),
    ];
    println!("\nxtask test:");
    for (name, outcome) in &outcomes {
        println!("  {name}: {outcome}");
    }
    verdict(&outcomes, ci::is_set())
}

fn unprivileged(built: &[Executable]) -> Outcome {
    let mut test = cargo::command("test");
    test.args(["--lib", "--bins"]);
    for name in other_test_targets(built) {
        test.args(["--test", name]);
    }
    cargo_test(&mut test, "the unit and integration tests")
}

fn other_test_targets(built: &[Executable]) -> Vec<&str> {
    let targets = built.iter().filter(|built| built.kind == "test" && built.target != KERNEL_TESTS);
    let mut names: Vec<&str> = targets.map(|built| built.target.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn cargo_test(command: &mut Command, what: &str) -> Outcome {
    process::announce(&format!("running {what}"));
    outcome(command.arg("--no-fail-fast"))
}

fn as_root(kernel: &Executable) -> Result<Outcome> {
    process::announce("running the kernel tests as root");
    let mut command = match root::command(&kernel.path)? {
        Ok(command) => command,
        Err(reason) => {
            let skipped = Outcome::Skipped(format!("they need root, but {reason}"));
            process::announce(&format!("kernel tests {skipped}"));
            return Ok(skipped);
        }
    };
    // As cargo runs tests.
    Ok(outcome(command.current_dir(&kernel.package_dir)))
}

fn outcome(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!("cannot run {}: {error}", command.get_program().display())),
    }
}

fn verdict(outcomes: &[(&str, Outcome)], ci: bool) -> Result<()> {
    let failed = |outcome: &Outcome| match outcome {
        Outcome::Passed => false,
        Outcome::Failed(_) => true,
        Outcome::Skipped(_) => ci,
    };
    let names: Vec<&str> = outcomes.iter().filter(|(_, outcome)| failed(outcome)).map(|(name, _)| *name).collect();
    if !names.is_empty() {
        bail!("not passed: {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Executable, Outcome, other_test_targets, verdict};

    #[test]
    fn skipped_is_a_failure_in_ci_only() {
        let outcomes = [("unit", Outcome::Passed), ("kernel", Outcome::Skipped("no root".to_owned()))];
        assert!(verdict(&outcomes, false).is_ok());
        assert_eq!(verdict(&outcomes, true).unwrap_err().to_string(), "not passed: kernel");
    }

    #[test]
    fn failed_is_a_failure() {
        let outcomes = [("unit", Outcome::Failed("exit status: 101".to_owned())), ("kernel", Outcome::Passed)];
        assert_eq!(verdict(&outcomes, false).unwrap_err().to_string(), "not passed: unit");
    }

    #[test]
    fn kernel_tests_are_left_to_root() {
        let target = |name: &str, kind: &str| Executable {
            target: name.to_owned(),
            kind: kind.to_owned(),
            package_dir: "/w".into(),
            path: format!("/t/{name}").into(),
        };
        let built = [target("kernel", "test"), target("screens", "test"), target("lab", "bin"), target("cli", "test")];
        assert_eq!(other_test_targets(&built), ["cli", "screens"]);
    }
}
