//! Refused attempts, by cause, against the kernel's counters of the namespace and of the socket.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    drops::{MixedRefusals, assert_adds_up},
    lab::{Counters, PORT},
    skip, sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack, attempt_without_hearing, connect, cookie, defer_accept,
        give_up_refused, kernel_drops, listen, reset, send_all,
    },
    wait_until,
    watch::assert_whole,
};

const NEEDS: &[Measure] = &[Measure::Drops, Measure::DropCause, Measure::Enqueued];

const SYN_ACKS: &[Measure] = &[Measure::SynQueueDepth, Measure::SynackRetransmits];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "drops::final_ack_overflow_against_syn_overflow", needs: NEEDS, run: final_ack_against_syn },
    Test { name: "drops::deferred_accepts_are_no_drops", needs: NEEDS, run: deferred },
    Test { name: "drops::distinct_clients_of_refused_final_acks", needs: NEEDS, run: distinct_clients },
    Test { name: "drops::syn_acks_sent_again", needs: SYN_ACKS, run: syn_acks_sent_again },
    Test { name: "drops::reset_on_overflow", needs: NEEDS, run: reset_on_overflow },
    Test { name: "drops::syn_queue_full_without_cookies", needs: NEEDS, run: syn_queue_full },
    Test { name: "drops::last_quarter_of_the_syn_backlog", needs: NEEDS, run: last_quarter },
    Test { name: "drops::full_accept_queue_beside_a_syn_queue_at_its_limit", needs: NEEDS, run: accept_queue_only },
    Test { name: "drops::last_quarter_beside_an_accept_queue_at_its_backlog", needs: NEEDS, run: last_quarter_only },
    Test { name: "drops::ignored_packets_after_cookies", needs: NEEDS, run: ignored_after_cookies },
    Test { name: "drops::cookies_instead_of_drops", needs: NEEDS, run: cookies },
    Test { name: "drops::final_ack_with_a_cookie", needs: NEEDS, run: cookie_final_ack },
    Test { name: "drops::stray_resets_are_no_attempts", needs: NEEDS, run: stray_resets },
    Test { name: "drops::two_listeners_at_once_same_cause", needs: NEEDS, run: two_same_cause },
    Test { name: "drops::two_listeners_at_once_two_causes", needs: NEEDS, run: two_causes },
];

/// The kernel's own counts for a namespace and one socket in it, since this was created.
struct Truth<'a> {
    lab: &'a Lab,
    before: Counters,
    socket_before: u64,
}

impl<'a> Truth<'a> {
    fn begin(lab: &'a Lab, listener: &Socket) -> Self {
        Self { lab, before: lab.counters(), socket_before: kernel_drops(listener) }
    }

    fn grown(&self, name: &str) -> u64 {
        self.lab.counters().since(&self.before, name)
    }

    fn socket(&self, listener: &Socket) -> u64 {
        kernel_drops(listener) - self.socket_before
    }
}

/// Waits for the last packets of clients that gave up, and takes two samples: the second finds causes for drops that
/// the first could not explain.
fn settle(watch: &mut Watch) {
    sleep_ms(50);
    watch.sample();
    sleep_ms(50);
    watch.sample();
}

/// Late final ACKs find the queue full, and SYNs after them. The clients repeat each of them, and each repetition
/// counts.
fn final_ack_against_syn(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 3);
    let truth = Truth::begin(lab, &listener);
    // A new namespace's counters have a baseline only after the first read.
    watch.sample();

    let load = MixedRefusals::prepare(&listener, PORT);
    assert_eq!(truth.grown("TCPDeferAcceptDrop"), 3, "the test's own load: final ACKs ignored");
    let (waiting, on_syn) = watch.during(|| load.run());
    settle(&mut watch);

    let (overflows, drops) = (truth.grown("ListenOverflows"), truth.grown("ListenDrops"));
    let on_ack = overflows - on_syn;
    assert!(on_ack > 3 && on_syn == 10, "the test's own load: {on_ack} final ACKs, {on_syn} SYNs");
    let seen = watch.listener(PORT);
    assert_eq!(seen.drops.accept_queue_full_on_ack, Some(on_ack));
    assert_eq!(seen.drops.accept_queue_full_on_syn, Some(on_syn));
    assert_eq!(seen.drops.total, Some(drops));
    assert_eq!((seen.drops.syn_queue_full, seen.drops.other, seen.drops.unexplained), (Some(0), Some(0), Some(0)));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
    assert_eq!((seen.now.accept_depth, seen.now.limit, seen.now.accept_peak), (4, 4, Some(4)));
    assert_eq!(seen.total.enqueued, Some(4));
    assert!(seen.now.syn_peak >= Some(3), "{:?}", seen.now);
    drop(waiting);
}

