//! What the kernel tests share: when a test can run, a network namespace for each, sockets, and listentop's view of
//! them.

pub(crate) mod command;
pub(crate) mod environment;
pub(crate) mod lab;
pub(crate) mod process;
pub(crate) mod ring;
pub(crate) mod sockets;
pub(crate) mod spans;
pub(crate) mod watch;

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

pub(crate) use lab::Lab;
pub(crate) use test_harness::skip;
pub(crate) use watch::Watch;

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// What must be measured for it to mean anything.
    pub(crate) needs: &'static [Measure],
    /// What it does, in a network namespace of its own.
    pub(crate) run: fn(&Lab),
}

impl Test {
    /// As the harness wants it: run in a namespace of its own, or skipped with the reason. Where CI is set nothing is
    /// skipped.
    pub(crate) fn trial(&'static self) -> Trial {
        Trial::ignorable_test(self.name, move || match self.hindrance() {
            Some(reason) => test_harness::skipped(self.name, &reason),
            None => self.run_in_lab(),
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

    /// While it runs a program the kernel skips it for others on that CPU, and on some machines it shows packets to no
    /// program: then counts are not whole, which listentop shows. What a test compares exactly is taken again. So
    /// is a test whose own load did not come about on a machine that is busy: it has shown nothing of listentop
    /// yet.
    fn run_in_lab(&self) -> Result<Completion, Failed> {
        for _ in 0..2 {
            let outcome = self.run_once();
            let hidden = watch::take_hidden();
            let Err(failed) = &outcome else { return outcome };
            let unmet = failed.message().is_some_and(|message| message.contains("the test's own load"));
            match (hidden, unmet) {
                (0, false) => return outcome,
                (0, true) => println!("{}: once more, as its own load did not come about", self.name),
                _ => println!("{}: once more, as the kernel kept {hidden} events from the probes", self.name),
            }
        }
        self.run_once()
    }

    fn run_once(&self) -> Result<Completion, Failed> {
        let run = self.run;
        test_harness::alone(self.name, move || run(&Lab::enter()))
    }
}

/// What this machine lets us measure, found out by trying, once; or why nothing can be tested.
fn machine() -> &'static Result<Vec<Coverage>, String> {
    static MACHINE: OnceLock<Result<Vec<Coverage>, String>> = OnceLock::new();
    MACHINE.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root: run `cargo xtask test`".to_owned());
        }
        let namespace = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
        match namespace {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(format!("no network namespace can be made: {error}")),
            Err(_) => return Err("no thread can be had".to_owned()),
        }
        let mut source = watch::usual_probes().map_err(|error| error.to_string())?;
        let coverage = source.sample().map(|sample| sample.coverage).map_err(|error| error.to_string());
        watch::keep(source);
        coverage
    })
}

/// CLOCK_MONOTONIC in nanoseconds: the probes' clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has it");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The calling thread's id.
pub(crate) fn tid() -> u32 {
    nix::unistd::gettid().as_raw() as u32
}

/// Sets a flag at its end, also if the test fails: the threads that a scope waits for look at it.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// Waits until something is so, for what other threads and processes do in their own time.
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let (start, patience) = (Instant::now(), environment::patience());
    while !so() {
        assert!(start.elapsed() < patience, "not within {} s: {what}", patience.as_secs());
        sleep_ms(5);
    }
}
