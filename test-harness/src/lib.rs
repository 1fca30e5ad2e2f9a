//! Tests that only the machine can decide about. One that cannot run is *skipped* with the reason, and fails where CI
//! is set. One that fails runs once more, by itself, because machines are shared and most of these tests have to do
//! with time. If it passes then, it is *flaky*: [`conclude`] names it at the end.
//!
//! For test targets with `harness = false`.

pub mod pypi;

use std::any::Any;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;

pub use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// One test.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// Its name on the command line.
    pub name: &'static str,
    /// The test itself. It fails by a panic.
    pub run: fn(),
}

/// Runs the tests that the command line selects, one at a time by default. `hindrance` is the reason why none of them
/// can run on this machine, if there is one.
pub fn run(topics: &[&'static [Test]], hindrance: impl FnOnce() -> Option<String>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let hindrance = hindrance();
    let trial = |test: &'static Test| {
        let hindrance = hindrance.clone();
        Trial::ignorable_test(test.name, move || match hindrance {
            Some(reason) => skipped(test.name, &reason),
            None => twice(test.name, Beside::Others, || alone(test.name, test.run)),
        })
    };
    let trials = topics.iter().copied().flatten().map(trial).collect();
    conclude(&arguments, trials)
}

/// Tests that failed and passed at the second attempt.
static FLAKY: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs trials, or the part of them that is this process's, and names those that needed a second attempt.
#[must_use]
pub fn conclude(arguments: &Arguments, trials: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, Part::of_this_process().choose(trials));
    let flaky = FLAKY.lock().unwrap_or_else(PoisonError::into_inner);
    if !flaky.is_empty() && !own_machine() {
        println!("flaky, passed at the second attempt: {}\n", flaky.join(", "));
    }
    conclusion.exit_code()
}

/// Why a test that needs root cannot run as somebody else.
pub const NEEDS_ROOT: &str = "it needs root: run `cargo xtask test`";

/// [`NEEDS_ROOT`], unless this is root: the hindrance of tests that all need it.
#[must_use]
pub fn not_root() -> Option<String> {
    // SAFETY: it cannot fail and touches nothing.
    let root = unsafe { libc::geteuid() } == 0;
    (!root).then(|| NEEDS_ROOT.to_owned())
}

/// The reason why a test cannot run, as a panic.
struct Skip(String);

/// The reason why a test is not for this distribution, as a panic.
struct NotPackaged(String);

/// Ends a test that cannot run on this machine. The reason should name a remedy. To be called on the test's own thread.
pub fn skip(reason: impl Into<String>) -> ! {
    std::panic::resume_unwind(Box::new(Skip(reason.into())))
}

/// Ends a test of something of which this distribution has no package: the only skipped tests that CI does not count as
/// failures. To be called on the test's own thread.
pub fn not_packaged(reason: impl Into<String>) -> ! {
    std::panic::resume_unwind(Box::new(NotPackaged(reason.into())))
}

/// What may run beside a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Other tests, as many as the harness runs at a time.
    Others,
    /// Nothing: it looks at the whole machine, or compares times that a busy CPU lengthens.
    Nothing,
}

/// Held by each test that runs beside others for the first time. A second attempt takes it for itself: what failed
/// because the tests beside it needed the CPUs must not meet them again.
static MACHINE: RwLock<()> = RwLock::new(());

/// The variable with the file that stands for the machine where several processes run tests at a time: whoever runs by
/// itself locks it.
pub const LOCK: &str = "LISTENTOP_TEST_LOCK";

/// The variable that says which part of the tests a process runs: `2/3`, the second of three.
pub const PART: &str = "LISTENTOP_TEST_PART";