/// TCP_DEFER_ACCEPT ignores final ACKs without data on purpose. That is not a drop.
fn deferred(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 8);
    let truth = Truth::begin(lab, &listener);
    defer_accept(&listener, 5);
    let clients: Vec<Socket> = (0..4).map(|_| attempt(PORT)).collect();
    watch.sample_until("all are in the SYN queue", |watch| watch.listener(PORT).now.syn_depth == Some(4));
    assert_eq!(watch.listener(PORT).now.accept_depth, 0);
    clients.iter().for_each(|client| send_all(client, b"hello"));
    settle(&mut watch);
    assert_eq!((truth.grown("TCPDeferAcceptDrop"), truth.socket(&listener)), (4, 4));
    let seen = watch.listener(PORT);
    assert_eq!(seen.drops.total, Some(0), "{:?}", seen.drops);
    assert_eq!((seen.now.syn_depth, seen.now.accept_depth), (Some(0), 4));
    assert_eq!(seen.now.queued_bytes, Some(20));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
}

/// Attempts are not clients: each of three clients is refused several times.
fn distinct_clients(lab: &Lab) {
    let mut watch = Watch::start(lab);
    // The SYN queue has room for them and one more.
    let listener = listen(PORT, 4);
    let truth = Truth::begin(lab, &listener);
    let late: Vec<Socket> = (0..3).map(|_| attempt_with_late_ack(PORT)).collect();
    let waiting: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    // Their final ACKs come after 200 ms, and again when the server repeats its SYN-ACK after one second.
    watch.during(|| sleep_ms(1500));
    drop(late);
    settle(&mut watch);
    let overflows = truth.grown("ListenOverflows");
    assert!(overflows > 3, "the test's own load: {overflows}");
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.total, seen.drops.accept_queue_full_on_ack), (Some(overflows), Some(overflows)));
    assert_eq!(seen.drops.clients, Some(3));
    assert_whole(seen.total.synack_retransmits, truth.grown("TCPSynRetrans"));
    drop(waiting);
}

/// Requests that cannot complete because the accept queue is full stay in the SYN queue. They are young until their
/// SYN-ACK is sent again.
fn syn_acks_sent_again(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (listener, idle) = (listen(PORT, 4), listen(PORT + 1, 4));
    // The clients repeat no SYN, so all retransmissions are the listener's.
    let truth = Truth::begin(lab, &listener);
    let late: Vec<Socket> = (0..3).map(|_| attempt_with_late_ack(PORT)).collect();
    let waiting: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    let queue = |watch: &mut Watch| {
        watch.sample();
        let now = &watch.listener(PORT).now;
        (now.syn_depth, now.syn_young)
    };
    let before = queue(&mut watch);
    assert_eq!(truth.grown("TCPSynRetrans"), 0, "the test's own load: none was sent again yet");
    assert_eq!(before, (Some(3), Some(3)));
    wait_until("each SYN-ACK is sent again", || truth.grown("TCPSynRetrans") >= 3);
    assert_eq!(queue(&mut watch), (Some(3), Some(0)));
    wait_until("and once more", || truth.grown("TCPSynRetrans") >= 6);
    assert_eq!(queue(&mut watch), (Some(3), Some(0)));
    drop(late);
    settle(&mut watch);
    let seen = watch.by_id(cookie(&listener));
    assert_whole(seen.total.synack_retransmits, truth.grown("TCPSynRetrans"));
    assert_eq!(seen.now.syn_depth, Some(0));
    let seen = watch.by_id(cookie(&idle));
    assert_eq!((seen.total.synack_retransmits, seen.now.syn_depth, seen.now.syn_young), (Some(0), Some(0), Some(0)));
    drop(waiting);
}

