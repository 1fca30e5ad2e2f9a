//! Sockets: listeners, connections, subflows.

use aya_ebpf::{
    Global,
    helpers::{bpf_skc_to_tcp_sock, generated::bpf_get_socket_cookie},
};

use super::{AF_INET, AF_INET6, IPPROTO_MPTCP, IPPROTO_TCP, Request, any_address, btf, direct, number, probe, read_at};
use crate::values::Plain;

/// A socket that the kernel passed: a live pointer, see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct LiveSocket(*const u8);

impl LiveSocket {
    /// # Safety
    /// The verifier knows the pointer as `struct sock *` (or a structure that begins with one) and not null, and the
    /// kernel holds the socket until the program returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// The full TCP socket that an iterator is at; `None` for null and for request and time-wait sockets, which an
    /// iterator visits too.
    ///
    /// # Safety
    /// The pointer is the socket in the iterator's context.
    #[inline(always)]
    pub(crate) unsafe fn visited(pointer: *const u8) -> Option<Self> {
        if pointer.is_null() {
            return None;
        }
        // The context's type is that of any socket, which the helper takes; members are loaded from what it returns.
        Self(pointer).tcp().map(|tcp| Self(tcp.0))
    }

    /// Its address as a number.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        number(self.0)
    }

    /// Its address, for reads of members that the verifier does not let a program load.
    #[inline(always)]
    pub(crate) fn address(self) -> MaybeGone {
        MaybeGone(self.key())
    }

    /// Reads a member of `struct sock`.
    #[inline(always)]
    fn read<T: Plain>(self, offset: &Global<u32>) -> T {
        // SAFETY: a live socket; the callers below name offsets of its members.
        unsafe { direct(self.0, offset) }
    }

    #[inline(always)]
    pub(crate) fn state(self) -> i32 {
        i32::from(self.read::<u8>(&btf::SOCK_STATE))
    }

    /// Whether it has ever listened. A call of listen(2) that fails sets the state, and finds out then that the port is
    /// another's.
    #[inline(always)]
    pub(crate) fn has_listened(self) -> bool {
        (self.read::<u64>(&btf::SOCK_FLAGS) >> btf::FLAG_LISTENED.load()) & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        let family: u16 = self.read(&btf::SOCK_FAMILY);
        (family == AF_INET || family == AF_INET6) && self.read::<u16>(&btf::SOCK_PROTOCOL) == IPPROTO_TCP
    }

    #[inline(always)]
    pub(crate) fn accept_depth(self) -> u32 {
        self.read(&btf::SOCK_ACK_BACKLOG)
    }

    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        btf::HAS_MPTCP.load() != 0 && self.read::<u16>(&btf::SOCK_PROTOCOL) == IPPROTO_MPTCP
    }

    #[inline(always)]
    pub(crate) fn backlog(self) -> u32 {
        self.read(&btf::SOCK_MAX_ACK_BACKLOG)
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        self.read(&btf::SOCK_DROPS)
    }

    /// The socket's cookie, which the kernel makes if there is none; 0 where a program cannot have it made.
    #[inline(always)]
    pub(crate) fn make_cookie(self) -> u64 {
        if btf::HAS_SOCKET_COOKIE.load() == 0 {
            return 0;
        }
        // SAFETY: a live socket, which is what the helper takes.
        unsafe { bpf_get_socket_cookie(self.0.cast_mut().cast()) }
    }

    /// See [`MaybeGone::identity`].
    #[inline(always)]
    pub(crate) fn identity(self) -> u32 {
        self.read(&btf::SOCK_HASH)
    }

    /// The same socket as a `struct tcp_sock`; `None` if it is no full TCP socket.
    #[inline(always)]
    pub(crate) fn tcp(self) -> Option<LiveTcp> {
        // SAFETY: a live socket, which is what the helper takes.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        if tcp.is_null() { None } else { Some(LiveTcp(tcp.cast_const().cast())) }
    }
}

/// A TCP socket that the kernel passed: a live pointer, see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct LiveTcp(*const u8);

