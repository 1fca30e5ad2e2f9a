//! Tests of the probes in the running kernel, against programs whose behaviour is known exactly and the kernel's own
//! counters.
//!
//! Each works in an anonymous network namespace of its own. They need root; one that cannot run here says so and why,
//! and fails where CI is set. They run one at a time unless told otherwise: several compare times.

mod addresses;
mod backends;
mod before_start;
mod burst;
mod calls;
mod command_line;
mod dashboard;
mod drops;
mod exact_counts;
mod failures;
mod handshake;
mod lifecycle;
mod machine;
mod protocols;
mod refused;
mod reuseport;
mod scale;
mod tables_full;
mod times;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use test_support::environment;

fn main() -> ExitCode {
    environment::set_built_program(env!("CARGO_BIN_EXE_listentop"));
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let topics = [
        exact_counts::TESTS,
        drops::TESTS,
        times::TESTS,
        burst::TESTS,
        reuseport::TESTS,
        before_start::TESTS,
        addresses::TESTS,
        calls::TESTS,
        calls::READING,
        calls::WRITING,
        protocols::TESTS,
        lifecycle::TESTS,
        tables_full::TESTS,
        failures::TESTS,
        refused::TESTS,
        scale::TESTS,
        command_line::TESTS,
        dashboard::TESTS,
    ];
    // Those that need a machine of their own, or a kernel which is known to the last hook, are not even listed
    // elsewhere. And a machine that refuses probes on functions is no reason for a run to fail that lets nothing be
    // skipped: `cargo xtask kernels` runs them.
    let own: &[_] = if test_harness::own_machine() { &[refused::OF_FUNCTIONS, machine::TESTS] } else { &[] };
    let of_functions: &[_] =
        if test_harness::own_machine() || !test_harness::ci() { &[handshake::TESTS, backends::TESTS] } else { &[] };
    let elsewhere = own.iter().chain(of_functions);
    let trials = topics.iter().chain(elsewhere).copied().flatten().map(test_support::Test::trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
