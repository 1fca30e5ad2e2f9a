//! Parts of the findings' tests.

use listentop_abi::histogram::{UNIT_NS, index};

use super::{ALL, Activity, FindingInput, FindingKind, Found, Memory};
use crate::{
    fixtures::{Scene, listener, thread},
    group::{GroupId, OpenShards},
    histogram::Histogram,
    history::{HistoryPoint, Timeline},
    model::{GroupModel, Interval, ListenerModel, NamespaceModel, Severity},
    shared::Shared,
    tracker::Tracker,
};

/// What a finding looks at, to be changed field by field.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) listener: ListenerModel,
    pub(super) group: Option<GroupModel>,
    pub(super) namespace: Option<NamespaceModel>,
    pub(super) cpus: u32,
    pub(super) interval: Interval,
    timeline: Timeline,
    activity: Activity,
    pub(super) memory: Memory,
    found: Vec<Found>,
}

impl Case {
    /// Listener 1 with a backlog of 16 and the threads 1 to 4 of one server, idle for 10 s, on 4 CPUs.
    pub(super) fn new() -> Self {
        let mut l = listener(1, 4_026_531_840, "0.0.0.0:80", 16);
        l.threads = (1..5).map(|tid| thread(1, tid, "srv")).collect();
        let mut scene = Scene::new(vec![l]);
        for _ in 0..10 {
            scene.tick(1_000);
        }
        let samples = scene.samples();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|s| tracker.push(s));
        let model = tracker.model();
        Self {
            listener: model.listeners[0].clone(),
            group: None,
            namespace: model.namespaces.first().cloned(),
            cpus: model.host.cpus,
            interval: model.interval,
            timeline: model.timeline.clone(),
            activity: Activity::default(),
            memory: Memory::default(),
            found: Vec::new(),
        }
    }

    /// A case that was changed so.
    pub(super) fn with(change: impl FnOnce(&mut Case)) -> Self {
        let mut case = Self::new();
        change(&mut case);
        case
    }

    /// The listener's history is a point for each of these depths, and nothing else.
    pub(super) fn depths(&mut self, depths: impl IntoIterator<Item = u32>) {
        self.timeline = Timeline::default();
        self.listener.history = crate::history::History::default();
        for (step, accept_depth) in (1..).zip(depths) {
            self.timeline.advance(step, step as f64);
            self.listener.history.push(step, HistoryPoint { accept_depth, ..HistoryPoint::default() });
        }
    }

    /// One of four open shards, which accept 240 connections per second together.
    pub(super) fn shard(&mut self) -> &mut OpenShards {
        let l = &self.listener;
        let id = GroupId {
            namespace: l.namespace(),
            protocol: l.protocol,
            port: l.port,
            address: l.address,
            device: l.device,
        };
        let group = GroupModel::new(id, &[0], &Shared::from(vec![l.clone()]));
        let open = OpenShards { count: 4, enqueued: 900, busiest: (2, 300), accepts_per_second: 240.0 };
        &mut self.group.insert(GroupModel { open, ..group }).open
    }

    /// So many seconds ago the listener and its threads were as they are now.
    pub(super) fn observe(&mut self, seconds_ago: u64) {
        self.observe_us(seconds_ago * 1_000_000);
    }

    /// The same, in microseconds.
    pub(super) fn observe_us(&mut self, ago_us: u64) {
        let at = self.input().now_us() - ago_us;
        self.activity.observe(&self.listener, at);
    }

    /// The last accept was so many seconds ago.
    pub(super) fn quiet(&mut self, seconds_ago: u64) {
        self.listener.total.accepts = Some(self.listener.total.accepts.unwrap_or(0) + 1);
        self.observe(seconds_ago);
    }

    /// This finding is there too, and holds.
    pub(super) fn remember(&mut self, id: &str) {
        let kind = ALL.iter().find(|kind| kind.id == id).expect("a finding");
        self.found.push(Found::new(kind, Severity::Warning, String::new(), Vec::new(), ""));
    }

    /// This finding held until now.
    pub(super) fn held(&mut self, id: &str) {
        let kind = ALL.iter().find(|kind| kind.id == id).expect("a finding");
        let found = Found::new(kind, Severity::Critical, String::new(), Vec::new(), "");
        self.memory
            .update(vec![found.remembered(1.0, String::new(), "")], (self.interval.seconds * 1e6).round() as u64);
    }

    /// The finding, if this is one.
    pub(super) fn find(&self, kind: &FindingKind) -> Option<Found> {
        (kind.find)(&self.input())
    }

    pub(super) fn input(&self) -> FindingInput<'_> {
        FindingInput {
            listener: &self.listener,
            group: self.group.as_ref(),
            namespace: self.namespace.as_ref(),
            cpus: self.cpus,
            interval: self.interval,
            timeline: &self.timeline,
            activity: &self.activity,
            blamed: None,
            memory: &self.memory,
            found: &self.found,
        }
    }
}

/// For each value: the severity of the finding in a case that `set` made with it, `None` if there is no finding.
pub(super) fn severities<T: Copy, const N: usize>(
    kind: &FindingKind,
    set: impl Fn(&mut Case, T),
    values: [T; N],
) -> [Option<Severity>; N] {
    values.map(|value| Case::with(|case| set(case, value)).find(kind).map(|found| found.severity))
}

/// A distribution of these durations in microseconds, each as often as it says. Buckets have a width: what is read from
/// one is its middle.
#[expect(clippy::unnecessary_wraps, reason = "the field that it is for is an Option")]
pub(super) fn durations(values: &[(u64, u64)]) -> Option<Histogram> {
    let mut histogram = Histogram::default();
    for &(us, n) in values {
        histogram.add(index(us * 1_000 / UNIT_NS) as u16, n);
    }
    Some(histogram)
}

/// No finding.
pub(super) const NONE: Option<Severity> = None;
/// An info.
pub(super) const INFO: Option<Severity> = Some(Severity::Info);
/// A warning.
pub(super) const WARNING: Option<Severity> = Some(Severity::Warning);
/// A critical finding.
pub(super) const CRITICAL: Option<Severity> = Some(Severity::Critical);