impl LiveTcp {
    /// Reads a member of `struct tcp_sock` or of a structure that it begins with.
    #[inline(always)]
    fn read<T: Plain>(self, offset: &Global<u32>) -> T {
        // SAFETY: a live TCP socket; the callers below name offsets of its members.
        unsafe { direct(self.0, offset) }
    }

    #[inline(always)]
    pub(crate) fn qlen(self) -> u32 {
        self.read(&btf::TCP_QLEN)
    }

    #[inline(always)]
    pub(crate) fn copied_seq(self) -> u32 {
        self.read(&btf::TCP_COPIED_SEQ)
    }

    /// The connection at the end of the accept queue, if it is the one at this address: with its type known, it is read
    /// without copying.
    #[inline(always)]
    fn last_queued(self, address: u64) -> Option<LiveTcp> {
        let request: u64 = self.read(&btf::TCP_ACCEPT_TAIL);
        // SAFETY: the verifier follows the types from the socket to its last request and to that one's child. Another
        // CPU may free the request in between: then the loads yield 0 or another object's members. The address shows
        // whether this is the child; the kernel holds the child while it is put on the queue.
        let child = unsafe { LiveSocket::new(direct::<u64>(request as *const u8, &btf::REQUEST_SK) as *const u8) };
        if child.key() == address { child.tcp() } else { None }
    }

    /// See [`MaybeGone::srtt_us`].
    #[inline(always)]
    fn srtt_us(self) -> u32 {
        let eighths: u32 = self.read(&btf::TCP_SRTT_US);
        eighths >> 3
    }

    /// When the kernel began to process the packet at hand, CLOCK_MONOTONIC (`tcp_mstamp_refresh`). Reading it is far
    /// cheaper than reading the clock again.
    #[inline(always)]
    pub(crate) fn packet_ns(self) -> u64 {
        self.read(&btf::TCP_CLOCK_CACHE)
    }

    /// For a read of plain TCP that returns now: when it took the last bytes that it returns. The kernel reads the
    /// clock then, into the same field (`tcp_rcv_space_adjust`, in every version since 5.10). A packet that has
    /// come since makes it later, but not later than now.
    #[inline(always)]
    pub(crate) fn taken_ns(self) -> u64 {
        self.packet_ns()
    }

    /// For a write that returns now: a time within it, if all that was written is sent. The kernel reads the clock
    /// before it sends (`tcp_write_xmit`, in every version since 5.10), into the same field. A packet that has come
    /// since makes it later, but not later than now.
    #[inline(always)]
    pub(crate) fn sent_ns(self) -> Option<u64> {
        let all = self.read::<u32>(&btf::TCP_SND_NXT) == self.read::<u32>(&btf::TCP_WRITE_SEQ);
        if all { Some(self.packet_ns()) } else { None }
    }

    /// Where its reader is, once that is not where it was `expected`: behind an urgent byte, for one, or behind bytes
    /// that something else took. The FIN, which takes a number too, is no byte.
    #[inline(always)]
    pub(crate) fn reader_at(self, expected: u32) -> u32 {
        let copied = self.copied_seq();
        if copied == expected { copied } else { Position::within(copied, self.payload_end()) }
    }

    /// Whether it has payload that was not read.
    #[inline(always)]
    pub(crate) fn has_unread(self) -> bool {
        let end = self.payload_end();
        Position::within(self.copied_seq(), end) != end
    }
    /// Sequence number after the last payload byte that arrived in order: `rcv_nxt` without the FIN, which takes a
    /// number too.
    #[inline(always)]
    pub(crate) fn payload_end(self) -> u32 {
        let fin = (self.read::<u64>(&btf::SOCK_FLAGS) >> btf::FLAG_DONE.load()) as u32 & 1;
        self.read::<u32>(&btf::TCP_RCV_NXT).wrapping_sub(fin)
    }
}

/// Where a connection is, and which it is.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    /// `copied_seq`: the sequence number of the first byte that was not read.
    pub(crate) copied: u32,
    /// Sequence number after the last payload byte that arrived.
    pub(crate) end: u32,
    /// See [`MaybeGone::identity`].
    pub(crate) identity: u32,
}

impl Position {
    /// A reader's position, without the FIN that it may have read.
    #[inline(always)]
    pub(crate) fn within(copied: u32, end: u32) -> u32 {
        if copied.wrapping_sub(end) as i32 > 0 { end } else { copied }
    }
}

