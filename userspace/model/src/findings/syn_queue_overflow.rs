//! The SYN queue refused SYNs, or had to answer with cookies.

use super::{FindingInput, plural};
use crate::model::{Finding, Severity};

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let refused = l.drops.syn_queue_full.unwrap_or(0);
    let own_cookies = l.total.cookies_sent;
    // Cookies are often known for the whole namespace only; a listener whose SYN queue was full is who sent them.
    let was_full = l.now.syn_peak.is_some_and(|peak| peak >= l.now.backlog.max(1));
    let cookies = own_cookies.or(input.namespace.and_then(|n| n.cookies_sent).filter(|_| was_full)).unwrap_or(0);
    if refused == 0 && cookies == 0 {
        return None;
    }
    let recent = l.recent_drops.syn_queue_full.unwrap_or(0);
    let mut evidence =
        vec![("refused", refused as f64), ("cookies_sent", cookies as f64), ("backlog", f64::from(l.now.backlog))];
    for (name, value) in [
        ("syn_queue_peak", l.now.syn_peak.map(f64::from)),
        ("synack_retransmits", l.total.synack_retransmits.map(|n| n as f64)),
    ] {
        evidence.extend(value.map(|v| (name, v)));
    }
    let (severity, summary, advice) = if refused > 0 {
        (
            if recent > 0 { Severity::Critical } else { Severity::Warning },
            format!("The SYN queue was full and refused {}.", plural(refused, "SYN")),
            "Turn tcp_syncookies on (1): then a full SYN queue refuses nobody. The SYN queue is bounded by the same backlog as the \
             accept queue, so listen() and net.core.somaxconn enlarge it. Find out why handshakes do not complete: final \
             ACKs lost, a flood, or TCP_DEFER_ACCEPT, which keeps connections here on purpose. A full accept queue is \
             another matter, which cookies do not help.",
        )
    } else {
        (
            Severity::Info,
            format!("The SYN queue was full: {} sent instead of refusing.", plural(cookies, "SYN cookie")),
            "Nobody was refused for it. If this is no flood, a larger backlog keeps TCP options that a cookie cannot carry. Leave \
             tcp_syncookies at 1; 2 would send cookies always.",
        )
    };
    Some(Finding { id: "syn_queue_overflow", severity, summary, evidence, advice: advice.to_owned() })
}
