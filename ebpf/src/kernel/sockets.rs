//! Sockets: listeners, connections, subflows.

use core::arch::asm;

use aya_ebpf::helpers::{bpf_skc_to_tcp_sock, generated::bpf_get_socket_cookie};

use super::*;

/// A socket that a tracepoint passed: the verifier knows its type.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*const u8);

impl Sock {
    /// Wraps a tracepoint's `struct sock *` argument, which must not be null.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Its address as a number. The verifier refuses to compute with pointers but for negation, which makes a number of
    /// one.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        let mut negated = self.0 as u64;
        // Hidden from the compiler, which would see that nothing changes.
        unsafe { asm!("{0} = -{0}", inout(reg) negated, options(pure, nomem, nostack)) };
        negated.wrapping_neg()
    }

    #[inline(always)]
    pub(crate) fn state(self) -> i32 {
        i32::from(unsafe { direct::<u8>(self.0, &SOCK_STATE) })
    }

    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        let family = unsafe { direct::<u16>(self.0, &SOCK_FAMILY) };
        (family == AF_INET || family == AF_INET6) && unsafe { direct::<u16>(self.0, &SOCK_PROTOCOL) } == IPPROTO_TCP
    }

    #[inline(always)]
    pub(crate) fn accept_depth(self) -> u32 {
        unsafe { direct(self.0, &SOCK_ACK_BACKLOG) }
    }

    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        HAS_MPTCP.load() != 0 && unsafe { direct::<u16>(self.0, &SOCK_PROTOCOL) } == IPPROTO_MPTCP
    }

    #[inline(always)]
    pub(crate) fn backlog(self) -> u32 {
        unsafe { direct(self.0, &SOCK_MAX_ACK_BACKLOG) }
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        unsafe { direct(self.0, &SOCK_DROPS) }
    }

    /// The socket's cookie, which is made if it has none; 0 where that cannot be done.
    #[inline(always)]
    pub(crate) fn make_cookie(self) -> u64 {
        if HAS_SOCKET_COOKIE.load() == 0 {
            return 0;
        }
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }

    /// The same socket as a `struct tcp_sock`; `None` if it is none.
    #[inline(always)]
    pub(crate) fn tcp(self) -> Option<TcpSock> {
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        if tcp.is_null() { None } else { Some(TcpSock(tcp.cast_const().cast())) }
    }
}

/// A TCP socket whose type the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(*const u8);

impl TcpSock {
    #[inline(always)]
    pub(crate) fn qlen(self) -> u32 {
        unsafe { direct(self.0, &TCP_QLEN) }
    }

    #[inline(always)]
    pub(crate) fn copied_seq(self) -> u32 {
        unsafe { direct(self.0, &TCP_COPIED_SEQ) }
    }

    /// The connection at the end of the accept queue, if it is the one at this address: with its type known, it is read
    /// without copying.
    #[inline(always)]
    fn last_queued(self, address: u64) -> Option<TcpSock> {
        let request: u64 = unsafe { direct(self.0, &TCP_ACCEPT_TAIL) };
        let child = Sock::new(unsafe { direct::<u64>(request as *const u8, &REQUEST_SK) } as *const u8);
        if child.key() == address { child.tcp() } else { None }
    }

    /// See [`RawSock::srtt_us`].
    #[inline(always)]
    fn srtt_us(self) -> u32 {
        let eighths: u32 = unsafe { direct(self.0, &TCP_SRTT_US) };
        eighths >> 3
    }

    /// When the kernel began to process the packet that it is processing, CLOCK_MONOTONIC (`tcp_mstamp_refresh`).
    /// Reading it is far cheaper than reading the clock again.
    #[inline(always)]
    pub(crate) fn packet_ns(self) -> u64 {
        unsafe { direct(self.0, &TCP_CLOCK_CACHE) }
    }

    /// For a read of plain TCP that returns now: when it took the last of what it returns. The kernel looks at the
    /// clock then, for the same field (`tcp_rcv_space_adjust`, of every version since 5.10); a packet that came
    /// since has made it later, but not later than now.
    #[inline(always)]
    pub(crate) fn taken_ns(self) -> u64 {
        self.packet_ns()
    }

    /// Sequence number after the last payload byte that arrived in order: `rcv_nxt` without the FIN, which takes a
    /// number too.
    #[inline(always)]
    pub(crate) fn payload_end(self) -> u32 {
        let fin = (unsafe { direct::<u64>(self.0, &SOCK_FLAGS) } >> FLAG_DONE.load()) as u32 & 1;
        unsafe { direct::<u32>(self.0, &TCP_RCV_NXT) }.wrapping_sub(fin)
    }
}