/// What an event needs of a connection that is put on an accept queue.
#[derive(Clone, Copy)]
pub(crate) struct Child {
    /// Its address.
    pub(crate) sock: MaybeGone,
    /// See [`MaybeGone::srtt_us`].
    pub(crate) srtt_us: u32,
    /// See [`MaybeGone::packet_ns`].
    pub(crate) packet_ns: u64,
    /// See [`MaybeGone::position`].
    pub(crate) position: Option<Position>,
}

impl Child {
    /// Of the connection at this address, which was put on the queue of `listener` just now.
    #[inline(always)]
    pub(crate) fn of(address: u64, listener: LiveTcp) -> Self {
        let sock = MaybeGone(address);
        match listener.last_queued(address) {
            Some(child) => Self {
                sock,
                srtt_us: child.srtt_us(),
                packet_ns: child.packet_ns(),
                position: Some(Position {
                    copied: child.copied_seq(),
                    end: child.payload_end(),
                    identity: child.read(&btf::SOCK_HASH),
                }),
            },
            // Another one came behind it, or it was accepted already.
            None => Self { sock, srtt_us: sock.srtt_us(), packet_ns: sock.packet_ns(), position: sock.position() },
        }
    }
}

/// A socket by its address, which may be gone: see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct MaybeGone(pub(crate) u64);

impl MaybeGone {
    /// Of a pointer that a function is called with or returns; it may be null.
    #[inline(always)]
    pub(crate) fn of(pointer: *const u8) -> Self {
        Self(number(pointer))
    }

