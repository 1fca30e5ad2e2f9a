//! Tests of the probes in the running kernel, against programs whose behaviour is known exactly and the kernel's own counters.
//!
//! Each works in an anonymous network namespace of its own. They need root; one that cannot run here says so and why, and fails
//! where CI is set. They run one at a time unless told otherwise: several compare times.

mod addresses;
mod before_start;
mod burst;
mod calls;
mod command_line;
mod dashboard;
mod drops;
mod exact_counts;
mod handshake;
mod lifecycle;
mod protocols;
mod reuseport;
mod support;
mod tables_full;
mod times;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let topics = [
        exact_counts::TESTS,
        drops::TESTS,
        handshake::TESTS,
        times::TESTS,
        burst::TESTS,
        reuseport::TESTS,
        before_start::TESTS,
        addresses::TESTS,
        calls::TESTS,
        protocols::TESTS,
        lifecycle::TESTS,
        tables_full::TESTS,
        command_line::TESTS,
        dashboard::TESTS,
    ];
    let trials = topics.into_iter().flatten().map(support::Test::trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
