//! Tests of the source without probes, compared with what the kernel reports to the test itself.
//!
//! Most need no rights. As root each test runs in a network namespace of its own, which counts no other attempts. Those
//! that need that are skipped otherwise, and fail where CI is set.

mod causes;
mod characters;
mod command_line;
mod gauges;
mod limits;
mod lists;
mod places;

use std::{process::ExitCode, thread};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use listentop::source::{Source as _, coverage::WithoutProbes, sock_diag::SockDiagSource};
use listentop_model::{
    model::{ListenerModel, Model},
    sample::Sample,
    tracker::Tracker,
};
use test_support::{Lab, sleep_ms, wait_until};

/// One test.
struct Test {
    name: &'static str,
    run: Run,
}

enum Run {
    /// As any user, in any namespace.
    Anywhere(fn()),
    /// As root, in a namespace of its own.
    InLab(fn(&Lab)),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Some compare times.
    arguments.test_threads.get_or_insert(1);
    let tests = [
        gauges::TESTS,
        causes::TESTS,
        places::TESTS,
        command_line::TESTS,
        characters::TESTS,
        limits::TESTS,
        lists::TESTS,
    ]
    .into_iter()
    .flatten();
    let trials = tests
        .map(|test| {
            Trial::ignorable_test(test.name, || {
                test_harness::twice(test.name, test_harness::Beside::Others, || test.run())
            })
        })
        .collect();
    test_harness::conclude(&arguments, trials)
}

impl Test {
    fn run(&'static self) -> Result<Completion, Failed> {
        let root = test_harness::not_root().is_none();
        let work: Box<dyn FnOnce() + Send> = match self.run {
            Run::Anywhere(run) if root => Box::new(move || {
                let _lab = Lab::enter();
                run();
            }),
            Run::Anywhere(run) => Box::new(run),
            Run::InLab(run) if root => Box::new(move || run(&Lab::enter())),
            Run::InLab(_) => return test_harness::skipped(self.name, test_harness::NEEDS_ROOT),
        };
        test_harness::alone(self.name, work)
    }
}

/// The source, and the model of its samples.
struct Watch {
    source: SockDiagSource,
    tracker: Tracker,
    last: Sample,
}

impl Watch {
    fn start() -> Self {
        let mut source =
            SockDiagSource::start(WithoutProbes::NotRequested).expect("the kernel lists its sockets").at_every_sample();
        let last = source.sample().expect("a first sample");
        Self { source, tracker: Tracker::new(&last), last }
    }

    fn sample(&mut self) {
        self.last = self.source.sample().expect("a sample");
        self.tracker.push(&self.last);
    }

    /// Samples every 20 ms until `condition` holds.
    fn sample_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        wait_until(what, || {
            self.sample();
            condition(self) || {
                sleep_ms(20);
                false
            }
        });
    }

    /// Samples every 20 ms while `work` runs on a thread of its own, in the same namespace.
    fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.sample();
                sleep_ms(20);
            }
            work.join().expect("the load does not fail")
        })
    }

    fn model(&self) -> &Model {
        self.tracker.model()
    }

    fn find(&self, id: u64) -> Option<&ListenerModel> {
        self.model().listeners.iter().find(|listener| listener.id == id)
    }

    fn by_id(&self, id: u64) -> &ListenerModel {
        self.find(id).expect("the listener is seen")
    }

    /// A listener's `sk_drops` in the last sample.
    fn socket_drops(&self, id: u64) -> Option<u64> {
        self.last.listeners.iter().find(|listener| listener.id == id).expect("it is sampled").drops.socket_drops
    }
}
