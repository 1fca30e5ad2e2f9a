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
    live::{Level, LiveSource, Options, StartError},
};
use listentop_model::{
    coverage::{Measure, Status},
    histogram::Histogram,
    model::{ListenerModel, Model, NamespaceModel, ThreadModel},
    sample::{Losses, Sample},
    tracker::Tracker,
};

use crate::{Lab, environment, sleep_ms, sockets, wait_until};

/// Probes that stay attached between two tests that use them.
static KEPT: Mutex<Option<LiveSource>> = Mutex::new(None);

/// Probes with the default options. In a virtual machine of ours these are the probes of the test before: an emulated
/// machine takes longer to attach probes than to run most tests.
pub(crate) fn usual_probes() -> Result<LiveSource, StartError> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
    kept.map_or_else(|| LiveSource::start(&environment::options()), Ok)
}

/// Leaves these probes to the next test, where that saves time.
pub(crate) fn keep(source: LiveSource) {
    if test_harness::own_machine() {
        *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

/// Samples until the source knows the test's namespace and has reported the end of the test before.
///
/// A source that was started earlier finds a namespace only when something happens in it. And a namespace may have the
/// inode number of one that is gone.
fn become_known(lab: &Lab, source: &mut LiveSource) {
    // Tests without a watch may have filled its table of listeners: a sample makes room.
    source.sample().expect("a sample");
    let listener = sockets::listen(1, 0);
    wait_until("the namespace's counters are found", || {
        let sample = source.sample().expect("a sample");
        sample.namespaces.iter().any(|namespace| namespace.id.inode == lab.netns && namespace.counters.is_some())
    });
    drop(listener);
    // A source reports the close of a listener in one sample only.
    source.sample().expect("a sample");
}

/// Attached probes, and the model of what they have seen since.
pub struct Watch {
    /// `None` only while this is dropped.
    source: Option<LiveSource>,
    /// Whether the next test may use these probes too.
    usual: bool,
    tracker: Tracker,
    netns: u32,
    last: Sample,
    lost_before: Losses,
}

/// How many events the kernel hid from the probes in tests that failed.
static HIDDEN: AtomicU64 = AtomicU64::new(0);

/// The sum of [`Watch::hidden`] over the tests that failed since the last call.
pub(crate) fn take_hidden() -> u64 {
    HIDDEN.swap(0, Ordering::Relaxed)
}

/// Adds events that the kernel hid from the probes in a test that fails: it is repeated.
pub fn note_hidden(events: u64) {
    HIDDEN.fetch_add(events, Ordering::Relaxed);
}

/// Compares a count with the kernel's own, where listentop cannot detect that its count is incomplete: a SYN-ACK that a
/// timer sends again is seen by one probe only. If the count is too low the test is repeated, as if listentop had
/// reported the difference; except in a virtual machine of ours.
pub fn assert_whole(counted: Option<u64>, by_the_kernel: u64) {
    if !test_harness::own_machine()
        && let Some(counted) = counted
    {
        note_hidden(by_the_kernel.saturating_sub(counted));
    }
    assert_eq!(counted, Some(by_the_kernel));
}

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            note_hidden(self.hidden());
        }
        // Probes that a failed test may have disturbed are not used again.
        if self.usual
            && !thread::panicking()
            && let Some(source) = self.source.take()
        {
            keep(source);
        }
    }
}

impl Watch {
    /// Probes with the default options, and their first sample of this test.
    pub fn start(lab: &Lab) -> Self {
        let mut source = usual_probes().expect("the probes can be attached: they were before");
        if test_harness::own_machine() {
            become_known(lab, &mut source);
        }
        let mut watch = Self::by(lab, source);
        watch.usual = true;
        watch
    }

    /// Attaches probes with the default options now: for tests of what the start finds.
    pub fn fresh(lab: &Lab) -> Self {
        Self::with(lab, &environment::options())
    }

    /// Attaches probes with these options.
    pub fn with(lab: &Lab, options: &Options) -> Self {
        Self::by(lab, LiveSource::start(options).expect("the probes can be attached: they were before"))
    }

    /// Watches through these probes from now on.
    pub fn by(lab: &Lab, source: LiveSource) -> Self {
        let mut source = source.at_every_sample();
        source.list_connections(0);
        let last = source.sample().expect("a first sample");
        let lost_before = last.losses.clone();
        let tracker = Tracker::new(&last);
        Self { source: Some(source), usual: false, tracker, netns: lab.netns, last, lost_before }
    }

    /// From the next sample on, so many connections of each listener are listed.
    pub fn list_connections(&mut self, per_listener: u32) {
        self.source.as_mut().expect("until it is dropped").list_connections(per_listener);
    }

    /// Measures so much from now on, and takes the sample that what comes back begins with. The options must allow it.
    pub fn set_level(&mut self, level: Level) {
        self.source().set_level(level).expect("the level can be changed");
        self.sample();
    }

    /// The probes.
    pub fn source(&mut self) -> &mut LiveSource {
        self.source.as_mut().expect("until it is dropped")
    }