/// tcp_abort_on_overflow answers a refused final ACK with a reset. There is one per client, which does not try again.
fn reset_on_overflow(lab: &Lab) {
    lab.sysctl("ipv4/tcp_abort_on_overflow", "1");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 4);
    let truth = Truth::begin(lab, &listener);
    let late: Vec<Socket> = (0..3).map(|_| attempt_with_late_ack(PORT)).collect();
    let waiting: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    watch.during(|| sleep_ms(400));
    settle(&mut watch);
    let resets = late.iter().filter(|client| client.take_error().is_ok_and(|error| error.is_some())).count();
    assert_eq!((resets, truth.grown("EmbryonicRsts")), (3, 3), "the test's own load");
    assert_eq!(truth.grown("ListenOverflows"), 3);
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.total, seen.drops.accept_queue_full_on_ack), (Some(3), Some(3)), "{:?}", seen.drops);
    assert_eq!((seen.drops.accept_queue_full_on_syn, seen.drops.unexplained), (Some(0), Some(0)));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
    drop(waiting);
}

/// Without cookies a full SYN queue refuses SYNs, while the accept queue is empty.
fn syn_queue_full(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 4);
    let truth = Truth::begin(lab, &listener);
    let clients: Vec<Socket> = (0..20).map(|_| attempt_with_late_ack(PORT)).collect();
    watch.sample();
    let depth = watch.listener(PORT).now.syn_depth.expect("it is measured");
    drop(clients);
    settle(&mut watch);
    let full = truth.grown("TCPReqQFullDrop");
    assert_eq!(full, 20 - u64::from(depth), "the rest of 20 was refused");
    assert_eq!((truth.grown("ListenDrops"), truth.grown("ListenOverflows")), (full, 0));
    // The socket also counts the resets of clients that gave up, which are not attempts.
    assert_eq!(truth.socket(&listener), full + truth.grown("EmbryonicRsts"));
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.total, seen.drops.syn_queue_full), (Some(full), Some(full)), "{:?}", seen.drops);
    assert_eq!(
        (seen.drops.accept_queue_full_on_syn, seen.drops.other, seen.drops.unexplained),
        (Some(0), Some(0), Some(0))
    );
    assert_eq!(watch.namespace().syn_queue_full_drops, Some(full));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
}

/// Without cookies the kernel keeps the last quarter of tcp_max_syn_backlog for known peers: another cause of drops.
fn last_quarter(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    lab.sysctl("ipv4/tcp_max_syn_backlog", "8");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 100);
    let truth = Truth::begin(lab, &listener);
    let clients: Vec<Socket> = (0..20).map(|_| attempt_with_late_ack(PORT)).collect();
    drop(clients);
    settle(&mut watch);
    let drops = truth.grown("ListenDrops");
    assert!(drops > 0, "the test's own load");
    assert_eq!((truth.grown("ListenOverflows"), truth.grown("TCPReqQFullDrop")), (0, 0));
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.total, seen.drops.other), (Some(drops), Some(drops)), "{:?}", seen.drops);
    assert_eq!(seen.drops.unexplained, Some(0));
}

