//! Data waits long to be read, though connections are accepted in time.

use super::{FindingInput, FindingKind, duration, meaningful, ms, plural};
use crate::{
    catalogue::thresholds,
    model::{Finding, Severity},
};

thresholds! {
    /// A request waits this long before the program starts on it: a delay that people notice.
    SLOW_US: u64 = 100_000, Micros;
    /// Clients with a timeout of one second give up.
    VERY_SLOW_US: u64 = 1_000_000, Micros;
    /// Unread bytes while nothing is read: more than requests in flight would leave.
    QUEUED_BYTES: u64 = 1 << 20, Bytes;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "slow_reader",
    meaning: "Requests have arrived, but the program starts on them late. Accepting is not the problem.",
    when: "p99 of residency is {SLOW_US} or more, of at least {MIN_VALUES} values; or {QUEUED_BYTES} wait unread and nothing was \
           read in the recent span. A listener that hangs (`hung_acceptor`) does not have this finding.",
    severity: "warning from {VERY_SLOW_US} on, or if nothing is read; else info",
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    if input.hung_us().is_some() {
        return None;
    }
    let residency = meaningful(l.recent_distributions.residency.as_ref(), l.distributions.residency.as_ref());
    let p99 = residency.and_then(|h| h.quantile_us(0.99));
    let queued = l.now.queued_bytes.unwrap_or(0);
    let stuck = !l.closed && queued >= QUEUED_BYTES && l.rate.reads == Some(0.0);
    let summary = match p99 {
        _ if stuck => format!("{} wait unread, and nothing was read recently.", plural(queued, "byte")),
        Some(us) if us >= SLOW_US => {
            format!("Data waits long before it is read: for 1 read in 100 it had waited {} or longer.", duration(us))
        }
        _ => return None,
    };
    let mut evidence = vec![("queued_bytes", queued as f64)];
    evidence.extend(p99.map(|us| ("residency_p99_ms", ms(us))));
    evidence.extend(residency.and_then(|h| h.quantile_us(0.5)).map(|us| ("residency_p50_ms", ms(us))));
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    Some(Finding {
        id: KIND.id,
        severity: if stuck || p99.is_some_and(|us| us >= VERY_SLOW_US) { Severity::Warning } else { Severity::Info },
        summary,
        evidence,
        advice: "The reading threads are busy or blocked: the table of threads shows whether they run, wait for a CPU or sleep. More \
                 readers or less work per request help. The accept queue is fine: leave backlog and acceptors alone. Larger \
                 receive buffers would only hide the delay."
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, durations, severities},
        *,
    };

    fn residency(case: &mut Case, us: u64) {
        case.listener.recent_distributions.residency = durations(&[(2_000, 50), (us, 50)]);
    }

    #[test]
    fn bounds_of_the_residency() {
        // What is read are the middles of buckets: 96.5, 104.9, 973.1 and 1,040.2 ms.
        let found = severities(&KIND, residency, [96_000, 104_000, 973_000, 1_040_000]);
        assert_eq!(found, [NONE, INFO, INFO, WARNING]);
    }

    #[test]
    fn twenty_values_are_enough() {
        let some = |case: &mut Case, n| case.listener.recent_distributions.residency = durations(&[(200_000, n)]);
        assert_eq!(severities(&KIND, some, [18, 19, 20, 21]), [NONE, NONE, INFO, INFO]);
        let all = |case: &mut Case, n| case.listener.distributions.residency = durations(&[(200_000, n)]);
        assert_eq!(severities(&KIND, all, [19, 20]), [NONE, INFO]);
    }

    #[test]
    fn a_mebibyte_unread_while_nothing_is_read() {
        let unread = |case: &mut Case, (bytes, reads, closed)| {
            case.listener.now.queued_bytes = bytes;
            case.listener.rate.reads = reads;
            case.listener.closed = closed;
        };
        let idle = Some(0.0);
        let found = severities(
            &KIND,
            unread,
            [
                (Some(1_000_000), idle, false),
                (Some(1_048_575), idle, false),
                (Some(1_048_576), idle, false),
                (Some(1_100_000), idle, false),
            ],
        );
        assert_eq!(found, [NONE, NONE, WARNING, WARNING]);
        let found = severities(
            &KIND,
            unread,
            [
                (None, idle, false),
                (Some(1 << 20), Some(0.5), false),
                (Some(1 << 20), None, false),
                (Some(1 << 20), idle, true),
            ],
        );
        assert_eq!(found, [NONE; 4]);
    }

    #[test]
    fn a_listener_that_hangs_has_another_finding() {
        let hung = |case: &mut Case, oldest| {
            residency(case, 200_000);
            case.listener.now.oldest_waiting_us = Some(oldest);
        };
        assert_eq!(severities(&KIND, hung, [1_000_000, 1_000_001]), [INFO, NONE]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| residency(case, 200_000));
        case.listener.now.open = Some(7);
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Data waits long before it is read: for 1 read in 100 it had waited 192.9 ms or longer."
        );
        let figures = [
            ("queued_bytes", 0.0),
            ("residency_p99_ms", 192.938),
            ("residency_p50_ms", 2.032),
            ("open_connections", 7.0),
        ];
        assert_eq!(found.evidence, figures);
        case.listener.now.queued_bytes = Some(2 << 20);
        case.listener.now.open = None;
        let found = case.find(&KIND).unwrap();
        assert_eq!(found.summary, "2,097,152 bytes wait unread, and nothing was read recently.");
        assert_eq!(found.evidence[0], ("queued_bytes", 2_097_152.0));
        assert_eq!((found.severity, found.evidence.len()), (Severity::Warning, 3));
    }
}
