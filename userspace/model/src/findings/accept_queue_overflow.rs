//! The accept queue refused attempts.

use super::{FindingInput, FindingKind, Found, duration, ms, plural};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "accept_queue_overflow",
    meaning: "The program accepts too slowly. Every refused attempt costs its client a second or more.",
    when: "The accept queue was full and refused SYNs or final ACKs in the interval.",
    severity: "critical if it refused any in the recent span, else warning",
    follows_from: &[
        "accept_errors",
        "acceptor_gone",
        "dead_shard",
        "acceptor_paused",
        "hung_acceptor",
        "busy_acceptor",
        "cpu_starved_acceptor",
        "acceptor_imbalance",
        "shard_imbalance",
        "backlog_small",
    ],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
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
    let half = wait.map_or(String::new(), |us| {
        format!(" Half of the accepted connections had waited {} or longer.", duration(us))
    });
    let found = Found::new(
        &KIND,
        if recent > 0 { Severity::Critical } else { Severity::Warning },
        format!(
            "The accept queue (limit {}) was full and refused {} and {}.{half}",
            l.now.limit,
            plural(on_syn, "SYN"),
            plural(on_ack, "final ACK"),
        ),
        evidence,
        "Make the program accept sooner: accept until EAGAIN, move work off the accepting thread, or add acceptors. A larger \
                 backlog (listen() and net.core.somaxconn) helps against bursts only; if accepting is too slow on average, clients \
                 just wait longer. Leave tcp_abort_on_overflow, tcp_syncookies and tcp_max_syn_backlog alone: none of them makes \
                 room in this queue.",
    );
    Some(found.holding(recent > 0))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, durations, severities},
        *,
    };

    fn refuse(case: &mut Case, (on_syn, on_ack, recently): (u64, u64, [u64; 2])) {
        case.listener.drops.accept_queue_full_on_syn = Some(on_syn);
        case.listener.drops.accept_queue_full_on_ack = Some(on_ack);
        case.listener.recent_drops.accept_queue_full_on_syn = Some(recently[0]);
        case.listener.recent_drops.accept_queue_full_on_ack = Some(recently[1]);
    }

    #[test]
    fn one_refused_attempt_is_enough() {
        let found = severities(&KIND, refuse, [(0, 0, [0, 0]), (1, 0, [0, 0]), (0, 1, [0, 0])]);
        assert_eq!(found, [NONE, WARNING, WARNING]);
    }

    #[test]
    fn it_is_critical_while_it_lasts() {
        assert_eq!(severities(&KIND, refuse, [(2, 2, [1, 0]), (2, 2, [0, 1])]), [CRITICAL, CRITICAL]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| refuse(case, (1_420, 1, [3, 4])));
        case.listener.now.accept_peak = Some(18);
        case.listener.distributions.accept_wait = durations(&[(2_000, 5)]);
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "The accept queue (limit 17) was full and refused 1,420 SYNs and 1 final ACK. Half of the accepted \
             connections had waited 2.0 ms or longer."
        );
        assert_eq!(
            found.evidence,
            [
                ("on_syn", 1420.0),
                ("on_ack", 1.0),
                ("recent", 7.0),
                ("limit", 17.0),
                ("peak", 18.0),
                ("accept_wait_p50_ms", 2.032)
            ]
        );
        case.listener.now.accept_peak = None;
        case.listener.distributions.accept_wait = None;
        let found = case.find(&KIND).unwrap();
        assert_eq!(found.summary, "The accept queue (limit 17) was full and refused 1,420 SYNs and 1 final ACK.");
        assert_eq!(found.evidence.len(), 4);
    }
}
