//! Attempts that were refused though neither queue was full.

use super::{FindingInput, FindingKind, Found, plural, syn_backlog_reserve};
use crate::{catalogue::thresholds, model::Severity};

thresholds! {
    /// Refused attempts. A few come from a moment without memory.
    MIN_REFUSED: u64 = 20, Count;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "refused_otherwise",
    meaning: "Clients are refused, and not by a full queue: the host has no way back to them, or no memory for them. Nothing that \
              the program does changes it.",
    when: "At least {MIN_REFUSED} attempts were refused in the interval for a reason that is known to be none of the queues, and is \
           not the one of `syn_backlog_reserve`.",
    severity: "critical if it refused any in the recent span, else warning",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let refused = l.drops.other.filter(|n| *n >= MIN_REFUSED)?;
    if syn_backlog_reserve::refused(input) > 0 {
        return None;
    }
    let recent = l.recent_drops.other.unwrap_or(0);
    let mut evidence = vec![
        ("refused", refused as f64),
        ("recent", recent as f64),
        ("depth", f64::from(l.now.accept_depth)),
        ("limit", f64::from(l.now.limit)),
    ];
    evidence.extend(l.now.syn_peak.map(|n| ("syn_queue_peak", f64::from(n))));
    evidence.extend(l.drops.clients.map(|n| ("clients", n as f64)));
    let syn = l.now.syn_peak.map_or(String::new(), |n| format!(" (it held {} at most)", plural(n.into(), "handshake")));
    let found = Found::new(
        &KIND,
        if recent > 0 { Severity::Critical } else { Severity::Warning },
        format!(
            "{} were refused, and neither the accept queue nor the SYN queue{syn} was full.",
            plural(refused, "attempt")
        ),
        evidence,
        "Look for a client's address (ss -tn state syn-recv, tcpdump), and whether the host has a route back to it: ip route get \
         ADDRESS. If it has, look for memory: net.ipv4.tcp_mem, the cgroup's limit, dmesg. With tcp_syncookies=0 the last quarter \
         of net.ipv4.tcp_max_syn_backlog is refused to new clients too. Backlog and acceptors are not involved.",
    );
    Some(found.holding(recent > 0))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };

    fn refuse(case: &mut Case, (refused, recent): (u64, u64)) {
        case.listener.drops.other = Some(refused);
        case.listener.recent_drops.other = Some(recent);
        case.listener.now.syn_peak = Some(3);
    }

    #[test]
    fn twenty_attempts_are_a_number() {
        assert_eq!(severities(&KIND, refuse, [(19, 0), (20, 0), (20, 1)]), [NONE, WARNING, CRITICAL]);
        assert_eq!(Case::with(|case| case.listener.drops.other = None).find(&KIND), None);
    }

    #[test]
    fn the_reserve_of_the_syn_backlog_has_its_own() {
        let reserve = |case: &mut Case, (peak, cookies)| {
            refuse(case, (20, 0));
            case.listener.now.syn_peak = Some(peak);
            case.namespace.as_mut().unwrap().cookies_sent = Some(cookies);
        };
        assert_eq!(severities(&KIND, reserve, [(97, 0), (97, 1), (3, 0)]), [NONE, WARNING, WARNING]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| refuse(case, (20_000, 7)));
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "20,000 attempts were refused, and neither the accept queue nor the SYN queue (it held 3 handshakes at most) was \
             full."
        );
        let figures =
            [("refused", 20_000.0), ("recent", 7.0), ("depth", 0.0), ("limit", 17.0), ("syn_queue_peak", 3.0)];
        assert_eq!(found.evidence[..5], figures);
        case.listener.now.syn_peak = None;
        let found = case.find(&KIND).unwrap();
        assert!(found.summary.ends_with("nor the SYN queue was full."), "{}", found.summary);
    }
}
