//! What is wrong with a listener, with evidence and advice. A file per finding, each a pure function of the
//! `FindingInput`.
//!
//! A new finding is a file here, its `mod` line and its line in [`ALL`].

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
    catalogue::{Threshold, thresholds},
    histogram::Histogram,
    history::Timeline,
    model::{Finding, GroupModel, Interval, ListenerModel, NamespaceModel},
    words::prose::{agree, duration, percent, plural},
};

/// Every finding. Those of the same severity are reported in this order.
pub const ALL: &[&FindingKind] = &[
    &dead_shard::KIND,
    &hung_acceptor::KIND,
    &accept_queue_overflow::KIND,
    &syn_queue_overflow::KIND,
    &accept_errors::KIND,
    &backlog_small::KIND,
    &slow_accept::KIND,
    &slow_reader::KIND,
    &cpu_starved_acceptor::KIND,
    &would_block_storm::KIND,
    &shard_imbalance::KIND,
];

/// What a finding's file declares. The documentation shows the texts, with the thresholds' values for their names.
#[derive(Debug)]
pub struct FindingKind {
    /// Stable name, snake_case.
    pub id: &'static str,
    /// What it means for the clients or the program.
    pub meaning: &'static str,
    /// What must be seen.
    pub when: &'static str,
    /// Which severity it has when.
    pub severity: &'static str,
    /// The bounds that are its own.
    pub thresholds: &'static [Threshold],
    /// Looks for it.
    pub(crate) find: fn(&FindingInput<'_>) -> Option<Finding>,
}

/// What a finding may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindingInput<'a> {
    pub(crate) listener: &'a ListenerModel,
    /// The group that it is a shard of, if that has at least two open shards.
    pub(crate) group: Option<&'a GroupModel>,
    pub(crate) namespace: Option<&'a NamespaceModel>,
    pub(crate) cpus: u32,
    pub(crate) interval: Interval,
    pub(crate) timeline: &'a Timeline,
}

thresholds! {
    /// Every server stops accepting for a time. While a connection waits longer than this and none is accepted, the
    /// accepting thread hangs.
    HUNG_US: u64 = 1_000_000, Micros;
    /// Fewer values than this have no meaningful 99th percentile.
    MIN_VALUES: u64 = 20, Count;
}

/// The bounds that several findings share.
pub const SHARED: &[Threshold] = THRESHOLDS;

impl FindingInput<'_> {
    /// How long the oldest connection has waited, in microseconds, if that is too long and nothing was accepted
    /// recently.
    pub(crate) fn hung_us(&self) -> Option<u64> {
        let l = self.listener;
        let oldest = l.now.oldest_waiting_us.filter(|us| *us > HUNG_US)?;
        (!l.closed && l.rate.accepts == Some(0.0)).then_some(oldest)
    }

    /// Whether the listener hangs while other shards of its group accept.
    pub(crate) fn is_dead_shard(&self) -> bool {
        self.group.is_some_and(|g| g.open.accepts_per_second > 0.0) && self.hung_us().is_some()
    }
}

/// All that is wrong, worst first.
pub(crate) fn find(input: &FindingInput<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = ALL.iter().filter_map(|kind| (kind.find)(input)).collect();
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    found
}

/// The recent distribution if it has enough values, otherwise the interval's.
fn meaningful<'a>(recent: Option<&'a Histogram>, interval: Option<&'a Histogram>) -> Option<&'a Histogram> {
    [recent, interval].into_iter().flatten().find(|h| h.count() >= MIN_VALUES)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
