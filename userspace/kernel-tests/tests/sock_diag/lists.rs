//! Connections one by one, without probes: clients, bytes and holders are known, ages have a lower bound.

use std::net::{Shutdown, SocketAddr};

use listentop::source::Source as _;
use listentop_model::{
    connections::{ClientState, ConnectionList, ConnectionLists, PER_LISTENER, Precision},
    coverage::{Measure, Status},
};
use socket2::Socket;
use test_support::{
    Lab,
    lab::{any6, has_ipv6, loopback, loopback6},
    now_ns, skip, sleep_ms,
    sockets::{
        accept, attempt_without_hearing, connect, connect_to, cookie, listen, listen_on, receive, send_all, wait_queued,
    },
};

use crate::{Run, Test, Watch};

const PORT: u16 = 7301;

pub(crate) const TESTS: &[Test] = &[
    Test { name: "lists::who_waits_and_who_does_not_read", run: Run::InLab(who_waits) },
    Test { name: "lists::half_open_without_probes", run: Run::InLab(half_open) },
    Test { name: "lists::both_families", run: Run::InLab(both_families) },
    Test { name: "lists::what_is_cut_is_counted", run: Run::InLab(what_is_cut) },
];

fn watch(per_listener: u32) -> Watch {
    let mut watch = Watch::start();
    watch.source.list_connections(per_listener);
    watch
}

fn lists(watch: &Watch, listener: &Socket) -> ConnectionLists {
    watch.by_id(cookie(listener)).connections.clone().unwrap_or_default()
}

fn clients(list: &ConnectionList) -> Vec<SocketAddr> {
    list.connections.iter().map(|connection| SocketAddr::new(connection.client, connection.port)).collect()
}

/// The client's end.
fn end(client: &Socket) -> SocketAddr {
    client.local_addr().expect("it is bound").as_socket().expect("an address")
}

fn who_waits(_: &Lab) {
    let listener = listen(PORT, 16);
    let mut watch = watch(PER_LISTENER);
    watch.sample();
    assert_eq!(lists(&watch, &listener), ConnectionLists::default());
    let before = now_ns();
    let [reading, first, closed] = [(); 3].map(|()| {
        let client = connect(PORT);
        sleep_ms(30);
        client
    });
    let after = now_ns();
    let server = accept(&listener).expect("a connection");
    wait_queued(&listener, 2);
    send_all(&closed, &[1; 7]);
    closed.shutdown(Shutdown::Write).expect("its end is sent");
    send_all(&reading, &[2; 100]);
    assert_eq!(receive(&server, 60), 60);
    sleep_ms(50);
    watch.sample_until("its holder is found", |watch| {
        lists(watch, &listener).unread.connections.first().is_some_and(|connection| connection.holder.is_some())
    });
    let found = lists(&watch, &listener);
    assert_eq!((clients(&found.waiting), found.waiting.total), (vec![end(&first), end(&closed)], 2));
    for connection in &found.waiting.connections {
        // It waits for so long at least: it is not said to have waited for longer than it can have.
        let since = connection.since_ns.expect("a bound");
        assert!(connection.precision == Precision::AtLeast && since >= before, "{connection:?}, not before {before}");
    }
    // Nothing came from the first since: the bound is its wait, in the kernel's ticks of up to 10 ms.
    let since = found.waiting.connections[0].since_ns.expect("a bound");
    assert!(since <= after + 20_000_000, "{since}, and at the latest {after}");
    let states: Vec<_> = found.waiting.connections.iter().map(|c| (c.state, c.unread)).collect();
    assert_eq!(states, [(ClientState::Open, 0), (ClientState::Closed, 7)]);
    assert_eq!((clients(&found.unread), found.unread.total), (vec![end(&reading)], 1));
    let unread = &found.unread.connections[0];
    assert_eq!((unread.unread, unread.precision, &unread.reader), (40, Precision::AtLeast, &None));
    assert_eq!(unread.holder.as_ref().map(|holder| holder.pid), Some(std::process::id()));
    for measure in [Measure::WaitingConnections, Measure::UnreadConnections] {
        let entry = watch.model().coverage.iter().find(|entry| entry.measure == measure).expect("it is listed");
        assert!(entry.status == Status::Sampled && entry.reason.contains("needs probes"), "{entry:?}");
    }
    watch.source.list_connections(0);
    watch.sample();
    assert_eq!((watch.model().listing, lists(&watch, &listener)), (None, ConnectionLists::default()));
}

/// Clients, how often their SYN-ACKs were sent again and their timers are known; ages from the first look on.
fn half_open(_: &Lab) {
    let listener = listen(PORT, 16);
    let mut watch = watch(PER_LISTENER);
    watch.sample();
    let clients: Vec<Socket> = (0..3).map(|_| attempt_without_hearing(PORT)).collect();
    watch.sample();
    let list = lists(&watch, &listener).half_open;
    let mut listed = self::clients(&list);
    listed.sort_unstable();
    let mut expected: Vec<SocketAddr> = clients.iter().map(end).collect();
    expected.sort_unstable();
    assert_eq!((listed, list.total), (expected, 3));
    for connection in &list.connections {
        let half_open = connection.half_open.expect("it is half open");
        assert_eq!((half_open.acked, connection.precision), (None, Precision::AtLeast));
        // The first timer runs for a second.
        assert!(half_open.timer_us.is_some_and(|us| us <= 1_000_000), "{half_open:?}");
    }
    watch.sample_until("each SYN-ACK was sent again", |watch| {
        let list = lists(watch, &listener).half_open.connections;
        list.len() == 3
            && list.iter().all(|connection| connection.half_open.is_some_and(|half_open| half_open.resent > 0))
    });
    let age = lists(&watch, &listener).half_open.connections[0].waits_us(watch.model()).expect("a bound");
    assert!(age > 500_000, "{age}: since the first look");
    let entry = watch.model().coverage.iter().find(|entry| entry.measure == Measure::HalfOpenConnections);
    assert!(
        entry.is_some_and(|entry| entry.status == Status::Sampled && entry.reason.contains("unknown")),
        "{entry:?}"
    );
    drop(clients);
}

fn both_families(_: &Lab) {
    if !has_ipv6() {
        skip("this kernel has no IPv6");
    }
    let listener = listen_on(any6(PORT), 16, |socket| socket.set_only_v6(false).expect("dual-stack"));
    let mut watch = watch(PER_LISTENER);
    let six = connect_to(loopback6(PORT));
    sleep_ms(30);
    let four = connect_to(loopback(PORT));
    wait_queued(&listener, 2);
    watch.sample();
    assert_eq!(clients(&lists(&watch, &listener).waiting), [&six, &four].map(end));
}

fn what_is_cut(_: &Lab) {
    let listener = listen(PORT, 64);
    let waiting: Vec<Socket> = (0..30).map(|_| connect(PORT)).collect();
    wait_queued(&listener, 30);
    let mut watch = watch(4);
    watch.sample();
    let found = lists(&watch, &listener).waiting;
    assert_eq!((found.connections.len(), found.total, found.cut()), (4, 30, 26));
    drop(waiting);
}
