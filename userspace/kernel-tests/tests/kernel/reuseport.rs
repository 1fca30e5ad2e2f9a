//! SO_REUSEPORT: each member of a group is a listener of its own.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::slowness,
    lab::{PORT, loopback},
    sleep_ms,
    sockets::{accept, attempt, cookie, give_up_refused_and_count, kernel_drops, listen_on},
};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "reuseport::a_shard_that_never_accepts",
    needs: &[Measure::Enqueued, Measure::Accepts, Measure::Drops],
    run: a_shard_that_never_accepts,
}];

const SHARDS: usize = 4;
const BACKLOG: i32 = 9;

/// The hash sends about a quarter of them to the shard that does not accept.
fn attempts() -> usize {
    if slowness() == 1 { 400 } else { 120 }
}

fn a_shard_that_never_accepts(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let shards: Vec<Socket> = (0..SHARDS)
        .map(|_| {
            let shard = listen_on(loopback(PORT), BACKLOG, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
            shard.set_nonblocking(true).expect("O_NONBLOCK");
            shard
        })
        .collect();
    // A new namespace's counters have a baseline only after the first read.
    watch.sample();
    let before = lab.counters();
    let mut accepted = [0_u64; SHARDS];
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    let refused = watch.during(|| {
        let mut accept_all = || {
            for (shard, accepted) in shards.iter().zip(&mut accepted).skip(1) {
                while let Some(server) = accept(shard) {
                    *accepted += 1;
                    servers.push(server);
                }
            }
        };
        for _ in 0..attempts() {
            clients.push(attempt(PORT));
            accept_all();
        }
        // A busy kernel leaves packets to ksoftirqd: an attempt may be neither admitted nor refused yet.
        sleep_ms(100);
        accept_all();
        // A refused attempt must not be repeated while it is counted.
        let (admitted, refused) = give_up_refused_and_count(std::mem::take(&mut clients));
        clients = admitted;
        refused
    });
    sleep_ms(50);
    watch.sample();

    let limit = BACKLOG as u64 + 1;
    assert_eq!(watch.listeners(PORT).len(), SHARDS);
    let overflows = lab.counters().since(&before, "ListenOverflows");
    assert_eq!(accepted.iter().sum::<u64>() + limit, clients.len() as u64, "the test's own load");
    assert_eq!(overflows, refused, "the test's own load");
    assert!(overflows > 0 && accepted[1..].iter().all(|n| *n > 0), "the test's own load: {accepted:?}, {overflows}");
    assert_shards(&watch, &shards, accepted, overflows);
}

/// The first shard refused what it had no room for, the others accepted all.
fn assert_shards(watch: &Watch, shards: &[Socket], accepted: [u64; SHARDS], overflows: u64) {
    let limit = BACKLOG as u64 + 1;
    let groups: Vec<_> = watch.listeners(PORT).iter().map(|shard| shard.group.expect("a group")).collect();
    assert!(groups.iter().all(|group| *group == groups[0]));
    for (shard, accepted) in shards.iter().zip(accepted).skip(1) {
        let seen = watch.by_id(cookie(shard));
        assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(accepted), Some(accepted)));
        assert_eq!((seen.now.accept_depth, seen.now.open, seen.drops.total), (0, Some(accepted), Some(0)));
    }
    let dead = watch.by_id(cookie(&shards[0]));
    assert_eq!((dead.total.enqueued, dead.total.accepts), (Some(limit), Some(0)));
    assert_eq!((u64::from(dead.now.accept_depth), u64::from(dead.now.limit)), (limit, limit));
    assert_eq!((dead.drops.total, dead.drops.accept_queue_full_on_syn), (Some(overflows), Some(overflows)));
    assert_eq!(kernel_drops(&shards[0]), overflows);
    assert!(dead.now.oldest_waiting_us > Some(0));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
}
