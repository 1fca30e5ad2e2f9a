//! The only place that reads kernel structures.
//!
//! Every offset, enum value and address is a frozen `.rodata` global that user space fills from the running kernel's
//! BTF. Two kinds of read: `direct` follows a pointer whose type the verifier knows (tracepoint arguments), `probe`
//! copies from any address and fails on a bad one.

mod packets;
mod requests;
mod sockets;
mod tasks;
mod uring;

use aya_ebpf::{Global, helpers::bpf_probe_read_kernel};

pub(crate) use packets::*;
pub(crate) use requests::*;
pub(crate) use sockets::*;
pub(crate) use tasks::*;
pub(crate) use uring::*;

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
    /// The spinlock of `sk_lock`; 0 where it is no word that can be read.
    SOCK_SPINLOCK;
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
    SOCKET_FILE;
    TASK_FILES;
    TASK_START_BOOTTIME;
    TASK_PID;
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
    FILE_FLAGS;
    /// The register that holds a system call's first argument when it returns.
    REGS_ARG0;
    CQE_RES;
    KIOCB_OPCODE;
    KIOCB_FILE;
    /// `splice_fd_in`, and `flags`, of a request that splices (`struct io_splice` lies over `cmd`).
    SPLICE_FD_IN;
    SPLICE_FLAGS;
    /// `file_slot` of one that accepts (`struct io_accept` likewise).
    ACCEPT_FILE_SLOT;
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
    /// `IORING_OP_SPLICE`.
    OP_SPLICE;
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

/// Addresses (begin, end) of the functions that count a packet in `sk_drops` when they free it: tcp_v4_rcv, tcp_v6_rcv,
/// tcp_rcv_state_process and tcp_drop_reason. 0 where /proc/kallsyms does not tell, or has none.
#[unsafe(no_mangle)]
static DISCARDING: Global<[[u64; 2]; 4]> = Global::new([[0; 2]; 4]);

/// `TCP_SYN_RECV`, the same in every kernel (include/net/tcp_states.h, mirrored in uapi bpf.h).
pub(crate) const SYN_RECV: i32 = 3;
/// `TCP_ESTABLISHED`.
pub(crate) const ESTABLISHED: i32 = 1;
/// `TCP_FIN_WAIT1`.
pub(crate) const FIN_WAIT1: i32 = 4;
/// `TCP_FIN_WAIT2`.
pub(crate) const FIN_WAIT2: i32 = 5;
/// `TCP_CLOSE_WAIT`.
pub(crate) const CLOSE_WAIT: i32 = 8;
/// `TCP_LAST_ACK`.
pub(crate) const LAST_ACK: i32 = 9;
/// `TCP_LISTEN`.
pub(crate) const LISTEN: i32 = 10;
/// `TCP_CLOSING`.
pub(crate) const CLOSING: i32 = 11;
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

/// Reads through a pointer of known type. Volatile, or the compiler merges neighbouring loads into one that is wider
/// than the member, which the verifier refuses.
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

/// A byte behind a pointer; `None` if it cannot be read.
#[inline(always)]
pub(crate) fn byte_at(pointer: u64) -> Option<u8> {
    unsafe { bpf_probe_read_kernel(pointer as *const u8) }.ok()
}
