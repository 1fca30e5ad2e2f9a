//! `cargo xtask test`: tests without special rights as the current user, the others as root, and a summary.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use test_harness::{LOCK, PART};

use xtask_support::cargo::{self, Executable};
use xtask_support::{process, root, setup};

use crate::sources;

/// Test targets that need root. `kernel` loads probes into the running kernel, `rights` starts the program with chosen
/// capabilities, `servers` starts real servers, `serve` a real Prometheus, and the others make network namespaces.
/// `lessons`, `demo`, `servers` and `serve` load probes too.
const ROOT_TESTS: [&str; 11] =
    ["kernel", "servers", "serve", "sock_diag", "lab", "lessons", "demo", "netns", "wire", "real", "rights"];

/// Targets whose tests run in so many processes at a time: they mostly wait, and each test has a network namespace of
/// its own. They fork, so threads of one process would hand their sockets to each other's children. Tests that need the
/// machine for themselves lock a file.
const IN_PARTS: [(&str, usize); 1] = [("kernel", 3)];

/// The packages that everything is computed in. What asks the kernel is left out: the emulator is none.
const PURE: [&str; 4] = ["listentop-abi", "listentop-btf", "listentop-model", "listentop-recording"];

/// What is tested.
#[derive(Args)]
pub(crate) struct Options {
    /// Only unit tests that need no kernel, for another architecture, under qemu-user
    #[arg(long, value_name = "ARCHITECTURE", value_parser = ["aarch64", "x86_64"])]
    emulated: Option<String>,
}

enum Outcome {
    Passed,
    /// These tests failed, and passed at the second attempt.
    Flaky(Vec<String>),
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Flaky(names) => write!(f, "passed, at the second attempt: {}", names.join(", ")),
            Self::Failed(how) => write!(f, "FAILED: {how}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// Builds and runs all tests, even after a failure.
///
/// # Errors
/// When the build or a test fails, or where CI is set and tests that need root could not run.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(arch) = &options.emulated {
        return emulated(arch);
    }
    setup::run()?;
    process::announce("building the tests (the first time takes a few minutes)");
    let mut build = cargo::command("test");
    let built = cargo::executables(build.args(cargo::ALL_FOR_HOST).arg("--no-run"), "the build of the tests")?;
    let mut outcomes = vec![timed("unit and integration tests", || Ok(unprivileged(&built)))?];
    // Without any, cargo would build the dependencies anew, with other features, to run nothing.
    if has_documentation_tests(&cargo::root())? {
        outcomes.push(timed("documentation tests", || Ok(documentation_tests()))?);
    }
    for name in ROOT_TESTS {
        let target = built.iter().find(|built| built.kind == "test" && built.target == name);
        let target = target.with_context(|| format!("there is no test target `{name}`"))?;
        let parts = IN_PARTS.iter().find(|(in_parts, _)| *in_parts == name).map_or(1, |(_, parts)| *parts);
        outcomes.push(timed(name, || as_root(target, parts))?);
    }
    println!("\nxtask test:");
    for Ran { name, outcome, took } in &outcomes {
        println!("  {name}: {outcome} ({} s)", took.as_secs());
    }
    verdict(&outcomes, test_harness::ci())
}

/// What became of some tests.
struct Ran<'a> {
    name: &'a str,
    outcome: Outcome,
    took: Duration,
}

fn timed(name: &str, run: impl FnOnce() -> Result<Outcome>) -> Result<Ran<'_>> {
    let since = Instant::now();
    let outcome = run()?;
    Ok(Ran { name, outcome, took: since.elapsed() })
}

/// Builds the unit tests for another architecture, and runs them in its emulator.
fn emulated(arch: &str) -> Result<()> {
    let emulator = [format!("qemu-{arch}-static"), format!("qemu-{arch}")];
    let emulator = emulator.iter().find_map(|name| process::find(name));
    let emulator = emulator.with_context(|| {
        format!("no emulator qemu-{arch}-static: install one, such as Debian's package qemu-user-static")
    })?;
    setup::run_static_for(arch)?;
    process::announce(&format!("building the unit tests for {arch} (the first time takes some minutes)"));
    let mut test = cargo::static_command_for("test", arch);
    test.args(["--lib", "--no-fail-fast"]).args(PURE.iter().flat_map(|package| ["--package", package]));
    let target = cargo::static_target_of(arch).to_uppercase().replace('-', "_");
    process::run(test.env(format!("CARGO_TARGET_{target}_RUNNER"), emulator), &format!("the unit tests for {arch}"))
}

fn unprivileged(built: &[Executable]) -> Outcome {
    let targets = other_test_targets(built);
    let mut options = cargo::ALL_FOR_HOST.to_vec();
    options.extend(["--lib", "--bins"]);
    options.extend(targets.iter().flat_map(|name| ["--test", name]));
    cargo_test(&options, "the unit and integration tests")
}

