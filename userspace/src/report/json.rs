//! The JSON report. Field names are a contract: add, don't rename. `null` is what cannot be measured here, never 0.

use std::{collections::BTreeMap, net::IpAddr};

use listentop_model::{
    blame::{Blamed, BlamedStack, Doing, Frame, share},
    connections::{Actor, ClientState, Connection, ConnectionList, ConnectionLists, Listing, Precision},
    coverage::{Measure, Status},
    figures::Counts,
    model::{
        self, Finding, GroupModel, ListenerModel, Model, NamespaceModel, PatternName, Role, Severity, ThreadModel,
    },
    sample::{Descriptors, Host, LikelyAcceptor, LikelyBy, Process, Protocol, WaitKind, Waiter},
    words::{self, utc},
};
use serde::{Serialize, Serializer};

use super::figures::Figures;

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
    pub groups: Vec<Group>,
    pub listeners: Vec<Listener>,
    pub listing: Option<Listing>,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize)]
            #[expect(missing_docs, reason = "docs/schema.md describes each field")]
            pub struct $name { $($(#[$attribute])* pub $field: $type,)* }
        )*
    };
}

parts! {
    /// This program.
    Tool { version: &'static str, }
    /// What counts and distributions cover.
    Interval { start: String, seconds: f64, }
    /// One measure's coverage.
    CoverageEntry { measure: &'static str, status: Status, via: Option<String>, reason: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")] since: Option<String>, }
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
        inode: u32, net_cookie: Option<u64>, name: Option<String>, listen_overflows: Option<u64>, listen_drops: Option<u64>,
        unexplained_drops: Option<i64>, syn_queue_full_drops: Option<u64>, cookies_sent: Option<u64>,
        cookies_failed: Option<u64>,
    }
    /// A listener.
    Listener {
        id: u64, netns: u32, net_cookie: Option<u64>, netns_name: Option<String>, protocol: Protocol, address: IpAddr,
        port: u16, device: Option<String>, v6only: bool, group: Option<String>, process: Option<Process>, holders: Option<u32>,
        opened_in_interval: bool, closed: bool, #[serde(flatten)] figures: Figures, waiters: Option<Vec<WaiterEntry>>,
        likely_acceptors: Option<Vec<LikelyAcceptorEntry>>,
        descriptors: Option<Descriptors>, connections_waiting: Option<Vec<WaitingConnection>>,
        connections_waiting_cut: Option<u64>, connections_unread: Option<Vec<UnreadConnection>>,
        connections_unread_cut: Option<u64>, connections_half_open: Option<Vec<HalfOpenConnection>>,
        connections_half_open_cut: Option<u64>, blame: Option<BlameEntry>, threads: Vec<Thread>, pattern: Pattern,
        findings: Vec<FindingEntry>,
    }
    /// What its acceptors did while connections waited.
    BlameEntry {
        watched_us: u64, total_wait_us: u64, running_us: u64, runnable_us: u64, asleep_us: u64, nobody_us: u64,
        summary: Option<String>, stacks: Vec<BlameStack>,
    }
    /// What one of them did, and where.
    BlameStack { state: Doing, thread: Option<Actor>, wait_us: u64, share: f64, frames: Vec<String>, }
    /// A connection that waits to be accepted.
    WaitingConnection {
        client_address: IpAddr, client_port: u16, waiting_us: Option<u64>, precision: Precision,
        client_state: ClientState, unread_bytes: u64,
    }
    /// An accepted connection with unread bytes.
    UnreadConnection {
        client_address: IpAddr, client_port: u16, unread_us: Option<u64>, precision: Precision,
        client_state: ClientState, unread_bytes: u64, open_us: Option<u64>, reader: Option<Actor>,
        holder: Option<Actor>,
    }
    /// A connection whose handshake is not complete.
    HalfOpenConnection {
        client_address: IpAddr, client_port: u16, age_us: Option<u64>, precision: Precision,
        synacks_sent_again: Option<u32>, final_ack_came: Option<bool>, timer_us: Option<u64>,
    }
    /// The shards at one address.
    Group {
        id: String, netns: u32, net_cookie: Option<u64>, netns_name: Option<String>, protocol: Protocol, address: IpAddr,
        port: u16, device: Option<String>, shards: Vec<u64>, #[serde(flatten)] figures: Figures, pattern: Pattern, findings: Vec<FindingEntry>,
    }
    /// One of its threads.
    Thread {
        pid: u32, tid: u32, comm: String, ended: bool, roles: Vec<Role>, accepts: Option<u64>, accept_share: Option<f64>,
        would_block: Option<u64>, accept_failed: Option<u64>, reads: Option<u64>, read_share: Option<f64>,
        read_bytes: Option<u64>, first_reads: Option<u64>, writes: Option<u64>, write_bytes: Option<u64>, on_cpu_us: Option<u64>, run_queue_us: Option<u64>, blocked_us: Option<u64>,
        state: Option<State>, summed: Option<Summed>,
    }
    /// A thread that waits for its connections.
    WaiterEntry {
        pid: u32, tid: Option<u32>, comm: String, how: WaitKind, exclusive: Option<bool>, edge: Option<bool>, waits: bool, polls: Option<bool>,
    }
    /// A thread that probably should accept.
    LikelyAcceptorEntry { pid: u32, tid: u32, comm: String, by: LikelyBy, state: Option<State>, }
    /// What a thread does.
    State { letter: char, wchan: Option<String>, syscall: Option<String>, kernel_stack: Vec<String>, }
    /// What the threads of a sum were.
    Summed { threads: u64, processes: u64, acceptors: u64, readers: u64, writers: u64, one_connection: u64, }
    /// How it is served.
    Pattern { name: PatternName, confidence: f64, evidence: Vec<String>, }
    /// What is wrong with it.
    FindingEntry {
        id: &'static str, severity: Severity, follows_from: Option<&'static str>, since: String, until: Option<String>,
        summary: String, evidence: BTreeMap<&'static str, Number>, advice: String,
    }
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
                since: c.since_ns.map(|since| utc(model.unix_ms_at(since))),
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
        groups: model.groups.iter().map(|g| group(g, model)).collect(),
        listeners: model.listeners.iter().map(|l| listener(l, model)).collect(),
        listing: model.listing,
    }
}

