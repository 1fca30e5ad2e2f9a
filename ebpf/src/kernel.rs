//! The one file that reads kernel structures.
//!
//! Every offset, enum value and address is a frozen `.rodata` global that user space fills from the running kernel's BTF.
//! Two kinds of read: `direct` follows a pointer whose type the verifier knows (tracepoint arguments), `probe` copies from any
//! address and fails on a bad one.

use core::arch::asm;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
        generated::bpf_get_socket_cookie,
    },
};

macro_rules! from_btf {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] static $name: Global<u32> = Global::new(0);)*
    };
}

from_btf! {
    SOCK_STATE;
    SOCK_FAMILY;
    SOCK_PROTOCOL;
    SOCK_ACK_BACKLOG;
    SOCK_MAX_ACK_BACKLOG;
    SOCK_DROPS;
    SOCK_NUM;
    SOCK_V4_ADDRESS;
    SOCK_V6_ADDRESS;
    SOCK_NET;
    SOCK_COOKIE;
    SOCK_SOCKET;
    SOCK_FLAGS;
    /// Byte and bit of `skc_reuseport`.
    SOCK_REUSEPORT_BYTE;
    SOCK_REUSEPORT_BIT;
    /// Byte and bit of `skc_ipv6only`.
    SOCK_V6ONLY_BYTE;
    SOCK_V6ONLY_BIT;
    TCP_QLEN;
    TCP_YOUNG;
    TCP_ACCEPT_HEAD;
    TCP_ACCEPT_TAIL;
    TCP_RCV_NXT;
    TCP_COPIED_SEQ;
    TCP_SRTT_US;
    TCP_CLOCK_CACHE;
    REQUEST_SK;
    REQUEST_NEXT;
    REQUEST_LISTENER;
    REQUEST_SNT_SYNACK;
    REQUEST_REFCNT;
    NET_SYNCOOKIES;
    TCP_DEFER_ACCEPT;
    /// `is_mptcp`; where a kernel has no MPTCP, the sizes of its structures, which no offset is.
    TCP_IS_MPTCP;
    TCP_ULP_DATA;
    SUBFLOW_CONN;
    MPTCP_FIRST;
    SKB_PROTOCOL;
    /// `end_seq` in the control block that TCP keeps in a packet.
    SKB_END_SEQ;
    REQUEST_RCV_ISN;
    NET_INUM;
    /// From a `struct socket` to the number of the inode that it is embedded with.
    SOCKET_INO;
    SOCKET_SK;
    TASK_FILES;
    TASK_START_BOOTTIME;
    TASK_THREAD_PID;
    TASK_GROUP_LEADER;
    PID_LEVEL;
    PID_NUMBERS;
    UPID_NR;
    UPID_NS;
    /// Size of an element of `struct pid`'s numbers.
    UPID_SIZE;
    PID_NAMESPACE_INUM;
    FILES_FDT;
    FDT_FD;
    FILE_PRIVATE_DATA;
    /// The register that holds a system call's first argument when it returns.
    REGS_ARG0;
    CQE_RES;
    KIOCB_OPCODE;
    SKB_HEAD;
    SKB_TRANSPORT_HEADER;
    SKB_NETWORK_HEADER;
    /// `SKB_DROP_REASON_TCP_LISTEN_OVERFLOW`.
    REASON_LISTEN_OVERFLOW;
    /// `SKB_DROP_REASON_NO_SOCKET`.
    REASON_NO_SOCKET;
    /// `SOCK_DONE`: a FIN was received.
    FLAG_DONE;
    /// `SOCK_DEAD`: no process will use the socket any more.
    FLAG_DEAD;
    /// `IORING_OP_ACCEPT`.
    OP_ACCEPT;
}

/// 1 where this kernel knows MPTCP.
#[unsafe(no_mangle)]
static HAS_MPTCP: Global<u8> = Global::new(0);
/// 1 where programs may call `bpf_get_current_task_btf` (5.11).
#[unsafe(no_mangle)]
static HAS_TASK_BTF: Global<u8> = Global::new(0);
/// 1 where programs may call `bpf_task_pt_regs` (5.15).
#[unsafe(no_mangle)]
static HAS_TASK_REGS: Global<u8> = Global::new(0);
/// 1 where tracing programs may call `bpf_get_socket_cookie` (5.12).
#[unsafe(no_mangle)]
static HAS_SOCKET_COOKIE: Global<u8> = Global::new(0);

/// Inode of listentop's PID namespace; 0 if that is the initial one, whose ids need no looking up.
#[unsafe(no_mangle)]
static OUR_PID_NAMESPACE: Global<u32> = Global::new(0);

