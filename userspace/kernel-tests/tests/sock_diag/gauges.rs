//! Depths, backlogs, drops and identities, compared with the sockets themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use listentop_model::sample::Protocol;
use socket2::{Domain, Socket, Type};
use test_support::{
    environment,
    lab::has_ipv6,
    skip,
    sockets::{accept, connect_to, cookie, kernel_drops, listen_on},
    wait_until,
};

use crate::{Run, Test, Watch};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "gauges::depth_backlog_and_drops", run: Run::Anywhere(depth_backlog_and_drops) },
    Test { name: "gauges::address_families", run: Run::Anywhere(address_families) },
    Test { name: "gauges::shards_apart", run: Run::Anywhere(shards_apart) },
    Test { name: "gauges::opened_and_closed", run: Run::Anywhere(opened_and_closed) },
    Test { name: "gauges::mptcp", run: Run::Anywhere(mptcp) },
    Test { name: "gauges::many_listeners", run: Run::Anywhere(many) },
];

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn address(listener: &Socket) -> SocketAddr {
    listener.local_addr().expect("it is bound").as_socket().expect("an IP address")
}

/// Attempts by non-blocking clients.
fn attempts(address: SocketAddr, count: usize) -> Vec<Socket> {
    let begin = |_| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("O_NONBLOCK");
        let error = socket.connect(&address.into()).expect_err("it does not wait");
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        socket
    };
    (0..count).map(begin).collect()
}

fn depth_backlog_and_drops() {
    let (first, second) = (listen_on(loopback(), 3, |_| ()), listen_on(loopback(), 100, |_| ()));
    let mut watch = Watch::start();
    let clients: Vec<Socket> = (0..4).map(|_| connect_to(address(&first))).collect();
    let refused = attempts(address(&first), 5);
    let others = [connect_to(address(&second)), connect_to(address(&second))];
    wait_until("attempts are refused", || kernel_drops(&first) >= 5);
    watch.sample();
    let seen = watch.by_id(cookie(&first));
    assert_eq!((seen.now.accept_depth, seen.now.backlog, seen.now.limit), (4, 3, 4));
    assert_eq!((seen.address, seen.port), (address(&first).ip(), address(&first).port()));
    assert_eq!(watch.socket_drops(cookie(&first)), Some(kernel_drops(&first)));
    let seen = watch.by_id(cookie(&second));
    assert_eq!((seen.now.accept_depth, seen.now.backlog), (2, 100));
    assert_eq!(watch.socket_drops(cookie(&second)), Some(0));
    drop(refused);

    // After accepts and another listen, the next sample has the new values.
    drop((accept(&first), accept(&first), accept(&second)));
    second.listen(7).expect("it listens with another backlog");
    watch.sample();
    assert_eq!(watch.by_id(cookie(&first)).now.accept_depth, 2);
    let seen = watch.by_id(cookie(&second));
    assert_eq!((seen.now.accept_depth, seen.now.backlog, seen.now.limit), (1, 7, 8));
    assert_eq!(watch.socket_drops(cookie(&first)), Some(kernel_drops(&first)));

    // Measures that need probes are unknown, not 0.
    let unknown = [seen.total.enqueued, seen.total.accepts, seen.total.reads, seen.now.open, seen.now.queued_bytes];
    assert_eq!((unknown, seen.now.accept_peak, seen.now.oldest_waiting_us), ([None; 5], None, None));

    // Owners come from a search in the background.
    let pid = std::process::id();
    watch.sample_until("our process is found", |watch| {
        [&first, &second].iter().all(|listener| {
            let seen = watch.by_id(cookie(listener));
            (seen.process.as_ref().map(|process| process.pid), &seen.holders[..]) == (Some(pid), &[pid][..])
        })
    });
    drop((clients, others));
}

fn address_families() {
    if !has_ipv6() {
        skip("this kernel has no IPv6".to_owned());
    }
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let both = listen_on(any, 8, |socket| socket.set_only_v6(false).expect("dual-stack"));
    let v6only = listen_on(any, 8, |socket| socket.set_only_v6(true).expect("IPV6_V6ONLY"));
    let v4 = listen_on(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), 8, |_| ());
    let at = |ip: IpAddr, listener: &Socket| SocketAddr::from((ip, address(listener).port()));
    let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let clients = [
        connect_to(at(four, &both)),
        connect_to(at(six, &both)),
        connect_to(at(six, &v6only)),
        connect_to(at(four, &v4)),
    ];
    let watch = Watch::start();
    let seen = |listener: &Socket| {
        let seen = watch.by_id(cookie(listener));
        assert_eq!(seen.port, address(listener).port());
        (seen.address, seen.v6only, seen.now.accept_depth)
    };
    assert_eq!(seen(&both), (Ipv6Addr::UNSPECIFIED.into(), false, 2));
    assert_eq!(seen(&v6only), (Ipv6Addr::UNSPECIFIED.into(), true, 1));
    assert_eq!(seen(&v4), (Ipv4Addr::UNSPECIFIED.into(), false, 1));
    drop(clients);
}

