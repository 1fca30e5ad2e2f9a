//! `acceptor_in_pool`: one thread accepts, and is one of the pool that reads or writes.

use super::{
    FITS, MIN_WORK, OneAcceptor, PatternKind, PatternName, Work, found,
    lifetime::{self, Lifetime},
    percent, plural,
    work::{Worker, crowd, share},
};
use crate::{
    catalogue::thresholds,
    model::{Pattern, Role},
};

thresholds! {
    /// In a large pool the acceptor's part is small: this part of an equal share of the reads, or of the writes, makes
    /// it one of the pool.
    POOL_PART: f64 = 0.5, Share;
}

pub(super) const KIND: PatternKind = PatternKind {
    name: PatternName::AcceptorInPool,
    seen: "one acceptor, which also makes its part of the reads or the writes; a pool of other threads makes the rest",
    programs: "Redis with `io-threads`, Varnish",
    fits,
};

/// A kind of work that the acceptor shares with others.
struct Shared<'w, 'a> {
    others: Vec<&'w Worker<'a>>,
    own: u64,
    all: u64,
    role: Role,
    noun: &'static str,
}

impl Shared<'_, '_> {
    fn own_share(&self) -> f64 {
        share(self.own, self.all)
    }

    /// Whether the acceptor makes its part, and others theirs.
    fn is_shared(&self) -> bool {
        let team = 1 + self.others.iter().map(|w| w.number(self.role)).sum::<u64>();
        let (own, rest) = (self.own_share(), 1.0 - self.own_share());
        self.all >= MIN_WORK && own < FITS && (rest < FITS || own >= POOL_PART / team as f64)
    }
}

fn fits(work: &Work<'_>) -> Option<Pattern> {
    let one = OneAcceptor::of(work)?;
    let acceptor = one.thread;
    let reads =
        Shared { others: one.other_readers(), own: acceptor.reads, all: work.reads, role: Role::Reader, noun: "read" };
    let writes = Shared {
        others: work.other_writers(acceptor),
        own: acceptor.writes,
        all: work.writes,
        role: Role::Writer,
        noun: "write",
    };
    // Each connection may have a thread of its own that the acceptor helps, or threads that only read, or only write.
    let pool = if reads.is_shared() {
        lifetime::of(&reads.others, work.accepts) == Lifetime::Pool
    } else {
        reads.own_share() >= FITS && writes.is_shared()
    };
    if !pool {
        return None;
    }
    let mut evidence = one.evidence();
    for part in [reads, writes].into_iter().filter(|part| part.all > 0) {
        let (own, all) = (percent(part.own_share()), plural(part.all, part.noun));
        evidence.push(match &part.others[..] {
            [] => format!("it made all of {all}"),
            others => {
                let rest = percent(1.0 - part.own_share());
                format!("it made {own} of {all}, {} made {rest}", crowd(others, part.role, Some(acceptor)))
            }
        });
    }
    found(KIND.name, one.accepts, evidence)
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{name, of, of_listener, per_connection},
        *,
    };

    /// What thread 1, which accepts, and each of `others` threads read and write.
    fn pool(others: u64, reads: [u64; 2], writes: [u64; 2]) -> Pattern {
        let threads: Vec<_> = (1..=1 + others as u32).map(|tid| (1, tid)).collect();
        of(&threads, |l| {
            l.accept(0, 60, 50);
            l.read(0, reads[0], reads[0].min(12), 50);
            l.write(0, writes[0]);
            for t in 1..=others as usize {
                l.read(t, reads[1], reads[1].min(16), 50);
                l.write(t, writes[1]);
            }
        })
    }

    #[test]
    fn what_it_reports() {
        let pattern = pool(3, [500, 500], [410, 530]);
        assert_eq!((pattern.name, pattern.confidence), (PatternName::AcceptorInPool, 1.0));
        assert_eq!(
            pattern.evidence,
            [
                "srv (thread 1) made 100% of 60 accepts",
                "it made 25% of 2,000 reads, 3 other threads made 75%",
                "it made 20% of 2,000 writes, 3 other threads made 80%",
            ]
        );
    }

    #[test]
    fn only_the_writes_may_be_shared() {
        let pattern = pool(3, [2_000, 0], [500, 500]);
        assert_eq!(pattern.name, PatternName::AcceptorInPool);
        assert_eq!(
            pattern.evidence[1..],
            ["it made all of 2,000 reads", "it made 25% of 2,000 writes, 3 other threads made 75%",]
        );
    }

    #[test]
    fn large_and_small_pools() {
        assert_eq!([1, 3, 15, 63].map(|n| name(&pool(n, [500, 500], [9, 9]))), ["acceptor_in_pool"; 4]);
    }

    #[test]
    fn an_acceptor_that_makes_less_than_its_part_is_none_of_the_pool() {
        let own = |others, own| name(&pool(others, [own, (1_000 - own) / others], [0, 0]));
        // A tenth is enough in every pool.
        assert_eq!(
            [60, 97, 103, 130].map(|n| own(3, n)),
            ["acceptor_readers", "acceptor_readers", "acceptor_in_pool", "acceptor_in_pool"]
        );
        // Of 16, an equal share is 6.25 %.
        assert_eq!(
            [25, 30, 33, 60].map(|n| own(15, n)),
            ["acceptor_readers", "acceptor_readers", "acceptor_in_pool", "acceptor_in_pool"]
        );
    }

    #[test]
    fn an_acceptor_that_does_nearly_everything_is_alone() {
        assert_eq!(name(&pool(1, [950, 50], [950, 50])), "single_thread");
        assert_eq!(name(&pool(1, [800, 200], [800, 200])), "acceptor_in_pool");
    }

    #[test]
    fn processes_are_called_so() {
        let pattern = of(&[(1, 1), (2, 2), (3, 3)], |l| {
            l.accept(0, 60, 50);
            (0..3).for_each(|t| l.read(t, 200, 20, 50));
        });
        assert_eq!(
            pattern.evidence,
            ["srv (process 1) made 100% of 60 accepts", "it made 33% of 600 reads, 2 other processes made 67%"]
        );
    }

    #[test]
    fn threads_with_one_connection_each_are_no_pool() {
        let pattern = of_listener(
            &(0..=40).map(|i| (1, 1 + i)).collect::<Vec<_>>(),
            |_| {},
            |l| {
                l.accept(0, 60, 50);
                l.read(0, 60, 20, 50);
                (1..=40).for_each(|t| l.read(t, 3, 1, 50));
            },
        );
        assert_eq!(name(&pattern), "unknown");
        assert_eq!(name(&per_connection(40, |_| 100, 1, |_| true)), "thread_per_connection");
    }
}
