//! What the probes must know about the running kernel's structures: each global of `ebpf/src/kernel/btf.rs`, and where
//! its value comes from.

use listentop_btf::{BtfError, KernelBtf, Symbol};

/// A frozen global and the member whose byte offset it holds.
const MEMBERS: &[(&str, &str, &str)] = &[
    ("SOCK_STATE", "sock", "__sk_common.skc_state"),
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("SOCK_ACK_BACKLOG", "sock", "sk_ack_backlog"),
    ("SOCK_MAX_ACK_BACKLOG", "sock", "sk_max_ack_backlog"),
    ("SOCK_DROPS", "sock", "sk_drops.counter"),
    ("SOCK_NUM", "sock", "__sk_common.skc_num"),
    ("SOCK_V4_ADDRESS", "sock", "__sk_common.skc_rcv_saddr"),
    ("SOCK_V6_ADDRESS", "sock", "__sk_common.skc_v6_rcv_saddr"),
    ("SOCK_V4_PEER", "sock", "__sk_common.skc_daddr"),
    ("SOCK_V6_PEER", "sock", "__sk_common.skc_v6_daddr"),
    ("SOCK_PEER_PORT", "sock", "__sk_common.skc_dport"),
    ("SOCK_NET", "sock", "__sk_common.skc_net.net"),
    ("SOCK_BOUND_DEVICE", "sock", "__sk_common.skc_bound_dev_if"),
    ("SOCK_COOKIE", "sock", "__sk_common.skc_cookie.counter"),
    ("SOCK_HASH", "sock", "__sk_common.skc_hash"),
    ("SOCK_SOCKET", "sock", "sk_socket"),
    ("SOCK_FLAGS", "sock", "__sk_common.skc_flags"),
    ("TCP_QLEN", "tcp_sock", "inet_conn.icsk_accept_queue.qlen.counter"),
    ("TCP_YOUNG", "tcp_sock", "inet_conn.icsk_accept_queue.young.counter"),
    ("TCP_ACCEPT_HEAD", "tcp_sock", "inet_conn.icsk_accept_queue.rskq_accept_head"),
    ("TCP_ACCEPT_TAIL", "tcp_sock", "inet_conn.icsk_accept_queue.rskq_accept_tail"),
    ("TCP_RCV_NXT", "tcp_sock", "rcv_nxt"),
    ("TCP_COPIED_SEQ", "tcp_sock", "copied_seq"),
    ("TCP_SRTT_US", "tcp_sock", "srtt_us"),
    ("TCP_CLOCK_CACHE", "tcp_sock", "tcp_clock_cache"),
    ("TCP_SND_NXT", "tcp_sock", "snd_nxt"),
    ("TCP_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("TCP_URG_DATA", "tcp_sock", "urg_data"),
    ("TCP_URG_SEQ", "tcp_sock", "urg_seq"),
    ("REQUEST_SK", "request_sock", "sk"),
    ("REQUEST_NEXT", "request_sock", "dl_next"),
    ("REQUEST_LISTENER", "request_sock", "__req_common.skc_listener"),
    ("REQUEST_SNT_SYNACK", "tcp_request_sock", "snt_synack"),
    ("REQUEST_TIMER", "request_sock", "rsk_timer"),
    ("REQUEST_LISTED", "request_sock", "__req_common.skc_node.pprev"),
    ("SOCK_REUSEPORT_CB", "sock", "sk_reuseport_cb"),
    ("REUSEPORT_SOCKS", "sock_reuseport", "num_socks"),
    ("REQUEST_REFCNT", "request_sock", "__req_common.skc_refcnt.refs.counter"),
    ("NET_SYNCOOKIES", "net", "ipv4.sysctl_tcp_syncookies"),
    ("TCP_DEFER_ACCEPT", "tcp_sock", "inet_conn.icsk_accept_queue.rskq_defer_accept"),
    ("TCP_IS_MPTCP", "tcp_sock", "is_mptcp"),
    ("TCP_ULP_DATA", "tcp_sock", "inet_conn.icsk_ulp_data"),
    ("SUBFLOW_CONN", "mptcp_subflow_context", "conn"),
    ("MPTCP_FIRST", "mptcp_sock", "first"),
    ("SKB_PROTOCOL", "sk_buff", "protocol"),
    ("REQUEST_RCV_ISN", "tcp_request_sock", "rcv_isn"),
    ("NET_INUM", "net", "ns.inum"),
    ("SOCKET_SK", "socket", "sk"),
    ("SOCKET_FILE", "socket", "file"),
    ("TASK_FILES", "task_struct", "files"),
    ("TASK_START_BOOTTIME", "task_struct", "start_boottime"),
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_ON_CPU", "task_struct", "on_cpu"),
    ("TASK_COMM", "task_struct", "comm"),
    ("TASK_THREAD_PID", "task_struct", "thread_pid"),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("UPID_NR", "upid", "nr"),
    ("UPID_NS", "upid", "ns"),
    ("PID_NAMESPACE_INUM", "pid_namespace", "ns.inum"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDT_FD", "fdtable", "fd"),
    ("FILE_PRIVATE_DATA", "file", "private_data"),
    ("FILE_FLAGS", "file", "f_flags"),
    ("REGS_ARG0", "pt_regs", ARGUMENT_REGISTER),
    ("REGS_CALL", "pt_regs", CALL_REGISTER),
    ("REGS_SP", "pt_regs", "sp"),
    ("TASK_STACK", "task_struct", "stack"),
    ("NET_SOMAXCONN", "net", "core.sysctl_somaxconn"),
    ("SKB_HEAD", "sk_buff", "head"),
    ("SKB_TRANSPORT_HEADER", "sk_buff", "transport_header"),
    ("SKB_NETWORK_HEADER", "sk_buff", "network_header"),
];

/// The member of `pt_regs` that still holds a call's first argument when the call returns.
#[cfg(target_arch = "x86_64")]
const ARGUMENT_REGISTER: &str = "di";
/// Where the second argument is: a member, and how many bytes into it.
#[cfg(target_arch = "x86_64")]
const SECOND_ARGUMENT: (&str, u32) = ("si", 0);
/// The member that holds the number of the call.
#[cfg(target_arch = "x86_64")]
const CALL_REGISTER: &str = "orig_ax";
/// The member of `pt_regs` that still holds a call's first argument when the call returns (`regs[0]` has the result).
#[cfg(target_arch = "aarch64")]
const ARGUMENT_REGISTER: &str = "orig_x0";
/// Where the second argument is: a member, and how many bytes into it.
#[cfg(target_arch = "aarch64")]
const SECOND_ARGUMENT: (&str, u32) = ("regs", 8);
/// The member that holds the number of the call.
#[cfg(target_arch = "aarch64")]
const CALL_REGISTER: &str = "syscallno";
/// Bytes of `pt_regs` that are a program's registers: `user_regs_struct` without the segments, `user_pt_regs`.
#[cfg(target_arch = "x86_64")]
pub(crate) const PROGRAM_REGISTERS: usize = 21 * 8;
#[cfg(target_arch = "aarch64")]
pub(crate) const PROGRAM_REGISTERS: usize = 34 * 8;
/// Bytes of a kernel stack (`THREAD_SIZE`), unless the kernel has KASAN or pages of 64 KiB.
const KERNEL_STACK: u32 = 16_384;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("define here which register keeps a system call's first argument on this architecture");

/// Globals that the probes work without. On a kernel that lacks one, what needs it is unavailable or does not exist.
pub(crate) const OPTIONAL: &[&str] = &[
    // They tell what set the limit of a queue.
    "REGS_ARG1",
    "REGS_CALL",
    "NET_SOMAXCONN",
    // io_uring may be configured out, and so may MPTCP.
    "CQE_RES",
    "KIOCB_OPCODE",
    "KIOCB_FILE",
    "ACCEPT_FILE_SLOT",
    "SPLICE_FD_IN",
    "SPLICE_FLAGS",
    "OP_ACCEPT",
    "OP_SPLICE",
    "TCP_IS_MPTCP",
    "SUBFLOW_CONN",
    "MPTCP_FIRST",
    // Without it, a connection that is enqueued while the start finds it may get two records. All kernels tried have
    // it.
    "SOCK_SPINLOCK",
    // What a connection from before the start has inherited; each says more than the address alone.
    "SOCK_USERLOCKS_BYTE",
    "SOCK_USERLOCKS_BIT",
    "KNOWS_CONNECTING",
    "INET_TRANSPARENT_BYTE",
    "INET_TRANSPARENT_BIT",
    // 5.9.
    "NET_SK_LOOKUP",
    // 5.12.
    "NET_COOKIE",
    // Without these the hooks on a request's timer are not used ([`OF_REQUESTS`]).
    "REQUEST_TIMER",
    "REQUEST_LISTED",
    "REQUEST_TIMEOUTS_BYTE",
    "REQUEST_TIMEOUTS_BIT",
    // Without these less is known of half-open connections.
    "REQUEST_RESENT",
    "REQUEST_ACKED_BYTE",
    "REQUEST_ACKED_BIT",
    // Without these, requests of a shard that closes count as given up also where another shard takes them.
    "SOCK_REUSEPORT_CB",
    "REUSEPORT_SOCKS",
    // Without these nobody is blamed ([`OF_THREADS`]).
    "TASK_STATE",
    "TASK_ON_CPU",
    "TASK_COMM",
    // Without these no stack is copied ([`OF_COPIES`]).
    "REGS_SP",
    "REGS_SIZE",
    "TASK_STACK",
    "STACK_REGS",
    // Packets are dropped with a reason since 5.17; functions need none.
    "REASON_LISTEN_OVERFLOW",
    "REASON_NO_SOCKET",
];

/// The globals without which it is not known what a thread does.
pub(crate) const OF_THREADS: &[&str] = &["TASK_STATE", "TASK_ON_CPU", "TASK_COMM"];

/// The globals without which no stack can be copied.
pub(crate) const OF_COPIES: &[&str] = &["REGS_SP", "REGS_SIZE", "TASK_STACK", "STACK_REGS"];

/// The globals without which MPTCP is unknown.
pub(crate) const MPTCP: &[&str] = &["TCP_IS_MPTCP", "TCP_ULP_DATA", "SUBFLOW_CONN", "MPTCP_FIRST"];

/// The members without which the hooks on a request's timer show nothing.
pub(crate) const OF_REQUESTS: &[(&str, &str)] =
    &[("request_sock", "rsk_timer"), ("request_sock", "__req_common.skc_node.pprev"), ("request_sock", "num_timeout")];

/// Whether the kernel's processing of packets is part of tasks that others may preempt (PREEMPT_RT): then spinlocks
/// have owners.
pub(crate) fn is_real_time(btf: &KernelBtf) -> bool {
    btf.member("sock", "sk_lock.slock.lock.owner").is_ok()
}

/// A frozen global that says whether programs may call a helper, and the kernel's function behind the helper.
const HELPERS: &[(&str, &str)] = &[
    ("HAS_TASK_BTF", "bpf_get_current_task_btf"),
    ("HAS_TASK_REGS", "bpf_task_pt_regs"),
    ("HAS_SOCKET_COOKIE", "bpf_get_socket_ptr_cookie"),
];

/// Which helpers this kernel has.
pub(crate) fn helpers(btf: &KernelBtf) -> Vec<(&'static str, u8)> {
    HELPERS.iter().map(|(global, function)| (*global, u8::from(btf.function(function).is_ok()))).collect()
}

/// A frozen global and the enumerator whose value it holds.
const ENUMERATORS: &[(&str, &str)] = &[
    ("REASON_LISTEN_OVERFLOW", "SKB_DROP_REASON_TCP_LISTEN_OVERFLOW"),
    ("REASON_NO_SOCKET", "SKB_DROP_REASON_NO_SOCKET"),
    ("FLAG_DONE", "SOCK_DONE"),
    ("FLAG_DEAD", "SOCK_DEAD"),
    ("FLAG_LISTENED", "SOCK_RCU_FREE"),
    ("FLAG_URGINLINE", "SOCK_URGINLINE"),
    ("OP_ACCEPT", "IORING_OP_ACCEPT"),
];

/// The globals on this kernel.
#[derive(Default)]
pub(crate) struct Offsets {
    /// Globals and their values.
    pub found: Vec<(&'static str, u32)>,
    /// Globals that this kernel does not know, and why.
    pub missing: Vec<(&'static str, BtfError)>,
}

/// Resolves every global.
pub(crate) fn resolve(btf: &KernelBtf) -> Offsets {
    let mut offsets = Offsets::default();
    let mut put = |name: &'static str, value: Result<u32, BtfError>| match value {
        Ok(value) => offsets.found.push((name, value)),
        Err(error) => offsets.missing.push((name, error)),
    };
    for (name, structure, path) in MEMBERS {
        put(name, btf.member(structure, path).map(listentop_btf::Member::byte));
    }
    for (name, enumerator) in ENUMERATORS {
        put(name, btf.enumerator(enumerator));
    }
    let (register, within) = SECOND_ARGUMENT;
    put("REGS_ARG1", btf.member("pt_regs", register).map(|member| member.byte() + within));
    put("CALL_LISTEN", Ok(libc::SYS_listen as u32));
    // A ring is behind a spinlock, which may sleep where the kernel is real-time; the scheduler's hooks must not.
    let registers = if is_real_time(btf) {
        Err(BtfError::Missing(Symbol::Member("pt_regs.sp (not looked for on a real-time kernel)".to_owned())))
    } else {
        btf.member("pt_regs", "sp").map(|_| PROGRAM_REGISTERS as u32)
    };
    put("REGS_SIZE", registers);
    // The registers are at the end of it.
    put("STACK_REGS", btf.size("pt_regs").map(|size| KERNEL_STACK.saturating_sub(size)));
    let bit = |path| btf.member("sock_common", path);
    put("SOCK_REUSEPORT_BYTE", bit("skc_reuseport").map(listentop_btf::Member::byte));
    put("SOCK_REUSEPORT_BIT", bit("skc_reuseport").map(listentop_btf::Member::bit));
    let timeouts = || btf.member("request_sock", "num_timeout");
    put("REQUEST_TIMEOUTS_BYTE", timeouts().map(listentop_btf::Member::byte));
    put("REQUEST_TIMEOUTS_BIT", timeouts().map(listentop_btf::Member::bit));
    put("REQUEST_RESENT", btf.member("request_sock", "num_retrans").map(listentop_btf::Member::byte));
    let acked = || btf.member("inet_request_sock", "acked");
    put("REQUEST_ACKED_BYTE", acked().map(listentop_btf::Member::byte));
    put("REQUEST_ACKED_BIT", acked().map(listentop_btf::Member::bit));
    put("SOCK_V6ONLY_BYTE", bit("skc_ipv6only").map(listentop_btf::Member::byte));
    put("SOCK_V6ONLY_BIT", bit("skc_ipv6only").map(listentop_btf::Member::bit));
    let locks = || btf.member("sock", "sk_userlocks");
    put("SOCK_USERLOCKS_BYTE", locks().map(listentop_btf::Member::byte));
    put("SOCK_USERLOCKS_BIT", locks().map(listentop_btf::Member::bit));
    // Four bits until 6.17, which has the fifth, for connect(2).
    put("KNOWS_CONNECTING", locks().map(|locks| u32::from(locks.width > 4)));
    put("INET_TRANSPARENT_BYTE", transparent(btf).map(|bits| bits / 8));
    put("INET_TRANSPARENT_BIT", transparent(btf).map(|bits| bits % 8));
    put("NET_COOKIE", net_cookie(btf));
    let programs = btf.member("net", "bpf.run_array").and_then(|array| {
        let place = btf.enumerator("NETNS_BPF_SK_LOOKUP")?;
        Ok(array.byte() + place * size_of::<u64>() as u32)
    });
    put("NET_SK_LOOKUP", programs);
    // `struct socket_alloc { struct socket socket; struct inode vfs_inode; }`: the inode follows the socket.
    let inode = btf
        .member("socket_alloc", "vfs_inode")
        .and_then(|outer| Ok(outer.byte() + btf.member("inode", "i_ino")?.byte()));
    put("SOCKET_INO", inode);
    // The lock's word; where spinlocks may sleep (PREEMPT_RT), its owner.
    let spinlock = btf.member("sock", "sk_lock.slock.rlock.raw_lock");
    put(
        "SOCK_SPINLOCK",
        spinlock.or_else(|_| btf.member("sock", "sk_lock.slock.lock.owner")).map(listentop_btf::Member::byte),
    );
    // `struct tcp_skb_cb` lies over the packet's `cb`.
    let end = btf.member("sk_buff", "cb").and_then(|cb| Ok(cb.byte() + btf.member("tcp_skb_cb", "end_seq")?.byte()));
    put("SKB_END_SEQ", end);
    put("UPID_SIZE", btf.size("upid"));
    let state = btf.member("task_struct", "__state").or_else(|_| btf.member("task_struct", "state"));
    put("TASK_STATE", state.map(listentop_btf::Member::byte));
    // Kernels without io_uring have no such types: its hook will not attach there either.
    put("CQE_RES", btf.member("io_uring_cqe", "res").map(listentop_btf::Member::byte));
    for (name, member) in [("KIOCB_OPCODE", "opcode"), ("KIOCB_FILE", "file")] {
        put(name, btf.member("io_kiocb", member).map(listentop_btf::Member::byte));
    }
    // What an operation needs lies over `cmd`, since 6.0.
    for (name, structure, member) in [
        ("ACCEPT_FILE_SLOT", "io_accept", "file_slot"),
        ("SPLICE_FD_IN", "io_splice", "splice_fd_in"),
        ("SPLICE_FLAGS", "io_splice", "flags"),
    ] {
        let within = |cmd: u32| Ok(cmd + btf.member(structure, member)?.byte());
        put(name, btf.member("io_kiocb", "cmd").and_then(|cmd| within(cmd.byte())));
    }
    // Only where the types show what they splice.
    put("OP_SPLICE", btf.member("io_splice", "splice_fd_in").and_then(|_| btf.enumerator("IORING_OP_SPLICE")));
    offsets
}

/// Position in bits of the flag for IP_TRANSPARENT: one of `inet_flags` since 6.6, a bit field before.
fn transparent(btf: &KernelBtf) -> Result<u32, BtfError> {
    let flags = btf.member("inet_sock", "inet_flags").and_then(|flags| {
        let flag = btf.enumerator("INET_FLAGS_TRANSPARENT")?;
        Ok(flags.bits + flag)
    });
    flags.or_else(|_| btf.member("inet_sock", "transparent").map(|flag| flag.bits))
}

/// Offset of a namespace's cookie. Up to 5.11 it is an atomic number, which the kernel sets when somebody asks for it:
/// then it does not identify a namespace from its beginning.
fn net_cookie(btf: &KernelBtf) -> Result<u32, BtfError> {
    let cookie = btf.member("net", "net_cookie")?;
    match btf.member("net", "net_cookie.counter") {
        Ok(_) => Err(BtfError::Missing(Symbol::Member("net.net_cookie as a number".to_owned()))),
        Err(_) => Ok(cookie.byte()),
    }
}
