//! What is different although it looks the same: listeners of one address on different devices, namespaces with one
//! inode number, connections of different origin.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::AsFd as _,
};

use listentop_btf::KernelBtf;
use listentop_model::{coverage::Measure, model::ListenerModel};
use socket2::{Domain, Socket, Type};
use test_support::{
    Lab, Test, Watch,
    environment::older_than,
    lab::{PORT, any6, has_ipv6, loopback},
    process::{Gate, close_inherited_but, fork, wait_for_ever},
    skip, sleep_ms,
    sockets::{
        accept, attempt, connect, connect_to, cookie, give_up_refused, kernel_drops, listen, listen_on, receive,
        send_all, set,
    },
    steering::Steering,
    wait_until,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::OpenConnections, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "identity::one_address_on_two_devices", needs: NEEDS, run: two_devices },
    Test { name: "identity::link_local_scopes", needs: NEEDS, run: link_local },
    Test { name: "identity::outgoing_from_the_listening_port", needs: NEEDS, run: outgoing },
    Test { name: "identity::any_address_beside_a_specific_one", needs: NEEDS, run: any_beside_specific },
    Test { name: "identity::connections_of_an_old_process", needs: NEEDS, run: old_process },
    Test { name: "identity::shards_of_several_processes", needs: NEEDS, run: shards_of_processes },
    Test { name: "identity::led_to_another_port", needs: NEEDS, run: led_to_another_port },
    Test { name: "identity::listen_that_fails", needs: NEEDS, run: listen_that_fails },
    Test { name: "identity::first_listener_later", needs: NEEDS, run: first_listener_later },
    Test { name: "identity::an_inode_number_used_again", needs: NEEDS, run: inode_used_again },
];

/// A port at which no test listens.
const ELSEWHERE: u16 = PORT + 7;

