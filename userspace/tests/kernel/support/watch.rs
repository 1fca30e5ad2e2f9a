//! listentop's own view of a test's listeners: probes, samples, model.

use std::thread;

use listentop::source::{
    Source as _,
    live::{LiveSource, Options},
};
use listentop_model::{
    histogram::Histogram,
    model::{ListenerModel, Model, NamespaceModel, ThreadModel},
    sample::{Losses, Sample},
    tracker::Tracker,
};

use super::{Lab, environment, sleep_ms, wait_until};

/// Probes that are attached, and the model of what they saw since.
pub(crate) struct Watch {
    source: LiveSource,
    tracker: Tracker,
    netns: u32,
    last: Sample,
    lost_before: Losses,
}

impl Watch {
    /// Attaches the probes and takes the first sample.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::with(lab, &environment::options())
    }

    pub(crate) fn with(lab: &Lab, options: &Options) -> Self {
        let mut source = LiveSource::start(options).expect("the probes can be attached: they were before");
        let last = source.sample().expect("a first sample");
        let lost_before = last.losses.clone();
        Self { source, tracker: Tracker::new(&last), netns: lab.netns, last, lost_before }
    }

    /// Takes another sample.
    pub(crate) fn sample(&mut self) {
        self.last = self.source.sample().expect("a sample");
        self.tracker.push(&self.last);
    }

    /// Samples every 50 ms until the model says so.
    pub(crate) fn sample_until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        wait_until(what, || {
            self.sample();
            so(self) || {
                sleep_ms(50);
                false
            }
        });
    }

    /// Samples every 50 ms while `work` runs on threads of its own, in the same namespace.
    pub(crate) fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.sample();
                sleep_ms(50);
            }
            work.join().expect("the load does not fail")
        })
    }

    pub(crate) fn model(&self) -> &Model {
        self.tracker.model()
    }

    /// What could not be tracked since the first sample, on the whole machine. (What was lost at the start concerns others: the
    /// test has one listener per address then.)
    pub(crate) fn lost(&self) -> u64 {
        self.model().losses.total() - self.lost_before.total()
    }

    /// Runs of the probes that the kernel skipped since the first sample.
    pub(crate) fn missed(&self) -> u64 {
        self.model().losses.missed_runs - self.lost_before.missed_runs
    }

    /// The last raw sample's `aborted` count of a listener: the model does not show it.
    pub(crate) fn aborted(&self, id: u64) -> Option<u64> {
        self.last.listeners.iter().find(|listener| listener.id == id)?.accept_queue.aborted
    }

    /// The test's listeners on a port, those that closed included.
    pub(crate) fn listeners(&self, port: u16) -> Vec<&ListenerModel> {
        self.model().listeners.iter().filter(|l| l.netns == self.netns && l.port == port).collect()
    }

    /// The test's only listener on a port.
    pub(crate) fn listener(&self, port: u16) -> &ListenerModel {
        let found = self.listeners(port);
        assert_eq!(found.len(), 1, "listeners on port {port}");
        found[0]
    }

    pub(crate) fn by_id(&self, id: u64) -> &ListenerModel {
        self.model().listeners.iter().find(|listener| listener.id == id).expect("the listener is seen")
    }

    pub(crate) fn namespace(&self) -> &NamespaceModel {
        self.model().namespaces.iter().find(|n| n.inode == self.netns).expect("the namespace is seen")
    }
}

/// The record of a thread; `None` if it was not seen working.
pub(crate) fn thread(listener: &ListenerModel, tid: u32) -> Option<&ThreadModel> {
    listener.threads.iter().find(|thread| thread.tid == tid)
}

/// Number of values of a distribution that must be measured.
pub(crate) fn count(distribution: &Option<Histogram>) -> u64 {
    distribution.as_ref().expect("it is measured").count()
}

/// Checks a quantile, in milliseconds: within the histogram's 1/16 of the bounds that the program's clock sets, and 2 ms, on a slow
/// machine more, for what the kernel does before and after.
pub(crate) fn assert_ms(what: &str, distribution: &Option<Histogram>, p: f64, low_ns: u64, high_ns: u64) {
    let histogram = distribution.as_ref().expect("it is measured");
    let value = histogram.quantile_ns(p).expect("it has values") as f64 / 1e6;
    let (low, high) = (low_ns as f64 / 1e6, high_ns as f64 / 1e6);
    let around = 2.0 * f64::from(environment::slowness());
    assert!(
        value >= low * 15.0 / 16.0 - around && value <= high * 17.0 / 16.0 + around,
        "{what}: {value:.3} ms at p{p}, while the program measured from {low:.3} to {high:.3} ms"
    );
}
