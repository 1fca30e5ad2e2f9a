//! What listentop's own tests share: when a test can run, and a network namespace for each test. Sockets and processes
//! whose every system call is known. The program under test, and listentop's view of everything.
//!
//! For the package `kernel-tests`, which `cargo xtask kernels` runs as static binaries in virtual machines, and for
//! test targets of the package `listentop`. Those call [`environment::set_built_program`] first.

#![expect(clippy::must_use_candidate, reason = "most helpers act, and not every test needs what they return")]
#![expect(clippy::missing_panics_doc, reason = "a helper that does not get what it needs fails its test by a panic")]

pub mod command;
pub mod drops;
pub mod environment;
pub mod kernel_readers;
pub mod lab;
pub mod process;
pub mod ring;
pub mod sockets;
pub mod sockmap;
pub mod spans;
pub mod steering;
pub mod watch;

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Completion, Failed, Trial};
use listentop::source::Source as _;
use listentop_model::coverage::{Coverage, Measure, Status};
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};

pub use lab::Lab;
pub use test_harness::{Beside, not_packaged, skip};
pub use watch::Watch;

/// One test of the probes.
pub struct Test {
    /// As on the command line.
    pub name: &'static str,
    /// The measures without which the test shows nothing.
    pub needs: &'static [Measure],
    /// The test itself, which runs in a network namespace of its own.
    pub run: fn(&Lab),
}

impl Test {
    /// The test for the harness: run in a namespace of its own, or skipped with the reason. Where CI is set a skipped
    /// test fails.
    pub fn trial(&'static self) -> Trial {
        self.trial_beside(Beside::Others)
    }

    /// The same, with what may run beside it.
    pub fn trial_beside(&'static self, beside: Beside) -> Trial {
        Trial::ignorable_test(self.name, move || match self.hindrance() {
            Some(reason) => test_harness::skipped(self.name, &reason),
            None => test_harness::twice(self.name, beside, || self.run_in_lab()),
        })
    }

    fn hindrance(&self) -> Option<String> {
        let coverage = match machine() {
            Ok(coverage) => coverage,
            Err(reason) => return Some(reason.clone()),
        };
        let missing =
            coverage.iter().find(|entry| entry.status == Status::Unavailable && self.needs.contains(&entry.measure))?;
        Some(format!("{} is not measured here: {}", missing.measure.name(), missing.reason))
    }

    /// Runs the test, and repeats it up to twice if its failure shows nothing about listentop:
    /// - The kernel hid events from the probes. While a program runs, the kernel skips other programs on the same CPU,
    ///   and some machines show packets to no program. Counts are then too low, and listentop reports that.
    /// - The test's own load did not come about, because the machine was busy.
    fn run_in_lab(&self) -> Result<Completion, Failed> {
        for _ in 0..2 {
            let outcome = self.run_once();
            let hidden = watch::take_hidden();
            let Err(failed) = &outcome else { return outcome };
            let unmet = failed.message().is_some_and(|message| message.contains("the test's own load"));
            match (hidden, unmet) {
                (0, false) => return outcome,
                (0, true) => println!("{}: repeated, because its own load did not come about", self.name),
                _ => println!("{}: repeated, because the kernel hid {hidden} events from the probes", self.name),
            }
        }
        self.run_once()
    }

    fn run_once(&self) -> Result<Completion, Failed> {
        let run = self.run;
        test_harness::alone(self.name, move || run(&Lab::enter()))
    }
}

/// What can be measured on this machine, found by one trial; or why nothing can be tested.
fn machine() -> &'static Result<Vec<Coverage>, String> {
    static MACHINE: OnceLock<Result<Vec<Coverage>, String>> = OnceLock::new();
    MACHINE.get_or_init(|| {
        if let Some(reason) = test_harness::not_root() {
            return Err(reason);
        }
        let namespace = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
        match namespace {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("no network namespace can be made: {error}")),
            Err(_) => return Err("a thread that makes a network namespace panicked".to_owned()),
        }
        let mut source = watch::usual_probes().map_err(|error| error.to_string())?;
        let coverage = source.sample().map(|sample| sample.coverage).map_err(|error| error.to_string());
        watch::keep(source);
        coverage
    })
}

/// CLOCK_MONOTONIC in nanoseconds: the probes' clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The calling thread's id.
pub fn tid() -> u32 {
    nix::unistd::gettid().as_raw() as u32
}

/// Sets a flag when dropped, also if the test fails. The threads that a scope waits for watch the flag.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sleeps for this many milliseconds.
pub fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// Waits until `condition` holds, and fails the test after [`environment::patience`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let (start, patience) = (Instant::now(), environment::patience());
    while !condition() {
        assert!(start.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        sleep_ms(5);
    }
}
