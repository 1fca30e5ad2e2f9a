//! Several listeners seen as one: the shards of a SO_REUSEPORT group, in one row.

use std::borrow::Cow;

use listentop_model::{
    histogram::Histogram,
    history::{History, HistoryPoint, Timeline},
    model::{Counts, Distributions, Drops, Gauges, GroupId, ListenerModel, Model, Rates},
};

/// A group of at least two shards.
#[derive(Debug, Clone)]
pub struct Group {
    /// Which.
    pub id: GroupId,
    /// Its shards as indices into the model's listeners, by listener id: the order of their numbers.
    pub members: Vec<usize>,
    /// Place in `members` of the shard whose accept queue is fullest.
    pub fullest: usize,
    /// Sums over the shards, without distributions, threads and history, which are put together for rows on the screen
    /// only.
    pub summary: ListenerModel,
}

impl Group {
    /// Sums up `members` (indices into `model.listeners`, at least one).
    #[must_use]
    pub fn new(id: GroupId, members: Vec<usize>, model: &Model) -> Self {
        let shards: Vec<&ListenerModel> = members.iter().map(|&i| &model.listeners[i]).collect();
        let fullest = (0..shards.len())
            .max_by(|&a, &b| fill(&shards[a].now).total_cmp(&fill(&shards[b].now)).then(b.cmp(&a)))
            .unwrap_or_default();
        Self { id, fullest, summary: summary(&shards), members }
    }

    /// Its shards.
    pub fn shards<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a ListenerModel> + Clone {
        self.members.iter().filter_map(|&i| model.listeners.get(i))
    }

    /// The group as one listener, with everything.
    #[must_use]
    pub fn full(&self, model: &Model) -> ListenerModel {
        let mut threads: Vec<_> = self.shards(model).flat_map(|s| s.threads.iter().cloned()).collect();
        threads.sort_by_key(|t| std::cmp::Reverse((t.accepts, t.reads, t.writes)));
        let distributions = |of: fn(&ListenerModel) -> &Distributions| Distributions {
            accept_wait: merged(self.shards(model).map(|s| of(s).accept_wait.as_ref())),
            handshake: merged(self.shards(model).map(|s| of(s).handshake.as_ref())),
            first_byte: merged(self.shards(model).map(|s| of(s).first_byte.as_ref())),
            first_read: merged(self.shards(model).map(|s| of(s).first_read.as_ref())),
            residency: merged(self.shards(model).map(|s| of(s).residency.as_ref())),
            bytes_per_read: merged(self.shards(model).map(|s| of(s).bytes_per_read.as_ref())),
        };
        ListenerModel {
            distributions: distributions(|s| &s.distributions),
            recent_distributions: distributions(|s| &s.recent_distributions),
            history: history(self.shards(model), &model.timeline),
            threads,
            ..self.summary.clone()
        }
    }
}

/// One row's listener or group.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A listener, or a shard.
    One(&'a ListenerModel),
    /// A group.
    Group(&'a Group, &'a Model),
}

impl<'a> Item<'a> {
    /// Everything but distributions, threads and history, which a group has no sums of here.
    #[must_use]
    pub fn figures(self) -> &'a ListenerModel {
        match self {
            Self::One(listener) => listener,
            Self::Group(group, _) => &group.summary,
        }
    }

    /// The listener whose accept queue is fullest: itself, or a group's fullest shard.
    #[must_use]
    pub fn fullest(self) -> &'a ListenerModel {
        match self {
            Self::One(listener) => listener,
            Self::Group(group, model) => &model.listeners[group.members[group.fullest]],
        }
    }

    /// A recent distribution, merged over the shards of a group.
    #[must_use]
    pub fn recent(self, pick: fn(&Distributions) -> Option<&Histogram>) -> Option<Cow<'a, Histogram>> {
        match self {
            Self::One(listener) => pick(&listener.recent_distributions).map(Cow::Borrowed),
            Self::Group(group, model) => {
                merged(group.shards(model).map(|s| pick(&s.recent_distributions))).map(Cow::Owned)
            }
        }
    }

    /// The accept queue's history, summed over the shards of a group.
    #[must_use]
    pub fn history(self) -> Cow<'a, History> {
        match self {
            Self::One(listener) => Cow::Borrowed(&listener.history),
            Self::Group(group, model) => Cow::Owned(history(group.shards(model), &model.timeline)),
        }
    }
}

/// How full an accept queue is, 0 to 1 (and above, where a backlog was made smaller).
#[must_use]
pub fn fill(now: &Gauges) -> f64 {
    f64::from(now.accept_depth) / f64::from(now.limit.max(1))
}

fn merged<'a>(parts: impl Iterator<Item = Option<&'a Histogram>>) -> Option<Histogram> {
    parts.flatten().fold(None, |sum: Option<Histogram>, part| {
        let mut sum = sum.unwrap_or_default();
        sum.merge(part);
        Some(sum)
    })
}

/// The sum of what is known; `None` if nothing is.
fn sum<T: std::iter::Sum<T>>(values: impl Iterator<Item = Option<T>> + Clone) -> Option<T> {
    values.clone().any(|v| v.is_some()).then(|| values.flatten().sum())
}

