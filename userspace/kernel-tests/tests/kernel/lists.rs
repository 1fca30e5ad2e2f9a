//! Connections one by one: which wait longest to be accepted, to be read and for the end of their handshakes, with
//! their clients.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Shutdown, SocketAddr},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use listentop::source::{
    Source as _,
    live::{LiveSource, Options},
};
use listentop_model::{
    connections::{ClientState, Connection, ConnectionList, ConnectionLists, IN_ALL, PER_LISTENER, Precision},
    coverage::Measure,
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Ends, Lab, Test, Watch,
    command::{Measuring, listentop},
    environment::{options, slowness},
    lab::{PORT, any6, has_ipv6, loopback, loopback6},
    skip, sleep_ms,
    sockets::{
        accept, attempt_with_late_ack, attempt_without_hearing, connect, connect_to, listen, listen_on, receive,
        send_all, try_connect, wait_queued,
    },
    spans::When,
    tid,
};

const WAITING: &[Measure] = &[Measure::WaitingConnections];
const HALF_OPEN: &[Measure] = &[Measure::HalfOpenConnections];
const UNREAD: &[Measure] = &[Measure::WaitingConnections, Measure::UnreadConnections];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "lists::nothing_unless_asked", needs: WAITING, run: nothing_unless_asked },
    Test { name: "lists::waiting_to_be_accepted", needs: WAITING, run: waiting_to_be_accepted },
    Test { name: "lists::what_is_cut_is_counted", needs: WAITING, run: what_is_cut_is_counted },
    Test { name: "lists::clients_that_are_gone", needs: WAITING, run: clients_that_are_gone },
    Test { name: "lists::from_before_the_start", needs: UNREAD, run: from_before_the_start },
    Test { name: "lists::both_families", needs: WAITING, run: both_families },
    Test { name: "lists::other_namespaces", needs: WAITING, run: other_namespaces },
    Test { name: "lists::the_oldest_unread_bytes", needs: UNREAD, run: the_oldest_unread_bytes },
    Test { name: "lists::the_longest_unread_stay", needs: UNREAD, run: the_longest_unread_stay },
    Test { name: "lists::half_open_as_ss_has_them", needs: HALF_OPEN, run: half_open_as_ss },
    Test { name: "lists::half_open_in_other_namespaces", needs: HALF_OPEN, run: half_open_elsewhere },
    Test { name: "lists::half_open_that_are_cut_are_counted", needs: HALF_OPEN, run: half_open_cut },
    Test { name: "lists::many_listeners", needs: WAITING, run: many_listeners },
    Test { name: "lists::in_reports_and_recordings", needs: UNREAD, run: in_reports_and_recordings },
    Test { name: "lists::connections_that_end_meanwhile", needs: UNREAD, run: connections_that_end_meanwhile },
];

fn lists(watch: &Watch) -> ConnectionLists {
    watch.listener(PORT).connections.clone().unwrap_or_default()
}

fn clients(list: &ConnectionList) -> Vec<SocketAddr> {
    list.connections.iter().map(|connection| SocketAddr::new(connection.client, connection.port)).collect()
}

/// The client's end.
fn end(client: &Socket) -> SocketAddr {
    client.local_addr().expect("it is bound").as_socket().expect("an address")
}

/// Compares for how long one waits with the test's own clock.
fn assert_since(connection: &Connection, since: When) {
    let found = connection.since_ns.expect("it is known");
    let around = match connection.precision {
        // A packet's time is that when the kernel began to process it.
        Precision::Measured => 0,
        // The kernel keeps the handshake's times in milliseconds or better.
        _ => 5_000_000 * u64::from(slowness()),
    };
    assert!(
        (since.from.saturating_sub(around)..=since.to + around).contains(&found),
        "{found} ns, while the program measured from {} to {} ns",
        since.from,
        since.to
    );
}

