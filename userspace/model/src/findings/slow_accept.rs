//! Connections wait long to be accepted, though the queue does not overflow.

use super::{FindingInput, FindingKind, duration, meaningful, ms};
use crate::{
    catalogue::thresholds,
    model::{Finding, Severity},
};

thresholds! {
    /// People notice 100 ms. Here half of that has passed before the program knows of the client.
    SLOW_US: u64 = 50_000, Micros;
    /// Clients with a timeout of one second are in danger.
    VERY_SLOW_US: u64 = 500_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "slow_accept",
    meaning: "Clients wait noticeably before the program takes their connection, though none is refused.",
    when: "p99 of accept wait is {SLOW_US} or more, of at least {MIN_VALUES} values, and the accept queue refused nothing.",
    severity: "warning from {VERY_SLOW_US} on, else info",
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let refused = l.drops.accept_queue_full_on_syn.unwrap_or(0) + l.drops.accept_queue_full_on_ack.unwrap_or(0);
    let wait = meaningful(l.recent_distributions.accept_wait.as_ref(), l.distributions.accept_wait.as_ref())?;
    let (p50, p99) = (wait.quantile_us(0.5)?, wait.quantile_us(0.99)?);
    if refused > 0 || p99 < SLOW_US {
        return None;
    }
    Some(Finding {
        id: KIND.id,
        severity: if p99 >= VERY_SLOW_US { Severity::Warning } else { Severity::Info },
        summary: format!(
            "Connections wait long before they are accepted: half of them {} or longer, 1 in 100 {} or longer. None was refused.",
            duration(p50),
            duration(p99)
        ),
        evidence: vec![
            ("accept_wait_p50_ms", ms(p50)),
            ("accept_wait_p99_ms", ms(p99)),
            ("accepts", wait.count() as f64),
            ("depth", f64::from(l.now.accept_depth)),
        ],
        advice: "The accepting thread does something else first: long requests in the event loop, a blocking call, or it has no CPU. \
                 Move that work elsewhere or add acceptors. A larger backlog would only lengthen the wait."
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, durations, severities},
        *,
    };

    /// Half of a hundred accepts waited 2 ms, the others so long.
    fn waiting(case: &mut Case, us: u64) {
        case.listener.recent_distributions.accept_wait = durations(&[(2_000, 50), (us, 50)]);
    }

    #[test]
    fn bounds_of_the_wait() {
        // What is read are the middles of buckets: 48.2, 52.4, 486.5 and 520.1 ms.
        let found = severities(&KIND, waiting, [48_000, 52_000, 486_000, 520_000]);
        assert_eq!(found, [NONE, INFO, INFO, WARNING]);
    }

    #[test]
    fn twenty_values_are_enough() {
        let some = |case: &mut Case, n| case.listener.recent_distributions.accept_wait = durations(&[(60_000, n)]);
        assert_eq!(severities(&KIND, some, [18, 19, 20, 21]), [NONE, NONE, INFO, INFO]);
    }

    #[test]
    fn with_few_recent_values_the_interval_counts() {
        let both = |case: &mut Case, (recent, all)| {
            case.listener.recent_distributions.accept_wait = durations(&[(100, recent)]);
            case.listener.distributions.accept_wait = durations(&[(60_000, all)]);
        };
        assert_eq!(severities(&KIND, both, [(19, 19), (19, 20), (20, 20)]), [NONE, INFO, NONE]);
    }

    #[test]
    fn a_queue_that_overflows_has_its_own_finding() {
        let refuse = |case: &mut Case, (on_syn, on_ack)| {
            waiting(case, 60_000);
            case.listener.drops.accept_queue_full_on_syn = on_syn;
            case.listener.drops.accept_queue_full_on_ack = on_ack;
        };
        let found = severities(&KIND, refuse, [(None, None), (Some(0), Some(0)), (Some(1), None), (None, Some(1))]);
        assert_eq!(found, [INFO, INFO, NONE, NONE]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| waiting(case, 60_000));
        case.listener.now.accept_depth = 3;
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Connections wait long before they are accepted: half of them 2.0 ms or longer, 1 in 100 60.8 ms or longer. \
             None was refused."
        );
        let figures =
            [("accept_wait_p50_ms", 2.032), ("accept_wait_p99_ms", 60.817), ("accepts", 100.0), ("depth", 3.0)];
        assert_eq!(found.evidence, figures);
    }
}
