//! Connections whose client had gone before they were accepted.

use super::{FindingInput, FindingKind, Found, MIN_VALUES, duration, ms, percent, plural};
use crate::{catalogue::thresholds, model::Severity, words::prose::grouped};

thresholds! {
    /// Share of the accepts.
    MANY: f64 = 0.1, Share;
    /// From this share on, most of the accepting is for nobody.
    MOST: f64 = 0.5, Share;
    /// What half of them had waited at least. Health checks and scanners close at once: they have not waited.
    WAITED_US: u64 = 100_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "dead_on_accept",
    meaning: "Clients give up while they wait to be accepted. The program works for nobody then, which makes the others wait longer.",
    when: "{MANY} of the accepts, and at least {MIN_VALUES}, went to clients that had closed or reset the connection, half of them \
           after {WAITED_US} or longer.",
    severity: "warning from {MOST} on, else info",
    follows_from: &[
        "accept_errors",
        "acceptor_gone",
        "dead_shard",
        "acceptor_paused",
        "hung_acceptor",
        "busy_acceptor",
        "cpu_starved_acceptor",
        "slow_accept",
        "accept_queue_overflow",
    ],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let (closed, reset, accepts) = (l.total.client_closed?, l.total.client_reset?, l.total.accepts?);
    let gone = closed + reset;
    let share = gone as f64 / accepts.max(1) as f64;
    let wait = l.distributions.client_gone_wait.as_ref().and_then(|h| h.quantile_us(0.5))?;
    if gone < MIN_VALUES || share < MANY || wait < WAITED_US {
        return None;
    }
    let found = Found::new(
        &KIND,
        if share >= MOST { Severity::Warning } else { Severity::Info },
        format!(
            "{} of {} accepts ({}) went to clients that had gone: {} had closed, {} had reset. Half of these had waited {} or \
             longer.",
            grouped(gone),
            grouped(accepts),
            percent(share),
            grouped(closed),
            grouped(reset),
            duration(wait)
        ),
        vec![
            ("client_closed", closed as f64),
            ("client_reset", reset as f64),
            ("share_of_accepts", share),
            ("wait_p50_ms", ms(wait)),
        ],
        format!(
            "Clients give up after a time of their own: accept sooner, or let the program look whether a client is still there before \
             it works for it (poll with POLLRDHUP). {} that had closed may only have ended their side and wait for an answer.",
            plural(closed, "client")
        ),
    );
    let goes_on = [l.rate.client_closed, l.rate.client_reset].into_iter().flatten().any(|rate| rate > 0.0);
    Some(found.holding(goes_on))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, durations, severities},
        *,
    };

    fn gone(case: &mut Case, (closed, accepts, waited_us): (u64, u64, u64)) {
        case.listener.total.client_closed = Some(closed);
        case.listener.total.client_reset = Some(5);
        case.listener.total.accepts = Some(accepts);
        case.listener.distributions.client_gone_wait = durations(&[(waited_us, closed + 5)]);
    }

    #[test]
    fn bounds() {
        let found =
            severities(&KIND, gone, [(14, 50, 200_000), (15, 50, 200_000), (15, 200, 200_000), (15, 201, 200_000)]);
        assert_eq!(found, [NONE, INFO, INFO, NONE]);
        // What is read are the middles of buckets: 96.5 and 104.9 ms.
        let found =
            severities(&KIND, gone, [(15, 50, 96_000), (15, 50, 104_000), (20, 50, 104_000), (19, 50, 104_000)]);
        assert_eq!(found, [NONE, INFO, WARNING, INFO]);
        let mut unknown = Case::with(|case| gone(case, (20, 50, 200_000)));
        unknown.listener.total.client_reset = None;
        assert_eq!(unknown.find(&KIND), None);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| gone(case, (1_015, 5_000, 200_000)));
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "1,020 of 5,000 accepts (20%) went to clients that had gone: 1,015 had closed, 5 had reset. Half of these had \
             waited 192.9 ms or longer."
        );
        let figures =
            [("client_closed", 1_015.0), ("client_reset", 5.0), ("share_of_accepts", 0.204), ("wait_p50_ms", 192.938)];
        assert_eq!(found.evidence, figures);
        assert!(!found.holds);
        case.listener.rate.client_reset = Some(0.5);
        assert!(case.find(&KIND).unwrap().holds);
    }
}