fn nothing_unless_asked(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let client = connect(PORT);
    wait_queued(&listener, 1);
    watch.sample();
    assert_eq!((watch.model().listing, &watch.listener(PORT).connections), (None, &None));
    watch.list_connections(5);
    watch.sample();
    let listing = watch.model().listing.expect("it was asked for");
    assert_eq!((listing.per_listener, listing.in_all, listing.unlisted), (5, IN_ALL, 0));
    assert_eq!(clients(&lists(&watch).waiting), [end(&client)]);
    watch.list_connections(0);
    watch.sample();
    assert_eq!((watch.model().listing, &watch.listener(PORT).connections), (None, &None));
}

/// In the order in which they came, each with its age; accept and close take one away.
fn waiting_to_be_accepted(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    let listener = listen(PORT, 16);
    let mut waiting = Vec::new();
    for n in 1..=5 {
        waiting.push(When::doing(|| {
            let client = connect(PORT);
            wait_queued(&listener, n);
            client
        }));
        sleep_ms(20);
    }
    send_all(&waiting[1].1, &[1; 300]);
    watch.sample();
    let found = lists(&watch).waiting;
    assert_eq!(clients(&found), waiting.iter().map(|(_, client)| end(client)).collect::<Vec<_>>());
    assert_eq!((found.total, found.cut()), (5, 0));
    for (connection, (since, _)) in found.connections.iter().zip(&waiting) {
        assert_eq!((connection.precision, connection.state), (Precision::Measured, ClientState::Open));
        assert_since(connection, *since);
        assert_eq!((&connection.reader, &connection.holder, connection.accepted_ns), (&None, &None, None));
    }
    assert_eq!(found.connections.iter().map(|c| c.unread).collect::<Vec<_>>(), [0, 300, 0, 0, 0]);
    let oldest = watch.listener(PORT).now.oldest_waiting_us;
    let first = found.connections[0].waits_us(watch.model()).expect("known");
    assert!(oldest.is_some_and(|oldest| oldest.abs_diff(first) <= 1_000 * u64::from(slowness())), "{oldest:?} {first}");

    let accepted = [accept(&listener).expect("a connection"), accept(&listener).expect("another")];
    watch.sample();
    let found = lists(&watch);
    assert_eq!(clients(&found.waiting), waiting[2..].iter().map(|(_, client)| end(client)).collect::<Vec<_>>());
    assert_eq!(found.waiting.total, 3);
    drop((accepted, waiting, listener));
    watch.sample();
    assert_eq!(watch.listener(PORT).connections, None, "the listener has closed");
}

fn what_is_cut_is_counted(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let waiting: Vec<Socket> = (0..40).map(|_| connect(PORT)).collect();
    wait_queued(&listener, 40);
    for wanted in [1, 3, 4, 5, PER_LISTENER] {
        watch.list_connections(wanted);
        watch.sample();
        let found = lists(&watch).waiting;
        let expected: Vec<SocketAddr> = waiting.iter().take(wanted as usize).map(end).collect();
        assert_eq!(clients(&found), expected, "the {wanted} oldest");
        assert_eq!((found.total, found.cut()), (40, 40 - u64::from(wanted)));
    }
    // No more than there is room for.
    watch.list_connections(1_000);
    watch.sample();
    assert_eq!(lists(&watch).waiting.connections.len(), PER_LISTENER as usize);
}

fn clients_that_are_gone(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    let listener = listen(PORT, 16);
    let [open, closed, reset] = [(); 3].map(|()| connect(PORT));
    let ends = [&open, &closed, &reset].map(end);
    wait_queued(&listener, 3);
    closed.shutdown(Shutdown::Write).expect("its end is sent");
    drop(reset);
    watch.sample_until("the ends have come", |watch| {
        let states: Vec<_> = lists(watch).waiting.connections.iter().map(|c| (c.state, c.unread)).collect();
        states == [(ClientState::Open, 0), (ClientState::Closed, 0), (ClientState::Reset, 0)]
    });
    assert_eq!(clients(&lists(&watch).waiting)[..2], ends[..2]);
    assert_eq!(clients(&lists(&watch).waiting)[2], ends[2], "the kernel keeps the address until the accept");
}

