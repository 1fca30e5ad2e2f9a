//! Sockets whose every system call is known.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd as _},
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{MsgFlags, recv, send},
    unistd::Pid,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    environment::{older_than, patience},
    lab::loopback,
    wait_until,
};

/// A listener on loopback.
pub fn listen(port: u16, backlog: i32) -> Socket {
    listen_on(loopback(port), backlog, |_| ())
}

/// A listener at this address. `prepare` sets options before it is bound.
pub fn listen_on(address: SocketAddr, backlog: i32, prepare: impl FnOnce(&Socket)) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    if older_than(5, 12) {
        // Probes cannot create a cookie on such a kernel: listentop makes up an id for a socket without one.
        cookie(&socket);
    }
    prepare(&socket);
    socket.bind(&address.into()).expect("a free address");
    socket.listen(backlog).expect("it listens");
    socket
}

/// An established connection to loopback. Closing it resets it, so that a connection that has ended holds no port.
pub fn connect(port: u16) -> Socket {
    connect_to(loopback(port))
}

/// As [`connect`]; `None` if it was refused or reset.
pub fn try_connect(port: u16) -> Option<Socket> {
    let address = loopback(port);
    let socket = client(address);
    socket.connect(&address.into()).ok().map(|()| socket)
}

/// An established connection to this address. Closing it resets it.
pub fn connect_to(address: SocketAddr) -> Socket {
    let socket = client(address);
    socket.connect(&address.into()).unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
    socket
}

fn client(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    prepare(&socket);
    socket
}

fn prepare(socket: &Socket) {
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    // Data is sent at once, not with the next acknowledgement.
    socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
    // A test whose data never arrives fails, and does not hang.
    socket.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
}

/// A connection attempt under way: when this returns, its SYN has been sent and, on loopback, received too.
pub fn attempt(port: u16) -> Socket {
    let socket = client(loopback(port));
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    begin(&socket, loopback(port));
    socket
}

/// As [`attempt`], but the final ACK is sent about 200 ms later.
///
/// A client with TCP_DEFER_ACCEPT hopes to send data with its final ACK and holds it back as long as any delayed ACK.
pub fn attempt_with_late_ack(port: u16) -> Socket {
    attempt_with_late_ack_to(loopback(port))
}

/// As [`attempt_with_late_ack`], to this address.
pub fn attempt_with_late_ack_to(address: SocketAddr) -> Socket {
    let socket = client(address);
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    defer_accept(&socket, 1);
    begin(&socket, address);
    socket
}

/// A connection attempt that does not hear any answer: no final ACK follows. It stays half open until it times out, or
/// until an answer finds that the client has gone.
pub fn attempt_without_hearing(port: u16) -> Socket {
    let socket = client(loopback(port));
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    // A classic BPF program (Documentation/networking/filter.rst) that lets 0 bytes of each packet pass.
    let mut nothing = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    set_to(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program);
    begin(&socket, loopback(port));
    socket
}

fn begin(socket: &Socket, address: SocketAddr) {
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => panic!("a connection attempt: {error}"),
    }
}

/// The next connection; `None` if the listener is non-blocking and no connection waits. Closing it resets it.
pub fn accept(listener: &Socket) -> Option<Socket> {
    match listener.accept() {
        Ok((socket, _)) => {
            prepare(&socket);
            Some(socket)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("accepting: {error}"),
    }
}

/// Waits until there is a connection to accept or data to read.
pub fn readable(socket: &Socket) {
    let mut entries = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(patience()).expect("short");
    assert_eq!(poll(&mut entries, patience), Ok(1), "nothing came in time");
}

/// Sends all of `bytes` in one call.
pub fn send_all(socket: &Socket, bytes: &[u8]) {
    assert_eq!(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL), Ok(bytes.len()));
}

/// Receives up to `size` bytes in one call; returns how many it received.
pub fn receive(socket: &Socket, size: usize) -> usize {
    recv(socket.as_raw_fd(), &mut vec![0; size], MsgFlags::empty()).expect("bytes")
}

