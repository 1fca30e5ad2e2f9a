//! listentop with some capabilities, and after it has given them up: what it still sees, and what it says of the rest.
//!
//! They start the program as root and as an unprivileged user with setpriv(1), and need root for that. Each works in
//! network and mount namespaces of its own.

mod doctor;
mod dropping;
mod granting;
mod support;
mod unit;

use std::process::ExitCode;

use test_harness::Test;

fn main() -> ExitCode {
    test_support::environment::set_built_program(env!("CARGO_BIN_EXE_listentop"));
    // One at a time: each reads the processes of the whole machine.
    test_harness::run(&[dropping::TESTS, granting::TESTS, doctor::TESTS, unit::TESTS], test_harness::not_root)
}