/// The kernel keeps when they were put on the queue; of those that are open nothing but that they wait.
fn from_before_the_start(lab: &Lab) {
    let listener = listen(PORT, 16);
    let open = connect(PORT);
    let server = accept(&listener).expect("a connection");
    send_all(&open, &[1; 70]);
    let (since, waiting) = When::doing(|| {
        let client = connect(PORT);
        wait_queued(&listener, 1);
        client
    });
    sleep_ms(60);
    let (started, mut watch) = When::doing(|| Watch::fresh(lab));
    watch.list_connections(PER_LISTENER);
    watch.sample();
    let found = lists(&watch);
    assert_eq!(clients(&found.waiting), [end(&waiting)]);
    assert_eq!(found.waiting.connections[0].precision, Precision::Estimated);
    assert_since(&found.waiting.connections[0], since);
    assert_eq!(clients(&found.unread), [end(&open)]);
    let unread = &found.unread.connections[0];
    assert_eq!((unread.unread, unread.precision), (70, Precision::AtLeast));
    assert_since(unread, started);
    drop(server);
}

fn both_families(lab: &Lab) {
    if !has_ipv6() {
        skip("this kernel has no IPv6");
    }
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    let listener = listen_on(any6(PORT), 16, |socket| socket.set_only_v6(false).expect("dual-stack"));
    let [six, four] = [loopback6(PORT), loopback(PORT)].map(connect_to);
    wait_queued(&listener, 2);
    watch.sample();
    let found = lists(&watch).waiting;
    assert_eq!(clients(&found), [&six, &four].map(end));
    // A client that came by IPv4 has an IPv4 address, though its socket is one of IPv6.
    assert_eq!(found.connections[0].client, IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]));
    assert_eq!(found.connections[1].client, IpAddr::from([127, 0, 0, 1]));
}

fn other_namespaces(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    Lab::beside(|beside| {
        let listener = listen(PORT, 16);
        let client = connect(PORT);
        wait_queued(&listener, 1);
        watch.sample();
        let model = watch.model();
        let there = model.listeners.iter().find(|l| l.netns == beside.netns && l.port == PORT).expect("it is seen");
        assert_eq!(clients(&there.connections.as_ref().expect("one waits").waiting), [end(&client)]);
    });
}

/// Each connection with the age of its oldest unread byte, its bytes, and the thread that read from it.
fn the_oldest_unread_bytes(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    let listener = listen(PORT, 16);
    let pair = || {
        let client = connect(PORT);
        (client, accept(&listener).expect("a connection"))
    };
    let [(read, read_server), (never, never_server), (idle, idle_server)] = [(); 3].map(|()| pair());
    send_all(&read, &[1; 10]);
    assert_eq!(receive(&read_server, 10), 10);
    watch.sample();
    assert_eq!(lists(&watch).unread, ConnectionList::default());

    let (later, ()) = When::doing(|| send_all(&never, &[2; 500]));
    sleep_ms(30);
    let (latest, ()) = When::doing(|| send_all(&read, &[3; 100]));
    sleep_ms(30);
    send_all(&read, &[4; 20]);
    watch.sample();
    let found = lists(&watch).unread;
    assert_eq!((clients(&found), found.total), (vec![end(&never), end(&read)], 2));
    let [first, second] = &found.connections[..] else { panic!("two") };
    assert_since(first, later);
    assert_since(second, latest);
    assert_eq!((first.unread, second.unread), (500, 120));
    assert_eq!((first.precision, second.precision), (Precision::Measured, Precision::Measured));
    let reader = second.reader.as_ref().expect("this thread has read");
    assert_eq!((reader.pid, reader.tid), (std::process::id(), Some(tid())));
    assert_eq!(first.reader, None, "nobody has read from it");
    assert!(first.accepted_ns.is_some_and(|accepted| accepted < first.since_ns.unwrap_or(0)));

    // Who holds it is found by its socket.
    watch.sample_until("its holder is found", |watch| {
        lists(watch).unread.connections[0].holder.as_ref().is_some_and(|holder| holder.pid == std::process::id())
    });
    // A part that is read leaves what came later.
    assert_eq!(receive(&read_server, 100), 100);
    assert_eq!(receive(&never_server, 1000), 500);
    watch.sample();
    let found = lists(&watch).unread;
    assert_eq!((clients(&found), found.connections[0].unread), (vec![end(&read)], 20));
    // A close takes it away.
    drop((read_server, never_server, idle_server));
    watch.sample_until("all are gone", |watch| watch.listener(PORT).now.open == Some(0));
    assert_eq!(lists(&watch).unread, ConnectionList::default());
    drop(idle);
}

