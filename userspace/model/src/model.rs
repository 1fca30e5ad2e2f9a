//! What views show: everything derived from a sequence of samples.
//!
//! Two spans stand side by side. *Interval* figures cover everything since the first sample (what a report prints);
//! *recent* figures cover the last few samples (what a dashboard shows as "now"). Depths are at the last sample.

use std::{net::IpAddr, sync::Arc};

pub use crate::patterns::PatternName;
pub use crate::sample::{Descriptors, LikelyAcceptor, LikelyBy, LimitSetBy, ThreadState, WaitKind, Waiter};
use crate::{
    blame::Blame,
    connections::{ConnectionLists, Listing},
    coverage::{Coverage, Measure},
    episodes::now_ms,
    history::{History, ThreadHistory, Timeline},
    names::names,
    sample::{Device, Host, Losses, NamespaceId, Process, Protocol, Summed, ThreadKey},
    shared::Shared,
};
pub use crate::{
    figures::{Counts, Distributions, Drops, Gauges, Rates},
    group::{GroupId, GroupModel, OpenShards},
};

/// The state of everything after a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The machine.
    pub host: Host,
    /// When the interval began and how long it has lasted.
    pub interval: Interval,
    /// What can be measured here.
    pub coverage: Vec<Coverage>,
    /// The tool's own cost.
    pub cost: CostModel,
    /// What was not tracked since the probes were attached.
    pub losses: Losses,
    /// Network namespaces, in the order of their ids.
    pub namespaces: Vec<NamespaceModel>,
    /// Listeners by (netns, port, address, device, id): open ones, and those that closed within the interval (`closed`
    /// set). Copies of a model share the listeners that did not change.
    pub listeners: Shared<ListenerModel>,
    /// SO_REUSEPORT groups of at least two shards, in the order of their first listeners.
    pub groups: Shared<GroupModel>,
    /// When the steps of the listeners' histories were.
    pub timeline: Timeline,
    /// CLOCK_MONOTONIC at the last sample, in nanoseconds: the times of connections are on that clock.
    pub monotonic_ns: u64,
    /// The last sample lists connections, and how many at most; `None`: nobody asked for that.
    pub listing: Option<Listing>,
    /// What acceptors did while connections waited, as of the last sample; `None`: nobody asked for that.
    pub blame: Option<Arc<Blame>>,
    /// What was done on purpose within the interval, oldest first; of many, the last [`MARKS`].
    pub marks: Vec<Mark>,
}

/// Marks that are kept.
pub const MARKS: usize = 200;

/// Something that was done on purpose to what is measured, such as by a lab.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// CLOCK_MONOTONIC when it was done, in nanoseconds: no two marks have the same.
    pub monotonic_ns: u64,
    /// When, in seconds since the start of the interval.
    pub at: f64,
    /// What was done.
    pub what: String,
    /// Inode of the network namespace that it concerns.
    pub netns: u32,
    /// The port of the server that it was done to; `None` if it concerns all of them.
    pub port: Option<u16>,
}

impl Model {
    /// For how long a measure has been measured in the interval, in seconds: since its level came, or since the start.
    #[must_use]
    pub fn seconds_of(&self, measure: Measure) -> f64 {
        let since = self.coverage.iter().find(|coverage| coverage.measure == measure).and_then(|c| c.since_ns);
        let measured = since.map_or(f64::INFINITY, |since| self.monotonic_ns.saturating_sub(since) as f64 / 1e9);
        measured.min(self.interval.seconds)
    }

    /// The wall clock at a time of the samples' clock, in milliseconds since the epoch.
    #[must_use]
    pub fn unix_ms_at(&self, monotonic_ns: u64) -> u64 {
        now_ms(self).saturating_sub(self.monotonic_ns.saturating_sub(monotonic_ns) / 1_000_000)
    }