fn summary(shards: &[&ListenerModel]) -> ListenerModel {
    macro_rules! total {
        ($($path:ident).+) => { sum(shards.iter().map(|s| s.$($path).+)) };
    }
    macro_rules! drops {
        ($which:ident) => {
            Drops {
                total: total!($which.total),
                accept_queue_full_on_syn: total!($which.accept_queue_full_on_syn),
                accept_queue_full_on_ack: total!($which.accept_queue_full_on_ack),
                syn_queue_full: total!($which.syn_queue_full),
                other: total!($which.other),
                unexplained: total!($which.unexplained),
                clients: total!($which.clients),
            }
        };
    }
    let first = shards[0];
    let mut findings: Vec<_> = shards.iter().flat_map(|s| s.findings.iter().cloned()).collect();
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let mut holders: Vec<u32> = shards.iter().flat_map(|s| s.holders.iter().copied()).collect();
    holders.sort_unstable();
    holders.dedup();
    ListenerModel {
        id: first.id,
        netns: first.netns,
        netns_name: first.netns_name.clone(),
        protocol: first.protocol,
        address: first.address,
        port: first.port,
        v6only: first.v6only,
        group: first.group,
        process: shards.iter().find_map(|s| s.process.clone()),
        holders,
        opened_in_interval: shards.iter().all(|s| s.opened_in_interval),
        closed: shards.iter().all(|s| s.closed),
        now: Gauges {
            accept_depth: shards.iter().map(|s| s.now.accept_depth).sum(),
            backlog: shards.iter().map(|s| s.now.backlog).sum(),
            limit: shards.iter().map(|s| s.now.limit).sum(),
            // Peaks of different shards need not have been at the same time: their largest is what is certain.
            accept_peak: shards.iter().filter_map(|s| s.now.accept_peak).max(),
            recent_accept_peak: shards.iter().filter_map(|s| s.now.recent_accept_peak).max(),
            oldest_waiting_us: shards.iter().filter_map(|s| s.now.oldest_waiting_us).max(),
            syn_depth: total!(now.syn_depth),
            syn_young: total!(now.syn_young),
            defer_accept: shards.iter().filter_map(|s| s.now.defer_accept).reduce(|a, b| a || b),
            syn_peak: shards.iter().filter_map(|s| s.now.syn_peak).max(),
            open: total!(now.open),
            queued_bytes: total!(now.queued_bytes),
        },
        total: Counts {
            enqueued: total!(total.enqueued),
            migrated: total!(total.migrated),
            aborted: total!(total.aborted),
            syn_requests: total!(total.syn_requests),
            syn_given_up: total!(total.syn_given_up),
            synack_retransmits: total!(total.synack_retransmits),
            cookies_sent: total!(total.cookies_sent),
            cookies_validated: total!(total.cookies_validated),
            accepts: total!(total.accepts),
            would_block: total!(total.would_block),
            accept_failed: total!(total.accept_failed),
            reads: total!(total.reads),
            read_bytes: total!(total.read_bytes),
            writes: total!(total.writes),
            write_bytes: total!(total.write_bytes),
        },
        rate: Rates {
            enqueued: total!(rate.enqueued),
            accepts: total!(rate.accepts),
            would_block: total!(rate.would_block),
            accept_failed: total!(rate.accept_failed),
            synack_retransmits: total!(rate.synack_retransmits),
            drops: total!(rate.drops),
            reads: total!(rate.reads),
            read_bytes: total!(rate.read_bytes),
            writes: total!(rate.writes),
            write_bytes: total!(rate.write_bytes),
        },
        drops: drops!(drops),
        recent_drops: drops!(recent_drops),
        distributions: Distributions::default(),
        recent_distributions: Distributions::default(),
        threads: Vec::new(),
        pattern: first.pattern.clone(),
        findings,
        history: History::default(),
    }
}

/// Histories added up step by step.
fn history<'a>(shards: impl Iterator<Item = &'a ListenerModel> + Clone, timeline: &Timeline) -> History {
    let open = shards.filter(|shard| !shard.closed);
    let steps = open.clone().map(|shard| shard.history.steps(timeline)).filter(|steps| !steps.is_empty());
    let steps = steps.reduce(|all, steps| all.start.min(steps.start)..all.end.max(steps.end)).unwrap_or_default();
    let mut history = History::default();
    for step in steps {
        let points = open.clone().filter_map(|shard| shard.history.at(step, timeline));
        history.push(
            step,
            HistoryPoint {
                at: points.clone().map(|p| p.at).next().unwrap_or_default(),
                accept_depth: points.clone().map(|p| p.accept_depth).sum(),
                accept_peak: points.clone().filter_map(|p| p.accept_peak).max(),
                syn_depth: sum(points.clone().map(|p| p.syn_depth)),
                drops: sum(points.clone().map(|p| p.drops)),
                accepts: sum(points.clone().map(|p| p.accepts)),
                reads: sum(points.clone().map(|p| p.reads)),
            },
        );
    }
    history
}
