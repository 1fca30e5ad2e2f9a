//! listentop with few capabilities, and after it has dropped them: what it measures, and how it reports the rest.
//!
//! The tests start the program as root and, with setpriv(1), as an unprivileged user, and need root for that. Each runs
//! in network and mount namespaces of its own.

mod containers;
mod doctor;
mod dropping;
mod granting;
mod image;
mod intruders;
mod levels;
mod sandbox;
mod screen;
mod support;
mod unit;

use std::process::ExitCode;

use test_harness::Test;

fn main() -> ExitCode {
    test_support::environment::set_built_program(env!("CARGO_BIN_EXE_listentop"));
    // One at a time, because each reads the processes of the whole machine.
    test_harness::run(
        &[
            containers::TESTS,
            dropping::TESTS,
            granting::TESTS,
            intruders::TESTS,
            levels::TESTS,
            sandbox::TESTS,
            doctor::TESTS,
            unit::TESTS,
            image::TESTS,
        ],
        test_harness::not_root,
    )
}
