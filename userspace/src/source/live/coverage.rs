//! What the attached hooks let us measure.

use listentop_model::coverage::{Coverage, Measure, Status};

use super::{cost::Timing, hooks::Outcome};

/// Where a measure comes from when all is well, and what must be said about it even then.
fn source(measure: Measure) -> (Status, &'static str, &'static str) {
    use Measure::*;
    use Status::{Measured, Sampled, Unavailable};
    const NO_EVENT: &str = "no tracepoint fires when a request is made";
    match measure {
        AcceptQueueDepth => (Measured, "iter/bpf_map_elem: sk_ack_backlog", ""),
        AcceptQueuePeak => (Measured, "tp_btf/sk_data_ready: sk_ack_backlog at every enqueue", ""),
        Enqueued => (Measured, "tp_btf/sk_data_ready", ""),
        AcceptWait => (Measured, "tp_btf/sk_data_ready → sys_exit_accept, io_uring_complete", ""),
        OldestWaiting => (Measured, "iter/bpf_map_elem: head of the accept queue", ""),
        SynQueueDepth => (
            Sampled,
            "iter/bpf_map_elem, tp_btf/sk_data_ready: qlen",
            "read at each refresh and enqueue; a peak in between is missed",
        ),
        SynRequests => (Unavailable, "", NO_EVENT),
        SynackRetransmits => (Measured, "tp_btf/tcp_retransmit_synack", ""),
        CookiesSent => (Unavailable, "", "counted per namespace only (SyncookiesSent)"),
        Handshake => (
            Sampled,
            "tp_btf/sk_data_ready: srtt_us of the new connection",
            "left out: handshakes whose SYN-ACK was sent again or was a cookie",
        ),
        Drops => (Measured, "sk_drops, tp_btf/kfree_skb", ""),
        DropCause => (
            Sampled,
            "tp_btf/kfree_skb; for SYNs the namespace's TcpExt counters",
            "no tracepoint fires for a refused SYN: its cause is inferred from counters, exactly where one listener drops at a time",
        ),
        DropClients => (Sampled, "tp_btf/kfree_skb", "refused final ACKs only: no tracepoint shows a refused SYN"),
        Accepts => (Measured, "sys_exit_accept, sys_exit_accept4, tp_btf/io_uring_complete", ""),
        WouldBlock => (Measured, "sys_exit_accept, sys_exit_accept4", ""),
        OpenConnections => (Measured, "accepts less tp_btf/tcp_destroy_sock", ""),
        FirstByte => (Measured, "tp_btf/sk_data_ready", ""),
        FirstRead => (Measured, "tp_btf/sock_recv_length", ""),
        Reads => (Measured, "tp_btf/sock_recv_length, sys_exit_splice", ""),
        Residency => (Measured, "tp_btf/sk_data_ready → tp_btf/sock_recv_length", ""),
        QueuedBytes => (Measured, "tp_btf/sk_data_ready less copied_seq", ""),
        Writes => (Measured, "tp_btf/sock_send_length", ""),
        Owners => (Measured, "/proc/PID/fd", ""),
        ThreadTimes => (Measured, "/proc/PID/task/TID/schedstat", ""),
        ProbeTime => (Measured, "the kernel's program statistics", ""),
    }
}

/// Coverage of every measure, given what became of the hooks, how much the kernel times, and whether it
/// shows where tcp_v4_rcv and tcp_v6_rcv lie.
pub(super) fn of(outcomes: &[Outcome], timing: &Timing, receive_ranges_known: bool) -> Vec<Coverage> {
    Measure::ALL
        .iter()
        .map(|measure| {
            let (status, via, reason) = source(*measure);
            let failure = outcomes.iter().find_map(|outcome| {
                let reason = outcome.failure.as_ref()?;
                let needed = outcome.hook.carries.contains(measure);
                needed.then(|| format!("{} is not attached: {reason}", outcome.hook.target.name()))
            });
            let failure = failure.or_else(|| match timing {
                Timing::None(reason) if *measure == Measure::ProbeTime => Some(reason.clone()),
                _ => None,
            });
            let (status, reason) = if *measure == Measure::Drops && !receive_ranges_known {
                (
                    Status::Sampled,
                    "an upper bound: packets ignored because of TCP_DEFER_ACCEPT are in it, as the kernel hides its \
                 addresses; kernel.kptr_restrict=0 or CAP_SYSLOG would help",
                )
            } else if *measure == Measure::ProbeTime && *timing == Timing::Windows {
                (Status::Sampled, "timed for 10 ms each second and interpolated; --probe-stats times every run")
            } else {
                (status, reason)
            };
            match failure {
                Some(reason) => Coverage { measure: *measure, status: Status::Unavailable, via: String::new(), reason },
                None => Coverage { measure: *measure, status, via: via.to_owned(), reason: reason.to_owned() },
            }
        })
        .collect()
}

/// Says so if some processes' descriptors may not be read.
pub(super) fn note_hidden_owners(coverage: &mut [Coverage], hidden: u32) {
    let Some(owners) = coverage.iter_mut().find(|entry| entry.measure == Measure::Owners) else { return };
    if hidden > 0 {
        owners.status = Status::Sampled;
        owners.reason = format!("the descriptors of {hidden} processes may not be read; CAP_SYS_PTRACE would help");
    } else {
        owners.status = Status::Measured;
        owners.reason.clear();
    }
}