/// Those that have waited longest displace others, in whichever order the table has them: also those of full sets.
fn the_longest_unread_stay(lab: &Lab) {
    const CONNECTIONS: usize = 90;
    // 16 sets of six places: with 90 connections some sets are full.
    let mut watch = Watch::with(lab, &Options { max_connections: 96, ..options() });
    let listener = listen(PORT, CONNECTIONS as i32);
    let pairs: Vec<(Socket, Socket)> = (0..CONNECTIONS)
        .map(|_| {
            let client = connect(PORT);
            (client, accept(&listener).expect("a connection"))
        })
        .collect();
    for (client, _) in &pairs {
        send_all(client, b"x");
    }
    for wanted in [PER_LISTENER, 7, 1] {
        watch.list_connections(wanted);
        watch.sample();
        let found = lists(&watch).unread;
        assert_eq!(clients(&found), pairs.iter().take(wanted as usize).map(|(c, _)| end(c)).collect::<Vec<_>>());
        assert_eq!((found.total, found.cut()), (CONNECTIONS as u64, CONNECTIONS as u64 - u64::from(wanted)));
    }
    // When the oldest are read, the next are listed.
    for (_, server) in &pairs[..40] {
        assert_eq!(receive(server, 10), 1);
    }
    watch.list_connections(PER_LISTENER);
    watch.sample();
    let found = lists(&watch).unread;
    assert_eq!(clients(&found), pairs[40..56].iter().map(|(client, _)| end(client)).collect::<Vec<_>>());
    assert_eq!(found.total, 50);
}

/// Request sockets as the kernel's table has them: the client's port, by the listener's.
fn requests(port: u16) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("its namespace's table");
    let end = |end: &str| u16::from_str_radix(end.rsplit(':').next()?, 16).ok();
    let request = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, client) = (end(words.next()?)?, end(words.next()?)?);
        (words.next()? == "03" && local == port).then_some(client)
    };
    let mut ports: Vec<u16> = table.lines().filter_map(request).collect();
    ports.sort_unstable();
    ports
}

/// How often each SYN-ACK was sent again, by the client's port, as `ss` has it; `None` where there is no `ss`.
fn resent_by_ss(port: u16) -> Option<BTreeMap<u16, u32>> {
    let filter = format!("( sport = :{port} )");
    let output = Command::new("ss").args(["-tanoH", "state", "syn-recv", &filter]).output().ok()?;
    let text = String::from_utf8(output.stdout).expect("text");
    let request = |line: &str| {
        // 0 0 127.0.0.1:7000 127.0.0.1:40000 timer:(on,800ms,1)
        let client = line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok()?;
        let resent = line.split("timer:(on,").nth(1)?.split([',', ')']).nth(1)?.parse().ok()?;
        Some((client, resent))
    };
    Some(text.lines().filter_map(request).collect())
}

