//! The accept queue refused attempts.

use super::{FindingInput, duration, ms, plural};
use crate::model::{Finding, Severity};

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let on_syn = l.drops.accept_queue_full_on_syn.unwrap_or(0);
    let on_ack = l.drops.accept_queue_full_on_ack.unwrap_or(0);
    if on_syn + on_ack == 0 {
        return None;
    }
    let recent =
        l.recent_drops.accept_queue_full_on_syn.unwrap_or(0) + l.recent_drops.accept_queue_full_on_ack.unwrap_or(0);
    let mut evidence = vec![
        ("on_syn", on_syn as f64),
        ("on_ack", on_ack as f64),
        ("recent", recent as f64),
        ("limit", f64::from(l.now.limit)),
    ];
    if let Some(peak) = l.now.accept_peak {
        evidence.push(("peak", f64::from(peak)));
    }
    let wait = l.distributions.accept_wait.as_ref().and_then(|h| h.quantile_us(0.5));
    if let Some(us) = wait {
        evidence.push(("accept_wait_p50_ms", ms(us)));
    }
    let half = wait.map_or(String::new(), |us| format!("; half of those accepted had waited {} or more", duration(us)));
    Some(Finding {
        id: "accept_queue_overflow",
        severity: if recent > 0 { Severity::Critical } else { Severity::Warning },
        summary: format!(
            "The accept queue (limit {}) was full and refused {} and {}{half}.",
            l.now.limit,
            plural(on_syn, "SYN"),
            plural(on_ack, "final ACK"),
        ),
        evidence,
        advice: "Make the program accept sooner: accept until EAGAIN, keep work off the thread that accepts, or add acceptors. A \
                 larger backlog (listen() and net.core.somaxconn) helps against bursts only; if accepting is too slow on \
                 average, clients just wait longer. Leave tcp_abort_on_overflow, tcp_syncookies and tcp_max_syn_backlog \
                 alone: none of them makes room here."
            .to_owned(),
    })
}
