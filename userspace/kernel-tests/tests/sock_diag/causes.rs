//! Refused attempts and SYN queues, against the kernel's counters of the namespace.

use std::net::{Ipv6Addr, SocketAddr};

use socket2::Socket;
use test_support::{
    Lab,
    drops::{MixedRefusals, assert_adds_up, half_open},
    lab::{PORT, has_ipv6, loopback},
    skip, sleep_ms,
    sockets::{attempt, connect, connect_to, cookie, defer_accept, listen, listen_on, send_all},
};

use crate::{Run, Test, Watch};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "causes::final_ack_against_syn", run: Run::InLab(final_ack_against_syn) },
    Test { name: "causes::before_the_start", run: Run::InLab(before_the_start) },
    Test { name: "causes::deferred_accepts_are_no_drops", run: Run::InLab(deferred) },
    Test { name: "causes::syn_queue_full_without_cookies", run: Run::InLab(syn_queue_full) },
    Test { name: "causes::several_listeners", run: Run::InLab(several) },
    Test { name: "causes::syn_queues", run: Run::InLab(syn_queues) },
    Test { name: "causes::syn_queue_of_a_dual_stack_listener", run: Run::InLab(syn_queue_of_a_dual_stack_listener) },
    Test { name: "causes::syn_queues_of_shards", run: Run::InLab(syn_queues_of_shards) },
];

/// Takes samples: the second finds causes for drops that the first could not explain.
fn settle(watch: &mut Watch) {
    for _ in 0..3 {
        sleep_ms(50);
        watch.sample();
    }
}

/// Final ACKs that find the queue full count twice in the socket's drops, SYNs once. Each repetition counts too.
fn final_ack_against_syn(lab: &Lab) {
    let listener = listen(PORT, 3);
    let mut watch = Watch::start();
    let before = lab.counters();
    let load = MixedRefusals::prepare(&listener, PORT);
    let (waiting, on_syn) = watch.during(|| load.run());
    settle(&mut watch);
    let after = lab.counters();
    let on_ack = after.since(&before, "ListenOverflows") - on_syn;
    assert!(on_ack > 3 && on_syn == 10, "the test's own load: {on_ack} final ACKs, {on_syn} SYNs");
    assert_eq!(after.since(&before, "TCPDeferAcceptDrop"), 3, "the test's own load");
    let drops = watch.by_id(cookie(&listener)).drops;
    assert_eq!(drops.total, Some(after.since(&before, "ListenDrops")), "{drops:?}");
    assert_eq!((drops.accept_queue_full_on_ack, drops.accept_queue_full_on_syn), (Some(on_ack), Some(on_syn)));
    assert_eq!((drops.syn_queue_full, drops.other, drops.unexplained), (Some(0), Some(0), Some(0)));
    // The number of clients cannot be measured without probes.
    assert_eq!(drops.clients, None);
    assert_eq!(
        watch.model().namespaces.iter().find(|n| n.id.inode == lab.netns).expect("ours").unexplained_drops,
        Some(0)
    );
    drop(waiting);
}

/// Attempts that were refused before the start do not count.
fn before_the_start(_: &Lab) {
    let listener = listen(PORT, 0);
    let waiting = connect(PORT);
    let refused: Vec<Socket> = (0..4).map(|_| attempt(PORT)).collect();
    drop(refused);
    let mut watch = Watch::start();
    settle(&mut watch);
    assert_eq!(watch.by_id(cookie(&listener)).drops.total, Some(0));
    let refused = [attempt(PORT), attempt(PORT)];
    settle(&mut watch);
    let drops = watch.by_id(cookie(&listener)).drops;
    assert_eq!((drops.total, drops.accept_queue_full_on_syn, drops.unexplained), (Some(2), Some(2), Some(0)));
    drop((waiting, refused));
}

fn deferred(lab: &Lab) {
    let listener = listen(PORT, 8);
    let mut watch = Watch::start();
    let before = lab.counters();
    let clients = half_open(&listener, PORT);
    settle(&mut watch);
    assert_eq!(lab.counters().since(&before, "TCPDeferAcceptDrop"), 3, "the test's own load");
    assert_eq!(watch.socket_drops(cookie(&listener)), Some(3));
    // They are ignored on purpose, so they are not drops.
    let drops = watch.by_id(cookie(&listener)).drops;
    assert_eq!(drops.accept_queue_full_on_ack, Some(0));
    assert_eq!(drops.total, Some(0), "{drops:?}");
    drop(clients);
}

