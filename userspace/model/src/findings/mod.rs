//! What is wrong with a listener, with evidence and advice. A file per finding, each a pure function of the [`Scene`].

mod accept_errors;
mod accept_queue_overflow;
mod backlog_small;
mod cpu_starved_acceptor;
mod dead_shard;
mod hung_acceptor;
mod shard_imbalance;
mod slow_accept;
mod slow_reader;
mod syn_queue_overflow;
mod would_block_storm;

use crate::{
    histogram::Histogram,
    history::Timeline,
    model::{Finding, Interval, ListenerModel, NamespaceModel, Severity},
    words::prose::{duration, percent, plural},
};

/// What a finding may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) listener: &'a ListenerModel,
    pub(crate) group: Option<&'a GroupView>,
    pub(crate) namespace: Option<&'a NamespaceModel>,
    pub(crate) cpus: u32,
    pub(crate) interval: Interval,
    pub(crate) timeline: &'a Timeline,
}

/// A group of at least two open shards, in figures.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupView {
    /// Open shards.
    pub(crate) shards: u64,
    /// Connections enqueued over all open shards, in the interval.
    pub(crate) enqueued: u64,
    /// The shard with most of them, and how many.
    pub(crate) busiest: (u64, u64),
    /// Accepts per second over all open shards.
    pub(crate) accepts_per_second: f64,
}

/// Accepts stop for a time in every server; a connection that waits longer than this, with none accepted meanwhile,
/// waits for a thread that hangs.
const HUNG_US: u64 = 1_000_000;
/// Fewer values than this have no 99th percentile worth the name.
const MIN_VALUES: u64 = 20;

/// All that is wrong, worst first.
pub(crate) fn find(scene: &Scene<'_>) -> Vec<Finding> {
    let all = [
        dead_shard::find,
        hung_acceptor::find,
        accept_queue_overflow::find,
        syn_queue_overflow::find,
        accept_errors::find,
        backlog_small::find,
        slow_accept::find,
        slow_reader::find,
        cpu_starved_acceptor::find,
        would_block_storm::find,
        shard_imbalance::find,
    ];
    let mut found: Vec<Finding> = all.iter().filter_map(|find| find(scene)).collect();
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

/// The recent distribution if it has values enough, otherwise the interval's.
fn telling<'a>(recent: &'a Option<Histogram>, interval: &'a Option<Histogram>) -> Option<&'a Histogram> {
    [recent, interval].into_iter().flatten().find(|h| h.count() >= MIN_VALUES)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

impl Severity {
    /// Its name in JSON and on screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests;