/// What is to be known of a connection that is put on an accept queue.
#[derive(Clone, Copy)]
pub(crate) struct Child {
    /// Its address.
    pub(crate) sock: RawSock,
    /// See [`RawSock::srtt_us`].
    pub(crate) srtt_us: u32,
    /// See [`RawSock::packet_ns`].
    pub(crate) packet_ns: u64,
    /// See [`RawSock::receive_span`].
    pub(crate) span: Option<(u32, u32)>,
}

impl Child {
    /// Of the connection at this address, which was put on the queue of `listener` just now.
    #[inline(always)]
    pub(crate) fn of(address: u64, listener: TcpSock) -> Self {
        let sock = RawSock(address);
        match listener.last_queued(address) {
            Some(child) => Self {
                sock,
                srtt_us: child.srtt_us(),
                packet_ns: child.packet_ns(),
                span: Some((child.copied_seq(), child.payload_end())),
            },
            // Another one came behind it, or it was accepted already.
            None => Self { sock, srtt_us: sock.srtt_us(), packet_ns: sock.packet_ns(), span: sock.receive_span() },
        }
    }
}

/// A socket known by its address only: every read may fail, because the socket may be gone.
#[derive(Clone, Copy)]
pub(crate) struct RawSock(pub(crate) u64);

impl RawSock {
    /// A socket that a function is called with or returns, which the verifier knows to be a pointer: see [`Sock::key`].
    #[inline(always)]
    pub(crate) fn of(pointer: u64) -> Self {
        Self(Sock::new(pointer as *const u8).key())
    }

