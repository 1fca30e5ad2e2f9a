use super::{
    super::support::{NS, name, run},
    *,
};
use crate::{
    fixtures::{Scene, listener, thread},
    model::Pattern,
    sample::ThreadSample,
};

/// A server whose acceptors come and go, a sample each 250 ms. Each connection is read and answered by the thread
/// that accepts it.
struct Server {
    scene: Scene,
}

impl Server {
    /// So many shards.
    fn new(shards: usize) -> Self {
        let shard = |id| {
            let mut l = listener(id, NS, "0.0.0.0:80", 128);
            l.reuseport = shards > 1;
            l
        };
        let mut server = Self { scene: Scene::new((1..=shards as u64).map(shard).collect()) };
        server.scene.tick(250);
        server
    }

    /// A thread starts, at a time of its own clock in milliseconds.
    fn start(&mut self, shard: usize, pid: u32, tid: u32, at_ms: u64) {
        let start_ns = at_ms * 1_000_000;
        self.scene.listener(shard).threads.push(ThreadSample { start_ns, ..thread(pid, tid, "srv") });
    }

    /// For so many steps these threads accept so much in each.
    fn work(&mut self, steps: usize, shard: usize, who: &[(u32, u64)]) {
        for _ in 0..steps {
            self.accept(shard, who);
            self.scene.tick(250);
        }
    }

    fn accept(&mut self, shard: usize, who: &[(u32, u64)]) {
        for &(tid, n) in who {
            let l = self.scene.listener(shard);
            let at = l.threads.iter().position(|t| t.tid == tid).expect("it started");
            l.accept(at, n, 50);
            l.read(at, n, n, 50);
            l.write(at, n);
        }
    }

    fn end(&mut self, shard: usize, tid: u32) {
        self.scene.listener(shard).threads.iter_mut().filter(|t| t.tid == tid).for_each(|t| t.ended = true);
    }

    /// The ended threads are no longer listed one by one.
    fn sum_up(&mut self) {
        let threads = &mut self.scene.listener(0).threads;
        let (ended, living): (Vec<_>, Vec<_>) = threads.drain(..).partition(|t| t.ended && t.summed.is_none());
        *threads = living;
        if threads.iter().all(|t| t.summed.is_none()) {
            threads.insert(0, ThreadSample::sum());
        }
        ended.iter().for_each(|t| threads[0].sum_up(t));
    }

    fn pattern(self) -> Pattern {
        run(&self.scene.samples()).model().listeners[0].pattern.clone()
    }
}

const TAKEN: &str = "had stopped accepting before, and";

fn says_taken(pattern: &Pattern) -> bool {
    pattern.evidence.iter().any(|e| e.contains(TAKEN))
}

#[test]
fn one_worker_that_is_reloaded_is_one_acceptor() {
    // nginx starts the new worker, and ends the old one 100 ms later.
    let mut server = Server::new(1);
    server.start(0, 10, 10, 1_000);
    server.work(20, 0, &[(10, 10)]);
    server.start(0, 20, 20, 6_000);
    server.work(1, 0, &[(10, 4), (20, 6)]);
    server.end(0, 10);
    server.work(20, 0, &[(20, 10)]);
    let pattern = server.pattern();
    assert_eq!((name(&pattern), pattern.confidence), ("single_thread", 1.0));
    assert_eq!(
        pattern.evidence[..2],
        [
            "srv (process 20) made 100% of 410 accepts",
            "1 earlier process had stopped accepting before, and its place was taken: a restart, a reload or a change \
             of workers",
        ]
    );
}

#[test]
fn one_that_drains_has_stopped_too() {
    let draining = |later: u64| {
        let mut server = Server::new(1);
        server.start(0, 10, 10, 1_000);
        server.work(20, 0, &[(10, 10)]);
        server.start(0, 20, 20, 6_000);
        // It goes on reading, and lives.
        for _ in 0..later {
            server.scene.listener(0).read(0, 1, 0, 50);
            server.work(1, 0, &[(20, 2)]);
        }
        server.pattern()
    };
    let pattern = draining(20);
    assert_eq!(name(&pattern), "single_thread");
    assert!(says_taken(&pattern), "{pattern:?}");
    // It may only have been idle: of 18 it would have got 9.
    assert_eq!([9, 10].map(|n| name(&draining(n))), ["multi_acceptor", "single_thread"]);
}

#[test]
fn of_those_that_started_together_none_takes_the_place_of_another() {
    // The second accepts only when the first has stopped, because the first is always faster.
    let second = |start_ms| {
        let mut server = Server::new(1);
        server.start(0, 10, 10, 1_000);
        server.start(0, 20, 20, start_ms);
        server.work(20, 0, &[(10, 10)]);
        server.work(20, 0, &[(20, 10)]);
        name(&server.pattern())
    };
    assert_eq!(
        [1_010, 3_000, 3_001, 9_000].map(second),
        ["multi_acceptor", "multi_acceptor", "single_thread", "single_thread"]
    );
}

