//! SO_REUSEPORT groups: several listeners at one address, seen as one.

use std::{cmp::Reverse, collections::HashMap, fmt, net::IpAddr};

use crate::{
    connections::ConnectionLists,
    figures::{Combine as _, Counts, Distributions, Gauges, Rates},
    findings,
    histogram::Histogram,
    history::{History, HistoryPoint, Timeline},
    model::{ListenerModel, Model},
    sample::{Descriptors, Device, NamespaceId, Protocol, Waiter},
    shared::Shared,
    words,
};

/// Identity of a SO_REUSEPORT group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId {
    /// The namespace.
    pub namespace: NamespaceId,
    /// Transport.
    pub protocol: Protocol,
    /// Local port.
    pub port: u16,
    /// Local address.
    pub address: IpAddr,
    /// The interface that its shards are bound to.
    pub device: Option<Device>,
}

/// As in JSON: `tcp/4026531840/0.0.0.0:80`, `tcp/4026531840/0.0.0.0%eth0:80`.
impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `*` would hide that this is about `::`.
        let endpoint = words::endpoint(self.address, self.port, true, self.device.as_ref());
        write!(f, "{}/{}/{endpoint}", self.protocol, self.namespace.inode)
    }
}

/// A group of at least two shards.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupModel {
    /// Which.
    pub id: GroupId,
    /// The ids of its shards, in the order of their numbers: shard 1 comes first.
    pub shards: Vec<u64>,
    /// Where they are in [`Model::listeners`], in the same order.
    pub places: Vec<usize>,
    /// Place in `shards` of the one whose accept queue is fullest.
    pub fullest: usize,
    /// Its open shards.
    pub open: OpenShards,
    /// The group as one listener, without distributions, threads and history: [`GroupModel::full`] has those, too.
    pub sum: ListenerModel,
}

/// How a group's open shards share the connections.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OpenShards {
    /// How many shards are open.
    pub count: u64,
    /// Connections enqueued over all of them in the interval; accepted, where that is not measured.
    pub enqueued: u64,
    /// The id of the shard with most of them, and how many.
    pub busiest: (u64, u64),
    /// Recent accepts per second over all of them.
    pub accepts_per_second: f64,
}

impl OpenShards {
    fn of<'a>(shards: impl Iterator<Item = &'a ListenerModel>) -> Self {
        let mut open = Self::default();
        for shard in shards.filter(|shard| !shard.closed) {
            open.count += 1;
            let enqueued = shard.total.enqueued.or(shard.total.accepts).unwrap_or(0);
            open.enqueued += enqueued;
            if enqueued > open.busiest.1 {
                open.busiest = (shard.id, enqueued);
            }
            open.accepts_per_second += shard.rate.accepts.unwrap_or(0.0);
        }
        open
    }
}

impl Model {
    /// Keeps only the listeners for which `keep` is true, and recomputes the groups' sums.
    pub fn retain(&mut self, keep: impl FnMut(&ListenerModel) -> bool) {
        self.listeners.retain(keep);
        self.regroup();
    }

    /// Recomputes the groups' sums after listeners came, went or changed.
    pub fn regroup(&mut self) {
        let mut members: HashMap<GroupId, Vec<usize>> = HashMap::new();
        let mut order = Vec::new();
        for (at, listener) in self.listeners.iter().enumerate() {
            if let Some(group) = listener.group {
                let members = members.entry(group).or_insert_with(|| {
                    order.push(group);
                    Vec::new()
                });
                members.push(at);
            }
        }
        let groups = order.into_iter().map(|id| (id, &members[&id])).filter(|(_, members)| members.len() > 1);
        let sum_up = |(id, members): (GroupId, &Vec<usize>)| {
            let mut group = GroupModel::new(id, members, &self.listeners);
            group.take_findings(&self.listeners);
            group
        };
        self.groups = groups.map(sum_up).collect();
    }
}

