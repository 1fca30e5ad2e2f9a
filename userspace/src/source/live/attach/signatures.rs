//! Where the arguments and results of functions are. Positions differ between kernels, so they come from the running
//! kernel's BTF and are frozen into `.rodata` before the load.

use listentop_btf::{KernelBtf, Value};

use super::{offsets, refusal::Refusal};

/// What a frozen global holds the position of.
enum Position {
    /// The result.
    Result,
    /// The parameter of this name.
    Parameter(&'static str),
}

/// A frozen global of `ebpf/src/hooks`, the function, and what it holds the position of.
const POSITIONS: &[(&str, &str, Position)] = &[
    ("LISTEN_RESULT", "inet_csk_listen_start", Position::Result),
    ("ACCEPT_RESULT", "inet_csk_accept", Position::Result),
    ("RECEIVE_FLAGS", "tcp_recvmsg", Position::Parameter("flags")),
    ("RECEIVE_RESULT", "tcp_recvmsg", Position::Result),
    ("MPTCP_RECEIVE_FLAGS", "mptcp_recvmsg", Position::Parameter("flags")),
    ("MPTCP_RECEIVE_RESULT", "mptcp_recvmsg", Position::Result),
    ("FLOOD_RESULT", "tcp_syn_flood_action", Position::Result),
    ("CHILD_V4_RESULT", "tcp_v4_syn_recv_sock", Position::Result),
    ("CHILD_V6_RESULT", "tcp_v6_syn_recv_sock", Position::Result),
    ("COOKIE_RESULT", "tcp_get_cookie_sock", Position::Result),
    ("CHECK_RESULT", "tcp_check_req", Position::Result),
];

/// Parameters and results that the probes take at a fixed position: function, position, name. An empty name stands for
/// the result. The check compares each with the kernel's signature.
const FIXED: &[(&str, u32, &str)] = &[
    ("inet_csk_listen_start", 0, "sk"),
    ("inet_csk_listen_stop", 0, "sk"),
    // Its parameter, the registers, has other names in some kernels' types.
    ("__x64_sys_accept4", 1, ""),
    ("__x64_sys_accept", 1, ""),
    ("__arm64_sys_accept4", 1, ""),
    ("__arm64_sys_accept", 1, ""),
    ("inet_csk_complete_hashdance", 0, "sk"),
    ("inet_csk_complete_hashdance", 1, "child"),
    ("inet_csk_complete_hashdance", 2, "req"),
    ("inet_csk_complete_hashdance", 3, "own_req"),
    ("inet_csk_complete_hashdance", 4, ""),
    ("inet_csk_reqsk_queue_add", 0, "sk"),
    ("inet_csk_reqsk_queue_add", 2, "child"),
    ("reuseport_migrate_sock", 1, "migrating_sk"),
    ("reuseport_migrate_sock", 2, "skb"),
    ("reuseport_migrate_sock", 3, ""),
    ("inet_csk_accept", 0, "sk"),
    ("sock_def_readable", 0, "sk"),
    ("subflow_data_ready", 0, "sk"),
    ("tcp_recvmsg", 0, "sk"),
    ("mptcp_recvmsg", 0, "sk"),
    ("tcp_splice_read", 0, "sock"),
    ("tcp_splice_read", 5, ""),
    ("tcp_sendmsg", 0, "sk"),
    ("tcp_sendmsg", 3, ""),
    ("tcp_sendpage", 0, "sk"),
    ("tcp_sendpage", 5, ""),
    ("mptcp_sendmsg", 0, "sk"),
    ("mptcp_sendmsg", 3, ""),
    ("tcp_conn_request", 2, "sk"),
    ("tcp_conn_request", 3, "skb"),
    ("inet_csk_reqsk_queue_hash_add", 0, "sk"),
    ("inet_csk_reqsk_queue_drop", 1, "req"),
    ("inet_csk_reqsk_queue_drop", 2, ""),
    ("reqsk_timer_handler", 0, "t"),
    ("inet_reqsk_clone", 0, "req"),
    ("inet_reqsk_clone", 1, "sk"),
    ("inet_reqsk_clone", 2, ""),
    ("tcp_get_cookie_sock", 0, "sk"),
    ("tcp_get_cookie_sock", 1, "skb"),
    ("tcp_v4_syn_recv_sock", 0, "sk"),
    ("tcp_v4_syn_recv_sock", 1, "skb"),
    ("tcp_v4_syn_recv_sock", 2, "req"),
    ("tcp_v6_syn_recv_sock", 0, "sk"),
    ("tcp_v6_syn_recv_sock", 1, "skb"),
    ("tcp_v6_syn_recv_sock", 2, "req"),
    ("tcp_check_req", 0, "sk"),
    ("tcp_check_req", 1, "skb"),
    ("tcp_check_req", 2, "req"),
    ("tcp_check_req", 4, "req_stolen"),
];

/// Positions on this kernel, by global. A global that is not found keeps its default, which is no argument's position;
/// [`check`] then refuses the function.
pub(crate) fn positions(kernel: &KernelBtf) -> Vec<(&'static str, u32)> {
    let mut found: Vec<(&'static str, u32)> = POSITIONS
        .iter()
        .filter_map(|(global, function, position)| {
            let signature = kernel.function(function).ok()?;
            let at = match position {
                Position::Result => signature.return_position(),
                Position::Parameter(name) => signature.position(name)?,
            };
            Some((*global, at))
        })
        .collect();
    if let Ok(signature) = kernel.function("inet_csk_reqsk_queue_hash_add")
        && signature.returns != Value::Void
    {
        found.push(("REQUEST_RESULT", signature.return_position()));
    }
    found
}

/// Whether the probes know this kernel's signature of a function.
///
/// # Errors
/// What differs.
pub(crate) fn check(kernel: &KernelBtf, function: &str) -> Result<(), Refusal> {
    let signature = kernel.function(function)?;
    for (_, position, name) in FIXED.iter().filter(|(of, ..)| *of == function) {
        let there = if name.is_empty() { Some(signature.return_position()) } else { signature.position(name) };
        if there != Some(*position) {
            let what = if name.is_empty() { "its result" } else { *name };
            return Err(Refusal::Moved { function: function.to_owned(), what });
        }
    }
    if function == "reqsk_timer_handler" {
        for (structure, path) in offsets::OF_REQUESTS {
            kernel.member(structure, path)?;
        }
    }
    for (.., position) in POSITIONS.iter().filter(|(_, of, _)| *of == function) {
        if let Position::Parameter(parameter) = position
            && signature.position(parameter).is_none()
        {
            return Err(Refusal::NoParameter { function: function.to_owned(), parameter });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FIXED, POSITIONS, check, positions};
    use crate::source::live::attach::events::{Target, all_hooks};
    use listentop_btf::KernelBtf;

    #[test]
    fn every_function_that_is_hooked_is_checked() {
        for hook in all_hooks() {
            let (Target::Entry(function) | Target::Exit(function)) = hook.target else { continue };
            // The probes take no argument of these.
            let none = ["cookie_v4_init_sequence", "cookie_v6_init_sequence"].contains(&function);
            let known =
                FIXED.iter().any(|(of, ..)| *of == function) || POSITIONS.iter().any(|(_, of, _)| *of == function);
            assert!(none || known, "{function}");
        }
    }

    #[test]
    fn the_running_kernel_has_what_is_expected() {
        let Ok(kernel) = KernelBtf::from_kernel() else { return };
        for function in ["inet_csk_accept", "inet_csk_complete_hashdance", "tcp_conn_request", "tcp_check_req"] {
            assert_eq!(check(&kernel, function), Ok(()));
        }
        let found = positions(&kernel);
        for global in ["ACCEPT_RESULT", "RECEIVE_FLAGS", "RECEIVE_RESULT", "CHECK_RESULT"] {
            assert!(found.iter().any(|(name, position)| *name == global && *position < 8), "{global}: {found:?}");
        }
    }
}
