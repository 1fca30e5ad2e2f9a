//! `thread_per_connection`: one thread accepts, a new thread reads each connection.

use super::{
    OneAcceptor, PatternKind, PatternName, Work, agree, found,
    lifetime::{self, Lifetime},
    percent, plural,
};
use crate::{model::Pattern, words::prose::grouped};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::ThreadPerConnection,
    seen: "one acceptor; other threads read, one connection each",
    programs: "classic Java, Python's ThreadingHTTPServer",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let one = OneAcceptor::of(work)?;
    let Lifetime::Connection { threads, ended } = lifetime::of(&one.other_readers(), work.accepts) else { return None };
    let others = one.others_reads();
    let mut evidence = one.evidence();
    evidence.push(format!(
        "{} other threads read one connection each; {} of them {} ended",
        grouped(threads),
        grouped(ended),
        agree(ended, "has", "have")
    ));
    evidence.push(format!("they made {} of {}", percent(others), plural(work.reads, "read")));
    found(KIND.name, one.accepts.min(others), evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{acceptor_and_readers, name, per_connection},
        *,
    };

    #[test]
    fn what_it_reports() {
        let pattern = per_connection(30, |_| 100, 1_000_000_000, |i| i == 3);
        assert_eq!((pattern.name, pattern.confidence), (PatternName::ThreadPerConnection, 1.0));
        assert_eq!(
            pattern.evidence,
            [
                "srv (thread 100) made 100% of 30 accepts",
                "30 other threads read one connection each; 1 of them has ended",
                "they made 100% of 90 reads",
            ]
        );
        let all = per_connection(30, |_| 100, 1, |_| true);
        assert!(all.evidence[1].ends_with("; 30 of them have ended"), "{all:?}");
    }

    #[test]
    fn other_threads_make_nine_tenths_of_the_reads() {
        let own = |own| {
            name(&acceptor_and_readers(
                100,
                |_| 100,
                |l| {
                    l.read(0, own, 0, 50);
                    (1..=100).for_each(|i| l.read(i, 9, 1, 50));
                },
            ))
        };
        assert_eq!(
            [95, 100, 101, 105].map(own),
            ["thread_per_connection", "thread_per_connection", "unknown", "unknown"]
        );
    }
}
