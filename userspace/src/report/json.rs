//! The JSON report. Field names are a contract: add, don't rename. `null` is what cannot be measured here, never 0.

use std::{collections::BTreeMap, net::IpAddr};

use listentop_model::{
    coverage::Status,
    histogram::Histogram,
    model::{self, Finding, GroupId, ListenerModel, Model, NamespaceModel, Role, ThreadModel},
    sample::{Host, Process, Protocol},
    words::utc,
};
use serde::{Serialize, Serializer};

/// Version of the schema.
pub const SCHEMA: u32 = 1;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "docs/schema.md describes each field, once, for those who read the JSON too")]
pub struct Report {
    pub schema: u32,
    pub tool: Tool,
    pub host: Host,
    pub interval: Interval,
    pub coverage: Vec<CoverageEntry>,
    pub own_cost: OwnCost,
    pub namespaces: Vec<Namespace>,
    pub listeners: Vec<Listener>,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize)]
            #[expect(missing_docs, reason = "docs/schema.md describes each field")]
            pub struct $name { $(pub $field: $type,)* }
        )*
    };
}

parts! {
    /// This program.
    Tool { version: &'static str, }
    /// What counts and distributions cover.
    Interval { start: String, seconds: f64, }
    /// One measure's coverage.
    CoverageEntry { measure: &'static str, status: Status, via: Option<String>, reason: Option<String>, }
    /// What listentop cost.
    OwnCost {
        probe_runs: Option<u64>, probe_ns: Option<u64>, cpu_seconds: f64, rss_bytes: u64, lost_events: u64, missed_runs: u64,
        lost: Lost,
    }
    /// What was not tracked.
    Lost { listeners: u64, connections: u64, threads: u64, unseen: u64, ambiguous: u64,
        other: u64, }
    /// A network namespace.
    Namespace {
        inode: u32, name: Option<String>, listen_overflows: Option<u64>, listen_drops: Option<u64>,
        unexplained_drops: Option<i64>, syn_queue_full_drops: Option<u64>, cookies_sent: Option<u64>,
        cookies_failed: Option<u64>,
    }
    /// A listener.
    Listener {
        id: u64, netns: u32, netns_name: Option<String>, protocol: Protocol, address: IpAddr, port: u16, v6only: bool,
        group: Option<String>, process: Option<Process>, holders: Option<u32>, opened_in_interval: bool, closed: bool,
        accept_queue: AcceptQueue, syn_queue: SynQueue, drops: Drops, accepts: Accepts, connections: Connections,
        reads: Reads, writes: Writes, threads: Vec<Thread>, pattern: Pattern, findings: Vec<FindingEntry>,
    }
    /// Its accept queue.
    AcceptQueue {
        depth: u32, backlog: u32, limit: u32, peak: Option<u32>, enqueued: Option<u64>, migrated: Option<u64>, aborted: Option<u64>,
        oldest_waiting_us: Option<u64>,
        wait_us: Option<Distribution>,
    }
    /// Its SYN queue.
    SynQueue {
        depth: Option<u32>, young: Option<u32>, peak: Option<u32>, requests: Option<u64>, synack_retransmits: Option<u64>,
        given_up: Option<u64>, cookies_sent: Option<u64>, cookies_validated: Option<u64>, defer_accept: Option<bool>,
        handshake_us: Option<Distribution>,
    }
    /// Its refused attempts.
    Drops {
        total: Option<u64>, accept_queue_full_on_syn: Option<u64>, accept_queue_full_on_ack: Option<u64>,
        syn_queue_full: Option<u64>, other: Option<u64>, unexplained: Option<u64>, clients: Option<u64>,
    }
    /// Its accepts.
    Accepts { total: Option<u64>, per_second: Option<f64>, would_block: Option<u64>, failed: Option<u64>, }
    /// Its connections.
    Connections { open: Option<u64>, first_byte_us: Option<Distribution>, first_read_us: Option<Distribution>, }
    /// Its reads.
    Reads {
        count: Option<u64>, bytes: Option<u64>, per_second: Option<f64>, residency_us: Option<Distribution>,
        bytes_per_read: Option<Distribution>, queued_bytes: Option<u64>,
    }
    /// Its writes.
    Writes { count: Option<u64>, bytes: Option<u64>, }
    /// One of its threads.
    Thread {
        pid: u32, tid: u32, comm: String, ended: bool, roles: Vec<&'static str>, accepts: u64, accept_share: Option<f64>,
        would_block: u64, accept_failed: Option<u64>, reads: u64, read_share: Option<f64>, read_bytes: u64, first_reads: u64,
        writes: u64, write_bytes: u64, on_cpu_us: Option<u64>, run_queue_us: Option<u64>, blocked_us: Option<u64>,
    }
    /// How it is served.
    Pattern { name: &'static str, confidence: f64, evidence: Vec<String>, }
    /// What is wrong with it.
    FindingEntry {
        id: &'static str, severity: &'static str, summary: String, evidence: BTreeMap<&'static str, Number>, advice: String,
    }
    /// A distribution; without values it has no percentiles.
    Distribution { count: u64, p50: Option<u64>, p90: Option<u64>, p99: Option<u64>, max: Option<u64>, }
}

/// A number that is written without fraction if it has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Up to 2^53 every integer has its own f64.
        if self.0.fract() == 0.0 && self.0.abs() < 9e15 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

/// The report of a model.
#[must_use]
pub fn json(model: &Model) -> Report {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Report {
        schema: SCHEMA,
        tool: Tool { version: env!("CARGO_PKG_VERSION") },
        host: model.host.clone(),
        interval: Interval { start: utc(model.interval.start_unix_ms), seconds: model.interval.seconds },
        coverage: model
            .coverage
            .iter()
            .map(|c| CoverageEntry {
                measure: c.measure.name(),
                status: c.status,
                via: some(&c.via),
                reason: some(&c.reason),
            })
            .collect(),
        own_cost: OwnCost {
            probe_runs: model.cost.probe_runs,
            probe_ns: model.cost.probe_ns,
            cpu_seconds: model.cost.cpu_seconds,
            rss_bytes: model.cost.rss_bytes,
            lost_events: model.losses.total(),
            missed_runs: model.losses.missed_runs,
            lost: Lost {
                listeners: model.losses.listeners,
                connections: model.losses.connections,
                threads: model.losses.threads,
                unseen: model.losses.unseen,
                ambiguous: model.losses.ambiguous,
                other: model.losses.other,
            },
        },
        namespaces: model.namespaces.iter().map(namespace).collect(),
        listeners: model.listeners.iter().map(|l| listener(l, &model.interval)).collect(),
    }
}

fn namespace(n: &NamespaceModel) -> Namespace {
    Namespace {
        inode: n.inode,
        name: n.name.clone(),
        listen_overflows: n.listen_overflows,
        listen_drops: n.listen_drops,
        unexplained_drops: n.unexplained_drops,
        syn_queue_full_drops: n.syn_queue_full_drops,
        cookies_sent: n.cookies_sent,
        cookies_failed: n.cookies_failed,
    }
}

fn listener(l: &ListenerModel, interval: &model::Interval) -> Listener {
    let seconds = interval.seconds;
    let per_second = |total: Option<u64>| total.filter(|_| seconds > 0.0).map(|n| n as f64 / seconds);
    let d = &l.distributions;
    let us = |h: &Option<Histogram>| h.as_ref().map(durations);
    Listener {
        id: l.id,
        netns: l.netns,
        netns_name: l.netns_name.clone(),
        protocol: l.protocol,
        address: l.address,
        port: l.port,
        v6only: l.v6only,
        group: l.group.as_ref().map(group),
        process: l.process.clone(),
        holders: (!l.holders.is_empty()).then_some(l.holders.len() as u32),
        opened_in_interval: l.opened_in_interval,
        closed: l.closed,
        accept_queue: AcceptQueue {
            depth: l.now.accept_depth,
            backlog: l.now.backlog,
            limit: l.now.limit,
            peak: l.now.accept_peak,
            enqueued: l.total.enqueued,
            migrated: l.total.migrated,
            aborted: l.total.aborted,
            oldest_waiting_us: l.now.oldest_waiting_us,
            wait_us: us(&d.accept_wait),
        },
        syn_queue: SynQueue {
            depth: l.now.syn_depth,
            young: l.now.syn_young,
            peak: l.now.syn_peak,
            requests: l.total.syn_requests,
            synack_retransmits: l.total.synack_retransmits,
            given_up: l.total.syn_given_up,
            cookies_sent: l.total.cookies_sent,
            cookies_validated: l.total.cookies_validated,
            defer_accept: l.now.defer_accept,
            handshake_us: us(&d.handshake),
        },
        drops: Drops {
            total: l.drops.total,
            accept_queue_full_on_syn: l.drops.accept_queue_full_on_syn,
            accept_queue_full_on_ack: l.drops.accept_queue_full_on_ack,
            syn_queue_full: l.drops.syn_queue_full,
            other: l.drops.other,
            unexplained: l.drops.unexplained,
            clients: l.drops.clients,
        },
        accepts: Accepts {
            total: l.total.accepts,
            per_second: per_second(l.total.accepts),
            would_block: l.total.would_block,
            failed: l.total.accept_failed,
        },
        connections: Connections {
            open: l.now.open,
            first_byte_us: us(&d.first_byte),
            first_read_us: us(&d.first_read),
        },
        reads: Reads {
            count: l.total.reads,
            bytes: l.total.read_bytes,
            per_second: per_second(l.total.reads),
            residency_us: us(&d.residency),
            bytes_per_read: d.bytes_per_read.as_ref().map(sizes),
            queued_bytes: l.now.queued_bytes,
        },
        writes: Writes { count: l.total.writes, bytes: l.total.write_bytes },
        threads: l.threads.iter().map(|t| thread(t, l.total.accept_failed.is_some(), interval)).collect(),
        pattern: Pattern {
            name: l.pattern.name.name(),
            confidence: l.pattern.confidence,
            evidence: l.pattern.evidence.clone(),
        },
        findings: l.findings.iter().map(finding).collect(),
    }
}

/// A group's id: `tcp/4026531840/0.0.0.0:80`.
#[must_use]
pub fn group(group: &GroupId) -> String {
    let protocol = match group.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Mptcp => "mptcp",
    };
    format!("{protocol}/{}/{}", group.netns, std::net::SocketAddr::new(group.address, group.port))
}

/// The name of a role.
#[must_use]
pub const fn role(role: Role) -> &'static str {
    match role {
        Role::Acceptor => "acceptor",
        Role::Reader => "reader",
        Role::Writer => "writer",
    }
}

/// `accept_failed`: whether accepts that fail are seen.
fn thread(t: &ThreadModel, accept_failed: bool, interval: &model::Interval) -> Thread {
    Thread {
        pid: t.pid,
        tid: t.tid,
        comm: t.comm.clone(),
        ended: t.ended,
        roles: t.roles.iter().copied().map(role).collect(),
        accepts: t.accepts,
        accept_share: t.accept_share,
        would_block: t.would_block,
        accept_failed: accept_failed.then_some(t.accept_failed),
        reads: t.reads,
        read_share: t.read_share,
        read_bytes: t.read_bytes,
        first_reads: t.first_reads,
        writes: t.writes,
        write_bytes: t.write_bytes,
        on_cpu_us: t.on_cpu_us,
        run_queue_us: t.run_queue_us,
        blocked_us: t.blocked_us(interval),
    }
}

fn finding(f: &Finding) -> FindingEntry {
    FindingEntry {
        id: f.id,
        severity: f.severity.name(),
        summary: f.summary.clone(),
        evidence: f.evidence.iter().map(|(name, value)| (*name, Number(*value))).collect(),
        advice: f.advice.clone(),
    }
}

fn durations(h: &Histogram) -> Distribution {
    Distribution {
        count: h.count(),
        p50: h.quantile_us(0.5),
        p90: h.quantile_us(0.9),
        p99: h.quantile_us(0.99),
        max: h.max_us(),
    }
}

fn sizes(h: &Histogram) -> Distribution {
    Distribution {
        count: h.count(),
        p50: h.quantile_units(0.5),
        p90: h.quantile_units(0.9),
        p99: h.quantile_units(0.99),
        max: h.max_units(),
    }
}