#[test]
fn four_workers_that_are_reloaded_are_four() {
    let mut server = Server::new(1);
    (10..14).for_each(|pid| server.start(0, pid, pid, 1_000));
    server.work(20, 0, &[(10, 9), (11, 5), (12, 5), (13, 5)]);
    (20..24).for_each(|pid| server.start(0, pid, pid, 6_000));
    server.work(1, 0, &[(10, 2), (11, 2), (12, 2), (20, 2), (21, 2), (22, 2)]);
    (10..14).for_each(|pid| server.end(0, pid));
    server.work(20, 0, &[(20, 5), (21, 5), (22, 5), (23, 5)]);
    let pattern = server.pattern();
    assert_eq!(name(&pattern), "multi_acceptor");
    assert_eq!(pattern.evidence[0], "4 processes accept from the same socket");
    assert_eq!(
        pattern.evidence[2],
        "4 earlier processes had stopped accepting before, and their places were taken: a restart, a reload or a \
         change of workers"
    );
}

#[test]
fn threads_of_a_process_that_is_replaced_are_told_from_processes() {
    let mut server = Server::new(1);
    [10, 11].into_iter().for_each(|tid| server.start(0, 10, tid, 1_000));
    server.work(20, 0, &[(10, 5), (11, 5)]);
    [10, 11].into_iter().for_each(|tid| server.end(0, tid));
    [20, 21].into_iter().for_each(|tid| server.start(0, 20, tid, 6_000));
    server.work(20, 0, &[(20, 5), (21, 5)]);
    let pattern = server.pattern();
    assert_eq!(pattern.evidence[0], "2 threads of one process accept from the same socket");
    assert!(pattern.evidence[2].starts_with("2 threads of 1 earlier process had stopped"), "{pattern:?}");
}

#[test]
fn workers_that_end_after_so_many_connections() {
    for at_a_time in [1, 3] {
        let mut server = Server::new(1);
        // Each works for 2 s; the next takes its place.
        for round in 0..30 {
            let tids: Vec<u32> = (0..at_a_time).map(|n| 100 + round * 10 + n).collect();
            tids.iter().for_each(|&tid| server.start(0, tid, tid, 1_000 + u64::from(round) * 2_000));
            let who: Vec<_> = tids.iter().map(|&tid| (tid, 4)).collect();
            server.work(8, 0, &who);
            tids.iter().for_each(|&tid| server.end(0, tid));
            if round == 20 {
                server.sum_up();
            }
        }
        let pattern = server.pattern();
        let expected = if at_a_time == 1 { "single_thread" } else { "multi_acceptor" };
        assert_eq!((name(&pattern), pattern.confidence), (expected, 1.0), "{pattern:?}");
        let earlier = format!("{} earlier processes {TAKEN} their places were taken", 29 * at_a_time);
        assert!(pattern.evidence.iter().any(|e| e.starts_with(&earlier)), "{pattern:?}");
        if at_a_time == 3 {
            assert_eq!(pattern.evidence[0], "3 processes accept from the same socket");
            assert_eq!(pattern.evidence[1], "their shares of 2,880 accepts: 33%, 33%, 33%");
        }
    }
}

#[test]
fn workers_that_overlap_lived_together() {
    // Each lives for 4 s, and every 2 s one begins: two at a time.
    let mut server = Server::new(1);
    for round in 0..12_u32 {
        server.start(0, 100 + round, 100 + round, 1_000 + u64::from(round) * 2_000);
        let who: Vec<_> = (round.saturating_sub(1)..=round).map(|n| (100 + n, 3)).collect();
        server.work(8, 0, &who);
        if round > 0 {
            server.end(0, 99 + round);
        }
    }
    let pattern = server.pattern();
    assert_eq!(pattern.evidence[0], "2 processes accept from the same socket", "{pattern:?}");
}

#[test]
fn those_that_lived_together_did_not_follow_one_another() {
    // The second accepts when the first has stopped; both end with the server, so much later.
    let together = |later: usize| {
        let mut server = Server::new(1);
        server.start(0, 10, 10, 1_000);
        server.start(0, 20, 20, 1_500);
        server.work(8, 0, &[(10, 10)]);
        server.work(later, 0, &[(20, 10)]);
        server.end(0, 10);
        server.work(12, 0, &[(20, 10)]);
        server.end(0, 20);
        server.work(1, 0, &[]);
        name(&server.pattern())
    };
    assert_eq!([0, 7, 9, 20].map(together), ["single_thread", "single_thread", "multi_acceptor", "multi_acceptor"]);
}