    /// The listener that a mark is about: the first that is open, of several on its port.
    #[must_use]
    pub fn marked(&self, mark: &Mark) -> Option<&ListenerModel> {
        let is_it = |listener: &&ListenerModel| Some(listener.port) == mark.port && listener.netns == mark.netns;
        let mut found = self.listeners.iter().filter(is_it);
        let first = found.clone().next();
        found.find(|listener| !listener.closed).or(first)
    }
}

/// The span that interval figures cover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Wall clock at its start, milliseconds since the epoch.
    pub start_unix_ms: u64,
    /// Its length in seconds, by the monotonic clock.
    pub seconds: f64,
    /// The span of recent figures, in seconds; 0 before the second sample.
    pub recent_seconds: f64,
}

/// The tool's own cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CostModel {
    /// Probe runs in the interval.
    pub probe_runs: Option<u64>,
    /// Nanoseconds in probes, in the interval.
    pub probe_ns: Option<u64>,
    /// Recent share of one CPU that the probes took (0.01 = 1 %).
    pub probe_cpu: Option<f64>,
    /// CPU seconds of the process in the interval.
    pub cpu_seconds: f64,
    /// Recent share of one CPU that the process took.
    pub process_cpu: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceModel {
    /// Which.
    pub id: NamespaceId,
    /// Name, where it has one.
    pub name: Option<String>,
    /// ListenOverflows in the interval.
    pub listen_overflows: Option<u64>,
    /// ListenDrops in the interval.
    pub listen_drops: Option<u64>,
    /// ListenDrops in the interval that the known listeners do not explain (negative: they saw more than the kernel
    /// counted).
    pub unexplained_drops: Option<i64>,
    /// SYNs refused in the interval because a SYN queue was full and cookies were off.
    pub syn_queue_full_drops: Option<u64>,
    /// SYN cookies sent in the interval.
    pub cookies_sent: Option<u64>,
    /// Invalid SYN cookies that came back in the interval.
    pub cookies_failed: Option<u64>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerModel {
    /// Socket cookie.
    pub id: u64,
    /// Inode of its namespace.
    pub netns: u32,
    /// Cookie of its namespace: see [`NamespaceId`].
    pub net_cookie: Option<u64>,
    /// Name of its namespace, where it has one.
    pub netns_name: Option<String>,
    /// Transport.
    pub protocol: Protocol,
    /// Local address.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// The interface that it is bound to; `None` if to none.
    pub device: Option<Device>,
    /// IPV6_V6ONLY.
    pub v6only: bool,
    /// The SO_REUSEPORT group that it is a shard of.
    pub group: Option<GroupId>,
    /// Process that holds it.
    pub process: Option<Process>,
    /// Ids of the processes that hold it; empty where that is unknown.
    pub holders: Vec<u32>,
    /// It was opened within the interval.
    pub opened_in_interval: bool,
    /// It closed within the interval; its gauges are those of the last reading.
    pub closed: bool,
    /// When, in microseconds of the interval: at the latest, because a sample shows it.
    pub closed_us: Option<u64>,
    /// The threads that wait for its connections; `None` if that is not known.
    pub waiters: Option<Vec<Waiter>>,
    /// Who probably should accept, while connections wait and nobody was seen accepting in the interval; else `None`.
    pub likely_acceptors: Option<Vec<LikelyAcceptor>>,
    /// The descriptors of the accepting process that is nearest to its limit.
    pub descriptors: Option<Descriptors>,
    /// net.core.somaxconn of its namespace.
    pub somaxconn: Option<u32>,
    /// What set the limit of its accept queue; `None` without `somaxconn`.
    pub limit_set_by: Option<LimitSetBy>,
    /// The backlog that its program asked for; `None` if nobody saw it call listen(2).
    pub backlog_wanted: Option<u32>,
    /// The backlog that would have held the largest burst that was refused; `None` if none was, or what was refused
    /// was no burst.
    pub backlog_needed: Option<u32>,
    /// Gauges at the last sample.
    pub now: Gauges,
    /// Counts in the interval.
    pub total: Counts,
    /// Recent rates.
    pub rate: Rates,
    /// Refused attempts in the interval.
    pub drops: Drops,
    /// Refused attempts in the recent span.
    pub recent_drops: Drops,
    /// Distributions over the interval.
    pub distributions: Distributions,
    /// Distributions over the recent span.
    pub recent_distributions: Distributions,
    /// Threads by accepts, then reads, then writes, all descending.
    pub threads: Vec<ThreadModel>,
    /// How it is served.
    pub pattern: Pattern,
    /// What is wrong: root causes, the worst first, and under each what follows from it.
    pub findings: Vec<Finding>,
    /// How it was at each step of [`Model::timeline`].
    pub history: History,
    /// Its connections that wait longest; `None` if it has none, or they were not [listed](Model::listing).
    pub connections: Option<ConnectionLists>,
}

impl ListenerModel {
    /// Its network namespace.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        NamespaceId { inode: self.netns, cookie: self.net_cookie }
    }
}

