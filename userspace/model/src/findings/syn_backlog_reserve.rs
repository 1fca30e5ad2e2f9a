//! With SYN cookies off, the kernel keeps the last quarter of tcp_max_syn_backlog for known clients.

use super::{FindingInput, FindingKind, Found, plural};
use crate::{catalogue::thresholds, model::Severity};

thresholds! {
    /// Refused SYNs. A few may have another cause, such as a route that is missing.
    MIN_REFUSED: u64 = 20, Count;
    /// Handshakes under way at the peak. SYNs that are refused for another reason leave no request behind.
    MIN_UNDER_WAY: u64 = 32, Count;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "syn_backlog_reserve",
    meaning: "While SYN cookies are off, the kernel refuses new clients as soon as three quarters of net.ipv4.tcp_max_syn_backlog are \
              in use. The rest is for clients that it knows. Neither queue is full then.",
    when: "{MIN_REFUSED} SYNs were refused and neither queue was full, no cookie was sent in the namespace, and at least \
           {MIN_UNDER_WAY} handshakes were under way at the peak.",
    severity: "critical if SYNs were refused so in the recent span, else warning",
    follows_from: &["accept_queue_overflow"],
    thresholds: THRESHOLDS,
    find,
};

/// SYNs that the reserve refused in the interval; 0 if it refused none.
pub(super) fn refused(input: &FindingInput<'_>) -> u64 {
    let l = input.listener;
    let cookies = l.total.cookies_sent.or(input.namespace.and_then(|n| n.cookies_sent));
    let under_way = l.now.syn_peak.map_or(0, u64::from);
    let refused = l.drops.other.unwrap_or(0);
    if refused >= MIN_REFUSED && under_way >= MIN_UNDER_WAY && cookies == Some(0) { refused } else { 0 }
}

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let refused = Some(refused(input)).filter(|n| *n > 0)?;
    let recent = l.recent_drops.other.unwrap_or(0);
    let peak = u64::from(l.now.syn_peak?);
    let mut evidence = vec![("refused", refused as f64), ("recent", recent as f64), ("syn_queue_peak", peak as f64)];
    evidence.extend(l.total.syn_given_up.map(|n| ("given_up", n as f64)));
    evidence.extend(l.total.synack_retransmits.map(|n| ("synack_retransmits", n as f64)));
    let found = Found::new(
        &KIND,
        if recent > 0 { Severity::Critical } else { Severity::Warning },
        format!(
            "{} were refused while cookies are off and up to {} were under way: only the last quarter of tcp_max_syn_backlog was free.",
            plural(refused, "SYN"),
            plural(peak, "handshake"),
        ),
        evidence,
        "Turn tcp_syncookies on (1): then the kernel refuses nobody for this. If it must stay off, raise \
         net.ipv4.tcp_max_syn_backlog (sysctl net.ipv4.tcp_max_syn_backlog shows it). Find out why handshakes do not complete: \
         lost final ACKs, or a flood (ss -tn state syn-recv). The accept queue and the backlog have room.",
    );
    Some(found.holding(recent > 0))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, WARNING, severities},
        *,
    };

    fn refuse(case: &mut Case, (refused, peak, cookies): (u64, u32, u64)) {
        case.listener.drops.other = Some(refused);
        case.listener.now.syn_peak = Some(peak);
        case.namespace.as_mut().unwrap().cookies_sent = Some(cookies);
    }

    #[test]
    fn bounds() {
        let found = severities(&KIND, refuse, [(19, 97, 0), (20, 97, 0), (20, 31, 0), (20, 32, 0), (20, 97, 1)]);
        assert_eq!(found, [NONE, WARNING, NONE, WARNING, NONE]);
        let unknown = Case::with(|case| {
            refuse(case, (20, 97, 0));
            case.namespace = None;
        });
        assert_eq!(unknown.find(&KIND), None, "cookies may be on");
    }

    #[test]
    fn it_is_critical_while_it_lasts() {
        let lasting = |case: &mut Case, recent| {
            refuse(case, (20, 97, 0));
            case.listener.recent_drops.other = Some(recent);
        };
        assert_eq!(severities(&KIND, lasting, [0, 1]), [WARNING, CRITICAL]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| refuse(case, (1_200, 97, 0)));
        case.listener.recent_drops.other = Some(4);
        case.listener.total.synack_retransmits = Some(5);
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "1,200 SYNs were refused while cookies are off and up to 97 handshakes were under way: only the last quarter of \
             tcp_max_syn_backlog was free."
        );
        let figures = [("refused", 1_200.0), ("recent", 4.0), ("syn_queue_peak", 97.0), ("synack_retransmits", 5.0)];
        assert_eq!(found.evidence, figures);
    }
}