/// Runs tests with these options of cargo; those that fail once more.
fn cargo_test(options: &[&str], what: &str) -> Outcome {
    process::announce(&format!("running {what}"));
    let mut test = cargo::command("test");
    test.arg("--no-fail-fast").args(options);
    let mut failed = FailedTests::default();
    let first = outcome_of_lines(test, &mut io::stdout(), |line| failed.look(line));
    // Without a name, something else than a test has failed.
    if matches!(first, Outcome::Passed) {
        return first;
    }
    if failed.tests.is_empty() || !failed.unnamed.is_empty() {
        let names = failed.targets.join(", ");
        return match first {
            Outcome::Failed(how) if !names.is_empty() => Outcome::Failed(format!("{names}: {how}")),
            other => other,
        };
    }
    for (target, name) in &failed.tests {
        process::announce(&format!("running {name} once more"));
        // It runs alone: most tests that need a second attempt have to do with time.
        let second = outcome(cargo::command("test").args(target).args(["--", "--exact", name]));
        if let Outcome::Failed(how) = second {
            return Outcome::Failed(format!("{name}, twice: {how}"));
        }
    }
    Outcome::Flaky(failed.tests.into_iter().map(|(_, name)| name).collect())
}

/// The tests that have failed, as cargo and the harness say it.
#[derive(Default)]
struct FailedTests {
    /// Of the target that runs.
    unnamed: Vec<String>,
    /// The targets with failures, as cargo names them.
    targets: Vec<String>,
    /// The options with which cargo runs the target again, and the name of a test.
    tests: Vec<(Vec<String>, String)>,
}

impl FailedTests {
    fn look(&mut self, line: &str) {
        if let Some(name) = failed_test(line) {
            self.unnamed.push(name.to_owned());
        }
        let target = line.strip_prefix("error: test failed, to rerun pass `").and_then(|rest| rest.strip_suffix('`'));
        if let Some(target) = target {
            self.targets.push(target.to_owned());
            // With the package alone, cargo would choose other features for the dependencies, and build them anew.
            let package = if target.starts_with("-p ") { 2 } else { 0 };
            let words = target.split_whitespace().skip(package);
            let target: Vec<String> = cargo::ALL_FOR_HOST.into_iter().chain(words).map(str::to_owned).collect();
            self.tests.extend(self.unnamed.drain(..).map(|name| (target.clone(), name)));
        }
    }
}

fn has_documentation_tests(root: &Path) -> Result<bool> {
    for path in sources::rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if sources::has_documentation_test(&text) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn documentation_tests() -> Outcome {
    process::announce("running the documentation tests");
    outcome(cargo::command("test").args(cargo::ALL_FOR_HOST).args(["--no-fail-fast", "--doc"]))
}

/// The name of the test that a line of the harness says has failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix("... FAILED").map(str::trim)
}

fn other_test_targets(built: &[Executable]) -> Vec<&str> {
    let targets = built.iter().filter(|built| built.kind == "test" && !ROOT_TESTS.contains(&built.target.as_str()));
    let mut names: Vec<&str> = targets.map(|built| built.target.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn as_root(target: &Executable, parts: usize) -> Result<Outcome> {
    let name = &target.target;
    process::announce(&format!("running the tests `{name}` as root"));
    // sudo would drop variables that are set for it: env(1) sets them behind it.
    let env = process::find("env").context("there is no env(1)")?;
    let mut commands = Vec::new();
    for part in 1..=parts {
        let mut command = match root::command(if parts > 1 { &env } else { &target.path })? {
            Ok(command) => command,
            Err(reason) => {
                let skipped = Outcome::Skipped(format!("they need root, but {reason}"));
                process::announce(&format!("tests `{name}` {skipped}"));
                return Ok(skipped);
            }
        };
        // cargo runs tests in this directory too.
        command.current_dir(&target.package_dir);
        if parts > 1 {
            command.arg(format!("{PART}={part}/{parts}"));
            command.arg(format!("{LOCK}={}", cargo::root().join("target/tests.lock").display())).arg(&target.path);
        }
        commands.push(command);
    }
    Ok(match &mut commands[..] {
        [command] => outcome(command),
        _ => at_a_time(commands),
    })
}

/// The outcome of commands that run at a time. Each prints whole lines.
fn at_a_time(commands: Vec<Command>) -> Outcome {
    let run = |command| outcome_of_lines(command, &mut io::stdout(), |_| ());
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let running: Vec<_> = commands.into_iter().map(|command| scope.spawn(|| run(command))).collect();
        let panicked = |_| Outcome::Failed("a thread of xtask panicked".to_owned());
        running.into_iter().map(|running| running.join().unwrap_or_else(panicked)).collect()
    });
    outcomes.into_iter().find(|outcome| matches!(outcome, Outcome::Failed(_))).unwrap_or(Outcome::Passed)
}

