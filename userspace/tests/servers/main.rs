//! listentop beside real servers: every count against the server's own, the pattern, and for each fault the right cause
//! first.
//!
//! Each test starts a server of the distribution in network and process namespaces of its own, and drives it with a
//! load of which everything is known. What it checks is the JSON report. A test whose server is not installed is
//! skipped with the reason, and fails where CI is set: `.ci/run` installs them. Several run at a time, except those
//! that measure the machine's CPUs.

mod apache;
mod blame;
mod gunicorn;
mod haproxy;
mod memcached;
mod nginx;
mod node;
mod node_exporter;
mod php_fpm;
mod postgresql;
mod redis;
mod support;
mod threading;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use test_support::environment;

/// Most tests wait most of the time.
const AT_ONCE: usize = 3;
/// The nice value of the tests and of all that they start: a program beside them makes no healthy server slow.
const NICE: libc::c_int = -15;

fn main() -> ExitCode {
    environment::set_built_program(env!("CARGO_BIN_EXE_listentop"));
    // SAFETY: it touches no memory. Without the right to it they are as slow as the machine.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let servers = [
        postgresql::TESTS,
        nginx::TESTS,
        haproxy::TESTS,
        redis::TESTS,
        memcached::TESTS,
        apache::TESTS,
        php_fpm::TESTS,
        gunicorn::TESTS,
        node::TESTS,
        node_exporter::TESTS,
        threading::TESTS,
        blame::redis::TESTS,
        blame::node::TESTS,
        blame::java::TESTS,
        blame::python::TESTS,
        blame::php_fpm::TESTS,
        blame::nginx::TESTS,
        blame::postgresql::TESTS,
    ];
    let trials = servers.into_iter().flatten().map(test_support::Test::trial).collect();
    test_harness::conclude(&arguments, trials)
}
