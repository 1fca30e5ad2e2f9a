//! Tests of the source without probes, against what the kernel tells the listeners' own program.
//!
//! Most need no rights. As root each works in a network namespace of its own, where nobody else's attempts are counted;
//! those that cannot do without say so, and fail where CI is set.

mod causes;
mod command_line;
mod gauges;
mod places;
// The same as the tests of the probes use, of which these need a part.
#[path = "../kernel/support/environment.rs"]
#[allow(dead_code, reason = "the tests of the probes use the rest")]
mod environment;
#[path = "../kernel/support/lab.rs"]
#[allow(dead_code, reason = "the tests of the probes use the rest")]
mod lab;
#[path = "../kernel/support/process.rs"]
#[allow(dead_code, reason = "the tests of the probes use the rest")]
mod process;
#[path = "../kernel/support/sockets.rs"]
#[allow(dead_code, reason = "the tests of the probes use the rest")]
mod sockets;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use lab::Lab;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use listentop::source::{Source as _, coverage::WithoutProbes, sock_diag::SockDiagSource};
use listentop_model::{
    model::{ListenerModel, Model},
    sample::Sample,
    tracker::Tracker,
};
use test_harness::skip;

/// One test.
struct Test {
    name: &'static str,
    run: Run,
}

enum Run {
    /// As anybody, in whatever namespace.
    Anywhere(fn()),
    /// As root, in a namespace of its own.
    InLab(fn(&Lab)),
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Some look at the time.
    arguments.test_threads.get_or_insert(1);
    let tests = [gauges::TESTS, causes::TESTS, places::TESTS, command_line::TESTS].into_iter().flatten();
    let trials = tests.map(|test| Trial::ignorable_test(test.name, || test.run())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl Test {
    fn run(&'static self) -> Result<Completion, Failed> {
        let root = nix::unistd::geteuid().is_root();
        let work: Box<dyn FnOnce() + Send> = match self.run {
            Run::Anywhere(run) if root => Box::new(move || {
                let _lab = Lab::enter();
                run();
            }),
            Run::Anywhere(run) => Box::new(run),
            Run::InLab(run) if root => Box::new(move || run(&Lab::enter())),
            Run::InLab(_) => return test_harness::skipped(self.name, "it needs root: run `cargo xtask test`"),
        };
        test_harness::alone(self.name, work)
    }
}

/// The source, and the model of what it said.
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

    /// Samples every 20 ms until the model says so.
    fn sample_until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        loop {
            self.sample();
            if so(self) {
                return;
            }
            assert!(start.elapsed() < environment::patience(), "not in time: {what}");
            sleep_ms(20);
        }
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

    /// What the last sample says that `sk_drops` of a listener has grown to.
    fn socket_drops(&self, id: u64) -> Option<u64> {
        self.last.listeners.iter().find(|listener| listener.id == id).expect("it is sampled").drops.socket_drops
    }
}

fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}
