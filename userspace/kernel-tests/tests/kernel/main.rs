//! Tests of the probes in the running kernel, against programs with exactly known behaviour and the kernel's own
//! counters.
//!
//! Each test runs in an anonymous network namespace of its own. They need root. A test that cannot run is skipped with
//! the reason, and fails where CI is set. By default they run one at a time, because several compare times.

mod addresses;
mod backends;
mod before_start;
#[cfg(feature = "blame")]
mod blame;
mod blame_programs;
#[cfg(feature = "blame")]
mod blame_reads;
#[cfg(feature = "blame")]
mod blame_stacks;
mod burst;
mod calls;
mod clients;
mod command_line;
mod dashboard;
mod drops;
mod exact_counts;
mod failures;
mod findings;
mod handshake;
mod identity;
mod level_changes;
mod levels;
mod lifecycle;
mod lists;
mod machine;
mod owners;
mod patterns;
mod probe_log;
mod protocols;
mod recordings;
mod refused;
mod reuseport;
mod scale;
mod sight;
mod tables_full;
mod times;
mod unread;
mod walks;

use std::process::ExitCode;

use libtest_mimic::Arguments;
use listentop::source::live::{Kind, events::EVENTS};
use test_support::{self as support, Beside, environment};

/// Whether a test is about what the default options see by tracepoints though there are functions for it: half of the
/// measures that it needs, or more, are of such events.
fn shows_what_differs(test: &support::Test) -> bool {
    let by_choice = EVENTS.iter().filter(|definition| {
        let kinds = || definition.methods.iter().map(|method| method.kind);
        kinds().next() == Some(Some(Kind::Tracepoint)) && kinds().any(|kind| kind == Some(Kind::Fentry))
    });
    let differing: Vec<_> = by_choice.flat_map(|definition| definition.carries).collect();
    let needed = test.needs.iter().filter(|measure| differing.contains(measure)).count();
    needed > 0 && needed * 2 >= test.needs.len()
}

/// Tests with nothing beside them, by the beginnings of their names: they look for what is left behind anywhere, or at
/// sums over all namespaces, need the whole machine's memory or CPUs, have small tables, which connections of others
/// would fill, or compare times that a busy CPU lengthens.
const BY_THEMSELVES: [&str; 22] = [
    "backends::",
    "before_start::",
    "blame",
    "burst::",
    "command_line::few_descriptors_are_enough",
    "command_line::nothing_stays_attached",
    "exact_counts::over",
    "failures::",
    "identity::",
    "level_changes::",
    "lists::many_listeners",
    "lists::the_longest_unread_stay",
    "machine::",
    "refused::",
    "scale::",
    "sight::",
    "probe_log::",
    "tables_full::",
    "times::",
    "unread::of_any_connection",
    "walks::",
    "handshake::",
];

fn beside(test: &support::Test) -> Beside {
    let by_itself = BY_THEMSELVES.iter().any(|beginning| test.name.starts_with(beginning));
    if by_itself { Beside::Nothing } else { Beside::Others }
}

fn main() -> ExitCode {
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
        identity::TESTS,
        sight::TESTS,
        unread::TESTS,
        lists::TESTS,
        clients::TESTS,
        calls::TESTS,
        calls::READING,
        calls::WRITING,
        protocols::TESTS,
        lifecycle::TESTS,
        owners::TESTS,
        patterns::TESTS,
        tables_full::TESTS,
        failures::TESTS,
        findings::TESTS,
        findings::acceptor_gone::TESTS,
        findings::acceptor_imbalance::TESTS,
        findings::dead_on_accept::TESTS,
        findings::descriptors_low::TESTS,
        findings::hung_reader::TESTS,
        findings::late::TESTS,
        findings::refused_attempts::TESTS,
        refused::TESTS,
        level_changes::TESTS,
        levels::TESTS,
        walks::TESTS,
        scale::TESTS,
        command_line::TESTS,
        recordings::TESTS,
        probe_log::TESTS,
        #[cfg(feature = "blame")]
        blame::TESTS,
        #[cfg(feature = "blame")]
        blame_stacks::TESTS,
        blame_programs::TESTS,
        #[cfg(feature = "blame")]
        blame_reads::TESTS,
        dashboard::TESTS,
    ];
    // Tests that change the machine, or need a kernel whose hooks are all known, are listed in our virtual machines
    // only (`cargo xtask kernels`). Tests of probes on functions are not listed where CI is set: there a skipped
    // test fails, and the machine may refuse such probes.
    let own: &[_] = if test_harness::own_machine() {
        &[refused::OF_FUNCTIONS, machine::TESTS, blame_programs::OTHERS]
    } else {
        &[]
    };
    let of_functions: &[_] =
        if test_harness::own_machine() || !test_harness::ci() { &[handshake::TESTS, backends::TESTS] } else { &[] };
    let elsewhere = own.iter().chain(of_functions);
    let tests = topics.iter().chain(elsewhere).copied().flatten();
    let mut chosen: Vec<_> = tests.filter(|test| !environment::only_different() || shows_what_differs(test)).collect();
    // Last, so that nothing waits for them in between.
    chosen.sort_by_key(|test| beside(test) == Beside::Nothing);
    let trials = chosen.into_iter().map(|test| test.trial_beside(beside(test))).collect();
    test_harness::conclude(&arguments, trials)
}