    /// The last sample.
    pub fn last(&self) -> &Sample {
        &self.last
    }

    /// Takes another sample.
    pub fn sample(&mut self) {
        let source = self.source.as_mut().expect("until it is dropped");
        self.last = source.sample().expect("a sample");
        self.tracker.push(&self.last);
    }

    /// Samples every 50 ms until `condition` holds.
    pub fn sample_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        wait_until(what, || {
            self.sample();
            condition(self) || {
                sleep_ms(50);
                false
            }
        });
    }

    /// Samples every 50 ms while `work` runs on threads of its own, in the same namespace.
    pub fn during<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.sample();
                sleep_ms(50);
            }
            work.join().expect("the load does not fail")
        })
    }

    /// The model of all samples so far.
    pub fn model(&self) -> &Model {
        self.tracker.model()
    }

    /// How many events could not be tracked since the first sample, on the whole machine. Losses at the start do not
    /// concern the test, which has one listener per address then.
    pub fn lost(&self) -> u64 {
        self.model().losses.total() - self.lost_before.total()
    }

    /// Runs of the probes that the kernel skipped since the first sample.
    pub fn missed(&self) -> u64 {
        self.model().losses.missed_runs - self.lost_before.missed_runs
    }

    /// How many events the kernel hid from the probes since the first sample. A count may be too low by as many.
    ///
    /// These are runs that the kernel skipped, and connections whose beginning or end it showed to no program. The
    /// latter are not counted in a virtual machine of ours, where that is not known to happen.
    pub fn hidden(&self) -> u64 {
        let unseen = if test_harness::own_machine() { 0 } else { self.model().losses.unseen - self.lost_before.unseen };
        self.missed() + unseen
    }

    /// When the last sample was taken, by the probes' clock.
    pub fn sampled_ns(&self) -> u64 {
        self.last.monotonic_ns
    }

    /// Whether a measure is measured or sampled.
    pub fn is_available(&self, measure: Measure) -> bool {
        let mut coverage = self.model().coverage.iter();
        coverage.any(|entry| entry.measure == measure && entry.status != Status::Unavailable)
    }

    /// The hooks that a measure comes from.
    pub fn via(&self, measure: Measure) -> &str {
        self.model().coverage.iter().find(|entry| entry.measure == measure).map_or("", |entry| &entry.via)
    }

    /// The test's listeners on a port, closed ones included.
    pub fn listeners(&self, port: u16) -> Vec<&ListenerModel> {
        self.model().listeners.iter().filter(|l| l.netns == self.netns && l.port == port).collect()
    }

    /// The test's only listener on a port.
    pub fn listener(&self, port: u16) -> &ListenerModel {
        let found = self.listeners(port);
        assert_eq!(found.len(), 1, "listeners on port {port}");
        found[0]
    }

    /// The listener with this id, its socket cookie.
    pub fn by_id(&self, id: u64) -> &ListenerModel {
        self.model().listeners.iter().find(|listener| listener.id == id).expect("the listener is seen")
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &NamespaceModel {
        self.model().namespaces.iter().find(|n| n.id.inode == self.netns).expect("the namespace is seen")
    }
}

/// Compares counts with the test's own: `(name, seen, own)`. They may differ by `missed` at most, the number of probe
/// runs that the kernel skipped.
pub fn assert_counts(missed: u64, counts: &[(&str, Option<u64>, u64)]) {
    for (what, seen, own) in counts {
        let seen = seen.expect("it is measured");
        assert!(seen.abs_diff(*own) <= missed, "{what}: {seen}, not {own}, with {missed} runs skipped");
    }
}

/// The record of a thread; `None` if it did no work for the listener.
pub fn thread(listener: &ListenerModel, tid: u32) -> Option<&ThreadModel> {
    listener.threads.iter().find(|thread| thread.tid == tid)
}

/// Number of values of a distribution, which must be measured.
pub fn count(distribution: Option<&Histogram>) -> u64 {
    distribution.expect("it is measured").count()
}

/// Checks a quantile against the bounds by the test's own clock. It may be outside by 1/16, the histogram's resolution,
/// and by 2 ms for the kernel's work before and after; by more on a slow machine.
pub fn assert_ms(what: &str, distribution: Option<&Histogram>, p: f64, low_ns: u64, high_ns: u64) {
    assert_within(what, distribution, p, low_ns, high_ns, 2_000_000 * u64::from(environment::slowness()));
}

/// As [`assert_ms`], with `around_ns` instead of 2 ms.
pub fn assert_within(what: &str, distribution: Option<&Histogram>, p: f64, low_ns: u64, high_ns: u64, around_ns: u64) {
    let histogram = distribution.expect("it is measured");
    let value = histogram.quantile_ns(p).expect("it has values");
    assert!(
        value >= (low_ns * 15 / 16).saturating_sub(around_ns) && value <= high_ns * 17 / 16 + around_ns,
        "{what}: {value} ns at p{p}, while the program measured from {low_ns} to {high_ns} ns"
    );
}