/// Three whose final ACKs find the accept queue full, and two whose clients hear nothing.
fn half_open_as_ss(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    let (full, deaf) = (listen(PORT, 4), listen(PORT + 1, 16));
    watch.sample();
    assert_eq!(watch.listener(PORT).connections, None);
    let (since, late) = When::doing(|| -> Vec<Socket> { (0..3).map(|_| attempt_with_late_ack(PORT)).collect() });
    let waiting: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    let clients: Vec<Socket> = (0..2).map(|_| attempt_without_hearing(PORT + 1)).collect();
    let found = |watch: &Watch, port: u16| watch.listener(port).connections.clone().unwrap_or_default().half_open;
    let mut said = [false; 2];
    // Their final ACKs come after 200 ms, and the SYN-ACKs are sent again after a second.
    watch.sample_until("the final ACKs have come, and each SYN-ACK was sent again", |watch| {
        for port in [PORT, PORT + 1] {
            let list = found(watch, port);
            let mut ports: Vec<u16> = list.connections.iter().map(|connection| connection.port).collect();
            ports.sort_unstable();
            assert_eq!((ports, list.total, list.cut()), (requests(port), list.connections.len() as u64, 0), "{port}");
        }
        let all = [PORT, PORT + 1].map(|port| found(watch, port).connections);
        let acked = all.each_ref().map(|list| list.iter().all(|c| c.half_open.is_some_and(|h| h.acked == Some(true))));
        let resent = all.iter().flatten().all(|c| c.half_open.is_some_and(|half_open| half_open.resent > 0));
        // Before the final ACK has come, and after.
        said[0] |= !acked[0];
        said[1] |= acked[0];
        acked == [true, false] && resent
    });
    assert_eq!(said, [true; 2]);
    let list = found(&watch, PORT);
    assert_eq!(list.connections.len(), 3);
    for connection in &list.connections {
        assert_eq!((connection.precision, connection.client), (Precision::Measured, IpAddr::from([127, 0, 0, 1])));
        assert_since(connection, since);
    }
    for port in [PORT, PORT + 1] {
        let Some(by_ss) = resent_by_ss(port) else { continue };
        watch.sample();
        let after = resent_by_ss(port).expect("ss is there");
        let listed = found(&watch, port).connections;
        assert_eq!(listed.len(), by_ss.len(), "{by_ss:?}");
        for connection in listed {
            let resent = connection.half_open.expect("it is half open").resent;
            let (before, after) = (by_ss[&connection.port], after[&connection.port]);
            assert!((before..=after).contains(&resent), "{resent} of {}, by ss {before} to {after}", connection.port);
        }
    }
    // Where there is room they leave the list.
    let accepted: Vec<Socket> = (0..5).map(|_| accept(&full).expect("a connection")).collect();
    watch.sample_until("the clients have repeated their final ACKs", |watch| {
        found(watch, PORT).connections.is_empty() && requests(PORT).is_empty()
    });
    drop((accepted, late, waiting, clients, deaf));
}

fn half_open_elsewhere(lab: &Lab) {
    let mut watch = Watch::start(lab);
    watch.list_connections(PER_LISTENER);
    Lab::beside(|beside| {
        let listener = listen(PORT, 16);
        let clients: Vec<Socket> = (0..2).map(|_| attempt_without_hearing(PORT)).collect();
        let mut ports: Vec<u16> = clients.iter().map(|client| end(client).port()).collect();
        ports.sort_unstable();
        assert_eq!(requests(PORT), ports, "the test's own load");
        watch.sample_until("the namespace is found", |watch| {
            let there = watch.model().listeners.iter().find(|l| l.netns == beside.netns && l.port == PORT);
            let list = there.and_then(|l| l.connections.clone()).unwrap_or_default().half_open;
            let mut listed: Vec<u16> = list.connections.iter().map(|connection| connection.port).collect();
            listed.sort_unstable();
            assert!(listed.is_empty() || listed == ports, "{listed:?}");
            // They are counted in any case.
            assert_eq!(list.total, 2);
            listed == ports
        });
        drop((listener, clients));
    });
}

