//! `message_balancing`: one thread accepts and reads everything, other threads do the work and write the answers.

use super::{
    FITS, MIN_WORK, OneAcceptor, PatternKind, PatternName, Work, found, percent,
    work::{crowd, share},
};
use crate::{
    model::{Pattern, Role},
    words::prose::grouped,
};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::MessageBalancing,
    seen: "one acceptor, which makes the reads; others make the writes",
    programs: "dispatchers in front of workers",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let one = OneAcceptor::of(work)?;
    if work.writes < MIN_WORK {
        return None;
    }
    let reads = share(one.thread.reads, work.reads);
    let others = share(work.writes - one.thread.writes, work.writes);
    if reads.min(others) < FITS {
        return None;
    }
    let writers = crowd(&work.other_writers(one.thread), Role::Writer, Some(one.thread));
    let mut evidence = one.evidence();
    evidence.push(format!("it made {} of {} reads", percent(reads), grouped(work.reads)));
    evidence.push(format!("{writers} made {} of {} writes", percent(others), grouped(work.writes)));
    found(KIND.name, one.accepts.min(reads).min(others), evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of},
        *,
    };

    /// Of reads and writes: how many the acceptor makes, and how many two others. A fourth thread does nothing.
    fn dispatcher(reads: [u64; 2], writes: [u64; 2]) -> Pattern {
        of(&[(1, 1), (1, 2), (1, 3), (1, 4)], |l| {
            l.accept(0, 60, 50);
            l.read(0, reads[0], 60, 50);
            l.read(1, reads[1], 0, 50);
            l.write(0, writes[0]);
            l.write(1, writes[1] - 1);
            l.write(2, 1);
        })
    }

    #[test]
    fn what_it_reports() {
        let pattern = dispatcher([1_940, 60], [60, 1_140]);
        assert_eq!(pattern.name, PatternName::MessageBalancing);
        assert_eq!(
            pattern.evidence,
            [
                "srv (thread 1) made 100% of 60 accepts",
                "it made 97% of 2,000 reads",
                "2 other threads made 95% of 1,200 writes",
            ]
        );
        assert!((pattern.confidence - 0.95).abs() < 1e-9, "{pattern:?}");
        assert!((dispatcher([1_840, 160], [60, 1_140]).confidence - 0.92).abs() < 1e-9);
    }

    #[test]
    fn one_other_thread_may_write_all() {
        let pattern = of(&[(1, 1), (1, 2)], |l| {
            l.accept(0, 60, 50);
            l.read(0, 60, 60, 50);
            l.write(1, 60);
        });
        assert_eq!(pattern.evidence[2], "1 other thread made 100% of 60 writes");
    }

    #[test]
    fn the_acceptor_makes_nine_tenths_of_the_reads() {
        let reads = |own| name(&dispatcher([own, 1_000 - own], [0, 1_000]));
        assert_eq!(
            [895, 899, 900, 905].map(reads),
            ["acceptor_in_pool", "acceptor_in_pool", "message_balancing", "message_balancing"]
        );
    }

    #[test]
    fn others_make_nine_tenths_of_the_writes() {
        let writes = |others| name(&dispatcher([1_000, 0], [1_000 - others, others]));
        assert_eq!(
            [895, 899, 900, 905].map(writes),
            ["acceptor_in_pool", "acceptor_in_pool", "message_balancing", "message_balancing"]
        );
    }

    #[test]
    fn twenty_reads_and_twenty_writes_are_enough() {
        let seen = |(reads, writes)| name(&dispatcher([reads, 0], [0, writes]));
        assert_eq!([(20, 19), (19, 20), (20, 20)].map(seen), ["unknown", "unknown", "message_balancing"]);
    }
}