fn outcome(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(status.to_string()),
        Err(error) => Outcome::Failed(format!("cannot run {}: {error}", command.get_program().display())),
    }
}

/// The outcome of a command whose output is both printed and looked at.
fn outcome_of_lines(mut command: Command, print: &mut impl Write, mut look: impl FnMut(&str)) -> Outcome {
    let mut lines = || -> io::Result<Outcome> {
        let (reader, writer) = io::pipe()?;
        let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // Its ends of the pipe are closed with it, and those of the command here.
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut output = BufReader::new(reader);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            // In one write, so that lines of two commands do not mix.
            print.write_all(&line)?;
            look(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let status = child.wait()?;
        Ok(if status.success() { Outcome::Passed } else { Outcome::Failed(status.to_string()) })
    };
    let outcome = lines();
    outcome.unwrap_or_else(|error| Outcome::Failed(format!("cannot run the tests: {error}")))
}

fn verdict(outcomes: &[Ran<'_>], ci: bool) -> Result<()> {
    let failed = |outcome: &Outcome| match outcome {
        Outcome::Passed | Outcome::Flaky(_) => false,
        Outcome::Failed(_) => true,
        Outcome::Skipped(_) => ci,
    };
    let names: Vec<&str> = outcomes.iter().filter(|ran| failed(&ran.outcome)).map(|ran| ran.name).collect();
    if !names.is_empty() {
        bail!("not passed: {}", names.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{
        Duration, Executable, FailedTests, Outcome, Ran, at_a_time, other_test_targets, outcome_of_lines, verdict,
    };

    fn ran(name: &str, outcome: Outcome) -> Ran<'_> {
        Ran { name, outcome, took: Duration::from_secs(1) }
    }

    #[test]
    fn skipped_is_a_failure_in_ci_only() {
        let outcomes = [ran("unit", Outcome::Passed), ran("kernel", Outcome::Skipped("no root".to_owned()))];
        assert!(verdict(&outcomes, false).is_ok());
        assert_eq!(verdict(&outcomes, true).unwrap_err().to_string(), "not passed: kernel");
    }

    #[test]
    fn failed_is_a_failure() {
        let outcomes = [ran("unit", Outcome::Failed("exit status: 101".to_owned())), ran("kernel", Outcome::Passed)];
        assert_eq!(verdict(&outcomes, false).unwrap_err().to_string(), "not passed: unit");
    }

    #[test]
    fn a_second_attempt_is_named_and_no_failure() {
        let flaky = Outcome::Flaky(vec!["a::b".to_owned(), "c".to_owned()]);
        assert_eq!(flaky.to_string(), "passed, at the second attempt: a::b, c");
        assert!(verdict(&[ran("unit", flaky)], true).is_ok());
    }

    #[test]
    fn failed_tests_are_found_in_the_output() {
        let mut failed = FailedTests::default();
        let mut printed = Vec::new();
        let mut tests = Command::new("sh");
        tests.args([
            "-c",
            "printf 'test a::b ... FAILED\ntest a::c ... ok\ntest says ok ... FAILED?\n'; \
            printf 'error: test failed, to rerun pass `-p a --test b`\n' >&2; printf 'no \\377\n'; exit 101",
        ]);
        let outcome = outcome_of_lines(tests, &mut printed, |line| failed.look(line));
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome}");
        let target: Vec<String> =
            super::cargo::ALL_FOR_HOST.into_iter().chain(["--test", "b"]).map(str::to_owned).collect();
        assert_eq!(failed.tests, [(target, "a::b".to_owned())]);
        assert_eq!(failed.unnamed, [""; 0]);
        assert!(printed.starts_with(b"test a::b ... FAILED\n") && printed.ends_with(b"no \xff\n"));
    }

    #[test]
    fn one_failure_of_several_at_a_time_is_a_failure() {
        let exits = |codes: &[u8]| {
            let command = |code: &u8| {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exit {code}")]);
                command
            };
            at_a_time(codes.iter().map(command).collect())
        };
        assert!(matches!(exits(&[0, 0]), Outcome::Passed));
        assert!(matches!(exits(&[0, 3, 0]), Outcome::Failed(_)));
    }

    #[test]
    fn tests_that_need_root_are_left_to_root() {
        let target = |name: &str, kind: &str| Executable {
            target: name.to_owned(),
            kind: kind.to_owned(),
            package_dir: "/w".into(),
            path: format!("/t/{name}").into(),
        };
        let built = [
            target("kernel", "test"),
            target("lab", "test"),
            target("screens", "test"),
            target("lab", "bin"),
            target("cli", "test"),
        ];
        assert_eq!(other_test_targets(&built), ["cli", "screens"]);
    }
}
