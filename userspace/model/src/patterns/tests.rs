//! From samples to patterns.

use super::{
    support::{NS, of, per_connection, run},
    *,
};
use crate::{
    fixtures::{self, Scene, listener, thread},
    model::PatternName as P,
};

#[test]
fn each_pattern_is_recognised() {
    let one = [(1, 1)];
    let pool = [(1, 1), (1, 2), (1, 3), (1, 4)];
    let single = of(&one, |l| {
        l.accept(0, 50, 50);
        l.read(0, 100, 50, 50);
        l.write(0, 100);
    });
    let readers = of(&pool, |l| {
        l.accept(0, 60, 50);
        (1..4).for_each(|t| l.read(t, 40, 20, 50));
        (1..4).for_each(|t| l.write(t, 40));
    });
    let messages = of(&pool, |l| {
        l.accept(0, 60, 50);
        l.read(0, 200, 60, 50);
        (1..4).for_each(|t| l.write(t, 66));
    });
    let shared = of(&pool, |l| {
        l.accept(0, 60, 50);
        (0..4).for_each(|t| l.read(t, 40, 15, 50));
        (0..4).for_each(|t| l.write(t, 40));
    });
    let multi = of(&pool, |l| {
        for t in 0..4 {
            l.accept(t, 20, 50);
            l.read(t, 20, 20, 50);
        }
    });
    let cases = [
        (single, P::SingleThread, "100% of 50 accepts"),
        (readers, P::AcceptorReaders, "3 other threads made 100% of 120 reads"),
        (messages, P::MessageBalancing, "3 other threads made 100% of 198 writes"),
        (shared, P::AcceptorInPool, "it made 25% of 160 reads, 3 other threads made 75%"),
        (multi, P::MultiAcceptor, "4 threads of one process accept from the same socket"),
        (per_connection(30, |_| 100, 1, |_| true), P::ThreadPerConnection, "30 other threads read one connection each"),
        (per_connection(30, |_| 100, 1_000_000_000, |_| false), P::ThreadPerConnection, "0 of them have ended"),
        (per_connection(30, |i| 100 + i, 1, |_| true), P::ProcessPerConnection, "30 other processes"),
    ];
    for (pattern, name, evidence) in cases {
        assert_eq!(pattern.name, name, "{pattern:?}");
        assert!(pattern.confidence >= 0.9 && pattern.confidence <= 1.0, "{pattern:?}");
        assert!(pattern.evidence.iter().any(|e| e.contains(evidence)), "{pattern:?}");
    }
}

#[test]
fn what_fits_none_is_unknown() {
    let few = of(&[(1, 1)], |l| {
        l.accept(0, MIN_ACCEPTS - 1, 50);
        l.read(0, 100, 19, 50);
    });
    let idle = of(&[], |_| {});
    // Others read a connection or two each: a pool, or not?
    let many: Vec<_> = (1..=40).map(|tid| (1, tid)).collect();
    let mixed_reads = of(&many, |l| {
        l.accept(0, 60, 50);
        l.read(0, 60, 0, 50);
        (1..40).for_each(|t| l.read(t, 2, 1 + t as u64 % 2, 50));
    });
    let no_reads = of(&[(1, 1)], |l| l.accept(0, 60, 50));
    let mut l = listener(1, NS, "0.0.0.0:80", 128);
    l.threads = vec![thread(1, 1, "srv")];
    l.counts.writes = None;
    let mut scene = Scene::new(vec![l]);
    scene.listener(0).accept(0, 60, 50);
    scene.listener(0).read(0, 60, 60, 50);
    scene.tick(1000);
    let writes_unknown = run(&scene.samples()).model().listeners[0].pattern.clone();
    // Twenty threads that started together and read one connection each: a pool, or one per connection?
    let unclear = per_connection(20, |_| 100, 1, |_| false);
    let cases = [
        (few, "only 19 accepts"),
        (idle, "no accepts"),
        (mixed_reads, "43% of 138 reads by the acceptor, the rest by 39 other threads"),
        (no_reads, "0 reads"),
        (writes_unknown, "fits no pattern"),
        (unclear, "20 other threads"),
    ];
    for (pattern, evidence) in cases {
        assert_eq!((pattern.name, pattern.confidence), (P::Unknown, 0.0), "{pattern:?}");
        assert!(pattern.evidence.iter().any(|e| e.contains(evidence)), "{pattern:?} lacks {evidence}");
    }
}

#[test]
fn what_is_not_measured_is_said_so() {
    let tracker = run(&fixtures::unavailable());
    assert_eq!(tracker.model().listeners[0].pattern.evidence, ["accepts are not measured here"]);
}

#[test]
fn a_group_decides_for_its_shards() {
    let tracker = run(&fixtures::dead_shard());
    for l in &tracker.model().listeners {
        assert_eq!(l.pattern.name, P::Sharded, "{:?}", l.pattern);
    }
    assert!(
        tracker.model().listeners[0].pattern.evidence[0]
            .contains("4 listeners share the address, 3 of them accepted connections")
    );
}

#[test]
fn one_thread_that_accepts_from_all_shards_is_not_sharded() {
    let shard = |id| {
        let mut l = listener(id, NS, "0.0.0.0:80", 128);
        l.reuseport = true;
        l.threads = vec![thread(7, 7, "srv")];
        l
    };
    let mut scene = Scene::new(vec![shard(1), shard(2)]);
    for n in 0..2 {
        scene.listener(n).accept(0, 30, 50);
        scene.listener(n).read(0, 30, 30, 50);
        scene.listener(n).write(0, 30);
    }
    scene.tick(1000);
    for l in &run(&scene.samples()).model().listeners {
        assert_eq!(l.pattern.name, P::SingleThread);
        assert_eq!(l.threads[0].accept_share, Some(0.5), "shares are of the group");
    }
}

#[test]
fn the_quiet_machine() {
    let tracker = run(&fixtures::quiet());
    let names: Vec<_> = tracker.model().listeners.iter().map(|l| (l.port, l.pattern.name)).collect();
    assert_eq!(names, [(22, P::Unknown), (80, P::MultiAcceptor), (6379, P::SingleThread)]);
}

#[test]
fn twenty_accepts_are_enough() {
    let seen = |accepts| {
        of(&[(1, 1)], |l| {
            l.accept(0, accepts, 50);
            l.read(0, 100, 50, 50);
        })
    };
    assert_eq!([18, 19, 20, 22].map(|n| seen(n).name), [P::Unknown, P::Unknown, P::SingleThread, P::SingleThread]);
    assert_eq!(seen(0).evidence, ["no accepts were seen"]);
    assert_eq!(seen(1).evidence, ["only 1 accept was seen, fewer than 20"]);
    assert_eq!(seen(2).evidence, ["only 2 accepts were seen, fewer than 20"]);
}

#[test]
fn every_pattern_has_a_name_of_its_own() {
    let mut names: Vec<_> = P::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names.last().map(String::as_str), Some("unknown"));
    assert_eq!(names.len(), ALL.len() + 1);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len() + 1);
}
