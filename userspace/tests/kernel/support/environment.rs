//! What whoever runs the tests says about where they run.

use std::{env, path::PathBuf, sync::OnceLock, time::Duration};

use listentop::source::live::{Kind, Options};

/// How many times slower than a usual one the machine is: LISTENTOP_TEST_SLOWNESS, for emulated ones. Waits get longer
/// by it, loads smaller, and what is allowed for a program's own calls larger; counts stay exact.
pub(crate) fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| match env::var("LISTENTOP_TEST_SLOWNESS") {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("LISTENTOP_TEST_SLOWNESS={value}: {error}")),
        Err(_) => 1,
    })
}

/// Whether the running kernel is older than this version.
pub(crate) fn older_than(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("every Linux has it");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(major), Some(minor))
}

/// How long to wait for what must come.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(10) * slowness()
}

/// The program under test: LISTENTOP_TEST_PROGRAM where it is not where cargo put it.
pub(crate) fn program() -> PathBuf {
    env::var_os("LISTENTOP_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_listentop").into(), PathBuf::from)
}

/// The source of samples that all tests are to use, as `--probes` names it: LISTENTOP_TEST_PROBES.
pub(crate) fn probes() -> Option<String> {
    env::var("LISTENTOP_TEST_PROBES").ok().filter(|name| !name.is_empty())
}

/// The usual options, with probes of the kind that all tests are to use.
pub(crate) fn options() -> Options {
    let kind = match probes().as_deref() {
        None | Some("auto") => None,
        Some("fentry") => Some(Kind::Fentry),
        Some("tracepoint") => Some(Kind::Tracepoint),
        Some(other) => panic!("LISTENTOP_TEST_PROBES={other}: the kernel tests have fentry, tracepoint and auto"),
    };
    Options { kind, ..Options::default() }
}
