//! `process_per_connection`: one process accepts, a new process reads each connection.

use super::{
    OneAcceptor, PatternKind, PatternName, Work, agree, found,
    lifetime::{self, Lifetime},
    percent, plural,
    work::{processes, share},
};
use crate::{
    model::{Pattern, Role},
    words::prose::grouped,
};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::ProcessPerConnection,
    seen: "one acceptor; other processes read, one connection each",
    programs: "PostgreSQL, inetd",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let one = OneAcceptor::of(work)?;
    let readers: Vec<_> = one.other_readers().into_iter().filter(|r| r.key.pid != one.thread.key.pid).collect();
    let Lifetime::Connection { threads, ended } = lifetime::of(&readers, work.accepts) else { return None };
    let others = share(readers.iter().map(|r| r.reads).sum(), work.reads);
    let all = readers.iter().map(|r| r.number(Role::Reader)).sum();
    let alone = share(processes(&readers, Role::Reader), all);
    let mut evidence = one.evidence();
    evidence.push(format!(
        "{} other processes read one connection each; {} of them {} ended",
        grouped(threads),
        grouped(ended),
        agree(ended, "has", "have")
    ));
    evidence.push(format!("they made {} of {}", percent(others), plural(work.reads, "read")));
    found(KIND.name, one.accepts.min(others).min(alone), evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{acceptor_and_readers, name, per_connection},
        *,
    };

    #[test]
    fn what_it_reports() {
        let pattern = per_connection(30, |i| 100 + i, 1, |i| i <= 29);
        assert_eq!((pattern.name, pattern.confidence), (PatternName::ProcessPerConnection, 1.0));
        assert_eq!(
            pattern.evidence,
            [
                "srv (process 100) made 100% of 30 accepts",
                "30 other processes read one connection each; 29 of them have ended",
                "they made 100% of 90 reads",
            ]
        );
        let one = per_connection(30, |i| 100 + i, 1_000_000_000, |i| i == 1);
        assert!(one.evidence[1].ends_with("; 1 of them has ended"), "{one:?}");
    }

    #[test]
    fn nine_tenths_of_the_readers_are_alone_in_their_process() {
        // The rest share the first one's process.
        let shared = |n| name(&per_connection(100, |i| 101 + i.saturating_sub(n), 1, |_| true));
        assert_eq!(
            [10, 11, 12].map(shared),
            ["process_per_connection", "process_per_connection", "thread_per_connection"]
        );
    }

    #[test]
    fn other_processes_make_nine_tenths_of_the_reads() {
        let own = |own| {
            name(&acceptor_and_readers(
                100,
                |i| 100 + i,
                |l| {
                    l.read(0, own, 0, 50);
                    (1..=100).for_each(|i| l.read(i, 9, 1, 50));
                },
            ))
        };
        assert_eq!(
            [95, 100, 101, 105].map(own),
            ["process_per_connection", "process_per_connection", "unknown", "unknown"]
        );
    }
}