fn any4(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

fn on_device(device: &str) -> Socket {
    listen_on(any4(PORT), 16, |socket| {
        socket.set_reuse_port(true).expect("SO_REUSEPORT");
        socket.bind_device(Some(device.as_bytes())).expect("SO_BINDTODEVICE");
    })
}

fn pair(listener: &Socket, address: SocketAddr) -> (Socket, Socket) {
    let client = connect_to(address);
    (client, accept(listener).expect("a connection"))
}

fn open(watch: &Watch, listener: &Socket) -> u64 {
    watch.by_id(cookie(listener)).now.open.expect("it is measured")
}

/// Each listener, and each group, has its own device. Connections from before the start have inherited it.
fn two_devices(lab: &Lab) {
    if let Err(error) = lab.add_device("one0") {
        skip(format!("no second device: {error}"));
    }
    let shards = [on_device("lo"), on_device("lo")];
    shards.iter().for_each(|shard| shard.set_nonblocking(true).expect("O_NONBLOCK"));
    let other = on_device("one0");
    let clients: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    let servers: Vec<Socket> = clients.iter().map(|_| shards.iter().find_map(accept).expect("a connection")).collect();
    let mut watch = Watch::fresh(lab);
    let device = |watch: &Watch, id| watch.by_id(id).device.map(|device| device.to_string());
    let on_lo: u64 = shards.iter().map(|shard| open(&watch, shard)).sum();
    assert_eq!((on_lo, open(&watch, &other)), (3, 0));
    for (listener, name) in [(&shards[0], "lo"), (&shards[1], "lo"), (&other, "one0")] {
        assert_eq!(device(&watch, cookie(listener)).as_deref(), Some(name));
    }
    let groups: Vec<_> = watch.model().groups.iter().filter(|group| group.id.namespace.inode == lab.netns).collect();
    assert_eq!(groups.len(), 1, "the one on the other device is no shard: {groups:?}");
    assert_eq!(groups[0].id.to_string(), format!("tcp/{}/0.0.0.0%lo:{PORT}", lab.netns));

    for (client, server) in clients.iter().zip(&servers) {
        send_all(client, b"hello");
        let _ = server;
    }
    servers.iter().for_each(|server| assert_eq!(receive(server, 10), 5));
    // One that opens later, and one that is bound to another device while it listens.
    let late = listen(PORT + 1, 4);
    late.bind_device(Some(b"one0")).expect("SO_BINDTODEVICE");
    watch.sample();
    assert_eq!(watch.by_id(cookie(&other)).total.reads, Some(0));
    watch.sample_until("the device is seen", |watch| device(watch, cookie(&late)).as_deref() == Some("one0"));
    late.bind_device(None).expect("SO_BINDTODEVICE");
    watch.sample_until("it is bound to none", |watch| device(watch, cookie(&late)).is_none());
}

/// One link-local address on two links is two addresses.
fn link_local(lab: &Lab) {
    if !has_ipv6() {
        skip("no IPv6");
    }
    for name in ["one0", "two0"] {
        if let Err(error) = lab.add_device(name) {
            skip(format!("no second device: {error}"));
        }
    }
    let index = |name: &str| nix::net::if_::if_nametoindex(name).expect("it is there");
    let address: Ipv6Addr = "fe80::1:1".parse().expect("an address");
    let listen_at = |name: &str| {
        let address = SocketAddr::from(SocketAddrV6::new(address, PORT, 0, index(name)));
        // The address need not exist.
        listen_on(address, 4, |socket| set(socket, libc::IPPROTO_IP, libc::IP_FREEBIND, 1))
    };
    let (first, second) = (listen_at("one0"), listen_at("two0"));
    let watch = Watch::fresh(lab);
    for (listener, name) in [(&first, "one0"), (&second, "two0")] {
        let seen = watch.by_id(cookie(listener));
        assert_eq!((seen.address, seen.device.as_deref()), (address.into(), Some(name)));
        assert_eq!(listentop_model::words::listener_endpoint(seen), format!("[fe80::1:1]%{name}:{PORT}"));
    }
}

/// A process connects from the port on which it listens too: that is no connection of the listener.
fn outgoing(lab: &Lab) {
    let remote = listen(PORT + 1, 16);
    let local = listen_on(loopback(PORT), 16, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
    let outgoing = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    outgoing.set_reuse_address(true).expect("SO_REUSEADDR");
    outgoing.set_reuse_port(true).expect("SO_REUSEPORT");
    outgoing.bind(&loopback(PORT).into()).expect("the port can be shared");
    outgoing.connect(&loopback(PORT + 1).into()).expect("it listens");
    let peer = accept(&remote).expect("a connection");
    let incoming = pair(&local, loopback(PORT));
    let mut watch = Watch::fresh(lab);
    send_all(&peer, b"hello");
    assert_eq!(receive(&outgoing, 10), 5);
    send_all(&incoming.0, b"hi");
    assert_eq!(receive(&incoming.1, 10), 2);
    watch.sample();
    let seen = watch.by_id(cookie(&local));
    assert_eq!((seen.now.open, seen.total.reads, seen.total.read_bytes), (Some(1), Some(1), Some(2)));
    assert_eq!((open(&watch, &remote), watch.model().losses.ambiguous), (1, 0));
}

/// A connection has inherited whether its listener was bound to a certain address.
fn any_beside_specific(lab: &Lab) {
    let reuse = |socket: &Socket| socket.set_reuse_port(true).expect("SO_REUSEPORT");
    let any = listen_on(any4(PORT), 16, reuse);
    let of_any: Vec<_> = (0..3).map(|_| pair(&any, loopback(PORT))).collect();
    let specific = listen_on(loopback(PORT), 16, reuse);
    let of_specific: Vec<_> = (0..2).map(|_| pair(&specific, loopback(PORT))).collect();
    // A listener for both families that has no rival.
    let both = has_ipv6().then(|| listen_on(any6(PORT + 1), 16, |_| ()));
    let of_both = both.as_ref().map(|both| pair(both, loopback(PORT + 1)));
    let mut watch = Watch::fresh(lab);
    let ambiguous = watch.model().losses.ambiguous;
    assert_eq!((open(&watch, &any), open(&watch, &specific), ambiguous), (3, 2, 0));
    if let Some(both) = &both {
        assert_eq!(open(&watch, both), 1);
    }
    for (client, server) in &of_any {
        send_all(client, b"hello");
        assert_eq!(receive(server, 10), 5);
    }
    watch.sample();
    let reads = |listener| watch.by_id(cookie(listener)).total.reads;
    assert_eq!((reads(&any), reads(&specific)), (Some(3), Some(0)));
    drop((of_specific, of_both));
}

/// An old process serves its connections to their end, while a new one listens. Whether they came through the new
/// listener cannot be told. Those of its own process, and of that one's children, did.
fn old_process(lab: &Lab) {
    let [listens, drains, ready, done] = [0; 4].map(|_| Gate::new());
    let mut old = fork(|| {
        let listener = listen_on(any4(PORT), 16, |_| ());
        listens.open(1);
        let held: Vec<_> = (0..3).map(|_| accept(&listener)).collect();
        drop(listener);
        drains.open(1);
        wait_for_ever();
        drop(held);
    });
    listens.pass();
    let of_old: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    drains.pass();
    let _new = fork(|| {
        let listener = listen_on(any4(PORT), 16, |_| ());
        ready.open(1);
        let (own, childs) = (accept(&listener), accept(&listener).expect("a connection"));
        let _child = fork(|| {
            close_inherited_but(childs.as_fd());
            wait_for_ever();
        });
        drop(childs);
        done.open(1);
        wait_for_ever();
        drop(own);
    });
    ready.pass();
    let of_new = [connect(PORT), connect(PORT)];
    done.pass();
    sleep_ms(50);
    let mut watch = Watch::fresh(lab);
    let shown = |watch: &Watch| (watch.listener(PORT).now.open, watch.model().losses.ambiguous);
    assert_eq!(shown(&watch), (Some(2), 3));
    of_old.iter().for_each(|client| send_all(client, b"hello"));
    watch.sample();
    assert_eq!(watch.listener(PORT).now.queued_bytes, Some(0), "it arrived for nobody that is known");
    old.kill();
    sleep_ms(20);
    watch.sample();
    assert_eq!(shown(&watch), (Some(2), 3));
    drop(of_new);
}

/// Each process holds a shard and its connections, not the others': the sum over the group is right.
fn shards_of_processes(lab: &Lab) {
    const OPEN: u64 = 8;
    let (listens, accepted) = (Gate::new(), Gate::new());
    let _servers = [(); 2].map(|()| {
        fork(|| {
            let listener = listen_on(loopback(PORT), 16, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
            listens.open(1);
            let mut held = Vec::new();
            loop {
                held.push(accept(&listener));
                accepted.open(1);
            }
        })
    });
    (0..2).for_each(|_| listens.pass());
    let clients: Vec<Socket> = (0..OPEN).map(|_| connect(PORT)).collect();
    (0..OPEN).for_each(|_| accepted.pass());
    let watch = Watch::fresh(lab);
    let open: u64 = watch.listeners(PORT).iter().map(|shard| shard.now.open.expect("it is measured")).sum();
    assert_eq!((open, watch.model().losses.ambiguous), (OPEN, OPEN));
    drop(clients);
}

/// A BPF program leads connections to a listener at another port, as TPROXY does. Where there is one listener that they
/// may have come through, they are its; otherwise nobody's.
fn led_to_another_port(lab: &Lab) {
    let proxy = listen(PORT, 16);
    let steering = match Steering::to(&proxy, ELSEWHERE) {
        Ok(steering) => steering,
        Err(error) => skip(format!("no program can lead connections elsewhere: {error}")),
    };
    let led = pair(&proxy, loopback(ELSEWHERE));
    let direct = pair(&proxy, loopback(PORT));
    // Without the mark of connect(2) (6.17, and kernels that have got it since), a connection to a port where nothing
    // listens looks like one that the process has made.
    let btf = KernelBtf::from_kernel().expect("the kernel's types");
    let is_known = btf.member("sock", "sk_userlocks").expect("every kernel has it").width > 4;
    {
        let watch = Watch::fresh(lab);
        let expected = if is_known { 2 } else { 1 };
        assert_eq!((open(&watch, &proxy), watch.model().losses.ambiguous), (expected, 0));
    }
    // It may be either's, as far as can be told.
    let other = listen(ELSEWHERE, 16);
    {
        let watch = Watch::fresh(lab);
        assert_eq!((open(&watch, &proxy), open(&watch, &other), watch.model().losses.ambiguous), (0, 0, 2));
    }
    // What is transparent has come through a transparent one.
    set(&proxy, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1);
    let transparent = pair(&proxy, loopback(ELSEWHERE));
    drop((led, direct));
    sleep_ms(20);
    {
        let watch = Watch::fresh(lab);
        let (shown, ambiguous) = if is_known { (1, 0) } else { (0, 1) };
        let open_now = (open(&watch, &proxy), open(&watch, &other));
        assert_eq!((open_now, watch.model().losses.ambiguous), ((shown, 0), ambiguous));
    }
    drop((transparent, steering));
}

/// listen(2) finds out that the port is another's after it has set the socket's state: no listener opens.
fn listen_that_fails(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let bound = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&loopback(PORT).into()).expect("bound, not listening yet");
        // Before 5.12 a listener is known by its cookie only if somebody has asked for it before.
        (cookie(&socket), socket)
    };
    let [(id, first), (_, second)] = [0, 1].map(bound);
    first.listen(5).expect("the first one may");
    for _ in 0..40 {
        let error = second.listen(5).expect_err("the port is taken");
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        watch.sample();
    }
    let connected = pair(&first, loopback(PORT));
    watch.sample();
    assert_eq!(watch.listeners(PORT).iter().map(|seen| seen.id).collect::<Vec<_>>(), [id]);
    assert_eq!(watch.listener(PORT).total.enqueued, Some(1));
    // Once the port is free, the same socket listens, and stops.
    drop((first, connected));
    second.listen(5).expect("the port is free");
    let connected = pair(&second, loopback(PORT));
    watch.sample();
    let seen = watch.by_id(cookie(&second));
    assert_eq!((seen.closed, seen.total.accepts, watch.listeners(PORT).len()), (false, Some(1), 2));
    let id = cookie(&second);
    drop((second, connected));
    watch.sample();
    assert!(watch.by_id(id).closed);
    assert_eq!(watch.lost(), 0, "{:?}", watch.model().losses);
}

/// Refuses attempts at a listener with a full queue; returns those that wait.
fn refuse(listener: &Socket, attempts: usize) -> Vec<Socket> {
    let before = kernel_drops(listener);
    let waiting = give_up_refused((0..attempts).map(|_| attempt(PORT)).collect());
    wait_until("attempts are refused", || kernel_drops(listener) > before);
    waiting
}

/// A namespace that has refused before, and has no listener at the start: what it counts from then on is exact.
fn first_listener_later(lab: &Lab) {
    let early = listen(PORT, 4);
    drop((refuse(&early, 30), early));
    for turn in 0..2 {
        let mut watch = Watch::fresh(lab);
        let before = lab.counters();
        let listener = listen(PORT, 4);
        let waiting = refuse(&listener, 40);
        sleep_ms(50);
        watch.sample();
        sleep_ms(50);
        watch.sample();
        let refused = lab.counters().since(&before, "ListenDrops");
        assert!(refused >= 30, "the test's own load: {refused}");
        if watch.is_available(Measure::Drops) {
            let drops = watch.by_id(cookie(&listener)).drops;
            assert_eq!(drops.total, Some(refused), "turn {turn}: {drops:?}");
            // A namespace without a cookie may be another one than that of which the counters were read before.
            if older_than(5, 14) {
                continue;
            }
            assert_eq!(drops.unexplained, Some(0), "turn {turn}: {drops:?}");
            assert_eq!(drops.accept_queue_full_on_syn, Some(refused));
            let namespace = watch.namespace();
            assert_eq!((namespace.listen_drops, namespace.unexplained_drops), (Some(refused), Some(0)));
        }
        drop((waiting, listener));
    }
}

/// The kernel gives the inode number of a namespace to the next one. Their listeners and counters are kept apart.
fn inode_used_again(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let visit = |watch: &mut Watch, inode: Option<u32>| {
        Lab::beside(|other| {
            if inode.is_some_and(|inode| inode != other.netns) {
                return None;
            }
            let listener = listen(PORT, 4);
            let before = other.counters();
            // The counters are found with the next search for owners.
            let id = cookie(&listener);
            watch.sample_until("the namespace's counters are found", |watch| {
                let namespace = watch.model().namespaces.iter().rev().find(|n| n.id == watch.by_id(id).namespace());
                namespace.is_some_and(|namespace| namespace.listen_drops.is_some())
            });
            let waiting = refuse(&listener, 20);
            sleep_ms(50);
            watch.sample();
            watch.sample();
            drop(waiting);
            Some((other.netns, id, other.counters().since(&before, "ListenDrops")))
        })
    };
    let (inode, first, refused) = visit(&mut watch, None).expect("it need not have a certain number");
    watch.sample();
    // The kernel takes a namespace down some time after its last process has ended.
    let mut again = None;
    for _ in 0..100 {
        sleep_ms(20);
        again = visit(&mut watch, Some(inode));
        if again.is_some() {
            break;
        }
    }
    let Some((_, second, refused_again)) = again else { skip("the kernel did not use the number again") };
    let of = |id| watch.model().listeners.iter().find(|listener| listener.id == id).expect("it was seen");
    let (first, second): (&ListenerModel, &ListenerModel) = (of(first), of(second));
    assert_eq!((first.netns, second.netns), (inode, inode));
    if older_than(5, 12) {
        return;
    }
    assert_ne!(first.net_cookie, second.net_cookie);
    for (listener, refused) in [(first, refused), (second, refused_again)] {
        let namespace = watch.model().namespaces.iter().find(|namespace| namespace.id == listener.namespace());
        let namespace = namespace.expect("it is kept for the interval");
        assert_eq!(namespace.listen_drops, Some(refused));
        if watch.is_available(Measure::Drops) {
            assert_eq!((listener.drops.total, namespace.unexplained_drops), (Some(refused), Some(0)));
        }
    }
}