names! {
    /// What a thread does for a listener.
    pub enum Role {
        /// It accepts.
        Acceptor = "acceptor",
        /// It reads.
        Reader = "reader",
        /// It writes.
        Writer = "writer",
    }
}

/// One thread's work for one listener; or, with `summed`, that of ended threads which are no longer listed one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadModel {
    /// Which thread it is. No two rows of a listener have the same, but for the sum, which is no thread.
    pub key: ThreadKey,
    /// Process id; 0 for a sum, and where listentop's PID namespace does not show it.
    pub pid: u32,
    /// Thread id; 0 likewise.
    pub tid: u32,
    /// Command name.
    pub comm: String,
    /// When it started (CLOCK_BOOTTIME, nanoseconds).
    pub start_ns: u64,
    /// It has ended.
    pub ended: bool,
    /// What it was seen doing in the interval.
    pub roles: Vec<Role>,
    /// Accepts in the interval.
    pub accepts: u64,
    /// Share of the listener's accepts (of the group's, for a shard), 0 to 1; `None` if there were none.
    pub accept_share: Option<f64>,
    /// Would-block accepts in the interval.
    pub would_block: u64,
    /// Accepts that failed otherwise, in the interval.
    pub accept_failed: u64,
    /// Reads in the interval.
    pub reads: u64,
    /// Share of the listener's (the group's) reads.
    pub read_share: Option<f64>,
    /// Bytes read in the interval.
    pub read_bytes: u64,
    /// Connections on which it was the first to read, in the interval.
    pub first_reads: u64,
    /// Writes in the interval.
    pub writes: u64,
    /// Bytes written in the interval.
    pub write_bytes: u64,
    /// Recent accepts per second.
    pub accepts_per_second: f64,
    /// Recent reads per second.
    pub reads_per_second: f64,
    /// What it did at each of the last steps; of the threads that did most, unless the listener has but one.
    pub history: ThreadHistory,
    /// Time on a CPU in the interval, in microseconds.
    pub on_cpu_us: Option<u64>,
    /// Time waiting for a CPU in the interval, in microseconds.
    pub run_queue_us: Option<u64>,
    /// What it does; known only while connections or unread bytes wait for it.
    pub state: Option<ThreadState>,
    /// Since when it is known, in microseconds of the interval.
    pub known_from_us: u64,
    /// The last time at which it was known to live, in microseconds of the interval; `None` while it lives. These
    /// times need no updates, so an idle listener costs nothing.
    pub lived_until_us: Option<u64>,
    /// When it accepted; `None` if it did not in the interval, and for a sum.
    pub accepting: Option<Accepting>,
    /// It is a sum over threads that ended in the interval; what they did in it.
    pub summed: Option<Box<Summed>>,
}