impl GroupModel {
    /// Sums up the shards at these places in `listeners`, at least one; their findings come later
    /// ([`GroupModel::take_findings`]).
    pub(crate) fn new(id: GroupId, members: &[usize], listeners: &Shared<ListenerModel>) -> Self {
        let mut places = members.to_vec();
        places.sort_unstable_by_key(|&at| listeners[at].id);
        let shards: Vec<&ListenerModel> = places.iter().map(|&at| &listeners[at]).collect();
        let fullest = (0..shards.len())
            .max_by(|&a, &b| shards[a].now.fill().total_cmp(&shards[b].now.fill()).then(b.cmp(&a)))
            .unwrap_or_default();
        Self {
            id,
            shards: shards.iter().map(|shard| shard.id).collect(),
            fullest,
            open: OpenShards::of(members.iter().map(|&at| &listeners[at])),
            sum: sum(&shards),
            places,
        }
    }

    /// Takes over what was found at its shards: their pattern, which all share, and their findings.
    pub(crate) fn take_findings(&mut self, listeners: &Shared<ListenerModel>) {
        if let Some(&first) = self.places.first() {
            self.sum.pattern.clone_from(&listeners[first].pattern);
        }
        let findings = self.places.iter().map(|&at| &listeners[at].findings[..]);
        self.sum.findings = findings::merge(findings);
    }

    /// Its shards, in the order of their numbers. `model` must be the one that has this group.
    pub fn members<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a ListenerModel> + Clone {
        self.places.iter().filter_map(|&at| model.listeners.get(at))
    }

    /// The shard whose accept queue is fullest.
    #[must_use]
    pub fn fullest_shard<'a>(&self, model: &'a Model) -> &'a ListenerModel {
        &model.listeners[self.places[self.fullest]]
    }

    /// A distribution over the interval or the recent span, merged over the shards.
    #[must_use]
    pub fn distribution<'a>(
        &self,
        model: &'a Model,
        pick: impl Fn(&'a ListenerModel) -> Option<&'a Histogram>,
    ) -> Option<Histogram> {
        let shards = self.places.iter().filter_map(|&at| model.listeners.get(at));
        shards.filter_map(pick).fold(None, |merged: Option<Histogram>, part| {
            let mut merged = merged.unwrap_or_default();
            merged.merge(part);
            Some(merged)
        })
    }

    /// The history of its accept and SYN queues: those of its open shards, added up step by step.
    #[must_use]
    pub fn history(&self, model: &Model) -> History {
        history(self.members(model), &model.timeline)
    }

    /// The group as one listener, with everything.
    #[must_use]
    pub fn full(&self, model: &Model) -> ListenerModel {
        let mut threads: Vec<_> = self.members(model).flat_map(|shard| shard.threads.iter().cloned()).collect();
        threads.sort_by_key(|t| Reverse((t.accepts, t.reads, t.writes)));
        let mut full = ListenerModel { threads, history: self.history(model), ..self.sum.clone() };
        for shard in self.members(model) {
            full.distributions.merge(&shard.distributions);
            full.recent_distributions.merge(&shard.recent_distributions);
        }
        full
    }
}

impl Gauges {
    /// How full the accept queue is, 0 to 1 (and above, where a backlog was made smaller).
    #[must_use]
    pub fn fill(&self) -> f64 {
        f64::from(self.accept_depth) / f64::from(self.limit.max(1))
    }
}

impl Distributions {
    /// Adds the values of another one. What is unknown there adds nothing.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, part) in self.each_mut().into_iter().zip(other.each()) {
            if let Some(part) = part {
                sum.get_or_insert_default().merge(part);
            }
        }
    }
}