fn shards_apart() {
    let reuse = |socket: &Socket| socket.set_reuse_port(true).expect("SO_REUSEPORT");
    let first = listen_on(loopback(), 50, reuse);
    let mut watch = Watch::start();
    // A single shard at an address is not recognised as one.
    assert_eq!(watch.by_id(cookie(&first)).group, None);
    let second = listen_on(address(&first), 60, reuse);
    let clients: Vec<Socket> = (0..40).map(|_| connect_to(address(&first))).collect();
    watch.sample();
    let seen = [&first, &second].map(|listener| watch.by_id(cookie(listener)));
    assert_eq!(seen.map(|seen| seen.now.backlog), [50, 60]);
    assert!(seen[0].group.is_some() && seen[0].group == seen[1].group);
    let depths = seen.map(|seen| seen.now.accept_depth);
    for (listener, depth) in [&first, &second].into_iter().zip(depths) {
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        assert_eq!(std::iter::from_fn(|| accept(listener)).count() as u32, depth);
    }
    assert_eq!(depths.iter().sum::<u32>(), 40);
    drop(clients);
}

fn opened_and_closed() {
    let staying = listen_on(loopback(), 4, |_| ());
    let mut watch = Watch::start();
    assert!(!watch.by_id(cookie(&staying)).opened_in_interval);
    let passing = listen_on(loopback(), 1, |_| ());
    let (id, port) = (cookie(&passing), address(&passing));
    assert!(watch.find(id).is_none());
    let clients = [connect_to(port), connect_to(port)];
    let refused = attempts(port, 3);
    wait_until("attempts are refused", || kernel_drops(&passing) == 3);
    watch.sample();
    // A new listener refused all of its drops since the last sample.
    assert!(watch.by_id(id).opened_in_interval);
    assert_eq!(watch.socket_drops(id), Some(kernel_drops(&passing)));
    assert_eq!(watch.by_id(id).drops.total, Some(3));
    drop((passing, clients, refused));
    watch.sample();
    assert!(watch.by_id(id).closed && !watch.by_id(cookie(&staying)).closed);
    assert!(watch.last.listeners.iter().all(|listener| listener.id != id));
}

fn mptcp() {
    let socket = match Socket::new(Domain::IPV4, Type::STREAM, Some(socket2::Protocol::MPTCP)) {
        Ok(socket) => socket,
        Err(error) => skip(format!("no MPTCP socket can be opened: {error}")),
    };
    socket.bind(&loopback().into()).expect("a free port");
    socket.listen(9).expect("it listens");
    let plain = listen_on(loopback(), 9, |_| ());
    let clients = [connect_to(address(&socket)), connect_to(address(&socket))];
    let watch = Watch::start();
    // It is listed once, not also as the TCP socket inside it.
    let seen: Vec<_> = watch.model().listeners.iter().filter(|l| l.port == address(&socket).port()).collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].now.accept_depth, seen[0].now.limit), (2, 10));
    if lists_mptcp() {
        assert_eq!(seen[0].protocol, Protocol::Mptcp);
    }
    assert_eq!(watch.by_id(cookie(&plain)).protocol, Protocol::Tcp);
    drop(clients);
}

/// Since Linux 5.19 the kernel's list of MPTCP sockets contains listeners.
fn lists_mptcp() -> bool {
    !environment::older_than(5, 19)
}

/// More listeners than one message of the kernel holds, while others open and close.
fn many() {
    let listeners: Vec<Socket> = (0..700).map(|_| listen_on(loopback(), 5, |_| ())).collect();
    let mut watch = Watch::start();
    for _ in 0..5 {
        let passing: Vec<Socket> = (0..50).map(|_| listen_on(loopback(), 5, |_| ())).collect();
        watch.sample_until("all are seen", |watch| {
            let found = |listener: &Socket| watch.find(cookie(listener)).is_some_and(|seen| !seen.closed);
            listeners.iter().chain(&passing).all(found)
        });
        let gone: Vec<u64> = passing.iter().map(cookie).collect();
        drop(passing);
        watch.sample_until("they are seen to be gone", |watch| gone.iter().all(|id| watch.by_id(*id).closed));
        assert!(listeners.iter().all(|listener| !watch.by_id(cookie(listener)).closed));
    }
}