#[test]
fn what_happens_within_one_sample_happened_together() {
    let mut server = Server::new(1);
    (10..20).for_each(|pid| server.start(0, pid, pid, 1_000 * u64::from(pid)));
    server.work(1, 0, &(10..20).map(|pid| (pid, 9)).collect::<Vec<_>>());
    (10..15).for_each(|pid| server.end(0, pid));
    server.work(1, 0, &[]);
    assert_eq!(server.pattern().evidence[0], "10 processes accept from the same socket");
}

#[test]
fn a_listener_that_followed_another_is_no_shard_beside_it() {
    // haproxy -sf: the new process has a listener of its own, and the old one closes.
    for (threads, expected) in [(1, "single_thread"), (4, "multi_acceptor")] {
        let mut server = Server::new(2);
        (0..threads).for_each(|n| server.start(0, 10, 10 + n, 1_000));
        server.work(20, 0, &(0..threads).map(|n| (10 + n, 5)).collect::<Vec<_>>());
        (0..threads).for_each(|n| server.start(1, 20, 20 + n, 6_000));
        (0..threads).for_each(|n| server.end(0, 10 + n));
        server.work(20, 1, &(0..threads).map(|n| (20 + n, 5)).collect::<Vec<_>>());
        let pattern = server.pattern();
        assert_eq!((name(&pattern), pattern.confidence), (expected, 1.0), "{pattern:?}");
        assert!(says_taken(&pattern), "{pattern:?}");
    }
}

#[test]
fn threads_of_a_closed_listener_accept_no_more() {
    // Nobody looks any more whether they live. The one that closed much later lived together with the other.
    let closed_after = |steps: usize| {
        let mut server = Server::new(2);
        server.start(0, 10, 10, 1_000);
        server.work(4, 0, &[(10, 10)]);
        server.start(1, 20, 20, 1_900);
        server.work(steps, 1, &[(20, 10)]);
        server.scene.listener(0).closed = true;
        server.work(1, 1, &[(20, 10)]);
        // The closed one is not in the samples any more.
        server.work(19, 0, &[(20, 10)]);
        name(&server.pattern())
    };
    assert_eq!([0, 7, 9, 20].map(closed_after), ["single_thread", "single_thread", "sharded", "sharded"]);
}

#[test]
fn shards_that_followed_others_are_as_many_as_there_are_at_a_time() {
    let mut server = Server::new(8);
    for n in 0..4 {
        server.start(n, 10, 10 + n as u32, 1_000);
    }
    for _ in 0..20 {
        (0..4).for_each(|n| server.accept(n, &[(10 + n as u32, 5)]));
        server.scene.tick(250);
    }
    for n in 0..4 {
        server.end(n, 10 + n as u32);
        server.start(4 + n, 20, 20 + n as u32, 6_000);
    }
    for _ in 0..20 {
        (4..8).for_each(|n| server.accept(n, &[(16 + n as u32, 5)]));
        server.scene.tick(250);
    }
    (0..4).for_each(|n| server.scene.listener(n).closed = true);
    server.scene.tick(250);
    let pattern = server.pattern();
    assert_eq!((name(&pattern), pattern.confidence), ("sharded", 1.0), "{pattern:?}");
    assert_eq!(pattern.evidence[0], "8 listeners share the address, 8 of them accepted connections, 4 have closed");
    assert!(pattern.evidence[3].starts_with("4 threads of 1 earlier process had stopped"), "{pattern:?}");
}

#[test]
fn a_handover_takes_a_second_at_most() {
    let at = |from: u64, until: u64| Accepting {
        from_us: from,
        begun_us: from + 250_000,
        ending_us: until - 250_000,
        until_us: until,
    };
    let long = at(0, 60_000_000);
    let begins = |from| hands_over(&long, &at(from, from + 30_000_000), false);
    assert_eq!(
        [61_000_000, 60_000_000, 58_500_000, 58_499_999, 30_000_000].map(begins),
        [true, true, true, false, false],
        "each sample says to a quarter of a second"
    );
    // A short one must not have been together with its successor for three tenths of its time.
    let short = |overlap: u64| hands_over(&at(0, 1_000_000), &at(1_000_000 - overlap, 9_000_000), false);
    assert_eq!([300_000, 300_001].map(short), [true, false]);
    // Nor the successor, once it has ended.
    let ended = |ended| hands_over(&long, &at(59_700_000, 60_600_000), ended);
    assert_eq!([ended(false), ended(true)], [true, false]);
}

#[test]
fn a_sum_of_acceptors_without_any_other_is_one() {
    let mut server = Server::new(1);
    server.start(0, 10, 10, 1_000);
    server.work(10, 0, &[(10, 10)]);
    server.end(0, 10);
    server.sum_up();
    server.work(1, 0, &[]);
    let pattern = server.pattern();
    assert_eq!((name(&pattern), pattern.confidence), ("single_thread", 1.0));
    assert_eq!(pattern.evidence[0], "ended threads made 100% of 100 accepts");
}
