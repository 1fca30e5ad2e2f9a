//! Address families, and the same address in two namespaces.

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    environment::older_than,
    lab::{PORT, any6, has_ipv6, loopback, loopback6},
    skip, sleep_ms,
    sockets::{
        accept, attempt, attempt_with_late_ack_to, connect, connect_to, cookie, give_up_refused, kernel_drops, listen,
        listen_on, receive, send_all,
    },
    wait_until,
    watch::assert_whole,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads];

const REFUSED: &[Measure] = &[Measure::Drops, Measure::DropCause, Measure::DropClients, Measure::SynackRetransmits];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "addresses::ipv6", needs: NEEDS, run: ipv6 },
    Test { name: "addresses::dual_stack", needs: NEEDS, run: dual_stack },
    Test { name: "addresses::refused_final_acks_over_ipv6", needs: REFUSED, run: refused_final_acks },
    Test { name: "addresses::open_before_the_start", needs: NEEDS, run: open_before_the_start },
    Test { name: "addresses::same_port_in_two_namespaces", needs: NEEDS, run: two_namespaces },
    Test { name: "addresses::a_namespace_that_comes_later", needs: NEEDS, run: later_namespace },
];

fn needs_ipv6() {
    if !has_ipv6() {
        skip("this kernel has no IPv6".to_owned());
    }
}

fn ipv6(lab: &Lab) {
    needs_ipv6();
    let mut watch = Watch::start(lab);
    let listener = listen_on(loopback6(PORT), 2, |_| ());
    watch.sample();
    let clients: Vec<_> = (0..3).map(|_| connect_to(loopback6(PORT))).collect();
    let before = lab.counters();
    let refused = Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("a socket");
    refused.set_nonblocking(true).expect("O_NONBLOCK");
    assert!(refused.connect(&loopback6(PORT).into()).is_err());
    drop(refused);
    // All send first, because they may be accepted in another order than they connected in.
    clients.iter().for_each(|client| send_all(client, b"hello"));
    for _ in &clients {
        assert_eq!(receive(&accept(&listener).expect("a connection"), 10), 5);
    }
    sleep_ms(50);
    watch.sample();
    assert_eq!(lab.counters().since(&before, "ListenOverflows"), 1, "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!((seen.address, seen.id), (loopback6(PORT).ip(), cookie(&listener)));
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(3), Some(3)));
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(3), Some(15)));
    let refused = watch.is_available(Measure::Drops).then_some(1);
    assert_eq!((seen.drops.total, seen.drops.accept_queue_full_on_syn), (refused, refused));
}

/// A listener on `::` accepts connections over both protocols, unless it has IPV6_V6ONLY.
fn dual_stack(lab: &Lab) {
    needs_ipv6();
    let mut watch = Watch::start(lab);
    let both = listen_on(any6(PORT), 16, |socket| socket.set_only_v6(false).expect("IPV6_V6ONLY"));
    let only = listen_on(any6(PORT + 1), 16, |socket| socket.set_only_v6(true).expect("IPV6_V6ONLY"));
    let v4 = listen(PORT + 1, 16);
    let reach = |address| {
        let client = connect_to(address);
        send_all(&client, b"x");
        client
    };
    let clients = [loopback(PORT), loopback6(PORT), loopback(PORT + 1), loopback6(PORT + 1)].map(reach);
    for listener in [&both, &both, &only, &v4] {
        assert_eq!(receive(&accept(listener).expect("a connection"), 10), 1);
    }
    watch.sample();
    for (listener, v6only, n) in [(&both, false, 2), (&only, true, 1), (&v4, false, 1)] {
        let seen = watch.by_id(cookie(listener));
        assert_eq!(seen.v6only, v6only, "{}", seen.address);
        assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.reads), (Some(n), Some(n), Some(n)));
    }
    drop(clients);
}

/// Late final ACKs of both protocols find the queue of one listener full. Each attempt and each client counts once.
fn refused_final_acks(lab: &Lab) {
    needs_ipv6();
    let mut watch = Watch::start(lab);
    // The SYN queue has room for all late attempts and one more.
    let listener = listen_on(any6(PORT), 8, |socket| socket.set_only_v6(false).expect("IPV6_V6ONLY"));
    let before = lab.counters();
    let grown = |name| lab.counters().since(&before, name);
    watch.sample();
    let both = [loopback6(PORT), loopback(PORT)];
    let late: Vec<Socket> = (0..6).map(|n| attempt_with_late_ack_to(both[n % 2])).collect();
    let waiting: Vec<Socket> = (0..9).map(|n| connect_to(both[n % 2])).collect();
    // Their final ACKs come after 200 ms, and again when the server repeats its SYN-ACK after one second.
    wait_until("each final ACK is refused twice", || {
        watch.sample();
        grown("TCPSynRetrans") >= 6 && grown("ListenOverflows") >= 12
    });
    drop(late);
    for _ in 0..2 {
        sleep_ms(50);
        watch.sample();
    }
    let (overflows, drops) = (grown("ListenOverflows"), grown("ListenDrops"));
    assert_eq!(overflows, drops, "the test's own load");
    let seen = watch.listener(PORT);
    assert_eq!((seen.drops.accept_queue_full_on_ack, seen.drops.total), (Some(overflows), Some(drops)));
    assert_eq!((seen.drops.accept_queue_full_on_syn, seen.drops.unexplained), (Some(0), Some(0)), "{:?}", seen.drops);
    assert_eq!(seen.drops.clients, Some(6));
    assert_eq!(watch.namespace().unexplained_drops, Some(0));
    assert_whole(seen.total.synack_retransmits, grown("TCPSynRetrans"));
    assert_eq!(seen.total.enqueued, Some(9));
    drop((listener, waiting));
}

