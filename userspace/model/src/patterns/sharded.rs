//! `sharded`: SO_REUSEPORT, each acceptor has its own listener.

use super::{Work, found, percent, work::share};
use crate::{
    model::{Pattern, PatternName},
    words::grouped,
};

pub(super) fn fits(work: &Work<'_>) -> Option<Pattern> {
    let used = work.shards.iter().filter(|accepts| **accepts > 0).count();
    let mut owned: Vec<usize> = work.acceptors().filter(|w| w.accepts > 0).map(|w| w.main_shard.0).collect();
    owned.sort_unstable();
    owned.dedup();
    if used < 2 || owned.len() < 2 {
        return None;
    }
    let own = share(work.workers.iter().map(|w| w.main_shard.1).sum(), work.accepts);
    let mut evidence = vec![
        format!("{} listeners share the address, {used} of them accepted", work.shards.len()),
        format!("{} of {} accepts by a thread from its own listener", percent(own), grouped(work.accepts)),
    ];
    let busiest = work.shards.iter().max().copied().unwrap_or(0);
    evidence.push(format!("the busiest listener has {} of the accepts", percent(share(busiest, work.accepts))));
    found(PatternName::Sharded, own, evidence)
}
