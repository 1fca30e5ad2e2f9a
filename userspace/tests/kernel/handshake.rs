//! What only probes on functions measure: each request, each refused SYN with its cause, cookies by listener, and
//! connections that move to another shard.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::{PORT, has_ipv6, loopback, loopback6},
    skip, sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack, connect, connect_to, cookie, give_up_refused, kernel_drops, listen,
        listen_on, retransmits,
    },
    watch::{assert_ms, count},
};

const NEEDS: &[Measure] = &[Measure::SynRequests, Measure::CookiesSent];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "handshake::every_request_and_how_it_ends", needs: NEEDS, run: requests },
    Test { name: "handshake::time_of_late_final_acks", needs: NEEDS, run: late },
    Test { name: "handshake::two_causes_at_once", needs: NEEDS, run: two_causes },
    Test { name: "handshake::clients_of_refused_syns", needs: NEEDS, run: clients },
    Test { name: "handshake::cookies_by_listener", needs: NEEDS, run: cookies },
    Test { name: "handshake::connections_of_a_closed_shard_move", needs: NEEDS, run: migrated },
];

/// Completed and abandoned requests, and a peak between two samples.
fn requests(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let complete: Vec<Socket> = (0..30).map(|_| connect(PORT)).collect();
    let half_open: Vec<Socket> = (0..12).map(|_| attempt_with_late_ack(PORT)).collect();
    // Each client resets its request.
    drop(half_open);
    sleep_ms(50);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.syn_requests, seen.total.enqueued), (Some(42), Some(30)));
    assert_eq!(seen.total.syn_given_up, Some(12));
    assert_eq!((seen.now.syn_depth, seen.now.syn_peak), (Some(0), Some(12)));
    assert_eq!((seen.drops.total, seen.drops.unexplained), (Some(0), Some(0)), "{:?}", seen.drops);
    drop((listener, complete));
}

/// The handshake lasts until the final ACK, which these clients delay.
fn late(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let clients: Vec<Socket> = (0..10).map(|_| attempt_with_late_ack(PORT)).collect();
    watch.sample_until("all are accepted", |_| {
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        accept(&listener).is_none()
    });
    watch.sample_until("all are enqueued", |watch| watch.listener(PORT).total.enqueued == Some(10));
    let seen = watch.listener(PORT);
    assert_eq!(count(seen.distributions.handshake.as_ref()), 10);
    // A delayed ACK is sent after 40 to 200 ms, or later on machines with late timers.
    assert_ms("handshake", seen.distributions.handshake.as_ref(), 0.5, 35_000_000, 2_000_000_000);
    drop(clients);
}

/// Two listeners refuse SYNs at the same time for different causes, which the kernel counts together.
fn two_causes(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    let mut watch = Watch::start(lab);
    let (full_accept, full_syn) = (listen(PORT, 1), listen(PORT + 1, 4));
    let before = lab.counters();
    let attempts: Vec<Socket> = (0..10).map(|_| attempt(PORT)).collect();
    let others: Vec<Socket> = (0..20).map(|_| attempt_with_late_ack(PORT + 1)).collect();
    drop(others);
    let waiting = give_up_refused(attempts);
    sleep_ms(50);
    watch.sample();
    let now = lab.counters();
    let (overflows, syn_full) = (now.since(&before, "ListenOverflows"), now.since(&before, "TCPReqQFullDrop"));
    assert!(overflows == 8 && syn_full > 10, "the test's own load: {overflows}, {syn_full}");
    let (a, b) = (watch.by_id(cookie(&full_accept)).drops, watch.by_id(cookie(&full_syn)).drops);
    assert_eq!((a.accept_queue_full_on_syn, a.syn_queue_full, a.total), (Some(overflows), Some(0), Some(overflows)));
    assert_eq!((b.accept_queue_full_on_syn, b.syn_queue_full, b.total), (Some(0), Some(syn_full), Some(syn_full)));
    assert_eq!((a.unexplained, b.unexplained), (Some(0), Some(0)));
    assert_eq!(kernel_drops(&full_accept), overflows);
    drop(waiting);
}

