//! Data waits long to be read, though connections are accepted in time.

use super::{FindingInput, duration, ms, plural, telling};
use crate::model::{Finding, Severity};

/// As for accepts, twice over: a request waits this long before the program starts on it.
const SLOW_US: u64 = 100_000;
const VERY_SLOW_US: u64 = 1_000_000;
/// Unread bytes that are no in-flight request any more, when nothing is read meanwhile.
const QUEUED_BYTES: u64 = 1 << 20;

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    if super::hung_acceptor::hung_us(l).is_some() {
        return None;
    }
    let residency = telling(&l.recent_distributions.residency, &l.distributions.residency);
    let p99 = residency.and_then(|h| h.quantile_us(0.99));
    let queued = l.now.queued_bytes.unwrap_or(0);
    let slow = p99.is_some_and(|us| us >= SLOW_US);
    let stuck = !l.closed && queued >= QUEUED_BYTES && l.rate.reads == Some(0.0);
    if !slow && !stuck {
        return None;
    }
    let mut evidence = vec![("queued_bytes", queued as f64)];
    evidence.extend(p99.map(|us| ("residency_p99_ms", ms(us))));
    evidence.extend(residency.and_then(|h| h.quantile_us(0.5)).map(|us| ("residency_p50_ms", ms(us))));
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    let summary = match (p99, stuck) {
        (_, true) => format!("{} wait unread and nothing was read lately.", plural(queued, "byte")),
        (Some(us), _) => {
            format!("Data waits long to be read: one read in a hundred takes bytes {} old or older.", duration(us))
        }
        (None, false) => return None,
    };
    Some(Finding {
        id: "slow_reader",
        severity: if stuck || p99.is_some_and(|us| us >= VERY_SLOW_US) { Severity::Warning } else { Severity::Info },
        summary,
        evidence,
        advice: "The threads that read are busy or blocked: the table of threads shows whether they run, wait for a CPU or sleep. More \
                 readers or less work per request help. The accept queue is fine: leave backlog and acceptors alone, and larger \
                 receive buffers would only hide the delay."
            .to_owned(),
    })
}
