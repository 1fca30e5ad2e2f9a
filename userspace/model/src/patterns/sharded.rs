//! `sharded`: SO_REUSEPORT, each acceptor has its own listener.

use super::{PatternKind, PatternName, Work, agree, found, percent, succession, work::share};
use crate::{model::Pattern, words::prose::grouped};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::Sharded,
    seen: "at least two listeners of a group accepted, their main acceptors differ, and threads accept from their own \
           listener",
    programs: "nginx `reuseport`, Envoy",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let used = work.shards.iter().filter(|shard| shard.accepts > 0).count();
    let mut owned: Vec<usize> = work.acceptors().filter(|w| w.accepts > 0).map(|w| w.main_shard.0).collect();
    owned.sort_unstable();
    owned.dedup();
    if used < 2 || owned.len() < 2 {
        return None;
    }
    let own = share(work.workers.iter().map(|w| w.main_shard.1).sum(), work.accepts);
    let busiest = work.shards.iter().map(|shard| shard.accepts).max().unwrap_or(0);
    let closed = match work.shards.iter().filter(|shard| shard.closed).count() {
        0 => String::new(),
        n => format!(", {n} {} closed", agree(n as u64, "has", "have")),
    };
    let mut evidence = vec![
        format!("{} listeners share the address, {used} of them accepted connections{closed}", work.shards.len()),
        format!("threads made {} of {} accepts from their own listener", percent(own), grouped(work.accepts)),
        format!("the busiest listener had {} of the accepts", percent(share(busiest, work.accepts))),
    ];
    evidence.extend(succession::evidence(work.acceptors()));
    found(KIND.name, own, evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of_group},
        *,
    };

    /// For each shard the accepts that the threads 1, 2, … make from it.
    fn accepts<const SHARDS: usize>(by: [&[u64]; SHARDS]) -> Pattern {
        of_group(SHARDS, by[0].len() as u32, |scene| {
            for (shard, threads) in by.iter().enumerate() {
                threads.iter().enumerate().for_each(|(thread, n)| scene.listener(shard).accept(thread, *n, 50));
            }
        })
    }

    #[test]
    fn what_it_reports() {
        let pattern = accepts([&[800, 40], &[20, 740], &[0, 0]]);
        assert_eq!(pattern.name, PatternName::Sharded);
        assert_eq!(
            pattern.evidence,
            [
                "3 listeners share the address, 2 of them accepted connections",
                "threads made 96% of 1,600 accepts from their own listener",
                "the busiest listener had 52% of the accepts",
            ]
        );
        assert!((pattern.confidence - 0.9625).abs() < 1e-9, "{pattern:?}");
    }

    #[test]
    fn nine_tenths_of_the_accepts_are_from_the_threads_own_listener() {
        let own = |own: u64| name(&accepts([&[own, 500 - own], &[500 - own, own]]));
        assert_eq!([440, 449, 450, 460].map(own), ["multi_acceptor", "multi_acceptor", "sharded", "sharded"]);
    }

    #[test]
    fn several_acceptors_of_one_shard_are_none() {
        assert_eq!(name(&accepts([&[50, 50], &[0, 0]])), "multi_acceptor");
        // Both accept mainly from the first; the second shard's few accepts are nobody's main work.
        assert_eq!(name(&accepts([&[50, 50], &[2, 2]])), "multi_acceptor");
    }

    #[test]
    fn of_two_equal_listeners_the_first_is_a_threads_own() {
        assert_eq!(name(&accepts([&[50, 0], &[50, 900]])), "sharded");
    }

    #[test]
    fn a_thread_with_would_block_accepts_only_owns_no_listener() {
        let pattern = of_group(2, 2, |scene| {
            scene.listener(0).accept(1, 5, 50);
            scene.listener(1).accept(1, 95, 50);
            scene.listener(1).would_block(0, 100);
        });
        assert_eq!(name(&pattern), "multi_acceptor");
    }
}