/// Connections that were open before the start belong to the listener that accepted them.
fn open_before_the_start(lab: &Lab) {
    needs_ipv6();
    let both = listen_on(any6(PORT), 16, |socket| socket.set_only_v6(false).expect("IPV6_V6ONLY"));
    let only = listen_on(any6(PORT + 1), 16, |socket| socket.set_only_v6(true).expect("IPV6_V6ONLY"));
    let v4 = listen(PORT + 1, 16);
    let clients = [loopback(PORT), loopback6(PORT), loopback(PORT + 1), loopback6(PORT + 1)].map(connect_to);
    let servers = [&both, &both, &v4, &only].map(|listener| accept(listener).expect("a connection"));
    let mut watch = Watch::fresh(lab);
    for (client, server) in clients.iter().zip(&servers) {
        send_all(client, b"hello");
        assert_eq!(receive(server, 10), 5);
    }
    watch.sample();
    for (listener, n) in [(&both, 2), (&only, 1), (&v4, 1)] {
        let seen = watch.by_id(cookie(listener));
        assert_eq!((seen.now.open, seen.total.reads, seen.total.read_bytes), (Some(n), Some(n), Some(5 * n)));
    }
}

/// The same address in another namespace is a different listener, with its own drops.
fn two_namespaces(lab: &Lab) {
    let here = listen(PORT, 1);
    Lab::beside(|other| {
        let there = listen(PORT, 4);
        assert_ne!(lab.netns, other.netns);
        let mut watch = Watch::start(lab);
        // This thread runs in the other namespace.
        let before = other.counters();
        let admitted = give_up_refused((0..9).map(|_| attempt(PORT)).collect());
        assert_eq!((admitted.len(), kernel_drops(&there)), (5, 4), "the test's own load");
        sleep_ms(50);
        watch.sample();
        let (seen_here, seen_there) = (watch.by_id(cookie(&here)), watch.by_id(cookie(&there)));
        assert_eq!((seen_here.netns, seen_there.netns), (lab.netns, other.netns));
        assert_eq!((seen_here.port, seen_there.port), (PORT, PORT));
        let drops = |n| watch.is_available(Measure::Drops).then_some(n);
        assert_eq!((seen_here.total.enqueued, seen_here.drops.total), (Some(0), drops(0)));
        assert_eq!((seen_there.total.enqueued, seen_there.drops.total), (Some(5), drops(4)));
        assert_eq!(seen_there.drops.accept_queue_full_on_syn, drops(4));
        assert_eq!(other.counters().since(&before, "ListenDrops"), 4);
        assert_eq!(watch.namespace().listen_drops, Some(0));
    });
    // Now in the first namespace again.
    assert!(connect(PORT).peer_addr().is_ok());
}

/// A namespace that is made after the probes were attached: its listeners are found at once. Its counters, which
/// distinguish the causes of drops, are found in the next search for owners.
fn later_namespace(lab: &Lab) {
    let mut watch = Watch::start(lab);
    Lab::beside(|other| {
        let there = listen(PORT, 4);
        let namespace = |watch: &Watch| {
            let found = watch.model().namespaces.iter().find(|namespace| namespace.id.inode == other.netns);
            found.and_then(|namespace| Some((namespace.listen_drops?, namespace.unexplained_drops)))
        };
        let refuse = |watch: &mut Watch, refused: u64| {
            let before = kernel_drops(&there);
            let admitted = give_up_refused((0..9).map(|_| attempt(PORT)).collect());
            assert_eq!((admitted.len(), kernel_drops(&there) - before), (5, refused), "the test's own load");
            sleep_ms(50);
            watch.sample();
            admitted
        };
        // Before listentop has found the namespace's counters.
        drop(refuse(&mut watch, 4));
        let seen = watch.by_id(cookie(&there));
        let has_causes = watch.is_available(Measure::Drops);
        let some = |n| has_causes.then_some(n);
        assert_eq!((seen.netns, seen.total.enqueued, seen.drops.total), (other.netns, Some(5), some(4)));
        let causes = [seen.drops.accept_queue_full_on_syn, seen.drops.unexplained];
        assert_eq!(causes.into_iter().flatten().sum::<u64>(), if has_causes { 4 } else { 0 }, "{:?}", seen.drops);

        watch.sample_until("its counters are found", |watch| namespace(watch).is_some());
        // The counts before they were found belong to the interval if the listeners saw all of them.
        let found = namespace(&watch).map_or(0, |(drops, _)| drops);
        // Without a cookie of the namespace, what it had counted before that is the baseline.
        assert!(found == 4 || !has_causes || (found == 0 && older_than(5, 14)), "{found}");
        let before = watch.by_id(cookie(&there)).drops.accept_queue_full_on_syn;
        drop((0..5).map(|_| accept(&there)).collect::<Vec<_>>());
        drop(refuse(&mut watch, 4));
        let seen = watch.by_id(cookie(&there));
        assert_eq!((seen.total.enqueued, seen.total.aborted, seen.drops.total), (Some(10), Some(0), some(8)));
        if older_than(5, 14) {
            return;
        }
        assert_eq!(seen.drops.accept_queue_full_on_syn, before.map(|before| before + 4), "{:?}", seen.drops);
        assert_eq!(namespace(&watch), Some((found + 4, has_causes.then_some(0))));
    });
}