fn half_open_cut(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let clients: Vec<Socket> = (0..20)
        .map(|_| {
            let client = attempt_without_hearing(PORT);
            sleep_ms(2);
            client
        })
        .collect();
    assert_eq!(requests(PORT).len(), 20, "the test's own load");
    for wanted in [1, 5, PER_LISTENER] {
        watch.list_connections(wanted);
        watch.sample();
        let list = lists(&watch).half_open;
        let oldest: Vec<SocketAddr> = clients.iter().take(wanted as usize).map(end).collect();
        let listed: Vec<SocketAddr> = self::clients(&list);
        assert_eq!((listed, list.total), (oldest, 20), "the {wanted} oldest");
    }
    watch.list_connections(0);
    watch.sample();
    assert_eq!(watch.listener(PORT).connections, None);
    drop((clients, listener));
}

/// Of more listeners than there are lists, what is not listed is counted; of all connections, the oldest stay.
fn many_listeners(lab: &Lab) {
    const LISTENERS: u16 = 300;
    let mut watch = Watch::start(lab);
    watch.list_connections(2);
    let servers: Vec<(Socket, Vec<Socket>)> = (0..LISTENERS)
        .map(|n| {
            let listener = listen(PORT + n, 4);
            let clients = (0..3).map(|_| connect(PORT + n)).collect();
            wait_queued(&listener, 3);
            (listener, clients)
        })
        .collect();
    watch.sample();
    let model = watch.model();
    let own = || model.listeners.iter().filter(|l| l.netns == lab.netns);
    let lists: Vec<&ConnectionList> = own().filter_map(|l| Some(&l.connections.as_ref()?.waiting)).collect();
    let listed: usize = lists.iter().map(|list| list.connections.len()).sum();
    let total: u64 = lists.iter().map(|list| list.total).sum();
    assert_eq!((listed as u64, total), (u64::from(IN_ALL), 3 * u64::from(LISTENERS)));
    // What is listed has waited longer than what is not: each listener's second client came after its first.
    let first = own().filter(|l| l.connections.as_ref().is_some_and(|lists| !lists.waiting.connections.is_empty()));
    assert!(first.count() >= usize::from(LISTENERS) / 3);
    drop(servers);
}

