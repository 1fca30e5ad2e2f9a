//! `multi_acceptor`: several threads or processes accept from the same socket.

use super::{
    FITS, PatternKind, PatternName, Work, found, percent, succession,
    work::{Worker, crowd, share},
};
use crate::{
    catalogue::thresholds,
    model::{Pattern, Role},
    words::prose::grouped,
};

thresholds! {
    /// If so many connections were first read by another of the accepting threads than accepted them, work moves
    /// between threads, and what one thread did says little.
    MOVED: f64 = 0.05, Share;
}

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
    let one_process = acceptors.iter().all(|w| w.key.pid == acceptors[0].key.pid);
    let who = crowd(&acceptors, Role::Acceptor, None);
    let who = if one_process { format!("{who} of one process") } else { who };
    let mut shares: Vec<_> = acceptors.iter().take(LISTED).map(|w| percent(share(w.accepts, work.accepts))).collect();
    if acceptors.len() > LISTED {
        shares.push("…".to_owned());
    }
    let mut evidence = vec![format!("{who} accept from the same socket")];
    evidence.push(format!("their shares of {} accepts: {}", grouped(work.accepts), shares.join(", ")));
    evidence.extend(succession::evidence(acceptors.iter().copied()));
    evidence.extend(moved(&acceptors, work).filter(|_| one_process));
    let accepted = share(acceptors.iter().map(|w| w.accepts).sum(), work.accepts);
    found(KIND.name, accepted, evidence)
}

/// Whether connections move between the accepting threads, as in a runtime that runs tasks on whichever thread is free.
fn moved(acceptors: &[&Worker<'_>], work: &Work<'_>) -> Option<String> {
    let first: u64 = work.workers.iter().map(|w| w.first_reads).sum();
    let own: u64 = acceptors.iter().map(|w| w.first_reads).sum();
    // What a thread read first beyond what it accepted, another one accepted.
    let moved = share(acceptors.iter().map(|w| w.first_reads.saturating_sub(w.accepts)).sum(), first);
    // Others that read are a pool behind the acceptors.
    (share(own, first) >= FITS && moved >= MOVED).then(|| {
        format!(
            "at least {} of {} connections were first read by another of these threads than accepted them: work moves \
             between threads, as in Go or tokio, so the figures of one thread say little",
            percent(moved),
            grouped(first)
        )
    })
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

    /// Two threads that accept so many, and read so many connections first.
    fn moving(threads: [(u32, u32); 3], work: [(u64, u64); 3]) -> bool {
        let pattern = of(&threads, |l| {
            for (t, (accepts, first)) in work.into_iter().enumerate() {
                l.accept(t, accepts, 50);
                l.read(t, 2 * first, first, 50);
            }
        });
        assert_eq!(name(&pattern), "multi_acceptor");
        pattern.evidence.iter().any(|e| e.contains("work moves between threads, as in Go or tokio"))
    }

    #[test]
    fn work_that_moves_between_threads_is_noticed() {
        let one = [(1, 1), (1, 2), (1, 3)];
        let goes = |n: u64| moving(one, [(500 + n, 500), (500 - n, 500), (0, 0)]);
        assert_eq!([0, 49, 50, 200].map(goes), [false, false, true, true]);
        // Other processes cannot take a connection over, and a pool behind the acceptors is another design.
        assert!(!moving([(1, 1), (2, 2), (3, 3)], [(700, 500), (300, 500), (0, 0)]));
        assert!(!moving(one, [(700, 300), (300, 500), (0, 200)]));
        let pattern = of(&one, |l| {
            l.accept(0, 800, 50);
            l.accept(1, 200, 50);
            l.read(0, 500, 500, 50);
            l.read(1, 500, 500, 50);
        });
        assert!(pattern.evidence[2].starts_with(
            "at least 30% of 1,000 connections were first read by another of these threads than accepted them"
        ));
    }
}