/// The locked file of [`LOCK`]: the kernel releases it when it is closed, also if this process is killed.
fn locked(beside: Beside) -> Option<File> {
    let path = PathBuf::from(env::var_os(LOCK)?);
    let open = |path: &Path| File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // Whoever comes later waits here for one who waits to be alone: the lock itself lets others share it first.
    let turn = open(&path.with_extension("turn"));
    let file = open(&path);
    let locked = turn.lock().and_then(|()| if beside == Beside::Others { file.lock_shared() } else { file.lock() });
    locked.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(file)
}

/// Runs something with nothing beside it but what it allows, in this process and in those that share the file.
fn having<T>(beside: Beside, run: impl FnOnce() -> T) -> T {
    let _of_all = locked(beside);
    let (_beside_others, _by_itself);
    if beside == Beside::Others {
        _beside_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    } else {
        _by_itself = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    }
    run()
}

/// Every so many-th of some tests, from one of the first on: neighbours take similarly long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// From 0 on.
    at: usize,
    of: usize,
}

impl Part {
    /// The one that [`PART`] names; all tests if it is not set.
    fn of_this_process() -> Self {
        let given = env::var(PART).unwrap_or_else(|_| "1/1".to_owned());
        Self::parse(&given).unwrap_or_else(|| panic!("{PART}={given}: must be like 1/2"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse::<usize>().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then(|| Self { at: number - 1, of })
    }

    fn choose<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.at).step_by(self.of).collect()
    }
}

/// Runs a test; once more, with no other test beside it, if it fails.
///
/// # Errors
/// It fails twice.
pub fn twice(name: &str, beside: Beside, test: impl Fn() -> Result<Completion, Failed>) -> Result<Completion, Failed> {
    let first = having(beside, &test);
    let Err(failed) = first else { return first };
    let reason = failed.message().unwrap_or_default();
    if own_machine() {
        // libtest-mimic's JSON has no place for it.
        println!("{}", serde_json::json!({ "type": "again", "name": name, "reason": reason }));
    } else {
        println!("{name} failed, and runs once more: {reason}");
    }
    let second = having(Beside::Nothing, test);
    if second.is_ok() {
        FLAKY.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }
    second
}