/// Attempts and clients are different numbers for refused SYNs too.
fn clients(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 2);
    let waiting: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    let refused: Vec<Socket> = (0..5).map(|_| attempt(PORT)).collect();
    // Each client repeats its SYN after a second.
    watch.during(|| sleep_ms(1300));
    let attempts: u64 = refused.iter().map(|client| 1 + retransmits(client)).sum();
    assert!(give_up_refused(refused).is_empty());
    sleep_ms(50);
    watch.sample();
    assert!(attempts > 5, "the test's own load: {attempts}");
    let seen = watch.listener(PORT).drops;
    assert_eq!((seen.accept_queue_full_on_syn, seen.total, seen.clients), (Some(attempts), Some(attempts), Some(5)));
    assert_eq!(kernel_drops(&listener), attempts);
    drop(waiting);
}

/// The kernel counts cookies by namespace. The probes count them by listener, for IPv4 and IPv6.
fn cookies(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "2");
    let mut watch = Watch::start(lab);
    let address = |port: u16| if has_ipv6() && port > PORT + 1 { loopback6(port) } else { loopback(port) };
    let expected = [6, 3, 4, 2];
    let all = || expected.into_iter().zip(PORT..);
    let listeners: Vec<Socket> = all().map(|(_, port)| listen_on(address(port), 16, |_| ())).collect();
    let before = lab.counters();
    let connected: Vec<Socket> = all().flat_map(|(n, port)| (0..n).map(move |_| connect_to(address(port)))).collect();
    sleep_ms(50);
    watch.sample();
    let now = lab.counters();
    let (sent, valid) = (now.since(&before, "SyncookiesSent"), now.since(&before, "SyncookiesRecv"));
    assert_eq!((sent, valid), (15, 15), "the test's own load");
    for (listener, expected) in listeners.iter().zip(expected) {
        let seen = watch.by_id(cookie(listener));
        assert_eq!((seen.total.cookies_sent, seen.total.cookies_validated), (Some(expected), Some(expected)));
        assert_eq!((seen.total.enqueued, seen.total.syn_requests), (Some(expected), Some(0)));
        assert_eq!((seen.drops.total, count(seen.distributions.handshake.as_ref())), (Some(0), 0));
    }
    drop(connected);
}

/// With net.ipv4.tcp_migrate_req the queue of a closing shard moves to another shard.
fn migrated(lab: &Lab) {
    // Some 5.10 kernels have the sysctl but not the function.
    let symbols = std::fs::read_to_string("/proc/kallsyms").expect("every Linux has it");
    if !symbols.lines().any(|line| line.ends_with(" reuseport_migrate_sock")) {
        skip("this kernel moves no connections between shards (net.ipv4.tcp_migrate_req, 5.14)".to_owned());
    }
    lab.sysctl("ipv4/tcp_migrate_req", "1");
    let mut watch = Watch::start(lab);
    let shard = || {
        let shard = listen_on(loopback(PORT), 64, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
        shard.set_nonblocking(true).expect("O_NONBLOCK");
        shard
    };
    let (stays, goes) = (shard(), shard());
    let clients: Vec<Socket> = (0..40).map(|_| connect(PORT)).collect();
    watch.sample();
    let (stays_id, goes_id) = (cookie(&stays), cookie(&goes));
    let enqueued = |id| watch.by_id(id).total.enqueued.expect("it is measured");
    let (own, other) = (enqueued(stays_id), enqueued(goes_id));
    assert!(own + other == 40 && other > 0, "the test's own load: {own}, {other}");
    drop(goes);
    sleep_ms(20);
    let mut accepted = 0;
    let mut servers = Vec::new();
    while let Some(server) = accept(&stays) {
        accepted += 1;
        servers.push(server);
    }
    assert_eq!(accepted, 40, "the test's own load");
    watch.sample();
    let seen = watch.by_id(stays_id);
    assert_eq!((seen.total.enqueued, seen.total.migrated, seen.total.accepts), (Some(40), Some(other), Some(40)));
    assert_eq!((seen.now.accept_depth, seen.now.open), (0, Some(40)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), 40);
    let left = watch.by_id(goes_id);
    assert!(left.closed);
    assert_eq!((left.total.enqueued, left.total.accepts, left.total.aborted), (Some(other), Some(0), Some(0)));
    drop(clients);
}
