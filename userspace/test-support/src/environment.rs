//! What the environment variables of the tests say about the machine that runs them.

use std::{env, path::PathBuf, sync::OnceLock, time::Duration};

use listentop::source::live::{Kind, Options};

/// How many times slower than usual the machine is, from LISTENTOP_TEST_SLOWNESS: emulated machines set it.
///
/// By this factor waits are longer, loads smaller, and tolerances for a program's own calls larger. Counts stay exact.
///
/// # Panics
/// If the variable is not a number.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| match env::var("LISTENTOP_TEST_SLOWNESS") {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("LISTENTOP_TEST_SLOWNESS={value}: {error}")),
        Err(_) => 1,
    })
}

/// Whether the running kernel is older than this version.
pub fn older_than(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("every Linux has it");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

/// How long a test waits for an event that must happen.
pub fn patience() -> Duration {
    Duration::from_secs(10) * slowness()
}

/// Where cargo built listentop, where the test target knows it.
static BUILT_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program that [`program`] returns. A test target of the package `listentop` calls it first, with
/// `env!("CARGO_BIN_EXE_listentop")`, so that its tests never run an older one.
pub fn set_built_program(path: &str) {
    BUILT_PROGRAM.get_or_init(|| path.into());
}

/// The program under test: LISTENTOP_TEST_PROGRAM, or else the one that cargo built.
///
/// # Panics
/// If there is none.
pub fn program() -> PathBuf {
    let built = || BUILT_PROGRAM.get_or_init(beside_the_tests).clone();
    env::var_os("LISTENTOP_TEST_PROGRAM").map_or_else(built, PathBuf::from)
}

/// The program that the workspace builds: cargo puts tests into a directory `deps` beside it.
fn beside_the_tests() -> PathBuf {
    let tests = env::current_exe().expect("the path of the running tests");
    let built = tests.ancestors().nth(2).expect("tests are in the target directory").join("listentop");
    assert!(built.is_file(), "{} is not there: `cargo xtask test` builds it", built.display());
    built
}

/// The value of `--probes` that all tests use: LISTENTOP_TEST_PROBES.
pub fn probes() -> Option<String> {
    env::var("LISTENTOP_TEST_PROBES").ok().filter(|name| !name.is_empty())
}

/// Whether only those tests are to run that functions see in another way than the default options do
/// (LISTENTOP_TEST_ONLY_DIFFERENT).
pub fn only_different() -> bool {
    env::var_os("LISTENTOP_TEST_ONLY_DIFFERENT").is_some_and(|value| !value.is_empty())
}

/// The default options, with the kind of probes that all tests use.
///
/// # Panics
/// If LISTENTOP_TEST_PROBES names another source than probes.
pub fn options() -> Options {
    let kind = match probes().as_deref() {
        None | Some("auto") => None,
        Some("fentry") => Some(Kind::Fentry),
        Some("tracepoint") => Some(Kind::Tracepoint),
        Some(other) => panic!("LISTENTOP_TEST_PROBES={other}: the kernel tests have fentry, tracepoint and auto"),
    };
    Options { kind, ..Options::default() }
}