    #[inline(always)]
    pub(crate) fn state(self) -> i32 {
        probe::<u8>(self.0, &btf::SOCK_STATE).map_or(0, i32::from)
    }

    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        probe(self.0, &btf::SOCK_COOKIE).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn accept_depth(self) -> u32 {
        probe(self.0, &btf::SOCK_ACK_BACKLOG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn backlog(self) -> u32 {
        probe(self.0, &btf::SOCK_MAX_ACK_BACKLOG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn drops(self) -> u32 {
        probe(self.0, &btf::SOCK_DROPS).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn qlen(self) -> u32 {
        probe(self.0, &btf::TCP_QLEN).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn young(self) -> u32 {
        probe(self.0, &btf::TCP_YOUNG).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn port(self) -> u16 {
        probe(self.0, &btf::SOCK_NUM).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        probe(self.0, &btf::SOCK_FAMILY).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn v4_address(self) -> [u8; 4] {
        probe(self.0, &btf::SOCK_V4_ADDRESS).unwrap_or([0; 4])
    }

    #[inline(always)]
    pub(crate) fn v6_address(self) -> [u8; 16] {
        probe(self.0, &btf::SOCK_V6_ADDRESS).unwrap_or_else(any_address)
    }

    /// Address of the other end of a connection of this family; of an IPv4 one in the first four bytes, and anything
    /// behind them.
    #[inline(always)]
    pub(crate) fn peer(self, family: u16) -> [u8; 16] {
        let offset = if family == AF_INET { btf::SOCK_V4_PEER.load() } else { btf::SOCK_V6_PEER.load() };
        // Hidden from the verifier, which would follow both from here on.
        read_at(self.0.wrapping_add(u64::from(core::hint::black_box(offset)))).unwrap_or_else(any_address)
    }

    /// Port of the other end, network byte order.
    #[inline(always)]
    pub(crate) fn peer_port(self) -> u16 {
        probe(self.0, &btf::SOCK_PEER_PORT).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn reuseport(self) -> bool {
        (probe::<u8>(self.0, &btf::SOCK_REUSEPORT_BYTE).unwrap_or(0) >> btf::SOCK_REUSEPORT_BIT.load()) & 1 == 1
    }

    /// Of a shard that stops listening: whether other shards may take what it leaves. The kernel keeps it in its group
    /// only if they may (`reuseport_stop_listen_sock`, since 5.14).
    #[inline(always)]
    pub(crate) fn has_heirs(self) -> bool {
        probe::<u64>(self.0, &btf::SOCK_REUSEPORT_CB)
            .and_then(|group| probe::<u16>(group, &btf::REUSEPORT_SOCKS))
            .is_some_and(|socks| socks != 0)
    }

    #[inline(always)]
    pub(crate) fn v6only(self) -> bool {
        (probe::<u8>(self.0, &btf::SOCK_V6ONLY_BYTE).unwrap_or(0) >> btf::SOCK_V6ONLY_BIT.load()) & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn somaxconn(self) -> u32 {
        if btf::NET_SOMAXCONN.load() == 0 {
            return 0;
        }
        probe::<u64>(self.0, &btf::SOCK_NET).and_then(|net| probe(net, &btf::NET_SOMAXCONN)).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        probe::<u64>(self.0, &btf::SOCK_NET).and_then(|net| probe(net, &btf::NET_INUM)).unwrap_or(0)
    }

    /// A socket of MPTCP itself, above its subflows.
    #[inline(always)]
    pub(crate) fn is_mptcp(self) -> bool {
        btf::HAS_MPTCP.load() != 0 && probe::<u16>(self.0, &btf::SOCK_PROTOCOL) == Some(IPPROTO_MPTCP)
    }

    /// Of a socket of MPTCP itself: the subflow that it began with.
    #[inline(always)]
    pub(crate) fn first_subflow(self) -> MaybeGone {
        MaybeGone(probe(self.0, &btf::MPTCP_FIRST).unwrap_or(0))
    }

    /// Of a subflow: the socket of MPTCP that it belongs to. `None` for plain TCP.
    #[inline(always)]
    pub(crate) fn mptcp(self) -> Option<MaybeGone> {
        if btf::HAS_MPTCP.load() == 0 || probe::<u8>(self.0, &btf::TCP_IS_MPTCP)? == 0 {
            return None;
        }
        let subflow = probe::<u64>(self.0, &btf::TCP_ULP_DATA)?;
        probe::<u64>(subflow, &btf::SUBFLOW_CONN).filter(|socket| *socket != 0).map(MaybeGone)
    }

    /// btf::TCP_DEFER_ACCEPT: how often a SYN-ACK may be sent again while the listener waits for data; 0 if it is not
    /// set.
    #[inline(always)]
    pub(crate) fn defer_accept(self) -> u32 {
        u32::from(probe::<u8>(self.0, &btf::TCP_DEFER_ACCEPT).unwrap_or(0))
    }

    #[inline(always)]
    pub(crate) fn socket(self) -> u64 {
        probe(self.0, &btf::SOCK_SOCKET).unwrap_or(0)
    }

    /// Whether the kernel processes a packet for it, or a process begins or ends a call. The kernel takes this lock
    /// when it makes a child, and holds it until the child is on the accept queue and the listener is woken.
    #[inline(always)]
    pub(crate) fn is_locked(self) -> bool {
        btf::SOCK_SPINLOCK.load() != 0 && probe::<u32>(self.0, &btf::SOCK_SPINLOCK).is_some_and(|lock| lock != 0)
    }

    #[inline(always)]
    pub(crate) fn inode(self) -> u64 {
        probe(self.socket(), &btf::SOCKET_INO).unwrap_or(0)
    }

    /// As [`LiveSocket::has_listened`].
    #[inline(always)]
    pub(crate) fn has_listened(self) -> bool {
        (probe::<u64>(self.0, &btf::SOCK_FLAGS).unwrap_or(0) >> btf::FLAG_LISTENED.load()) & 1 == 1
    }

    /// Whether no process will use it again (`SOCK_DEAD`).
    #[inline(always)]
    pub(crate) fn dead(self) -> bool {
        (probe::<u64>(self.0, &btf::SOCK_FLAGS).unwrap_or(0) >> btf::FLAG_DEAD.load()) & 1 == 1
    }

    /// What tells this connection from others that have its address: the kernel's hash of addresses and ports. It is in
    /// the cache line that the kernel reads first, and a socket that connects again gets another.
    #[inline(always)]
    pub(crate) fn identity(self) -> Option<u32> {
        probe(self.0, &btf::SOCK_HASH)
    }

    /// Where the connection is; `None` if its memory cannot be read.
    #[inline(always)]
    pub(crate) fn position(self) -> Option<Position> {
        let identity = self.identity()?;
        let copied = probe::<u32>(self.0, &btf::TCP_COPIED_SEQ)?;
        let next = probe::<u32>(self.0, &btf::TCP_RCV_NXT)?;
        if next == copied {
            return Some(Position { copied, end: next, identity });
        }
        let fin = (probe::<u64>(self.0, &btf::SOCK_FLAGS)? >> btf::FLAG_DONE.load()) as u32 & 1;
        Some(Position { copied, end: next.wrapping_sub(fin), identity })
    }

    /// Whether it has payload that was not read; `false` if it is gone.
    #[inline(always)]
    pub(crate) fn has_unread(self) -> bool {
        self.position().is_some_and(|position| Position::within(position.copied, position.end) != position.end)
    }

    /// Whether the byte at this position is urgent and will not be read with the others.
    #[inline(always)]
    pub(crate) fn is_urgent(self, position: u32) -> bool {
        probe::<u16>(self.0, &btf::TCP_URG_DATA).is_some_and(|urgent| urgent != 0)
            && probe::<u32>(self.0, &btf::TCP_URG_SEQ) == Some(position)
            && (probe::<u64>(self.0, &btf::SOCK_FLAGS).unwrap_or(0) >> btf::FLAG_URGINLINE.load()) & 1 == 0
    }

    /// As [`LiveTcp::packet_ns`]; 0 if it cannot be read or was never set (TCP Fast Open).
    #[inline(always)]
    pub(crate) fn packet_ns(self) -> u64 {
        probe(self.0, &btf::TCP_CLOCK_CACHE).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn copied_seq(self) -> Option<u32> {
        probe(self.0, &btf::TCP_COPIED_SEQ)
    }

    /// Smoothed round-trip time in microseconds; for a new child the time from SYN-ACK to final ACK, 0 if the SYN-ACK
    /// was retransmitted (`tcp_synack_rtt_meas`). The kernel keeps it times 8.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        probe::<u32>(self.0, &btf::TCP_SRTT_US).unwrap_or(0) >> 3
    }

    /// The request at the head of the accept queue.
    #[inline(always)]
    pub(crate) fn accept_head(self) -> Request {
        Request(probe(self.0, &btf::TCP_ACCEPT_HEAD).unwrap_or(0))
    }

    /// The request at its end.
    #[inline(always)]
    pub(crate) fn accept_tail(self) -> Request {
        Request(probe(self.0, &btf::TCP_ACCEPT_TAIL).unwrap_or(0))
    }
}

/// Whether the listener's namespace allows SYN cookies (net.ipv4.tcp_syncookies).
#[inline(always)]
pub(crate) fn cookies_allowed(sock: LiveSocket) -> bool {
    // An int up to 5.15, a byte since: the low byte holds it either way.
    probe::<u64>(sock.key(), &btf::SOCK_NET)
        .and_then(|net| probe::<u8>(net, &btf::NET_SYNCOOKIES))
        .is_some_and(|mode| mode != 0)
}

/// The `struct sock` of a `struct socket` that a function passed.
#[inline(always)]
pub(crate) fn sock_of(socket: u64) -> Option<MaybeGone> {
    probe::<u64>(socket, &btf::SOCKET_SK).filter(|sk| *sk != 0).map(MaybeGone)
}

/// The `struct sock` behind a `struct file`. If the file is no socket, the address is another object's, which no table
/// contains.
#[inline(always)]
pub(crate) fn socket_of_file(file: u64) -> Option<MaybeGone> {
    sock_of(probe(file, &btf::FILE_PRIVATE_DATA)?)
}

/// Whether the file through which a process has this listener does not block (`O_NONBLOCK`).
#[inline(always)]
pub(crate) fn opened_nonblocking(sock: LiveSocket) -> bool {
    // The same on every architecture that is supported.
    const O_NONBLOCK: u32 = 0o4000;
    let sock = sock.address();
    let owner = sock.mptcp().unwrap_or(sock);
    probe::<u64>(owner.socket(), &btf::SOCKET_FILE)
        .and_then(|file| probe::<u32>(file, &btf::FILE_FLAGS))
        .is_some_and(|flags| flags & O_NONBLOCK != 0)
}
