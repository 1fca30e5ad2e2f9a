//! What user space resolves from the running kernel before the load: offsets of members, values of enums, what the
//! kernel has, where functions are. Frozen in `.rodata`, so they are constants to the verifier.

use aya_ebpf::Global;

macro_rules! from_btf {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(super) static $name: Global<u32> = Global::new(0);)*
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
    SOCK_V4_PEER;
    SOCK_V6_PEER;
    SOCK_PEER_PORT;
    SOCK_NET;
    SOCK_BOUND_DEVICE;
    SOCK_COOKIE;
    /// `skc_hash`: of addresses and ports, once the socket is in the table of established ones.
    SOCK_HASH;
    SOCK_SOCKET;
    SOCK_FLAGS;
    /// The spinlock of `sk_lock`; 0 if it cannot be read as a word.
    SOCK_SPINLOCK;
    /// Byte and bit of `skc_reuseport`.
    SOCK_REUSEPORT_BYTE;
    SOCK_REUSEPORT_BIT;
    /// Byte and bit of `skc_ipv6only`.
    SOCK_V6ONLY_BYTE;
    SOCK_V6ONLY_BIT;
    /// Byte and lowest bit of `sk_userlocks`.
    SOCK_USERLOCKS_BYTE;
    SOCK_USERLOCKS_BIT;
    /// 1 where `sk_userlocks` says that connect(2) has chosen the port.
    KNOWS_CONNECTING;
    /// Byte and bit of the flag for IP_TRANSPARENT in a socket; the byte is 0 where that is not known.
    INET_TRANSPARENT_BYTE;
    INET_TRANSPARENT_BIT;
    TCP_QLEN;
    TCP_YOUNG;
    TCP_ACCEPT_HEAD;
    TCP_ACCEPT_TAIL;
    TCP_RCV_NXT;
    TCP_COPIED_SEQ;
    TCP_SRTT_US;
    TCP_CLOCK_CACHE;
    TCP_SND_NXT;
    TCP_WRITE_SEQ;
    TCP_URG_DATA;
    TCP_URG_SEQ;
    REQUEST_SK;
    REQUEST_NEXT;
    REQUEST_LISTENER;
    REQUEST_SNT_SYNACK;
    REQUEST_REFCNT;
    /// `rsk_timer`.
    REQUEST_TIMER;
    /// `pprev` of its node in the table of established sockets; null while it is in none.
    REQUEST_LISTED;
    /// Byte and bit of `num_timeout`.
    REQUEST_TIMEOUTS_BYTE;
    REQUEST_TIMEOUTS_BIT;
    /// `num_retrans`; 0 where that is not known.
    REQUEST_RESENT;
    /// Byte and bit of `acked`; the byte is 0 where that is not known.
    REQUEST_ACKED_BYTE;
    REQUEST_ACKED_BIT;
    /// `sk_reuseport_cb`, and in that the sockets that listen.
    SOCK_REUSEPORT_CB;
    REUSEPORT_SOCKS;
    NET_SYNCOOKIES;
    TCP_DEFER_ACCEPT;
    /// `is_mptcp`. Without MPTCP in the kernel the offsets of its structures are not set: see `HAS_MPTCP`.
    TCP_IS_MPTCP;
    TCP_ULP_DATA;
    SUBFLOW_CONN;
    MPTCP_FIRST;
    SKB_PROTOCOL;
    /// `end_seq` in the control block that TCP keeps in a packet.
    SKB_END_SEQ;
    REQUEST_RCV_ISN;
    NET_INUM;
    NET_SOMAXCONN;
    /// `net_cookie`; 0 where a namespace has none, or not from its beginning.
    NET_COOKIE;
    /// Programs for `sk_lookup`; 0 where there can be none.
    NET_SK_LOOKUP;
    /// From a `struct socket` to the number of the inode that it is embedded with.
    SOCKET_INO;
    SOCKET_SK;
    SOCKET_FILE;
    TASK_FILES;
    TASK_START_BOOTTIME;
    TASK_PID;
    TASK_TGID;
    TASK_REAL_PARENT;
    /// `__state`, `state` up to 5.13; and `on_cpu`.
    TASK_STATE;
    TASK_ON_CPU;
    TASK_COMM;
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
    /// The register that holds its second argument, and the one that holds its number.
    REGS_ARG1;
    REGS_CALL;
    /// Bytes of the registers that a program has (the beginning of `pt_regs`), and where its stack pointer is among
    /// them; 0 where no stack can be copied.
    REGS_SIZE;
    REGS_SP;
    /// `stack`, and where on a kernel stack the registers are.
    TASK_STACK;
    STACK_REGS;
    /// The number of listen(2).
    CALL_LISTEN;
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
    /// `SOCK_RCU_FREE`: the kernel has put the socket among those that listen. Children do not have it.
    FLAG_LISTENED;
    /// `SOCK_DEAD`: no process will use the socket any more.
    FLAG_DEAD;
    /// `SOCK_URGINLINE`: an urgent byte is read like any other.
    FLAG_URGINLINE;
    /// `IORING_OP_ACCEPT`.
    OP_ACCEPT;
    /// `IORING_OP_SPLICE`.
    OP_SPLICE;
}

/// 1 where this kernel knows MPTCP.
#[unsafe(no_mangle)]
pub(super) static HAS_MPTCP: Global<u8> = Global::new(0);
/// 1 where programs may call `bpf_get_current_task_btf` (5.11).
#[unsafe(no_mangle)]
pub(super) static HAS_TASK_BTF: Global<u8> = Global::new(0);
/// 1 where programs may call `bpf_task_pt_regs` (5.15).
#[unsafe(no_mangle)]
pub(super) static HAS_TASK_REGS: Global<u8> = Global::new(0);
/// 1 where tracing programs may call `bpf_get_socket_cookie` (5.12).
#[unsafe(no_mangle)]
pub(super) static HAS_SOCKET_COOKIE: Global<u8> = Global::new(0);

/// Inode of listentop's PID namespace; 0 if that is the initial one, whose ids need no lookup.
#[unsafe(no_mangle)]
pub(super) static OUR_PID_NAMESPACE: Global<u32> = Global::new(0);

/// Addresses (begin, end) of the functions that count a packet in `sk_drops` when they free it: tcp_v4_rcv, tcp_v6_rcv,
/// tcp_rcv_state_process and tcp_drop_reason. 0 where /proc/kallsyms hides or lacks them.
#[unsafe(no_mangle)]
pub(super) static DISCARDING: Global<[[u64; 2]; 4]> = Global::new([[0; 2]; 4]);