/// The shards (at least one) as one listener. Gauges are those of open shards; if none is open, of all.
fn sum(shards: &[&ListenerModel]) -> ListenerModel {
    let first = shards[0];
    let none_open = shards.iter().all(|shard| shard.closed);
    let mut now = Gauges::default();
    let (mut total, mut rate) = (Counts::default(), Rates::default());
    let (mut drops, mut recent_drops) = (first.drops, first.recent_drops);
    for shard in &shards[1..] {
        drops.add(&shard.drops);
        recent_drops.add(&shard.recent_drops);
    }
    for shard in shards {
        if none_open || !shard.closed {
            now.add_values(&shard.now);
        }
        now.add_peaks(&shard.now);
        total.add(&shard.total);
        rate.add(&shard.rate);
    }
    let mut holders: Vec<u32> = shards.iter().flat_map(|shard| shard.holders.iter().copied()).collect();
    holders.sort_unstable();
    holders.dedup();
    ListenerModel {
        id: first.id,
        netns: first.netns,
        net_cookie: first.net_cookie,
        netns_name: first.netns_name.clone(),
        protocol: first.protocol,
        address: first.address,
        port: first.port,
        device: first.device,
        v6only: first.v6only,
        group: first.group,
        process: shards.iter().find_map(|shard| shard.process.clone()),
        holders,
        waiters: waiters(shards),
        // Each shard has its own.
        likely_acceptors: None,
        descriptors: shards.iter().filter_map(|shard| shard.descriptors).max_by(Descriptors::by_use),
        somaxconn: first.somaxconn,
        limit_set_by: first.limit_set_by.filter(|by| shards.iter().all(|shard| shard.limit_set_by == Some(*by))),
        backlog_wanted: first
            .backlog_wanted
            .filter(|all| shards.iter().all(|shard| shard.backlog_wanted == Some(*all))),
        backlog_needed: shards.iter().filter_map(|shard| shard.backlog_needed).max(),
        opened_in_interval: shards.iter().all(|shard| shard.opened_in_interval),
        closed: none_open,
        closed_us: shards.iter().filter_map(|shard| shard.closed_us).max().filter(|_| none_open),
        now,
        total,
        rate,
        drops,
        recent_drops,
        distributions: Distributions::default(),
        recent_distributions: Distributions::default(),
        threads: Vec::new(),
        pattern: first.pattern.clone(),
        findings: Vec::new(),
        history: History::default(),
        connections: ConnectionLists::merged(shards.iter().filter_map(|shard| shard.connections.as_ref())),
    }
}

/// The threads that wait for any of the open shards; `None` if they are not known of each.
fn waiters(shards: &[&ListenerModel]) -> Option<Vec<Waiter>> {
    let mut all: Vec<Waiter> = Vec::new();
    for shard in shards.iter().filter(|shard| !shard.closed) {
        all.extend_from_slice(shard.waiters.as_ref()?);
    }
    all.sort_by_key(|waiter| (waiter.pid, waiter.tid, waiter.how));
    all.dedup();
    Some(all)
}

/// Histories of open shards, added up step by step.
fn history<'a>(shards: impl Iterator<Item = &'a ListenerModel> + Clone, timeline: &Timeline) -> History {
    let open = shards.filter(|shard| !shard.closed);
    let steps = open.clone().map(|shard| shard.history.steps(timeline)).filter(|steps| !steps.is_empty());
    let steps = steps.reduce(|all, steps| all.start.min(steps.start)..all.end.max(steps.end)).unwrap_or_default();
    let mut history = History::default();
    for step in steps {
        let points = open.clone().filter_map(|shard| shard.history.at(step, timeline));
        if let Some(point) = points.reduce(HistoryPoint::add) {
            history.push(step, point);
        }
    }
    history
}

impl HistoryPoint {
    /// Adds a point of another shard at the same step.
    fn add(self, other: Self) -> Self {
        Self {
            at: self.at,
            accept_depth: self.accept_depth + other.accept_depth,
            accept_peak: self.accept_peak.largest(other.accept_peak),
            syn_depth: self.syn_depth.add(other.syn_depth),
            drops: self.drops.add(other.drops),
            accepts: self.accepts.add(other.accepts),
            reads: self.reads.add(other.reads),
            waits: {
                let mut waits = self.waits;
                waits.add(&other.waits);
                waits
            },
        }
    }
}

#[cfg(test)]
mod tests;
