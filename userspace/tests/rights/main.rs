//! listentop with some capabilities, and after it has given them up: what it still sees, and what it says of the rest.
//!
//! They start the program as root and as an unprivileged user with setpriv(1), and need root for that. Each works in network and mount
//! namespaces of its own.

mod doctor;
mod dropping;
mod granting;
mod support;
mod unit;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// One test.
struct Test {
    name: &'static str,
    run: fn(),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each reads the processes of the whole machine.
    arguments.test_threads.get_or_insert(1);
    let trials =
        [dropping::TESTS, granting::TESTS, doctor::TESTS, unit::TESTS].into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(test: &'static Test) -> Trial {
    Trial::ignorable_test(test.name, move || {
        if !nix::unistd::geteuid().is_root() {
            return support::skipped("it needs root: run `cargo xtask test`");
        }
        // A thread of its own: the namespaces that it enters are its own then.
        match std::thread::spawn(test.run).join() {
            Ok(()) => Ok(Completion::Completed),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(Failed::from(text.unwrap_or("a panic without a message")))
            }
        }
    })
}
