//! Every query, on BTF that may be malformed: for the mutation test and the fuzz target.

use crate::KernelBtf;

/// Paths into structures of the seeds: through typedefs, anonymous members, arrays, bit fields, pointers.
const MEMBERS: &[(&str, &str)] = &[
    ("sock", "__sk_common.skc_state"),
    ("sock", "sk_drops.counter"),
    ("sock", "sk_socket.file"),
    ("sock_common", "skc_reuseport"),
    ("request_sock", "__req_common.skc_listener"),
    ("socket_alloc", "vfs_inode.i_ino"),
    ("tcp_sock", "inet_conn.icsk_accept_queue.qlen.counter"),
    ("tcp_sock", "rcv_nxt"),
    ("tcp_sock", "none"),
    ("sk_buff", "head"),
    ("task_struct", "start_boottime"),
    ("task_struct", "none.none"),
    ("pid", "numbers"),
    ("io_uring_cqe", "big_cqe"),
];

const FUNCTIONS: &[&str] = &[
    "inet_csk_accept",
    "inet_csk_reqsk_queue_add",
    "inet_csk_reqsk_queue_hash_add",
    "tcp_conn_request",
    "tcp_recvmsg",
    "tcp_sendmsg",
    "tcp_check_req",
    "none",
];

const TRACEPOINTS: &[&str] = &["inet_sock_set_state", "sk_data_ready", "kfree_skb", "io_uring_complete", "none"];

const ENUMERATORS: &[&str] = &["SOCK_DEAD", "SKB_DROP_REASON_TCP_LISTEN_OVERFLOW", "IORING_OP_ACCEPT", "NONE"];

/// Runs every query and returns the number of answers. It must not panic or run for long, with any BTF.
#[must_use]
pub fn exercise(btf: &KernelBtf) -> usize {
    let mut answers = 0;
    let mut note = |answered: bool| answers += usize::from(answered);
    for (structure, path) in MEMBERS {
        note(btf.size(structure).is_ok());
        note(btf.member(structure, path).is_ok_and(|member| member.byte() < u32::MAX && member.bit() < 8));
    }
    for name in FUNCTIONS {
        let function = btf.function(name);
        note(function.is_ok_and(|function| {
            // The positions of parameters are computed from their sizes.
            function.parameters.iter().all(|parameter| function.position(&parameter.name).is_some())
                && function.return_position() as usize >= function.parameters().min(1)
        }));
    }
    for name in TRACEPOINTS {
        note(btf.tracepoint(name).is_ok());
    }
    for name in ENUMERATORS {
        note(btf.enumerator(name).is_ok());
        note(btf.enumerator64(name).is_ok());
    }
    answers
}
