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
    model::{Finding, GroupModel, Interval, ListenerModel, NamespaceModel},
    words::grouped,
};

/// What a finding may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) listener: &'a ListenerModel,
    /// The group that it is a shard of, if that has at least two open shards.
    pub(crate) group: Option<&'a GroupModel>,
    pub(crate) namespace: Option<&'a NamespaceModel>,
    pub(crate) cpus: u32,
    pub(crate) interval: Interval,
    pub(crate) timeline: &'a Timeline,
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

/// A duration in a sentence.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// "1 SYN", "2 SYNs".
fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(n)) }
}

#[cfg(test)]
mod tests;