/// Addresses of tcp_v4_rcv and tcp_v6_rcv (begin, end of each): a packet freed there was counted in `sk_drops`. 0 where
/// /proc/kallsyms does not tell.
#[unsafe(no_mangle)]
static TCP_V4_RCV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TCP_V4_RCV_END: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TCP_V6_RCV: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static TCP_V6_RCV_END: Global<u64> = Global::new(0);

/// `TCP_SYN_RECV`, the same in every kernel (include/net/tcp_states.h, mirrored in uapi bpf.h).
pub(crate) const SYN_RECV: i32 = 3;
/// `TCP_ESTABLISHED`.
pub(crate) const ESTABLISHED: i32 = 1;
/// `TCP_CLOSE_WAIT`.
pub(crate) const CLOSE_WAIT: i32 = 8;
/// `TCP_LISTEN`.
pub(crate) const LISTEN: i32 = 10;
/// `AF_INET`.
pub(crate) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_MPTCP`.
const IPPROTO_MPTCP: u16 = 262;
/// `ETH_P_IP`, network byte order.
const ETH_P_IP: u16 = 0x0800_u16.to_be();

/// What became of a SYN: nothing that was seen.
pub(crate) const NOTHING: u32 = 0;
/// A request was put into the SYN queue.
pub(crate) const ADDED: u32 = 1;
/// It is answered with a cookie.
pub(crate) const COOKIE: u32 = 2;
/// Its child is on the accept queue (TCP Fast Open).
pub(crate) const ENQUEUED: u32 = 3;

/// No child was to be made of a packet.
pub(crate) const NO_CHILD: u32 = 0;
/// A child was made.
pub(crate) const MADE: u32 = 1;
/// A child was refused.
pub(crate) const REFUSED: u32 = 2;

/// What the kernel decides about a SYN when the SYN queue is full: not seen.
pub(crate) const UNSURE: u32 = 0;
/// To refuse it.
pub(crate) const FLOOD_DROP: u32 = 1;
/// To send a cookie.
pub(crate) const FLOOD_COOKIE: u32 = 2;

/// Reads through a pointer of known type. Volatile, or the compiler merges neighbouring loads into one that is wider than
/// the member, which the verifier refuses.
#[inline(always)]
unsafe fn direct<T: Copy>(base: *const u8, offset: &Global<u32>) -> T {
    unsafe { core::ptr::read_volatile(base.add(offset.load() as usize).cast::<T>()) }
}

/// Copies from any kernel address.
#[inline(always)]
fn probe<T: Copy>(base: u64, offset: &Global<u32>) -> Option<T> {
    if base == 0 {
        return None;
    }
    unsafe { bpf_probe_read_kernel((base + u64::from(offset.load())) as *const T) }.ok()
}

/// A socket that a tracepoint passed: the verifier knows its type.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*const u8);

impl Sock {
    /// Wraps a tracepoint's `struct sock *` argument, which must not be null.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// Its address as a number. The verifier refuses to compute with pointers but for negation, which makes a number of one.
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

    /// When the kernel began to process the packet that it is processing, CLOCK_MONOTONIC (`tcp_mstamp_refresh`). Reading it is far
    /// cheaper than reading the clock again.
    #[inline(always)]
    pub(crate) fn packet_ns(self) -> u64 {
        unsafe { direct(self.0, &TCP_CLOCK_CACHE) }
    }

    /// Sequence number after the last payload byte that arrived in order: `rcv_nxt` without the FIN, which takes a number too.
    #[inline(always)]
    pub(crate) fn payload_end(self) -> u32 {
        let fin = (unsafe { direct::<u64>(self.0, &SOCK_FLAGS) } >> FLAG_DONE.load()) as u32 & 1;
        unsafe { direct::<u32>(self.0, &TCP_RCV_NXT) }.wrapping_sub(fin)
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

    /// Smoothed round-trip time in microseconds; for a new child the time from SYN-ACK to final ACK, 0 if the SYN-ACK was
    /// retransmitted (`tcp_synack_rtt_meas`). The kernel keeps it times 8.
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

/// A `struct request_sock` by address.
#[derive(Clone, Copy)]
pub(crate) struct Request(pub(crate) u64);

impl Request {
    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Its child, once the handshake is complete.
    #[inline(always)]
    pub(crate) fn child(self) -> RawSock {
        RawSock(probe(self.0, &REQUEST_SK).unwrap_or(0))
    }

    /// The socket that it is for, as an address.
    #[inline(always)]
    pub(crate) fn listener(self) -> u64 {
        probe(self.0, &REQUEST_LISTENER).unwrap_or(0)
    }

    /// The next on the accept queue.
    #[inline(always)]
    pub(crate) fn next(self) -> Request {
        Request(probe(self.0, &REQUEST_NEXT).unwrap_or(0))
    }

    /// How long ago its first SYN-ACK was sent; 0 if that is not known (a cookie). The kernel keeps microseconds.
    #[inline(always)]
    pub(crate) fn since_synack_ns(self, now: u64) -> u64 {
        match probe::<u64>(self.0, &REQUEST_SNT_SYNACK) {
            // At least one, as 0 stands for unknown.
            Some(us) if us != 0 => now.saturating_sub(us * 1000).max(1),
            _ => 0,
        }
    }

    /// The initial sequence number that the client chose.
    #[inline(always)]
    pub(crate) fn receive_isn(self) -> Option<u32> {
        probe(self.0, &REQUEST_RCV_ISN)
    }

    /// A request that was made of a cookie is in no table, so nothing refers to it yet.
    #[inline(always)]
    pub(crate) fn is_cookie(self) -> bool {
        probe::<u32>(self.0, &REQUEST_REFCNT) == Some(0)
    }

    /// When its connection was put on the accept queue, if that must be told without having seen it: the time of the SYN-ACK and
    /// the round trip that was measured with it. 0 if unknown.
    #[inline(always)]
    pub(crate) fn enqueued_ns(self) -> u64 {
        match probe::<u64>(self.0, &REQUEST_SNT_SYNACK) {
            Some(us) if us != 0 => (us + u64::from(self.child().srtt_us())) * 1000,
            _ => 0,
        }
    }
}

/// When the current thread started, CLOCK_BOOTTIME.
#[inline(always)]
pub(crate) fn current_start_ns() -> u64 {
    if HAS_TASK_BTF.load() == 0 {
        return probe(current_task(), &TASK_START_BOOTTIME).unwrap_or(0);
    }
    let task = unsafe { bpf_get_current_task_btf() };
    unsafe { direct(task.cast_const().cast(), &TASK_START_BOOTTIME) }
}

/// Address of the current thread's `task_struct`.
#[inline(always)]
fn current_task() -> u64 {
    unsafe { bpf_get_current_task() }
}

/// PID namespaces nest up to 32 deep (MAX_PID_NS_LEVEL); ours is sought in the outermost of them.
const PID_LEVELS: u32 = 8;

/// Process and thread id of the current thread in listentop's PID namespace; 0 where it is not visible.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    if OUR_PID_NAMESPACE.load() == 0 {
        let ids = aya_ebpf::helpers::bpf_get_current_pid_tgid();
        return ((ids >> 32) as u32, ids as u32);
    }
    let task = current_task();
    let leader = probe::<u64>(task, &TASK_GROUP_LEADER).unwrap_or(0);
    (id_of(leader), id_of(task))
}

#[inline(always)]
fn id_of(task: u64) -> u32 {
    let Some(pid) = probe::<u64>(task, &TASK_THREAD_PID) else { return 0 };
    let deepest = probe::<u32>(pid, &PID_LEVEL).unwrap_or(0);
    for level in 0..PID_LEVELS {
        if level > deepest {
            break;
        }
        let number = pid + u64::from(PID_NUMBERS.load()) + u64::from(level * UPID_SIZE.load());
        let namespace = probe::<u64>(number, &UPID_NS).unwrap_or(0);
        if probe::<u32>(namespace, &PID_NAMESPACE_INUM) == Some(OUR_PID_NAMESPACE.load()) {
            return probe(number, &UPID_NR).unwrap_or(0);
        }
    }
    0
}

/// The socket behind a file descriptor of the current process. If the descriptor is no socket the address is some other
/// object's, and found in no table.
#[inline(always)]
pub(crate) fn current_socket(fd: u32) -> Option<RawSock> {
    // The verifier knows the types as far as the table of files; loads through them are cheaper than copies, and as safe.
    let files: u64 = if HAS_TASK_BTF.load() == 0 {
        probe(probe(probe(current_task(), &TASK_FILES)?, &FILES_FDT)?, &FDT_FD)?
    } else {
        let task: *const u8 = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
        let files: u64 = unsafe { direct(task, &TASK_FILES) };
        let table: u64 = unsafe { direct(files as *const u8, &FILES_FDT) };
        unsafe { direct(table as *const u8, &FDT_FD) }
    };
    let file = unsafe { bpf_probe_read_kernel((files + u64::from(fd) * 8) as *const u64) }.ok()?;
    let socket = probe::<u64>(file, &FILE_PRIVATE_DATA)?;
    let sk = probe::<u64>(socket, &SOCKET_SK)?;
    if sk == 0 { None } else { Some(RawSock(sk)) }
}

/// First argument of the system call that the current thread is returning from.
#[inline(always)]
pub(crate) fn current_argument() -> Option<u64> {
    use aya_ebpf::helpers::generated::bpf_task_pt_regs;
    if HAS_TASK_BTF.load() == 0 || HAS_TASK_REGS.load() == 0 {
        return None;
    }
    let task = unsafe { bpf_get_current_task_btf() };
    let regs = unsafe { bpf_task_pt_regs(task.cast()) };
    probe(regs as u64, &REGS_ARG0)
}

/// Opcode of an io_uring request; `None` without a request (a multishot completion).
#[inline(always)]
pub(crate) fn opcode(request: u64) -> Option<u8> {
    probe(request, &KIOCB_OPCODE)
}

/// Opcode and result of an io_uring completion.
#[inline(always)]
pub(crate) unsafe fn completion(request: u64, cqe: *const u8) -> (Option<u8>, i32) {
    (opcode(request), unsafe { direct(cqe, &CQE_RES) })
}

/// Whether `opcode` is an accept.
#[inline(always)]
pub(crate) fn is_accept(opcode: u8) -> bool {
    u32::from(opcode) == OP_ACCEPT.load()
}

/// Why a packet to a listener was dropped, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A final ACK, with the request kept for another try.
    Overflow,
    /// A final ACK that carried a cookie.
    CookieOverflow,
    /// No attempt was refused, but `sk_drops` counted the packet.
    NotAnAttempt,
    /// Neither.
    Nothing,
}

/// Classifies a dropped packet by the reason and the place where it was freed.
#[inline(always)]
pub(crate) fn refusal(reason: u32, location: u64) -> Refusal {
    if reason == REASON_LISTEN_OVERFLOW.load() {
        Refusal::Overflow
    } else if reason == REASON_NO_SOCKET.load() {
        Refusal::CookieOverflow
    } else if (location >= TCP_V4_RCV.load() && location < TCP_V4_RCV_END.load())
        || (location >= TCP_V6_RCV.load() && location < TCP_V6_RCV_END.load())
    {
        Refusal::NotAnAttempt
    } else {
        Refusal::Nothing
    }
}

/// Remote address (IPv4 as v4-mapped) and port of a received TCP packet.
#[inline(always)]
pub(crate) unsafe fn packet_source(skb: *const u8) -> Option<([u8; 16], u16)> {
    let head: u64 = unsafe { direct(skb, &SKB_HEAD) };
    let network = head + u64::from(unsafe { direct::<u16>(skb, &SKB_NETWORK_HEADER) });
    let transport = head + u64::from(unsafe { direct::<u16>(skb, &SKB_TRANSPORT_HEADER) });
    let port: u16 = unsafe { bpf_probe_read_kernel(transport as *const u16) }.ok()?;
    let first: u8 = unsafe { bpf_probe_read_kernel(network as *const u8) }.ok()?;
    // Source addresses are 12 bytes into an IPv4 header and 8 bytes into an IPv6 header (RFC 791, RFC 8200).
    let address = if first >> 4 == 4 {
        v4_mapped(unsafe { bpf_probe_read_kernel((network + 12) as *const [u8; 4]) }.ok()?)
    } else {
        unsafe { bpf_probe_read_kernel((network + 8) as *const [u8; 16]) }.ok()?
    };
    Some((address, u16::from_be(port)))
}

/// Whether a packet is IPv4.
#[inline(always)]
pub(crate) unsafe fn is_ipv4(skb: *const u8) -> bool {
    unsafe { direct::<u16>(skb, &SKB_PROTOCOL) == ETH_P_IP }
}

/// Flags of a TCP header (RFC 9293).
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Whether a packet for a request is a final ACK that would have completed it (`tcp_check_req`): an ACK, and not one without data that
/// TCP_DEFER_ACCEPT waits behind.
#[inline(always)]
pub(crate) unsafe fn would_complete(sock: Sock, skb: *const u8, request: Request) -> bool {
    let head: u64 = unsafe { direct(skb, &SKB_HEAD) };
    let transport = head + u64::from(unsafe { direct::<u16>(skb, &SKB_TRANSPORT_HEADER) });
    // Flags are the 14th byte of the header.
    let Ok(flags) = (unsafe { bpf_probe_read_kernel((transport + 13) as *const u8) }) else { return false };
    if flags & (SYN | RST | ACK) != ACK {
        return false;
    }
    let bare = probe::<u32>(skb as u64, &SKB_END_SEQ) == request.receive_isn().map(|isn| isn.wrapping_add(1));
    !bare || RawSock(sock.key()).defer_accept() == 0
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

/// An `int` behind a pointer; `None` if it cannot be read.
#[inline(always)]
pub(crate) fn int_at(pointer: u64, offset: u32) -> Option<i32> {
    unsafe { bpf_probe_read_kernel((pointer + u64::from(offset)) as *const i32) }.ok()
}

/// A byte behind a pointer; `None` if it cannot be read.
#[inline(always)]
pub(crate) fn byte_at(pointer: u64) -> Option<u8> {
    unsafe { bpf_probe_read_kernel(pointer as *const u8) }.ok()
}

/// ::ffff:a.b.c.d (RFC 4291).
#[inline(always)]
pub(crate) fn v4_mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}