/// The accept queue is above its backlog, the SYN queue at it: the kernel refuses above.
fn accept_queue_only(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 4);
    let truth = Truth::begin(lab, &listener);
    let half_open: Vec<Socket> = (0..4).map(|_| attempt_without_hearing(PORT)).collect();
    let waiting = give_up_refused((0..5).map(|_| attempt(PORT)).collect());
    if truth.grown("TCPReqQFullDrop") > 0 {
        skip("this kernel's SYN queue refuses at its backlog, not above it".to_owned());
    }
    let refused: Vec<Socket> = (0..6).map(|_| attempt(PORT)).collect();
    assert!(give_up_refused(refused).is_empty());
    settle(&mut watch);
    assert_eq!((truth.grown("ListenOverflows"), truth.grown("TCPReqQFullDrop")), (6, 0), "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.accept_depth, seen.now.syn_depth), (5, Some(4)), "the test's own load");
    let causes = (seen.drops.accept_queue_full_on_syn, seen.drops.syn_queue_full, seen.drops.other);
    assert_eq!((seen.drops.total, causes), (Some(6), (Some(6), Some(0), Some(0))), "{:?}", seen.drops);
    drop((half_open, waiting));
}

/// The last quarter of tcp_max_syn_backlog refuses, while the accept queue is at its backlog, where it still admits
/// one.
fn last_quarter_only(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    lab.sysctl("ipv4/tcp_max_syn_backlog", "16");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 20);
    let truth = Truth::begin(lab, &listener);
    let waiting: Vec<Socket> = (0..20).map(|_| connect(PORT)).collect();
    let others: Vec<Socket> = (0..20).map(|_| attempt_without_hearing(PORT)).collect();
    drop(others);
    settle(&mut watch);
    let drops = truth.grown("ListenDrops");
    assert!(drops > 0, "the test's own load");
    assert_eq!((truth.grown("ListenOverflows"), truth.grown("TCPReqQFullDrop")), (0, 0), "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!(seen.now.accept_depth, 20, "the test's own load");
    let causes = (seen.drops.accept_queue_full_on_syn, seen.drops.syn_queue_full, seen.drops.other);
    assert_eq!((seen.drops.total, causes), (Some(drops), (Some(0), Some(0), Some(drops))), "{:?}", seen.drops);
    drop(waiting);
}

/// A final ACK with a cookie makes a connection without the kernel's usual check. What that leaves behind is not taken
/// for a part of the next packet, which is ignored on purpose.
fn ignored_after_cookies(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (by_cookie, deferring) = (listen(PORT, 16), listen(PORT + 1, 16));
    defer_accept(&deferring, 5);
    let truth = Truth::begin(lab, &deferring);
    let mut clients = Vec::new();
    for _ in 0..10 {
        lab.sysctl("ipv4/tcp_syncookies", "2");
        clients.push(connect(PORT));
        lab.sysctl("ipv4/tcp_syncookies", "0");
        clients.push(connect(PORT + 1));
    }
    settle(&mut watch);
    let ignored = truth.grown("TCPDeferAcceptDrop");
    assert_eq!(
        (ignored, truth.grown("SyncookiesRecv"), truth.grown("ListenDrops")),
        (10, 10, 0),
        "the test's own load"
    );
    for listener in [&by_cookie, &deferring] {
        let seen = watch.by_id(cookie(listener));
        assert_eq!((seen.drops.total, seen.drops.unexplained), (Some(0), Some(0)), "{:?}", seen.drops);
    }
    drop(clients);
}

/// With cookies a full SYN queue refuses no client. A client that returns its cookie is enqueued and accepted as usual.
fn cookies(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "2");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let truth = Truth::begin(lab, &listener);
    let clients: Vec<Socket> = (0..10).map(|_| connect(PORT)).collect();
    for client in &clients {
        send_all(client, b"x");
        drop(accept(&listener));
    }
    settle(&mut watch);
    assert_eq!((truth.grown("SyncookiesRecv"), truth.grown("ListenDrops")), (10, 0), "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.drops.total), (Some(10), Some(10), Some(0)));
    assert_eq!(watch.namespace().cookies_sent, Some(truth.grown("SyncookiesSent")));
}

