//! Unusual connections: MPTCP, TCP Fast Open, TCP_DEFER_ACCEPT.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use listentop_model::{coverage::Measure, sample::Protocol};
use nix::sys::socket::{MsgFlags, SockaddrIn, sendto};
use socket2::{Domain, Socket, Type};
use test_support::{
    Lab, Test, Watch,
    lab::{PORT, loopback},
    skip, sleep_ms,
    sockets::{accept, connect, defer_accept, listen, receive_all, send_all},
    tid,
    watch::{count, thread},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Writes];

const ARRIVALS: &[Measure] = &[Measure::Accepts, Measure::QueuedBytes, Measure::Residency, Measure::FirstByte];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "protocols::mptcp_listener_and_plain_clients", needs: NEEDS, run: mptcp_plain },
    Test { name: "protocols::mptcp_listener_and_multipath_clients", needs: NEEDS, run: mptcp_multipath },
    Test { name: "protocols::mptcp_arrivals", needs: ARRIVALS, run: mptcp_arrivals },
    Test { name: "protocols::fast_open", needs: NEEDS, run: fast_open },
    Test { name: "protocols::deferred_accepts_are_marked", needs: NEEDS, run: deferring },
];

fn mptcp() -> Socket {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    if fd < 0 {
        skip(format!("this kernel has no MPTCP: {}", io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made this descriptor for us.
    Socket::from(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn mptcp_listener() -> Socket {
    let listener = mptcp();
    listener.set_reuse_address(true).expect("SO_REUSEADDR");
    listener.bind(&loopback(PORT).into()).expect("a free address");
    listener.listen(16).expect("it listens");
    listener
}

/// Serves `clients` that send 5 bytes and receive 7, and compares the counts.
fn serve(watch: &mut Watch, listener: &Socket, clients: &[Socket]) {
    let n = clients.len() as u64;
    let mut servers = Vec::new();
    for client in clients {
        send_all(client, b"hello");
        let server = accept(listener).expect("a connection");
        receive_all(&server, 5);
        send_all(&server, b"goodbye");
        receive_all(client, 7);
        servers.push(server);
    }
    watch.sample_until("the owner is found", |watch| watch.listener(PORT).process.is_some());
    let seen = watch.listener(PORT);
    assert_eq!(seen.protocol, Protocol::Mptcp);
    assert_eq!(seen.process.as_ref().map(|process| process.pid), Some(std::process::id()));
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.now.open), (Some(n), Some(n), Some(n)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), n);
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(n), Some(5 * n)));
    assert_eq!((seen.total.writes, seen.total.write_bytes), (Some(n), Some(7 * n)));
    assert_eq!(seen.now.queued_bytes, Some(0));
    let work = thread(seen, tid()).map(|thread| (thread.accepts, thread.reads, thread.writes));
    assert_eq!(work, Some((n, n, n)), "by this thread");
    // A multipath connection that only one side has closed may last another minute.
    clients.iter().for_each(|client| client.shutdown(Shutdown::Both).expect("it is connected"));
    drop(servers);
    watch.sample_until("all are closed", |watch| watch.listener(PORT).now.open == Some(0));
}

/// Go servers listen with MPTCP by default, and most of their clients use plain TCP.
fn mptcp_plain(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = mptcp_listener();
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    serve(&mut watch, &listener, &clients);
}

fn mptcp_clients(n: usize) -> Vec<Socket> {
    let client = || {
        let client = mptcp();
        client.connect(&loopback(PORT).into()).expect("it connects");
        client
    };
    std::iter::repeat_with(client).take(n).collect()
}

/// What arrives on a subflow wakes the socket above it.
fn mptcp_arrivals(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = mptcp_listener();
    let clients = mptcp_clients(3);
    let servers: Vec<Socket> = clients.iter().map(|_| accept(&listener).expect("a connection")).collect();
    clients.iter().for_each(|client| send_all(client, b"hello"));
    watch.sample_until("all bytes wait", |watch| watch.listener(PORT).now.queued_bytes == Some(15));
    for server in &servers {
        receive_all(server, 5);
    }
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!(seen.now.queued_bytes, Some(0));
    assert_eq!(count(seen.distributions.residency.as_ref()), 3);
    assert_eq!(count(seen.distributions.first_byte.as_ref()), 3);
    clients.iter().for_each(|client| client.shutdown(Shutdown::Both).expect("it is connected"));
}

fn mptcp_multipath(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = mptcp_listener();
    let clients = mptcp_clients(5);
    serve(&mut watch, &listener, &clients);
    // A non-blocking listener with an empty queue.
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    assert!(accept(&listener).is_none());
    watch.sample();
    assert_eq!(watch.listener(PORT).total.would_block, Some(1));
}

/// With TCP Fast Open a connection is enqueued by its SYN, which contains data.
fn fast_open(lab: &Lab) {
    // Enables client, server, and data without a cookie, which would need an earlier connection
    // (Documentation/networking/ip-sysctl.rst).
    lab.sysctl("ipv4/tcp_fastopen", "519");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    let length: libc::c_int = 16;
    // SAFETY: the value outlives the call, which reads its four bytes.
    let set = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, (&raw const length).cast(), 4)
    };
    assert_eq!(set, 0, "TCP_FASTOPEN: {}", io::Error::last_os_error());
    let before = lab.counters();
    let address = SockaddrIn::new(127, 0, 0, 1, PORT);
    let clients: Vec<Socket> = (0..5)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let sent = sendto(client.as_raw_fd(), b"hello", &address, MsgFlags::from_bits_retain(libc::MSG_FASTOPEN));
            assert_eq!(sent, Ok(5));
            client
        })
        .collect();
    assert_eq!(lab.counters().since(&before, "TCPFastOpenPassive"), 5, "the test's own load");
    for _ in &clients {
        let server = accept(&listener).expect("a connection");
        receive_all(&server, 5);
    }
    sleep_ms(20);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.now.accept_depth), (Some(5), Some(5), 0));
    assert_eq!((seen.total.reads, seen.total.read_bytes), (Some(5), Some(25)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), 5);
    assert_eq!(count(seen.distributions.first_byte.as_ref()), 5);
    // It is enqueued before its handshake ends.
    assert_eq!(count(seen.distributions.handshake.as_ref()), 0);
    let drops = watch.is_available(Measure::Drops).then_some(0);
    assert_eq!((seen.drops.total, seen.now.queued_bytes), (drops, Some(0)));
}

/// Requests that wait on purpose, for data, are no SYN queue overflow.
fn deferring(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 16);
    watch.sample();
    assert_eq!(watch.listener(PORT).now.defer_accept, Some(false));
    defer_accept(&listener, 5);
    let clients: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    watch.sample_until("all are in the SYN queue", |watch| watch.listener(PORT).now.syn_depth == Some(3));
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.defer_accept, seen.now.accept_depth), (Some(true), 0));
    assert!(seen.findings.is_empty(), "{:?}", seen.findings);
    drop(clients);
}