    #[inline(always)]
    pub(crate) fn state(self) -> i32 {
        probe::<u8>(self.0, &SOCK_STATE).map_or(0, i32::from)
    }

    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        probe(self.0, &SOCK_COOKIE).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn accept_depth(self) -> u32 {
        probe(self.0, &SOCK_ACK_BACKLOG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn backlog(self) -> u32 {
        probe(self.0, &SOCK_MAX_ACK_BACKLOG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        probe(self.0, &SOCK_DROPS).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn qlen(self) -> u32 {
        probe(self.0, &TCP_QLEN).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn young(self) -> u32 {
        probe(self.0, &TCP_YOUNG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn port(self) -> u16 {
        probe(self.0, &SOCK_NUM).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        probe(self.0, &SOCK_FAMILY).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn v4_address(self) -> [u8; 4] {
        probe(self.0, &SOCK_V4_ADDRESS).unwrap_or([0; 4])
    }

    #[inline(always)]
    pub(crate) fn v6_address(self) -> [u8; 16] {
        probe(self.0, &SOCK_V6_ADDRESS).unwrap_or([0; 16])
    }

    #[inline(always)]
    pub(crate) fn reuseport(self) -> bool {
        (probe::<u8>(self.0, &SOCK_REUSEPORT_BYTE).unwrap_or(0) >> SOCK_REUSEPORT_BIT.load()) & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn v6only(self) -> bool {
        (probe::<u8>(self.0, &SOCK_V6ONLY_BYTE).unwrap_or(0) >> SOCK_V6ONLY_BIT.load()) & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        probe::<u64>(self.0, &SOCK_NET).and_then(|net| probe(net, &NET_INUM)).unwrap_or(0)
    }

    /// A socket of MPTCP itself, above its subflows.
    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        HAS_MPTCP.load() != 0 && probe::<u16>(self.0, &SOCK_PROTOCOL) == Some(IPPROTO_MPTCP)
    }

    /// Of a socket of MPTCP itself: the subflow that it began with.
    #[inline(always)]
    pub(crate) fn first_subflow(self) -> RawSock {
        RawSock(probe(self.0, &MPTCP_FIRST).unwrap_or(0))
    }

    /// Of a subflow: the socket of MPTCP that it belongs to. `None` for plain TCP.
    #[inline(always)]
    pub(crate) fn mptcp(self) -> Option<RawSock> {
        if HAS_MPTCP.load() == 0 || probe::<u8>(self.0, &TCP_IS_MPTCP)? == 0 {
            return None;
        }
        let subflow = probe::<u64>(self.0, &TCP_ULP_DATA)?;
        probe::<u64>(subflow, &SUBFLOW_CONN).filter(|socket| *socket != 0).map(RawSock)
    }

    /// Whether TCP_DEFER_ACCEPT is set: how often a SYN-ACK may be sent again while it waits for data.
    #[inline(always)]
    pub(crate) fn defer_accept(self) -> u32 {
        u32::from(probe::<u8>(self.0, &TCP_DEFER_ACCEPT).unwrap_or(0))
    }

    #[inline(always)]
    pub(crate) fn socket(self) -> u64 {
        probe(self.0, &SOCK_SOCKET).unwrap_or(0)
    }

    /// Whether a packet is being processed for it, or a process begins or ends a call. The kernel holds this lock from
    /// when it makes a child until it has put it on the accept queue and told the listener.
    #[inline(always)]
    pub(crate) fn is_locked(self) -> bool {
        SOCK_SPINLOCK.load() != 0 && probe::<u32>(self.0, &SOCK_SPINLOCK).is_some_and(|lock| lock != 0)
    }

    #[inline(always)]
    pub(crate) fn inode(self) -> u64 {
        probe(self.socket(), &SOCKET_INO).unwrap_or(0)
    }

    /// No process will ever use it again (`SOCK_DEAD`).
    #[inline(always)]
    pub(crate) fn dead(self) -> bool {
        (probe::<u64>(self.0, &SOCK_FLAGS).unwrap_or(0) >> FLAG_DEAD.load()) & 1 == 1
    }

    /// (`copied_seq`, sequence number after the last payload byte that arrived).
    #[inline(always)]
    pub(crate) fn receive_span(self) -> Option<(u32, u32)> {
        let copied = probe::<u32>(self.0, &TCP_COPIED_SEQ)?;
        let next = probe::<u32>(self.0, &TCP_RCV_NXT)?;
        if next == copied {
            return Some((copied, next));
        }
        let fin = (probe::<u64>(self.0, &SOCK_FLAGS)? >> FLAG_DONE.load()) as u32 & 1;
        Some((copied, next.wrapping_sub(fin)))
    }

    /// As [`TcpSock::packet_ns`]; 0 if it cannot be read or was never set (TCP Fast Open).
    #[inline(always)]
    pub(crate) fn packet_ns(self) -> u64 {
        probe(self.0, &TCP_CLOCK_CACHE).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn copied_seq(self) -> Option<u32> {
        probe(self.0, &TCP_COPIED_SEQ)
    }

    /// Smoothed round-trip time in microseconds; for a new child the time from SYN-ACK to final ACK, 0 if the SYN-ACK
    /// was retransmitted (`tcp_synack_rtt_meas`). The kernel keeps it times 8.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        probe::<u32>(self.0, &TCP_SRTT_US).unwrap_or(0) >> 3
    }

    /// The request at the head of the accept queue.
    #[inline(always)]
    pub(crate) fn accept_head(self) -> Request {
        Request(probe(self.0, &TCP_ACCEPT_HEAD).unwrap_or(0))
    }

    /// The request at its end.
    #[inline(always)]
    pub(crate) fn accept_tail(self) -> Request {
        Request(probe(self.0, &TCP_ACCEPT_TAIL).unwrap_or(0))
    }
}

/// Whether the listener's namespace allows SYN cookies (net.ipv4.tcp_syncookies).
#[inline(always)]
pub(crate) fn cookies_allowed(sock: Sock) -> bool {
    // An int once, a byte since 5.16: the low byte has it either way.
    probe::<u64>(sock.key(), &SOCK_NET).and_then(|net| probe::<u8>(net, &NET_SYNCOOKIES)).is_some_and(|mode| mode != 0)
}

/// The `struct sock` of a `struct socket` that a function passed.
#[inline(always)]
pub(crate) fn sock_of(socket: u64) -> Option<RawSock> {
    probe::<u64>(socket, &SOCKET_SK).filter(|sk| *sk != 0).map(RawSock)
}

/// The `struct sock` behind a `struct file`. If that is no socket's the address is some other object's, and found in no
/// table.
#[inline(always)]
pub(crate) fn socket_of_file(file: u64) -> Option<RawSock> {
    sock_of(probe(file, &FILE_PRIVATE_DATA)?)
}

/// Whether the file through which a process has this listener does not block (`O_NONBLOCK`).
#[inline(always)]
pub(crate) fn opened_nonblocking(sock: Sock) -> bool {
    // The same on every architecture that is supported.
    const O_NONBLOCK: u32 = 0o4000;
    let sock = RawSock(sock.key());
    let owner = sock.mptcp().unwrap_or(sock);
    probe::<u64>(owner.socket(), &SOCKET_FILE)
        .and_then(|file| probe::<u32>(file, &FILE_FLAGS))
        .is_some_and(|flags| flags & O_NONBLOCK != 0)
}