/// Receives exactly `size` bytes; returns the number of calls.
pub fn receive_all(socket: &Socket, size: usize) -> u64 {
    let (mut missing, mut calls) = (size, 0);
    while missing > 0 {
        let count = receive(socket, missing);
        assert!(count > 0, "the peer closed");
        missing -= count;
        calls += 1;
    }
    calls
}

/// The socket's cookie, which is the listener's id.
pub fn cookie(socket: &Socket) -> u64 {
    socket.cookie().expect("SO_COOKIE")
}

/// TCP_DEFER_ACCEPT: for this many seconds a listener ignores final ACKs without data.
pub fn defer_accept(socket: &Socket, seconds: libc::c_int) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds);
}

/// TCP_SYNCNT: how often a client sends its SYN again, or a listener its SYN-ACK.
pub fn syn_retries(socket: &Socket, retries: libc::c_int) {
    set(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, retries);
}

/// Sets an option that is a number.
pub fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) {
    set_to(socket, level, name, &value);
}

fn set_to<T>(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &T) {
    let size = size_of_val(value) as libc::socklen_t;
    // SAFETY: the value outlives the call, which reads `size` bytes of it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), size) };
    assert_eq!(result, 0, "option {name}: {}", io::Error::last_os_error());
}

/// The kernel's own `sk_drops` of a socket: SK_MEMINFO_DROPS, which `ss -m` prints after `d`.
pub fn kernel_drops(socket: &Socket) -> u64 {
    const SK_MEMINFO_DROPS: usize = 8;
    let mut values = [0_u32; 16];
    let mut size = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the buffer outlives the call, which writes at most `size` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    assert_eq!(result, 0, "SO_MEMINFO: {}", io::Error::last_os_error());
    assert!(size as usize > SK_MEMINFO_DROPS * 4, "SO_MEMINFO has no drops here");
    u64::from(values[SK_MEMINFO_DROPS])
}

/// Whether an attempt has become a connection, as the client sees it.
pub fn established(attempt: &Socket) -> bool {
    let mut entries = [PollFd::new(attempt.as_fd(), PollFlags::POLLOUT)];
    poll(&mut entries, PollTimeout::ZERO) == Ok(1)
        && entries[0].revents() == Some(PollFlags::POLLOUT)
        && attempt.take_error().is_ok_and(|error| error.is_none())
}

/// Closes the refused attempts, so that they are not repeated; returns the others.
pub fn give_up_refused(attempts: Vec<Socket>) -> Vec<Socket> {
    handshakes_are_decided();
    attempts.into_iter().filter(established).collect()
}

/// Waits until the kernel has decided about each attempt that was made before.
///
/// A packet on loopback mostly is processed before the call that sends it returns. But a CPU that is busy leaves
/// packets to its ksoftirqd, for as long as it takes. An attempt of which nothing has come back yet looks like a
/// refused one. Each CPU processes its packets in order: so its own packet has come back when all earlier ones are
/// processed. A handshake takes three of them, each of which the kernel sends when it processes the one before.
pub fn handshakes_are_decided() {
    const PACKETS: usize = 3;
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("our CPUs");
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let own = socket.local_addr().expect("it is bound");
            socket.set_read_timeout(Some(patience())).expect("SO_RCVTIMEO");
            for _ in 0..PACKETS {
                for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)) {
                    let mut only = CpuSet::new();
                    only.set(cpu).expect("it is in the set");
                    sched_setaffinity(Pid::from_raw(0), &only).expect("a CPU of ours");
                    socket.send_to(&[1], own).expect("it is sent");
                    socket.recv(&mut [0; 1]).expect("it comes back");
                }
            }
        });
    });
}

/// As [`give_up_refused`], with the number of SYNs that the refused attempts sent.
pub fn give_up_refused_and_count(attempts: Vec<Socket>) -> (Vec<Socket>, u64) {
    handshakes_are_decided();
    let mut refused = 0;
    let mut admitted = attempts;
    admitted.retain(|attempt| {
        let kept = established(attempt);
        if !kept {
            refused += 1 + retransmits(attempt);
        }
        kept
    });
    (admitted, refused)
}