/// A final ACK with a cookie that finds the queue full counts once in the socket. One without a cookie counts twice.
fn cookie_final_ack(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "2");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 2);
    let truth = Truth::begin(lab, &listener);
    let late: Vec<Socket> = (0..4).map(|_| attempt_with_late_ack(PORT)).collect();
    let waiting: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    watch.during(|| sleep_ms(400));
    drop(late);
    settle(&mut watch);
    assert_eq!((truth.grown("ListenOverflows"), truth.socket(&listener)), (4, 4), "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.total, seen.drops.accept_queue_full_on_ack), (Some(4), Some(4)), "{:?}", seen.drops);
    assert_eq!((seen.drops.accept_queue_full_on_syn, seen.drops.unexplained), (Some(0), Some(0)));
    assert_eq!(seen.drops.clients, Some(4));
    drop(waiting);
}

/// Two listeners refuse SYNs at the same time for the same cause. Each has its own drops.
fn two_same_cause(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listeners = [listen(PORT, 0), listen(PORT + 1, 1)];
    let truth = Truth::begin(lab, &listeners[0]);
    let attempts: Vec<Socket> = (0..20).map(|n| attempt(PORT + n % 2)).collect();
    let waiting = give_up_refused(attempts);
    settle(&mut watch);
    assert_eq!(truth.grown("ListenOverflows"), 9 + 8, "the test's own load");
    for (listener, refused) in listeners.iter().zip([9, 8]) {
        let seen = watch.by_id(cookie(listener)).drops;
        assert_eq!(kernel_drops(listener), refused);
        assert_eq!((seen.total, seen.accept_queue_full_on_syn), (Some(refused), Some(refused)), "{seen:?}");
        assert_eq!(seen.unexplained, Some(0));
    }
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
    drop(waiting);
}

/// A reset that belongs to no connection counts in its socket, but is not a refused attempt. Another listener refuses
/// attempts meanwhile, so that the namespace's counter would permit more drops here.
fn stray_resets(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let (refusing, listener) = (listen(PORT, 1), listen(PORT + 1, 4));
    let truth = Truth::begin(lab, &listener);
    let waiting = give_up_refused((0..10).map(|_| attempt(PORT)).collect());
    (0..3).for_each(|n| reset(40_000 + n, PORT + 1));
    settle(&mut watch);
    assert_eq!((truth.grown("ListenDrops"), truth.socket(&listener)), (8, 3), "the test's own load");
    let refused = watch.by_id(cookie(&refusing)).drops;
    assert_eq!((refused.total, refused.unexplained), (Some(8), Some(0)), "{refused:?}");
    // Probes on functions observe refused attempts, not the other events that the socket counts.
    if watch.via(Measure::Drops).contains("kfree_skb") {
        let seen = watch.by_id(cookie(&listener)).drops;
        assert_eq!((seen.total, seen.unexplained), (Some(0), Some(0)), "{seen:?}");
    }
    drop(waiting);
}

/// Two listeners refuse SYNs at the same time for different causes, which the kernel counts for both together. The
/// totals are exact, and no drop has the wrong cause.
fn two_causes(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    let mut watch = Watch::start(lab);
    let (full_accept, full_syn) = (listen(PORT, 1), listen(PORT + 1, 4));
    let truth = Truth::begin(lab, &full_accept);
    let attempts: Vec<Socket> = (0..10).map(|_| attempt(PORT)).collect();
    let others: Vec<Socket> = (0..20).map(|_| attempt_with_late_ack(PORT + 1)).collect();
    drop(others);
    let waiting = give_up_refused(attempts);
    settle(&mut watch);
    let (overflows, syn_full) = (truth.grown("ListenOverflows"), truth.grown("TCPReqQFullDrop"));
    assert_eq!(overflows, 8, "the test's own load");
    assert!(syn_full > 10, "the test's own load: {syn_full}");
    let (a, b) = (watch.by_id(cookie(&full_accept)).drops, watch.by_id(cookie(&full_syn)).drops);
    assert_eq!((a.total, b.total), (Some(overflows), Some(syn_full)), "{a:?} {b:?}");
    assert_adds_up(&a);
    assert_adds_up(&b);
    assert_eq!((a.syn_queue_full.unwrap_or(0), b.accept_queue_full_on_syn.unwrap_or(0)), (0, 0), "{a:?} {b:?}");
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
    drop(waiting);
}
