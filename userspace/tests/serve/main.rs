//! `listentop serve` against the real thing: Debian's Prometheus scrapes it, and what its queries return is compared
//! with listentop's own report and with what the test's own servers counted. A collector made from OpenTelemetry's
//! messages gets the same, directly and through a collector that people use. And against clients and collectors that
//! misbehave.
//!
//! Each test runs in a network namespace of its own, as root. The tests of rules and dashboards need promtool.

#[cfg(feature = "otlp")]
mod collector;
mod deployed;
mod guarded;
mod misbehaving;
#[cfg(feature = "otlp")]
mod otlp;
mod prometheus;
#[cfg(feature = "otlp")]
mod relayed;
mod support;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use test_support::environment;

fn main() -> ExitCode {
    environment::set_built_program(env!("CARGO_BIN_EXE_listentop"));
    let mut arguments = Arguments::from_args();
    // They mostly wait, and no two share a namespace.
    arguments.test_threads.get_or_insert(2);
    let tests = [prometheus::TESTS, guarded::TESTS, misbehaving::TESTS, deployed::TESTS];
    #[cfg(feature = "otlp")]
    let tests = tests.into_iter().chain([otlp::TESTS, relayed::TESTS]);
    let trials = tests.into_iter().flatten().map(test_support::Test::trial).collect();
    test_harness::conclude(&arguments, trials)
}
