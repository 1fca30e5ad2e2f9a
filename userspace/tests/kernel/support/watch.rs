//! listentop's own view of a test's listeners: probes, samples, model.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use listentop::source::{
    Source as _,
    live::{LiveSource, Options, StartError},
};
use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{ListenerModel, Model, NamespaceModel, ThreadModel},
    sample::{Losses, Sample},
    tracker::Tracker,
};

use super::{Lab, environment, sleep_ms, sockets, wait_until};

/// Probes that stay attached from one test to the next, between two that use them.
static KEPT: Mutex<Option<LiveSource>> = Mutex::new(None);

/// Probes with the usual options: an emulated machine takes longer to attach and detach functions than for most tests,
/// so there they are those of the test before.
pub(super) fn usual_probes() -> Result<LiveSource, StartError> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    kept.map_or_else(|| LiveSource::start(&environment::options()), Ok)
}

/// Leaves the usual probes to the next test, where that is worth it.
pub(super) fn keep(source: LiveSource) {
    if test_harness::own_machine() {
        *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

/// Samples until the source knows the test's namespace, which it looks for at its start only as long as nothing happens
/// in it, and has told that the test before is over: a namespace may have the number of one that is gone.
fn become_known(lab: &Lab, source: &mut LiveSource) {
    let listener = sockets::listen(1, 0);
    wait_until("the namespace's counters are found", || {
        let sample = source.sample().expect("a sample");
        sample.namespaces.iter().any(|namespace| namespace.inode == lab.netns && namespace.counters.is_some())
    });
    drop(listener);
    // It tells that a listener has closed once.
    source.sample().expect("a sample");
}

/// Probes that are attached, and the model of what they saw since.
pub(crate) struct Watch {
    /// Until this is dropped.
    source: Option<LiveSource>,
    usual: bool,
    tracker: Tracker,
    netns: u32,
    last: Sample,
    lost_before: Losses,
}

/// What the kernel kept from the probes while tests failed.
static HIDDEN: AtomicU64 = AtomicU64::new(0);

/// [`Watch::hidden`] of the tests that failed since this was asked last.
pub(super) fn take_hidden() -> u64 {
    HIDDEN.swap(0, Ordering::Relaxed)
}

/// Holds a count against the kernel's own, where nothing tells listentop that it is not whole: of a SYN-ACK that a
/// timer sends again no other probe knows. If it is too low the test is taken again as if that had been told, except in
/// a virtual machine of ours.
pub(crate) fn assert_whole(counted: Option<u64>, by_the_kernel: u64) {
    if !test_harness::own_machine()
        && let Some(counted) = counted
    {
        HIDDEN.fetch_add(by_the_kernel.saturating_sub(counted), Ordering::Relaxed);
    }
    assert_eq!(counted, Some(by_the_kernel));
}

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            HIDDEN.fetch_add(self.hidden(), Ordering::Relaxed);
        }
        // What a test broke must not break others.
        if self.usual
            && !thread::panicking()
            && let Some(source) = self.source.take()
        {
            keep(source);
        }
    }
}

impl Watch {
    /// The usual probes, and their first sample of this test.
    pub(crate) fn start(lab: &Lab) -> Self {
        let mut source = usual_probes().expect("the probes can be attached: they were before");
        if test_harness::own_machine() {
            become_known(lab, &mut source);
        }
        let mut watch = Self::by(lab, source);
        watch.usual = true;
        watch
    }

    /// Attaches the probes now, for a test of what they find.
    pub(crate) fn fresh(lab: &Lab) -> Self {
        Self::with(lab, &environment::options())
    }

    pub(crate) fn with(lab: &Lab, options: &Options) -> Self {
        Self::by(lab, LiveSource::start(options).expect("the probes can be attached: they were before"))
    }

    /// What these probes see from now on.
    pub(crate) fn by(lab: &Lab, mut source: LiveSource) -> Self {
        let last = source.sample().expect("a first sample");
        let lost_before = last.losses.clone();
        let tracker = Tracker::new(&last);
        Self { source: Some(source), usual: false, tracker, netns: lab.netns, last, lost_before }
    }

    /// Takes another sample.
    pub(crate) fn sample(&mut self) {
        let source = self.source.as_mut().expect("until it is dropped");
        self.last = source.sample().expect("a sample");
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

    /// What could not be tracked since the first sample, on the whole machine. (What was lost at the start concerns
    /// others: the test has one listener per address then.)
    pub(crate) fn lost(&self) -> u64 {
        self.model().losses.total() - self.lost_before.total()
    }

    /// Runs of the probes that the kernel skipped since the first sample.
    pub(crate) fn missed(&self) -> u64 {
        self.model().losses.missed_runs - self.lost_before.missed_runs
    }

    /// What the kernel kept from the probes since the first sample: runs that it skipped and, except in a virtual
    /// machine of ours, where no packets are known to escape them, connections whose beginning or end it showed to
    /// no program. A count may be too low by as many.
    pub(crate) fn hidden(&self) -> u64 {
        let unseen = if test_harness::own_machine() { 0 } else { self.model().losses.unseen - self.lost_before.unseen };
        self.missed() + unseen
    }

    /// When the last sample was taken, by the probes' clock.
    pub(crate) fn sampled_ns(&self) -> u64 {
        self.last.monotonic_ns
    }

    /// Whether a measure is not unavailable.
    pub(crate) fn tells(&self, measure: Measure) -> bool {
        let mut coverage = self.model().coverage.iter();
        coverage.any(|entry| entry.measure == measure && entry.status != Status::Unavailable)
    }

    /// Where a measure comes from.
    pub(crate) fn via(&self, measure: Measure) -> &str {
        self.model().coverage.iter().find(|entry| entry.measure == measure).map_or("", |entry| &entry.via)
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

/// Compares counts with what they must be: exactly, unless the kernel skipped runs of the probes, which it counts. Then
/// they may differ by as many, and no more.
pub(crate) fn assert_counts(missed: u64, counts: &[(&str, Option<u64>, u64)]) {
    for (what, seen, own) in counts {
        let seen = seen.expect("it is measured");
        assert!(seen.abs_diff(*own) <= missed, "{what}: {seen}, not {own}, with {missed} runs skipped");
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

/// Checks a quantile: within the histogram's 1/16 of the bounds that the program's clock sets, and 2 ms, on a slow
/// machine more, for what the kernel does before and after.
pub(crate) fn assert_ms(what: &str, distribution: &Option<Histogram>, p: f64, low_ns: u64, high_ns: u64) {
    assert_within(what, distribution, p, low_ns, high_ns, 2_000_000 * u64::from(environment::slowness()));
}

/// The same with so much instead of 2 ms.
pub(crate) fn assert_within(
    what: &str,
    distribution: &Option<Histogram>,
    p: f64,
    low_ns: u64,
    high_ns: u64,
    around_ns: u64,
) {
    let histogram = distribution.as_ref().expect("it is measured");
    let value = histogram.quantile_ns(p).expect("it has values");
    assert!(
        value >= (low_ns * 15 / 16).saturating_sub(around_ns) && value <= high_ns * 17 / 16 + around_ns,
        "{what}: {value} ns at p{p}, while the program measured from {low_ns} to {high_ns} ns"
    );
}
