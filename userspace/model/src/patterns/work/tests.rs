use super::{
    super::support::{name, of},
    *,
};

const TWO: [(u32, u32); 2] = [(1, 1), (1, 2)];

/// Of a thousand accepts, the second thread makes so many.
fn helper(accepts: u64) -> &'static str {
    name(&of(&TWO, |l| {
        l.accept(0, 1_000 - accepts, 50);
        l.accept(1, accepts, 50);
        l.read(0, 100, 50, 50);
    }))
}

#[test]
fn a_twentieth_of_the_accepts_makes_an_acceptor() {
    let expected = ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"];
    assert_eq!([47, 49, 50, 52].map(helper), expected);
}

/// Would-block accepts of the first thread, which makes all accepts, and of the second.
fn would_block((first, second): (u64, u64)) -> &'static str {
    name(&of(&TWO, |l| {
        l.accept(0, 100, 50);
        l.read(0, 100, 50, 50);
        l.would_block(0, first);
        l.would_block(1, second);
    }))
}

#[test]
fn a_twentieth_of_the_would_block_accepts_makes_an_acceptor() {
    let shares = [(953, 47), (951, 49), (950, 50), (948, 52)].map(would_block);
    assert_eq!(shares, ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"]);
    let counts = [(0, 19), (0, 20), (0, 21)].map(would_block);
    assert_eq!(counts, ["single_thread", "multi_acceptor", "multi_acceptor"]);
}

fn described(work: impl FnOnce(&mut crate::sample::ListenerSample)) -> Vec<String> {
    let pattern = of(&[(1, 1), (1, 2), (1, 3)], work);
    assert_eq!(name(&pattern), "unknown");
    pattern.evidence
}

#[test]
fn a_description_has_one_and_several_of_each() {
    let one = described(|l| {
        l.accept(0, 1_345, 50);
        l.write(1, 1);
    });
    assert_eq!(
        one,
        ["1,345 accepts by 1 thread", "0 reads by 0 threads", "1 write by 1 thread", "this fits no pattern"]
    );
    let several = described(|l| {
        l.accept(0, 20, 50);
        l.read(0, 15, 20, 50);
        l.read(1, 4, 20, 50);
        (0..3).for_each(|t| l.write(t, 400));
    });
    assert_eq!(
        several[1..3],
        ["79% of 19 reads by the acceptor, the rest by 1 other thread", "1,200 writes by 3 threads"]
    );
    let one_read = described(|l| {
        l.accept(0, 20, 50);
        l.read(0, 1, 1, 50);
    });
    assert_eq!(one_read[1], "100% of 1 read by the acceptor");
}

#[test]
fn readers_of_several_acceptors_are_counted() {
    // Two acceptors that make too little of the accepts together, and three that help out.
    let threads: Vec<_> = (1..=5).map(|tid| (1, tid)).collect();
    let pattern = of(&threads, |l| {
        [430, 430, 47, 47, 46].into_iter().enumerate().for_each(|(t, n)| l.accept(t, n, 50));
        (0..2).for_each(|t| l.read(t, 10, 10, 50));
    });
    assert_eq!(pattern.evidence[..2], ["1,000 accepts by 5 threads", "20 reads by 2 threads"]);
}

/// What each of so many processes accepts.
fn processes(accepts: impl IntoIterator<Item = u64>) -> crate::model::Pattern {
    let accepts: Vec<u64> = accepts.into_iter().collect();
    let pids: Vec<_> = (1..=accepts.len() as u32).map(|pid| (pid, pid)).collect();
    of(&pids, |l| {
        for (t, n) in accepts.into_iter().enumerate() {
            l.accept(t, n, 50);
            l.read(t, n, n, 50);
        }
    })
}

#[test]
fn any_number_of_equal_acceptors_are_acceptors() {
    for n in [2, 19, 20, 21, 30, 64, 500] {
        let pattern = processes(vec![100; n]);
        assert_eq!((name(&pattern), pattern.confidence), ("multi_acceptor", 1.0), "{n}");
        assert_eq!(pattern.evidence[0], format!("{n} processes accept from the same socket"));
    }
    // Some have a quarter of an equal share only.
    let uneven = processes([vec![175; 15], vec![25; 15]].concat());
    assert_eq!(uneven.evidence[0], "30 processes accept from the same socket");
}

#[test]
fn one_hot_acceptor_and_many_cold_ones() {
    for hot in [0, 50, 300, 3_000, 30_000] {
        let pattern = processes(std::iter::once(hot).chain([3; 30]));
        let n = if hot == 0 { 30 } else { 31 };
        assert_eq!((name(&pattern), pattern.confidence), ("multi_acceptor", 1.0), "{hot}");
        assert_eq!(pattern.evidence[0], format!("{n} processes accept from the same socket"));
    }
}

#[test]
fn up_to_three_threads_help_out() {
    let helpers = |n| name(&processes(std::iter::once(10_000).chain(vec![3; n])));
    assert_eq!([1, 3, 4, 5].map(helpers), ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"]);
}

#[test]
fn of_many_that_find_nothing_each_is_an_acceptor() {
    let threads: Vec<_> = (1..=30).map(|tid| (1, tid)).collect();
    let pattern = of(&threads, |l| {
        l.accept(0, 1_000, 50);
        l.read(0, 1_000, 1_000, 50);
        (0..30).for_each(|t| l.would_block(t, 50));
    });
    assert_eq!(pattern.evidence[0], "30 threads of one process accept from the same socket");
}

#[test]
fn thirty_two_shards() {
    let pattern = super::super::support::of_group(32, 32, |scene| {
        (0..32).for_each(|n| scene.listener(n).accept(n, 100, 50));
    });
    assert_eq!((name(&pattern), pattern.confidence), ("sharded", 1.0));
    assert_eq!(pattern.evidence[0], "32 listeners share the address, 32 of them accepted connections");
}

#[test]
fn main_acceptors_have_a_tenth_or_half_of_an_equal_share() {
    let cases = [
        (0.099, 1, false),
        (0.1, 1, true),
        (0.099, 5, false),
        (0.1, 5, true),
        (0.06, 8, false),
        (0.063, 8, true),
        (0.016, 30, false),
        (1.0 / 30.0, 30, true),
        (1.0, 0, true),
    ];
    for (share, acceptors, expected) in cases {
        assert_eq!(is_main_acceptor(share, acceptors), expected, "{share} of {acceptors}");
    }
}

#[test]
fn a_share_of_nothing_is_none() {
    assert_eq!((share(0, 0).to_bits(), share(1, 4).to_bits()), (0.0f64.to_bits(), 0.25f64.to_bits()));
}
