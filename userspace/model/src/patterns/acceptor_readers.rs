//! `acceptor_readers`: one thread accepts, each connection is then read by one of several others.

use super::{
    OneAcceptor, PatternKind, PatternName, Work, found,
    lifetime::{self, Lifetime},
    percent,
    work::crowd,
};
use crate::{
    model::{Pattern, Role},
    words::prose::grouped,
};

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::AcceptorReaders,
    seen: "one acceptor; a pool of other threads reads",
    programs: "memcached",
    fits,
};

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let one = OneAcceptor::of(work)?;
    let readers = one.other_readers();
    if lifetime::of(&readers, work.accepts) != Lifetime::Pool {
        return None;
    }
    let others = one.others_reads();
    let who = crowd(&readers, Role::Reader, Some(one.thread));
    let mut evidence = one.evidence();
    evidence.push(format!("{who} made {} of {} reads", percent(others), grouped(work.reads)));
    found(KIND.name, one.accepts.min(others), evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of},
        *,
    };

    const POOL: [(u32, u32); 4] = [(1, 1), (1, 2), (1, 3), (1, 4)];

    /// The acceptor makes `own` of the reads, the pool the others.
    fn pool(own: u64, others: u64) -> Pattern {
        of(&POOL, |l| {
            l.accept(0, 60, 50);
            l.read(0, own, 0, 50);
            l.read(1, others - 2, 20, 50);
            (2..4).for_each(|t| l.read(t, 1, 20, 50));
        })
    }

    #[test]
    fn what_it_reports() {
        let pattern = pool(10, 1_990);
        assert_eq!(pattern.name, PatternName::AcceptorReaders);
        assert_eq!(
            pattern.evidence,
            ["srv (thread 1) made 100% of 60 accepts", "3 other threads made 100% of 2,000 reads"]
        );
        assert!((pattern.confidence - 0.995).abs() < 1e-9, "{pattern:?}");
    }

    #[test]
    fn one_other_thread_may_read_all() {
        let pattern = of(&POOL[..2], |l| {
            l.accept(0, 60, 50);
            l.read(1, 120, 60, 50);
        });
        assert_eq!(pattern.evidence[1], "1 other thread made 100% of 120 reads");
        assert_eq!((pattern.name, pattern.confidence), (PatternName::AcceptorReaders, 1.0));
    }

    #[test]
    fn others_make_nine_tenths_of_the_reads() {
        let names = [(105, 895), (101, 899), (100, 900), (95, 905)].map(|(own, others)| pool(own, others).name);
        use PatternName::{AcceptorInPool, AcceptorReaders};
        assert_eq!(names, [AcceptorInPool, AcceptorInPool, AcceptorReaders, AcceptorReaders]);
    }

    #[test]
    fn readers_in_other_processes_are_called_so() {
        let who = |threads: [(u32, u32); 4]| {
            let pattern = of(&threads, |l| {
                l.accept(0, 60, 50);
                (1..4).for_each(|t| l.read(t, 100, 20, 50));
            });
            assert_eq!(name(&pattern), "acceptor_readers");
            pattern.evidence[1].clone()
        };
        assert_eq!(who([(1, 1), (2, 2), (3, 3), (4, 4)]), "3 other processes made 100% of 300 reads");
        assert_eq!(who([(1, 1), (2, 2), (2, 3), (2, 4)]), "3 threads of another process made 100% of 300 reads");
        assert_eq!(who([(1, 1), (2, 2), (2, 3), (3, 4)]), "3 other threads of 2 processes made 100% of 300 reads");
        assert_eq!(who([(1, 1), (1, 2), (1, 3), (1, 4)]), "3 other threads made 100% of 300 reads");
    }

    #[test]
    fn twenty_reads_are_enough() {
        assert_eq!([19, 20].map(|reads| name(&pool(0, reads))), ["unknown", "acceptor_readers"]);
    }
}
