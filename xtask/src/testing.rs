//! `cargo xtask test`: tests without special rights as the current user, the others as root, and a summary.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
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
/// machine for themselves lock a file, and so do second attempts.
const IN_PARTS: [(&str, usize); 4] = [("kernel", 3), ("lab", 2), ("demo", 2), ("rights", 2)];

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
    process::announce("running the unit and integration tests");
    let unit = || Ok(unprivileged(without_root(&built), io::stdout()));
    let mut outcomes = vec![timed("unit and integration tests", unit)?];
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

/// Runs tests that need no root, as many targets at a time as there are CPUs: most of them wait. Tests that fail run
/// once more, by themselves.
fn unprivileged(targets: Vec<&Executable>, mut print: impl Write + Send) -> Outcome {
    let shared = Mutex::new(&mut print);
    let waiting = Mutex::new(targets);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                // A statement of its own: it gives the list back before the tests run.
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                while let Some(target) = next() {
                    let mut tests = FailedTests::default();
                    // The lines of one target together: tests of another run at the same time.
                    let mut printed = format!("\n     Running {}\n", target.path.display()).into_bytes();
                    let outcome = outcome_of_lines(as_cargo_does(target), &mut printed, |line| tests.look(line));
                    // Where nothing can be printed, the outcome is what counts.
                    let _ = shared.lock().unwrap_or_else(PoisonError::into_inner).write_all(&printed);
                    if let Outcome::Failed(how) = outcome {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push((target, tests, how));
                    }
                }
            });
        }
    });
    once_more(failed.into_inner().unwrap_or_else(PoisonError::into_inner), &mut print)
}

/// The tests of a target, in the directory and with the variables that `cargo test` gives them.
fn as_cargo_does(target: &Executable) -> Command {
    let mut tests = Command::new(&target.path);
    tests.current_dir(&target.package_dir).env("CARGO_MANIFEST_DIR", &target.package_dir);
    // insta would ask cargo for it.
    tests.env("CARGO", cargo::program()).env("INSTA_WORKSPACE_ROOT", cargo::root());
    tests
}

/// Runs the tests that have failed once more.
fn once_more(failed: Vec<(&Executable, FailedTests, String)>, print: &mut impl Write) -> Outcome {
    let mut passed = Vec::new();
    for (target, FailedTests(names), how) in failed {
        // Without a name, something else than a test has failed.
        if names.is_empty() {
            return Outcome::Failed(format!("{}: {how}", target.target));
        }
        for name in names {
            process::announce(&format!("running {name} once more"));
            let mut second = as_cargo_does(target);
            second.args(["--exact", &name]);
            if let Outcome::Failed(how) = outcome_of_lines(second, print, |_| ()) {
                return Outcome::Failed(format!("{name}, twice: {how}"));
            }
            passed.push(name);
        }
    }
    if passed.is_empty() { Outcome::Passed } else { Outcome::Flaky(passed) }
}

/// The tests of a target that have failed, as the harness says it.
#[derive(Default)]
struct FailedTests(Vec<String>);

impl FailedTests {
    fn look(&mut self, line: &str) {
        self.0.extend(failed_test(line).map(str::to_owned));
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

fn without_root(built: &[Executable]) -> Vec<&Executable> {
    let needs_root = |built: &Executable| built.kind == "test" && ROOT_TESTS.contains(&built.target.as_str());
    built.iter().filter(|built| built.is_test && !needs_root(built)).collect()
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
    use std::path::Path;
    use std::process::Command;

    use super::{Duration, Executable, Outcome, Ran, at_a_time, unprivileged, verdict, without_root};

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

    /// A target whose tests are this script.
    fn script(path: &Path, text: &str) -> Executable {
        // Another process writes it: no child of another thread inherits a file that is open for writing, which the
        // kernel would not execute.
        let mut write = Command::new("sh");
        write.args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod 755 "$2""#, "sh", text]).arg(path);
        assert!(write.status().unwrap().success());
        let package_dir = path.parent().unwrap().to_owned();
        Executable {
            target: "screens".to_owned(),
            kind: "lib".to_owned(),
            is_test: true,
            package_dir,
            path: path.to_owned(),
        }
    }

    #[test]
    fn what_fails_once_runs_once_more_and_what_fails_twice_fails() {
        let folder = tempfile::tempdir().unwrap();
        // Its second call has arguments.
        let says = "printf 'test a::b ... FAILED\\ntest a::c ... ok\\ntest says ok ... FAILED?\\n'";
        let once =
            script(&folder.path().join("once"), &format!("[ \"$*\" = '--exact a::b' ] || {{ {says}; exit 101; }}"));
        let twice = script(&folder.path().join("twice"), &format!("{says}; exit 101"));
        let crash = script(&folder.path().join("crash"), "printf 'no \\377\\n'; kill -9 $$");
        let right = script(&folder.path().join("right"), "[ \"$CARGO_MANIFEST_DIR\" = \"$PWD\" ]");
        let mut printed = Vec::new();
        let mut run = |targets: &[&Executable]| unprivileged(targets.to_vec(), &mut printed).to_string();
        assert_eq!(run(&[&right, &right, &right]), "passed");
        assert_eq!(run(&[&right, &once, &right]), "passed, at the second attempt: a::b");
        assert_eq!(run(&[&once, &twice]), "FAILED: a::b, twice: exit status: 101");
        assert_eq!(run(&[&crash, &right]), "FAILED: screens: signal: 9 (SIGKILL)");
        assert!(printed.ends_with(b"/right\n") || printed.ends_with(b"/crash\nno \xff\n"));
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
        let target = |name: &str, kind: &str, is_test| Executable {
            target: name.to_owned(),
            kind: kind.to_owned(),
            is_test,
            package_dir: "/w".into(),
            path: format!("/t/{name}").into(),
        };
        let built = [
            target("kernel", "test", true),
            target("lab", "test", true),
            target("screens", "test", true),
            target("lab", "bin", false),
            target("lab", "bin", true),
            target("model", "lib", true),
        ];
        let chosen: Vec<_> = without_root(&built).into_iter().map(|it| (&*it.target, &*it.kind)).collect();
        assert_eq!(chosen, [("screens", "test"), ("lab", "bin"), ("model", "lib")]);
    }
}