/// When a thread accepted, in microseconds of the interval. Where the source knows no times, it was between two
/// samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepting {
    /// It first did not before this time: that of the sample before.
    pub from_us: u64,
    /// And not after this time.
    pub begun_us: u64,
    /// It last did not before this time.
    pub ending_us: u64,
    /// And not after this time: that of the sample that showed it.
    pub until_us: u64,
}

/// A thread's counts of the interval, as far as they are counted for its listener: the others are unknown, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the thread")]
pub struct ThreadCounts {
    pub accepts: Option<u64>,
    pub would_block: Option<u64>,
    pub accept_failed: Option<u64>,
    pub reads: Option<u64>,
    pub read_bytes: Option<u64>,
    pub first_reads: Option<u64>,
    pub writes: Option<u64>,
    pub write_bytes: Option<u64>,
}

impl ThreadModel {
    /// Its counts; `total` are those of its listener.
    #[must_use]
    pub fn counts(&self, total: &Counts) -> ThreadCounts {
        let known = |total: Option<u64>, own: u64| total.map(|_| own);
        ThreadCounts {
            accepts: known(total.accepts, self.accepts),
            would_block: known(total.would_block, self.would_block),
            accept_failed: known(total.accept_failed, self.accept_failed),
            reads: known(total.reads, self.reads),
            read_bytes: known(total.read_bytes, self.read_bytes),
            first_reads: known(total.reads, self.first_reads),
            writes: known(total.writes, self.writes),
            write_bytes: known(total.write_bytes, self.write_bytes),
        }
    }

    /// How many threads the row stands for.
    #[must_use]
    pub fn threads(&self) -> u64 {
        self.summed.as_ref().map_or(1, |summed| summed.threads)
    }

    /// The rest of its time in the interval, in microseconds: neither on a CPU nor waiting for one, so asleep or
    /// blocked. `None` if those times are not known.
    #[must_use]
    pub fn blocked_us(&self, interval: &Interval) -> Option<u64> {
        let until = self.lived_until_us.unwrap_or((interval.seconds * 1e6).round() as u64);
        let span = until.saturating_sub(self.known_from_us);
        Some(span.saturating_sub(self.on_cpu_us?).saturating_sub(self.run_queue_us?))
    }
}

/// How a listener is served, from outside (docs: patterns).
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// Which.
    pub name: PatternName,
    /// 0 to 1: the share of what was seen that fits; 0 for `unknown`.
    pub confidence: f64,
    /// What was seen, one sentence each, with figures.
    pub evidence: Vec<String>,
}

names! {
    /// How bad a finding is.
    pub enum Severity {
        /// Worth knowing.
        Info = "info",
        /// Clients were refused or left waiting, or soon may be.
        Warning = "warning",
        /// Clients are being refused or left waiting now.
        Critical = "critical",
    }
}

/// One thing that is wrong with a listener, or was in the interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Stable name, snake_case.
    pub id: &'static str,
    /// How bad.
    pub severity: Severity,
    /// The finding of the same listener that explains this one; `None` for a root cause. It comes before this one.
    pub follows_from: Option<&'static str>,
    /// When it began, milliseconds since the epoch.
    pub since_unix_ms: u64,
    /// When it was last seen; `None` while it holds.
    pub until_unix_ms: Option<u64>,
    /// One or a few sentences.
    pub summary: String,
    /// The figures behind it: name (units in the name), value.
    pub evidence: Vec<(&'static str, f64)>,
    /// What to do, and what not to change. Of a consequence: where that is advised.
    pub advice: String,
}

/// How far a finding stands below its root cause: 0 for the root cause itself, 1 for what follows from it.
#[must_use]
pub fn depth(findings: &[Finding], at: usize) -> usize {
    let mut depth = 0;
    let mut place = at;
    while let Some(cause) = findings.get(place).and_then(|finding| finding.follows_from) {
        // Causes come first, so this ends.
        let Some(above) = findings[..place].iter().rposition(|finding| finding.id == cause) else { break };
        depth += 1;
        place = above;
    }
    depth
}
