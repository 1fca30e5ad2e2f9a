//! `multi_acceptor`: several threads or processes accept from the same socket.

use std::collections::BTreeSet;

use super::{
    FITS, PatternKind, PatternName, Work, found, percent, plural, succession,
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
    seen: "at least two acceptors on one socket, threads or processes; or one took nearly all connections, and others wait for \
           them, too",
    programs: "nginx workers, prefork",
    fits,
};

/// Shares listed in the evidence: it is one line.
const LISTED: usize = 8;

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let acceptors: Vec<_> = work.acceptors().collect();
    if acceptors.len() < 2 {
        // Of one process it may be a pool around one acceptor.
        return others_wait(work).filter(|_| of_several_processes(work));
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

/// Whether those that wait for connections are of several processes.
fn of_several_processes(work: &Work<'_>) -> bool {
    work.waiting.iter().any(|(pid, _)| *pid != work.waiting[0].0)
}

/// One thread accepts nearly all, but others wait for connections, too: the kernel wakes the same one first.
pub(super) fn others_wait(work: &Work<'_>) -> Option<Pattern> {
    let first = work.workers.first().filter(|first| first.summed.is_none() && first.accepts > 0)?;
    let others = work.waiting.iter().filter(|(_, tid)| *tid != first.tid);
    let tids: BTreeSet<u32> = others.map(|(_, tid)| *tid).collect();
    if tids.is_empty() {
        return None;
    }
    let n = tids.len() as u64 + 1;
    let own = work.waiting.iter().find(|(_, tid)| *tid == first.tid).map_or(first.key.pid, |(pid, _)| *pid);
    let processes: BTreeSet<u32> = work.waiting.iter().map(|(pid, _)| *pid).chain([own]).collect();
    let who = if processes.len() as u64 == n { plural(n, "process") } else { plural(n, "thread") };
    let by_them = work.workers.iter().filter(|w| w.tid == first.tid || tids.contains(&w.tid)).map(|w| w.accepts);
    let evidence = vec![
        format!("{who} wait for the connections of the same socket"),
        format!("one took {} of {} accepts", percent(share(first.accepts, work.accepts)), grouped(work.accepts)),
    ];
    found(KIND.name, share(by_them.sum(), work.accepts), evidence)
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
        super::support::{name, of, of_listener},
        *,
    };
    use crate::{
        fixtures,
        sample::{WaitKind, Waiter},
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

    /// These threads accept so many, and all of them that are named wait: process, thread, whether it waits now.
    fn waited_for(accepts: &[u64], waiting: &[(u32, u32, bool)]) -> Pattern {
        let threads = [(1, 1), (2, 2), (3, 3)];
        let wait = |l: &mut crate::sample::ListenerSample| {
            let waiter =
                |&(pid, tid, waits): &(u32, u32, bool)| Waiter { tid, waits, ..fixtures::waiter(pid, WaitKind::Epoll) };
            l.waiters = Some(waiting.iter().map(waiter).collect());
        };
        of_listener(&threads, wait, |l| accepts.iter().enumerate().for_each(|(t, n)| l.accept(t, *n, 50)))
    }

    #[test]
    fn processes_that_wait_are_acceptors_even_if_one_takes_nearly_all() {
        let one = waited_for(&[38, 1, 1], &[(1, 1, true), (2, 2, true), (3, 3, true), (4, 4, true)]);
        assert_eq!(name(&one), "multi_acceptor");
        assert_eq!(
            one.evidence,
            ["4 processes wait for the connections of the same socket", "one took 95% of 40 accepts"]
        );
        assert_eq!(name(&waited_for(&[40], &[(2, 2, true), (3, 3, true)])), "multi_acceptor", "it is busy itself");
        assert_eq!(name(&waited_for(&[36, 0, 4], &[(1, 1, true), (2, 2, true)])), "multi_acceptor");
        assert_eq!(name(&waited_for(&[35, 0, 5], &[(1, 1, true), (2, 2, true)])), "multi_acceptor", "both in earnest");
    }

    #[test]
    fn one_that_waits_alone_is_no_crowd() {
        let none = name(&waited_for(&[40], &[(1, 1, true)]));
        assert_ne!(none, "multi_acceptor");
        let inherited = name(&waited_for(&[40], &[(1, 1, true), (2, 2, false), (3, 3, false), (4, 0, true)]));
        assert_eq!(inherited, none, "children that inherited the epoll wait for nothing");
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
