//! `multi_acceptor`: several threads or processes accept from the same socket.

use super::{PatternKind, PatternName, Work, found, percent, work::share};
use crate::{model::Pattern, words::prose::grouped};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::MultiAcceptor,
    seen: "at least two acceptors on one socket, threads or processes",
    programs: "nginx workers, prefork",
    fits,
};

/// Shares listed in the evidence: it is one line.
const LISTED: usize = 8;

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let acceptors: Vec<_> = work.acceptors().collect();
    if acceptors.len() < 2 {
        return None;
    }
    let mut pids: Vec<u32> = acceptors.iter().map(|w| w.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let who = match pids.len() {
        1 => format!("{} threads of one process", acceptors.len()),
        n if n == acceptors.len() => format!("{n} processes"),
        n => format!("{} threads of {n} processes", acceptors.len()),
    };
    let mut shares: Vec<_> = acceptors.iter().take(LISTED).map(|w| percent(share(w.accepts, work.accepts))).collect();
    if acceptors.len() > LISTED {
        shares.push("…".to_owned());
    }
    let evidence = vec![
        format!("{who} accept from the same socket"),
        format!("their shares of {} accepts: {}", grouped(work.accepts), shares.join(", ")),
    ];
    let accepted = share(acceptors.iter().map(|w| w.accepts).sum(), work.accepts);
    found(KIND.name, accepted, evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of},
        *,
    };

    fn accepting(threads: &[(u32, u32)], accepts: &[u64]) -> Pattern {
        of(threads, |l| accepts.iter().enumerate().for_each(|(t, n)| l.accept(t, *n, 50)))
    }

    #[test]
    fn threads_and_processes_are_distinguished() {
        let who = |threads: [(u32, u32); 3]| accepting(&threads, &[20, 15, 5]).evidence[0].clone();
        let threads = who([(1, 1), (1, 2), (1, 3)]);
        assert_eq!(threads, "3 threads of one process accept from the same socket");
        assert_eq!(who([(1, 1), (2, 2), (3, 3)]), "3 processes accept from the same socket");
        assert_eq!(who([(1, 1), (2, 2), (1, 3)]), "3 threads of 2 processes accept from the same socket");
    }

    #[test]
    fn eight_shares_are_listed() {
        let threads: Vec<_> = (1..=9).map(|tid| (1, tid)).collect();
        let eight = accepting(&threads[..8], &[150; 8]);
        assert!(eight.evidence[1].ends_with(&["12%"; 8].join(", ")), "{eight:?}");
        let nine = accepting(&threads, &[150; 9]);
        assert_eq!(nine.evidence[1], "their shares of 1,350 accepts: 11%, 11%, 11%, 11%, 11%, 11%, 11%, 11%, …");
    }

    #[test]
    fn acceptors_of_their_own_make_nine_tenths_of_the_accepts() {
        // Two acceptors, and three threads that help out.
        let threads = [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)];
        let helpers = |each| accepting(&threads, &[500, 500 - 3 * each, each, each, each]);
        assert_eq!(
            [30, 33, 34, 36].map(|each| name(&helpers(each))),
            ["multi_acceptor", "multi_acceptor", "unknown", "unknown"]
        );
        assert!((helpers(30).confidence - 0.91).abs() < 1e-9);
    }
}
