//! The SYN queue refused SYNs, or had to answer with cookies.

use super::{FindingInput, FindingKind, Found, agree, plural};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "syn_queue_overflow",
    meaning: "More handshakes are under way than the SYN queue holds. A SYN that is refused costs its client a second or more; \
              one that is answered with a cookie costs it nothing but some TCP options.",
    when: "The SYN queue was full in the interval, and refused SYNs or sent cookies instead. For cookies the listener's SYN queue \
           must have reached its backlog: with tcp_syncookies=2 they are sent in any case.",
    severity: "critical if SYNs were refused in the recent span, warning if earlier, info if only cookies were sent",
    follows_from: &["accept_queue_overflow"],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let refused = l.drops.syn_queue_full.unwrap_or(0);
    let own_cookies = l.total.cookies_sent;
    // If cookies are known for the whole namespace only, they are attributed to a listener whose SYN queue was full.
    // With tcp_syncookies=2 they are sent although it is not.
    let was_full = l.now.syn_peak.map(|peak| peak >= l.now.backlog.max(1));
    let own_cookies = own_cookies.filter(|_| was_full != Some(false)).or(own_cookies.map(|_| 0));
    let all_cookies = input.namespace.and_then(|n| n.cookies_sent).filter(|_| was_full == Some(true));
    let cookies = own_cookies.or(all_cookies).unwrap_or(0);
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
            "Turn tcp_syncookies on (1): then a full SYN queue refuses nobody. The backlog limits the SYN queue as it limits the \
             accept queue, so listen() and net.core.somaxconn enlarge both. Find out why handshakes do not complete: lost final \
             ACKs, a flood, or TCP_DEFER_ACCEPT, which keeps connections in this queue on purpose.",
        )
    } else {
        (
            Severity::Info,
            format!(
                "The SYN queue was full: {} {} sent and no SYN was refused.",
                plural(cookies, "SYN cookie"),
                agree(cookies, "was", "were")
            ),
            "No client was refused. If this is no flood, a larger backlog keeps TCP options that a cookie cannot carry. Leave \
             tcp_syncookies at 1; 2 would always send cookies.",
        )
    };
    // Cookies are counted for the interval only; where the SYN queue is full now, they may still be sent.
    let full = l.now.syn_depth.is_some_and(|depth| depth >= l.now.backlog.max(1));
    let holds = recent > 0 || l.rate.cookies_sent.map_or(refused == 0 && full, |rate| rate > 0.0);
    Some(Found::new(&KIND, severity, summary, evidence, advice).holding(holds))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, INFO, NONE, WARNING, severities},
        *,
    };

    fn refuse(case: &mut Case, (refused, recently): (u64, u64)) {
        case.listener.drops.syn_queue_full = Some(refused);
        case.listener.recent_drops.syn_queue_full = Some(recently);
    }

    #[test]
    fn one_refused_syn_is_enough() {
        assert_eq!(severities(&KIND, refuse, [(0, 0), (1, 0), (1, 1)]), [NONE, WARNING, CRITICAL]);
    }

    #[test]
    fn the_namespaces_cookies_are_those_of_a_listener_whose_queue_was_full() {
        let cookies = |case: &mut Case, (cookies, peak, backlog)| {
            case.namespace.as_mut().unwrap().cookies_sent = cookies;
            case.listener.now.syn_peak = peak;
            case.listener.now.backlog = backlog;
        };
        let found = severities(
            &KIND,
            cookies,
            [(Some(0), Some(99), 16), (Some(9), Some(15), 16), (Some(9), Some(16), 16), (Some(9), None, 16)],
        );
        assert_eq!(found, [NONE, NONE, INFO, NONE]);
        let found = severities(&KIND, cookies, [(None, Some(99), 16), (Some(9), Some(0), 0), (Some(9), Some(1), 0)]);
        assert_eq!(found, [NONE, NONE, INFO], "a backlog of 0 admits one");
    }

    #[test]
    fn its_own_cookies_count_before_the_namespaces() {
        let own = |case: &mut Case, own| {
            case.namespace.as_mut().unwrap().cookies_sent = Some(9);
            case.listener.now.syn_peak = Some(99);
            case.listener.total.cookies_sent = own;
        };
        assert_eq!(severities(&KIND, own, [None, Some(0), Some(1)]), [INFO, NONE, INFO]);
        let always = |case: &mut Case, peak| {
            case.listener.total.cookies_sent = Some(9);
            case.listener.now.syn_peak = peak;
        };
        let found = severities(&KIND, always, [Some(15), Some(16), None]);
        assert_eq!(found, [NONE, INFO, INFO], "with tcp_syncookies=2 cookies show nothing");
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| refuse(case, (1_020, 4)));
        case.listener.now.syn_peak = Some(17);
        case.listener.total.synack_retransmits = Some(5);
        case.listener.total.cookies_sent = Some(6);
        let found = case.find(&KIND).unwrap();
        assert_eq!(found.summary, "The SYN queue was full and refused 1,020 SYNs.");
        let figures = [
            ("refused", 1_020.0),
            ("cookies_sent", 6.0),
            ("backlog", 16.0),
            ("syn_queue_peak", 17.0),
            ("synack_retransmits", 5.0),
        ];
        assert_eq!(found.evidence, figures);
        assert!(found.advice.starts_with("Turn tcp_syncookies on"));
        refuse(&mut case, (0, 0));
        case.listener.total.synack_retransmits = None;
        case.listener.now.syn_peak = None;
        let cookies = case.find(&KIND).unwrap();
        assert_eq!(cookies.summary, "The SYN queue was full: 6 SYN cookies were sent and no SYN was refused.");
        assert_eq!(cookies.evidence.len(), 3);
        assert!(cookies.advice.starts_with("No client was refused."));
        case.listener.total.cookies_sent = Some(1);
        let one = case.find(&KIND).unwrap().summary;
        assert_eq!(one, "The SYN queue was full: 1 SYN cookie was sent and no SYN was refused.");
    }
}