fn namespace(n: &NamespaceModel) -> Namespace {
    Namespace {
        inode: n.id.inode,
        net_cookie: n.id.cookie,
        name: n.name.clone(),
        listen_overflows: n.listen_overflows,
        listen_drops: n.listen_drops,
        unexplained_drops: n.unexplained_drops,
        syn_queue_full_drops: n.syn_queue_full_drops,
        cookies_sent: n.cookies_sent,
        cookies_failed: n.cookies_failed,
    }
}

fn listener(l: &ListenerModel, model: &Model) -> Listener {
    let interval = &model.interval;
    let (waiting, waiting_cut) = connections(l, model, Measure::WaitingConnections);
    let (unread, unread_cut) = connections(l, model, Measure::UnreadConnections);
    let (half_open, half_open_cut) = connections(l, model, Measure::HalfOpenConnections);
    Listener {
        id: l.id,
        netns: l.netns,
        net_cookie: l.net_cookie,
        netns_name: l.netns_name.clone(),
        protocol: l.protocol,
        address: l.address,
        port: l.port,
        device: l.device.map(|device| device.name().to_owned()),
        v6only: l.v6only,
        group: l.group.map(|group| group.to_string()),
        process: l.process.clone(),
        holders: (!l.holders.is_empty()).then_some(l.holders.len() as u32),
        opened_in_interval: l.opened_in_interval,
        closed: l.closed,
        figures: Figures::of(l, model),
        waiters: l.waiters.as_ref().map(|waiters| waiters.iter().map(waiter).collect()),
        likely_acceptors: l.likely_acceptors.as_ref().map(|likely| likely.iter().map(likely_acceptor).collect()),
        descriptors: l.descriptors,
        connections_waiting: waiting.map(|list| list.iter().map(|c| waiting_connection(c, model)).collect()),
        connections_waiting_cut: waiting_cut,
        connections_unread: unread.map(|list| list.iter().map(|c| unread_connection(c, model)).collect()),
        connections_unread_cut: unread_cut,
        connections_half_open: half_open.map(|list| list.iter().map(|c| half_open_connection(c, model)).collect()),
        connections_half_open_cut: half_open_cut,
        blame: model.blame.as_ref().and_then(|blame| blame.of(&[l.id])).map(|blamed| blame(&blamed)),
        threads: l.threads.iter().map(|t| thread(t, &l.total, interval)).collect(),
        pattern: pattern(&l.pattern),
        findings: l.findings.iter().map(finding).collect(),
    }
}

/// The stacks, the most blamed first.
fn blame(blamed: &Blamed) -> BlameEntry {
    let (total_ns, states) = (blamed.total_ns(), blamed.states());
    let us = |doing| states.wait_ns(doing) / 1_000;
    let frame = |frame: &Frame| if frame.kernel { format!("{}_[k]", frame.label()) } else { frame.label() };
    let stack = |stack: &BlamedStack| BlameStack {
        state: stack.doing,
        thread: stack.thread.clone(),
        wait_us: stack.wait_ns / 1_000,
        // Six digits are enough.
        share: (share(stack.wait_ns, total_ns) * 1e6).round() / 1e6,
        frames: stack.frames.iter().map(frame).collect(),
    };
    let mut stacks: Vec<&BlamedStack> = blamed.stacks.iter().collect();
    stacks.sort_by_key(|stack| u64::MAX - stack.wait_ns);
    BlameEntry {
        watched_us: blamed.elapsed_ns() / 1_000,
        total_wait_us: total_ns / 1_000,
        running_us: us(Doing::Running),
        runnable_us: us(Doing::Runnable),
        asleep_us: us(Doing::Asleep),
        nobody_us: us(Doing::Nobody),
        summary: blamed.sentence(),
        stacks: stacks.into_iter().map(stack).collect(),
    }
}

