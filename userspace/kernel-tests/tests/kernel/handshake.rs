//! What only probes on functions measure: each request, each refused SYN with its cause, cookies by listener, and
//! connections that move to another shard.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::{PORT, has_ipv6, loopback, loopback6},
    skip, sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack, attempt_without_hearing, connect, connect_to, cookie, defer_accept,
        give_up_refused, kernel_drops, listen, listen_on, retransmits, send_all, syn_retries, wait_queued,
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
    Test { name: "handshake::requests_that_time_out", needs: NEEDS, run: timed_out },
    Test { name: "handshake::requests_of_a_closed_listener", needs: NEEDS, run: closed },
    Test { name: "handshake::requests_of_a_closed_shard_move", needs: NEEDS, run: requests_move },
    Test { name: "handshake::requests_of_a_closed_shard_move_when_they_expire", needs: NEEDS, run: expiring_move },
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

/// Requests that get no final ACK: some at once, others after their SYN-ACK was sent again. Each is given up once.
fn timed_out(lab: &Lab) {
    lab.sysctl("ipv4/tcp_synack_retries", "0");
    let mut watch = Watch::start(lab);
    let (at_once, later) = (listen(PORT, 64), listen(PORT + 1, 64));
    syn_retries(&later, 1);
    let clients: Vec<Socket> = (0..14).map(|_| attempt_without_hearing(PORT)).collect();
    let others: Vec<Socket> = (0..3).map(|_| attempt_without_hearing(PORT + 1)).collect();
    others.iter().for_each(|client| syn_retries(client, 1));
    // A client that is gone repeats no SYN.
    drop(clients);
    let depths = |watch: &Watch| [PORT, PORT + 1].map(|port| watch.listener(port).now.syn_depth);
    watch.sample();
    assert_eq!(depths(&watch), [Some(14), Some(3)], "the test's own load");
    watch.sample_until("all have timed out", |watch| depths(watch) == [Some(0), Some(0)]);
    watch.sample();
    let seen = watch.by_id(cookie(&at_once)).total;
    assert_eq!((seen.syn_requests, seen.syn_given_up, seen.synack_retransmits), (Some(14), Some(14), Some(0)));
    let seen = watch.by_id(cookie(&later)).total;
    assert_eq!((seen.syn_requests, seen.syn_given_up), (Some(3), Some(3)));
    // The clients repeat their SYNs, which have the SYN-ACKs sent again as well.
    assert!(seen.synack_retransmits >= Some(3), "{seen:?}");
    drop(others);
}

/// What waits in the SYN queue of a listener that closes is given up.
fn closed(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let (id, served) = (cookie(&listener), connect(PORT));
    wait_queued(&listener, 1);
    let clients: Vec<Socket> = (0..5).map(|_| attempt_without_hearing(PORT)).collect();
    watch.sample();
    assert_eq!(watch.by_id(id).now.syn_depth, Some(5), "the test's own load");
    drop(listener);
    watch.sample();
    let seen = watch.by_id(id);
    assert!(seen.closed);
    assert_eq!((seen.total.syn_requests, seen.total.syn_given_up, seen.total.aborted), (Some(6), Some(5), Some(1)));
    drop((clients, served));
}

/// Two shards in a namespace where the queues of a shard that closes move to the other.
fn shards(lab: &Lab) -> (Socket, Socket) {
    // Some 5.10 kernels have the sysctl but not the function.
    let symbols = std::fs::read_to_string("/proc/kallsyms").expect("every Linux has it");
    if !symbols.lines().any(|line| line.ends_with(" reuseport_migrate_sock")) {
        skip("this kernel moves no connections between shards (net.ipv4.tcp_migrate_req, 5.14)".to_owned());
    }
    lab.sysctl("ipv4/tcp_migrate_req", "1");
    let shard = || {
        let shard = listen_on(loopback(PORT), 64, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
        shard.set_nonblocking(true).expect("O_NONBLOCK");
        shard
    };
    (shard(), shard())
}

/// Closes a shard with requests in its SYN queue, while the other one has requests too. Returns the ids of the one that
/// stays and the one that goes, and how many requests that had.
fn close_with_requests(watch: &mut Watch, stays: &Socket, goes: Socket, all: u64) -> (u64, u64, u64) {
    watch.sample();
    let (stays_id, goes_id) = (cookie(stays), cookie(&goes));
    let requests = |id| watch.by_id(id).total.syn_requests.expect("it is measured");
    let (own, other) = (requests(stays_id), requests(goes_id));
    assert!(own + other == all && other > 0, "the test's own load: {own}, {other}");
    drop(goes);
    watch.sample();
    let left = watch.by_id(goes_id);
    assert!(left.closed);
    assert_eq!((left.total.syn_requests, left.total.syn_given_up), (Some(other), Some(0)));
    (stays_id, goes_id, other)
}

/// A request of a closed shard whose final ACK comes is the other shard's.
fn requests_move(lab: &Lab) {
    let (stays, goes) = shards(lab);
    [&stays, &goes].into_iter().for_each(|shard| defer_accept(shard, 5));
    let mut watch = Watch::start(lab);
    let before = lab.counters();
    // Their final ACKs come with their first data.
    let clients: Vec<Socket> = (0..40).map(|_| connect(PORT)).collect();
    let (stays_id, _, other) = close_with_requests(&mut watch, &stays, goes, 40);
    clients.iter().for_each(|client| send_all(client, b"x"));
    watch.sample_until("all are enqueued", |watch| watch.by_id(stays_id).now.accept_depth == 40);
    watch.sample();
    assert_eq!(lab.counters().since(&before, "TCPMigrateReqSuccess"), other, "the test's own load");
    let seen = watch.by_id(stays_id);
    assert_eq!((seen.total.enqueued, seen.total.migrated), (Some(40), Some(other)));
    assert_eq!((seen.total.syn_requests, seen.total.syn_given_up), (Some(40), Some(0)));
    assert_eq!((seen.now.syn_depth, seen.drops.total), (Some(0), Some(0)), "{:?}", seen.drops);
    assert_eq!(count(seen.distributions.handshake.as_ref()), 40);
    drop(clients);
}

/// One whose SYN-ACK is sent again goes on in the other shard's SYN queue.
fn expiring_move(lab: &Lab) {
    let (stays, goes) = shards(lab);
    let mut watch = Watch::start(lab);
    let before = lab.counters();
    let clients: Vec<Socket> = (0..20).map(|_| attempt_without_hearing(PORT)).collect();
    let (stays_id, _, other) = close_with_requests(&mut watch, &stays, goes, 20);
    watch.sample_until("all have moved", |watch| watch.by_id(stays_id).now.syn_depth == Some(20));
    watch.sample();
    assert_eq!(lab.counters().since(&before, "TCPMigrateReqSuccess"), other, "the test's own load");
    let seen = watch.by_id(stays_id);
    assert_eq!((seen.total.syn_requests, seen.total.syn_given_up), (Some(20), Some(0)));
    assert_eq!((seen.total.enqueued, seen.total.migrated), (Some(0), Some(other)));
    drop(clients);
}

/// With net.ipv4.tcp_migrate_req the queue of a closing shard moves to another shard.
fn migrated(lab: &Lab) {
    let (stays, goes) = shards(lab);
    let mut watch = Watch::start(lab);
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