/// How often the client sent its SYN, or data, again.
pub fn retransmits(socket: &Socket) -> u64 {
    u64::from(tcp_info(socket).tcpi_total_retrans)
}

/// Connections that wait in the listener's accept queue, by the kernel's own count.
pub fn queued(listener: &Socket) -> u32 {
    tcp_info(listener).tcpi_unacked
}

/// Waits until so many connections wait in the accept queue. A client's connect(2) returns when the SYN-ACK is there;
/// a busy CPU processes the final ACK, which queues the connection, later. So a test calls this before it closes a
/// listener.
pub fn wait_queued(listener: &Socket, connections: u32) {
    wait_until("the connections are queued", || queued(listener) == connections);
}

/// Packets that a connection has sent and the other side has not acknowledged.
pub fn unacknowledged(connection: &Socket) -> u32 {
    tcp_info(connection).tcpi_unacked
}

fn tcp_info(socket: &Socket) -> libc::tcp_info {
    // SAFETY: zero is valid for all members.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the structure outlives the call, which writes at most `size` bytes.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut size)
    };
    assert_eq!(result, 0, "TCP_INFO: {}", io::Error::last_os_error());
    info
}

/// Sends a reset from a loopback port that no socket has: a bare TCP header (RFC 9293). The kernel adds the IPv4
/// header.
pub fn reset(from: u16, to: u16) {
    const RST: u8 = 4;
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("a raw socket");
    socket.send_to(&header((own, from), (own, to), RST), &loopback(to).into()).expect("it is sent");
}

/// Sends a SYN to a loopback port, as if it came from this address and port, which need not be this machine's.
pub fn syn_from(from: IpAddr, port: u16, to: u16) {
    const SYN: u8 = 2;
    let (domain, level, option, own) = match from {
        IpAddr::V4(_) => (Domain::IPV4, libc::IPPROTO_IP, libc::IP_HDRINCL, IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(_) => (Domain::IPV6, libc::IPPROTO_IPV6, libc::IPV6_HDRINCL, IpAddr::V6(Ipv6Addr::LOCALHOST)),
    };
    let segment = header((from, port), (own, to), SYN);
    let packet = match (from, own) {
        // The kernel fills in the length, the id and the checksum (raw(7)).
        (IpAddr::V4(from), IpAddr::V4(own)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
            packet.extend(from.octets().into_iter().chain(own.octets()).chain(segment));
            packet
        }
        (IpAddr::V6(from), IpAddr::V6(own)) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, segment.len() as u8, libc::IPPROTO_TCP as u8, 64];
            packet.extend(from.octets().into_iter().chain(own.octets()).chain(segment));
            packet
        }
        _ => unreachable!("both are of one family"),
    };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).expect("a raw socket");
    set(&socket, level, option, 1);
    // The port of a raw socket is the protocol, or nothing.
    socket.send_to(&packet, &SocketAddr::new(own, 0).into()).expect("it is sent");
}

/// A bare TCP header (RFC 9293) with these flags.
fn header((source, from): (IpAddr, u16), (destination, to): (IpAddr, u16), flags: u8) -> [u8; 20] {
    const HEADER_WORDS: u8 = 5;
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut header = [0; 20];
    header[..2].copy_from_slice(&from.to_be_bytes());
    header[2..4].copy_from_slice(&to.to_be_bytes());
    (header[12], header[13]) = (HEADER_WORDS << 4, flags);
    // A window.
    header[14] = 0x40;
    // The checksum covers both addresses, the protocol and the length too (RFC 9293, section 3.1).
    let pseudo = [octets(source), octets(destination), vec![0, libc::IPPROTO_TCP as u8, 0, header.len() as u8]];
    let bytes: Vec<u8> = pseudo.concat().into_iter().chain(header).collect();
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header
}