/// Connections are accepted, read, reset and closed while the lists are made. Whatever is listed was a client's.
fn connections_that_end_meanwhile(lab: &Lab) {
    let mut source = LiveSource::start(&options()).expect("the probes can be attached").at_every_sample();
    source.list_connections(PER_LISTENER);
    let listener = listen(PORT, 64);
    let (ended, no_clients, netns) = (AtomicBool::new(false), AtomicBool::new(false), lab.netns);
    thread::scope(|scope| {
        let ends = Ends(&ended);
        scope.spawn(|| {
            let _gone = Ends(&no_clients);
            while !ended.load(Ordering::Relaxed) {
                // The server may have closed one before connect(2) returns, which is its error then.
                let clients: Vec<Socket> = (0..12).filter_map(|_| try_connect(PORT)).collect();
                // The server may have closed it by now.
                clients.iter().step_by(2).for_each(|client| _ = client.send(&[1; 40]));
                // Some are gone before they are accepted, and those that are queued are seen.
                sleep_ms(2);
                drop(clients);
            }
        });
        scope.spawn(|| {
            listener.set_nonblocking(true).expect("a listener");
            // Clients that connect to a full queue would wait for minutes.
            while !no_clients.load(Ordering::Relaxed) {
                // Not all at once: some are still queued, and some stay unread for a while.
                thread::sleep(Duration::from_micros(200));
                if let Some(server) = accept(&listener) {
                    thread::sleep(Duration::from_micros(200));
                    server.set_nonblocking(true).expect("a connection");
                    let mut space = [std::mem::MaybeUninit::uninit(); 15];
                    let _ = server.recv(&mut space);
                }
            }
        });
        let mut listed = 0;
        for _ in 0..400 {
            let sample = source.sample().expect("a sample");
            let now_ns = sample.monotonic_ns;
            let own = sample.listeners.iter().filter(|l| l.netns == netns && l.port == PORT);
            for lists in own.filter_map(|listener| listener.connections.as_ref()) {
                for (list, accepted) in [(&lists.waiting, false), (&lists.unread, true)] {
                    assert!(
                        list.connections.len() <= PER_LISTENER as usize && list.total >= list.connections.len() as u64
                    );
                    for connection in &list.connections {
                        assert_eq!(connection.client, IpAddr::from([127, 0, 0, 1]), "{connection:?}");
                        assert!(connection.port != 0 && connection.port != PORT, "{connection:?}");
                        assert!([0, 15, 25, 40].contains(&connection.unread), "{connection:?}");
                        assert_eq!(connection.accepted_ns.is_some(), accepted, "{connection:?}");
                        let since = connection.since_ns.expect("they came after the start");
                        assert!(since <= now_ns + 1_000_000_000 && now_ns - since.min(now_ns) < 60_000_000_000);
                        listed += 1;
                    }
                }
            }
        }
        drop(ends);
        assert!(listed > 100, "{listed}: the test's own load did not come about");
    });
}

/// The program lists them where it is asked to, and nowhere else; a recording has what was listed as it was made.
fn in_reports_and_recordings(lab: &Lab) {
    let listener = listen(PORT, 16);
    let open = connect(PORT);
    let server = accept(&listener).expect("a connection");
    let waiting = connect(PORT);
    let report = |options: &str| {
        let measuring = Measuring::start(&format!("report --for 1h --format json --netns {} {options}", lab.netns));
        send_all(&open, &[1; 30]);
        sleep_ms(100);
        let report = measuring.report();
        assert_eq!(receive(&server, 100), 30);
        report
    };
    let assert_listed = |report: &Value, unread: u64| {
        let found = &report["listeners"][0];
        let client = &found["connections_waiting"][0];
        assert_eq!(
            (&client["client_address"], &client["client_port"]),
            (&"127.0.0.1".into(), &end(&waiting).port().into())
        );
        assert_eq!((&client["unread_bytes"], &client["client_state"]), (&0.into(), &"open".into()));
        let client = &found["connections_unread"][0];
        assert_eq!((&client["client_port"], &client["unread_bytes"]), (&end(&open).port().into(), &unread.into()));
        assert_eq!((&found["connections_waiting_cut"], &found["connections_unread_cut"]), (&0.into(), &0.into()));
        assert_eq!(report["listing"], serde_json::json!({"per_listener": 3, "in_all": IN_ALL, "unlisted": 0}));
    };
    let unasked = report("");
    for part in ["/listing", "/listeners/0/connections_waiting", "/listeners/0/connections_unread_cut"] {
        assert_eq!(unasked.pointer(part), Some(&Value::Null), "{part}");
    }
    assert_listed(&report("--connections 3"), 30);

    let file = std::env::temp_dir().join(format!("listentop-lists-{}.rec", std::process::id()));
    send_all(&open, &[1; 8]);
    let recorded = listentop(&format!("record {} --for 300ms --every 100ms --connections 3", file.display())).output();
    assert_eq!(recorded.expect("listentop runs").status.code(), Some(0));
    let of_file = format!("report --from {} --format json --netns {}", file.display(), lab.netns);
    let output = listentop(&of_file).output().expect("listentop runs");
    std::fs::remove_file(file).expect("it was recorded");
    assert_listed(&serde_json::from_slice(&output.stdout).expect("JSON"), 8);
}