/// Runs a test on a thread of its own, so that it may enter a namespace.
///
/// # Errors
/// The test panics, or it is skipped where CI is set.
pub fn alone(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<Completion, Failed> {
    let test = thread::Builder::new().name(name.to_owned()).spawn(work);
    let test = test.map_err(|error| Failed::from(format!("no thread: {error}")))?;
    match test.join() {
        Ok(()) => Ok(Completion::Completed),
        Err(panic) => match (panic.downcast_ref::<Skip>(), panic.downcast_ref::<NotPackaged>()) {
            (Some(Skip(reason)), _) => skipped(name, reason),
            // There a list says what is skipped.
            (None, Some(NotPackaged(reason))) if own_machine() => skipped(name, reason),
            (None, Some(NotPackaged(reason))) => outcome(reason, false),
            (None, None) => Err(Failed::from(text(&*panic))),
        },
    }
}

/// The outcome of a test that cannot run on this machine.
///
/// # Errors
/// CI is set, so no test may be skipped.
pub fn skipped(name: &str, reason: &str) -> Result<Completion, Failed> {
    if own_machine() {
        // libtest-mimic's JSON does not contain the reason.
        println!("{}", serde_json::json!({ "type": "skipped", "name": name, "reason": reason }));
    }
    outcome(reason, ci() && !own_machine())
}

fn outcome(reason: &str, must_run: bool) -> Result<Completion, Failed> {
    if must_run {
        return Err(Failed::from(format!("it cannot run here, and CI is set: {reason}")));
    }
    Ok(Completion::ignored_with(format!("skipped: {reason}")))
}

/// Whether CI is set: then a skipped test fails.
#[must_use]
pub fn ci() -> bool {
    is_set("CI")
}

/// Whether LISTENTOP_TEST_VM is set: the tests are alone in a virtual machine, and may set its clock and take CPUs
/// offline. Tests may be skipped there, because `cargo xtask kernels` compares the skipped ones with a list.
#[must_use]
pub fn own_machine() -> bool {
    is_set("LISTENTOP_TEST_VM")
}

/// Whether a variable is set and is not empty, `0` or `false`.
fn is_set(name: &str) -> bool {
    env::var(name).is_ok_and(|value| is_true(&value))
}

fn is_true(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::thread;
    use std::time::Duration;

    use super::{Beside, Completion, FLAKY, Failed, Part, alone, is_true, outcome, twice};

    #[test]
    fn values_of_ci() {
        assert!(is_true("true") && is_true("1") && is_true("some-ci"));
        assert!(!is_true("") && !is_true("0") && !is_true("false"));
    }

    #[test]
    fn skipped_says_so_and_is_a_failure_in_ci() {
        let Ok(Completion::Ignored { reason }) = outcome("no IPv6", false) else { panic!("it is skipped") };
        assert_eq!(reason.as_deref(), Some("skipped: no IPv6"));
        let Err(failed) = outcome("no IPv6", true) else { panic!("it is skipped although CI is set") };
        assert_eq!(failed.message(), Some("it cannot run here, and CI is set: no IPv6"));
    }

    #[test]
    fn a_panic_is_a_failure() {
        assert!(matches!(alone("passes", || ()), Ok(Completion::Completed)));
        let Err(failed) = alone("fails", || panic!("a {} panic", "loud")) else { panic!("it has failed") };
        assert_eq!(failed.message(), Some("a loud panic"));
    }

    /// As many as `servers` runs at a time.
    #[test]
    fn a_second_attempt_has_no_test_beside_it() {
        let (running, alone, attempts) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let both_began = Barrier::new(2);
        let test = &|fails: bool| {
            let first = attempts.fetch_add(1, Relaxed) < 2;
            running.fetch_add(1, Relaxed);
            if first {
                both_began.wait();
            }
            thread::sleep(Duration::from_millis(if fails { 1 } else { 100 }));
            if running.fetch_sub(1, Relaxed) == 1 && !first {
                alone.fetch_add(1, Relaxed);
            }
            if fails && first { Err(Failed::from("it had company")) } else { Ok(Completion::Completed) }
        };
        thread::scope(|scope| {
            for fails in [true, false] {
                scope.spawn(move || assert!(twice("has company", Beside::Others, || test(fails)).is_ok()));
            }
        });
        assert_eq!((attempts.into_inner(), alone.into_inner()), (3, 1));
    }

    #[test]
    fn parts_are_all_tests_once() {
        let of = |part| Part::parse(part).map(|part| part.choose(vec![1, 2, 3, 4, 5]));
        assert_eq!(
            [of("1/2"), of("2/2"), of("1/1")],
            [Some(vec![1, 3, 5]), Some(vec![2, 4]), Some(vec![1, 2, 3, 4, 5])]
        );
        assert_eq!([of("0/2"), of("3/2"), of("1"), of("1/0"), of("a/b")], [const { None }; 5]);
    }

    #[test]
    fn what_runs_by_itself_has_nothing_beside_it() {
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        let test = || {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, Relaxed);
            Ok(Completion::Completed)
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(twice("by itself", Beside::Nothing, test).is_ok()));
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn what_fails_once_is_named_and_what_fails_twice_fails() {
        let attempts = Cell::new(0);
        let late = |needed: u32| {
            attempts.set(attempts.get() + 1);
            if attempts.get() < needed { Err(Failed::from("too early")) } else { Ok(Completion::Completed) }
        };
        assert!(twice("once", Beside::Others, || late(1)).is_ok());
        assert_eq!(attempts.take(), 1);
        assert!(twice("late", Beside::Nothing, || late(2)).is_ok());
        assert_eq!(attempts.take(), 2);
        assert!(twice("never", Beside::Others, || late(9)).is_err());
        assert_eq!(attempts.take(), 2);
        assert!(FLAKY.lock().unwrap().iter().any(|name| name == "late"));
    }
}