fn syn_queue_full(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    let listener = listen(PORT, 2);
    let mut watch = Watch::start();
    let before = lab.counters();
    defer_accept(&listener, 5);
    let clients: Vec<Socket> = (0..8).map(|_| attempt(PORT)).collect();
    settle(&mut watch);
    let after = lab.counters();
    let full = after.since(&before, "TCPReqQFullDrop");
    assert!(full > 3 && after.since(&before, "ListenOverflows") == 0, "the test's own load: {full}");
    let drops = watch.by_id(cookie(&listener)).drops;
    assert_eq!((drops.total, drops.syn_queue_full), (Some(full), Some(full)), "{drops:?}");
    assert_eq!((drops.accept_queue_full_on_syn, drops.accept_queue_full_on_ack), (Some(0), Some(0)));
    drop(clients);
}

/// Several listeners that refuse at the same time: the totals are upper bounds, and uncertain drops are unexplained.
fn several(lab: &Lab) {
    let (first, second) = (listen(PORT, 3), listen(PORT + 1, 0));
    let mut watch = Watch::start();
    let before = lab.counters();
    let late = half_open(&first, PORT);
    let waiting: Vec<Socket> = (0..4).map(|_| connect(PORT)).chain([connect(PORT + 1)]).collect();
    late.iter().for_each(|client| send_all(client, b"x"));
    let refused: Vec<Socket> = (0..10).map(|_| attempt(PORT + 1)).collect();
    watch.during(|| sleep_ms(500));
    drop((late, refused));
    settle(&mut watch);
    let drops = [&first, &second].map(|listener| watch.by_id(cookie(listener)).drops);
    drops.iter().for_each(assert_adds_up);
    let truth = lab.counters().since(&before, "ListenDrops");
    let total: u64 = drops.iter().filter_map(|drops| drops.total).sum();
    let sockets: u64 = [&first, &second].iter().filter_map(|listener| watch.socket_drops(cookie(listener))).sum();
    assert!((truth..=sockets).contains(&total), "{total} of {truth}, {sockets} in the sockets: {drops:?}");
    // The second listener refused only SYNs.
    assert!(drops[1].total >= Some(10) && drops[0].total >= Some(3), "{drops:?}");
    drop(waiting);
}

fn syn_queues(_: &Lab) {
    let listener = listen(PORT, 20);
    let quiet = listen(PORT + 1, 20);
    let any = listen_on(SocketAddr::from(([0, 0, 0, 0], PORT + 2)), 20, |_| ());
    // The requests wait for data from their clients.
    [&listener, &any].into_iter().for_each(|listener| defer_accept(listener, 20));
    let mut watch = Watch::start();
    let clients: Vec<Socket> = (0..6).map(|_| attempt(PORT)).collect();
    let others: Vec<Socket> = (0..2).map(|_| attempt(PORT + 2)).collect();
    let queue = |watch: &Watch, listener: &Socket| {
        let now = watch.by_id(cookie(listener)).now;
        (now.syn_depth, now.syn_young)
    };
    watch.sample_until("requests are seen", |watch| queue(watch, &listener) == (Some(6), Some(6)));
    assert_eq!(queue(&watch, &any), (Some(2), Some(2)));
    assert_eq!(queue(&watch, &quiet), (Some(0), Some(0)));
    others.iter().for_each(|client| send_all(client, b"x"));
    watch.sample_until("data completes them", |watch| queue(watch, &any) == (Some(0), Some(0)));
    assert_eq!((watch.by_id(cookie(&any)).now.accept_depth, watch.by_id(cookie(&any)).now.syn_peak), (2, Some(2)));
    assert_eq!(queue(&watch, &listener), (Some(6), Some(6)));
    drop((clients, others));
}

/// Requests of IPv4 and IPv6 clients of one listener.
fn syn_queue_of_a_dual_stack_listener(_: &Lab) {
    if !has_ipv6() {
        skip("this kernel has no IPv6".to_owned());
    }
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let listener = listen_on(any, 20, |socket| socket.set_only_v6(false).expect("dual-stack"));
    defer_accept(&listener, 20);
    let mut watch = Watch::start();
    let clients = [attempt(PORT), attempt(PORT), connect_to(SocketAddr::from((Ipv6Addr::LOCALHOST, PORT)))];
    watch.sample_until("all three are seen", |watch| watch.by_id(cookie(&listener)).now.syn_depth == Some(3));
    drop(clients);
}

/// The kernel does not report which shard a request belongs to: the depth is unknown, not 0.
fn syn_queues_of_shards(_: &Lab) {
    let shard = || listen_on(loopback(PORT), 20, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
    let shards = [shard(), shard()];
    shards.iter().for_each(|shard| defer_accept(shard, 20));
    let mut watch = Watch::start();
    let depths = |watch: &Watch| shards.each_ref().map(|shard| watch.by_id(cookie(shard)).now.syn_depth);
    assert_eq!(depths(&watch), [Some(0); 2]);
    let clients = [attempt(PORT), attempt(PORT)];
    watch.sample_until("requests are seen", |watch| depths(watch) == [None; 2]);
    clients.iter().for_each(|client| send_all(client, b"x"));
    watch.sample_until("data completes them", |watch| depths(watch) == [Some(0); 2]);
    drop(clients);
}