/// Its connections of a sort, and how many more there are; `None` if nobody asked for them, or they are not known here.
fn connections<'a>(l: &'a ListenerModel, model: &Model, measure: Measure) -> (Option<&'a [Connection]>, Option<u64>) {
    if model.listing.is_none() || words::status(model, measure) == Status::Unavailable {
        return (None, None);
    }
    let of = |lists: &'a ConnectionLists| -> &'a ConnectionList {
        match measure {
            Measure::WaitingConnections => &lists.waiting,
            Measure::UnreadConnections => &lists.unread,
            _ => &lists.half_open,
        }
    };
    let list = l.connections.as_ref().map(of);
    (Some(list.map_or(&[], |list| &list.connections)), Some(list.map_or(0, ConnectionList::cut)))
}

fn waiting_connection(c: &Connection, model: &Model) -> WaitingConnection {
    WaitingConnection {
        client_address: c.client,
        client_port: c.port,
        waiting_us: c.waits_us(model),
        precision: c.precision,
        client_state: c.state,
        unread_bytes: c.unread,
    }
}

fn half_open_connection(c: &Connection, model: &Model) -> HalfOpenConnection {
    HalfOpenConnection {
        client_address: c.client,
        client_port: c.port,
        age_us: c.waits_us(model),
        precision: c.precision,
        synacks_sent_again: c.half_open.map(|half_open| half_open.resent),
        final_ack_came: c.half_open.and_then(|half_open| half_open.acked),
        timer_us: c.half_open.and_then(|half_open| half_open.timer_us),
    }
}

fn unread_connection(c: &Connection, model: &Model) -> UnreadConnection {
    UnreadConnection {
        client_address: c.client,
        client_port: c.port,
        unread_us: c.waits_us(model),
        precision: c.precision,
        client_state: c.state,
        unread_bytes: c.unread,
        open_us: c.open_us(model),
        reader: c.reader.clone(),
        holder: c.holder.clone(),
    }
}

fn group(g: &GroupModel, model: &Model) -> Group {
    let full = g.full(model);
    Group {
        id: g.id.to_string(),
        netns: g.id.namespace.inode,
        net_cookie: g.id.namespace.cookie,
        netns_name: full.netns_name.clone(),
        protocol: g.id.protocol,
        address: g.id.address,
        port: g.id.port,
        device: g.id.device.map(|device| device.name().to_owned()),
        shards: g.shards.clone(),
        figures: Figures::of(&full, model),
        pattern: pattern(&full.pattern),
        findings: full.findings.iter().map(finding).collect(),
    }
}

fn pattern(p: &model::Pattern) -> Pattern {
    Pattern { name: p.name, confidence: p.confidence, evidence: p.evidence.clone() }
}

/// What is not counted for the listener is not for its threads.
fn thread(t: &ThreadModel, total: &Counts, interval: &model::Interval) -> Thread {
    let counts = t.counts(total);
    Thread {
        pid: t.pid,
        tid: t.tid,
        comm: t.comm.clone(),
        ended: t.ended,
        roles: t.roles.clone(),
        accepts: counts.accepts,
        accept_share: t.accept_share,
        would_block: counts.would_block,
        accept_failed: counts.accept_failed,
        reads: counts.reads,
        read_share: t.read_share,
        read_bytes: counts.read_bytes,
        first_reads: counts.first_reads,
        writes: counts.writes,
        write_bytes: counts.write_bytes,
        on_cpu_us: t.on_cpu_us,
        run_queue_us: t.run_queue_us,
        blocked_us: t.blocked_us(interval),
        state: t.state.clone().map(state),
        summed: t.summed.as_deref().map(|summed| Summed {
            threads: summed.threads,
            processes: summed.processes,
            acceptors: summed.acceptors,
            readers: summed.readers,
            writers: summed.writers,
            one_connection: summed.one_connection,
        }),
    }
}

fn waiter(w: &Waiter) -> WaiterEntry {
    WaiterEntry {
        pid: w.pid,
        tid: (w.tid != 0).then_some(w.tid),
        comm: w.comm.clone(),
        how: w.how,
        exclusive: w.exclusive,
        edge: w.edge,
        waits: w.waits,
        polls: w.polls,
    }
}

fn likely_acceptor(one: &LikelyAcceptor) -> LikelyAcceptorEntry {
    let LikelyAcceptor { pid, tid, comm, by, state: does } = one.clone();
    LikelyAcceptorEntry { pid, tid, comm, by, state: does.map(state) }
}

fn state(state: model::ThreadState) -> State {
    let model::ThreadState { letter, wchan, syscall, kernel_stack } = state;
    State { letter, wchan, syscall, kernel_stack }
}

fn finding(f: &Finding) -> FindingEntry {
    FindingEntry {
        id: f.id,
        severity: f.severity,
        follows_from: f.follows_from,
        since: utc(f.since_unix_ms),
        until: f.until_unix_ms.map(utc),
        summary: f.summary.clone(),
        evidence: f.evidence.iter().map(|(name, value)| (*name, Number(*value))).collect(),
        advice: f.advice.clone(),
    }
}
