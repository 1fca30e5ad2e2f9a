//! Connections wait long to be accepted, though the queue does not overflow.

use super::{FindingInput, FindingKind, Found, MIN_VALUES, duration, ms};
use crate::{catalogue::thresholds, histogram::Histogram, model::Severity};

thresholds! {
    /// People notice 100 ms. Here half of that has passed before the program knows of the client.
    SLOW_US: u64 = 50_000, Micros;
    /// Clients with a timeout of one second are in danger.
    VERY_SLOW_US: u64 = 500_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "slow_accept",
    meaning: "Clients wait noticeably before the program takes their connection.",
    when: "p99 of accept wait is {SLOW_US} or more, of at least {MIN_VALUES} values, and the accept queue refused nothing: in the \
           recent span, or else over the interval. It holds now if the recent accepts waited so long.",
    severity: "warning from {VERY_SLOW_US} on, else info",
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
        "accept_queue_overflow",
    ],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let (refused, _) = input.refused_by_accept_queue();
    let slow = |wait: Option<&Histogram>, at_least: u64| {
        let wait = wait.filter(|h| h.count() >= at_least)?;
        let (p50, p99) = (wait.quantile_us(0.5)?, wait.quantile_us(0.99)?);
        (p99 >= SLOW_US).then_some((wait.count(), p50, p99))
    };
    let (recent, interval) = (l.recent_distributions.accept_wait.as_ref(), l.distributions.accept_wait.as_ref());
    let (accepts, p50, p99) = slow(recent, MIN_VALUES).or_else(|| slow(interval, MIN_VALUES))?;
    let holds = slow(recent, 1).is_some();
    let none = if refused == 0 { " None was refused." } else { "" };
    let half = format!("half of them {} or longer, 1 in 100 {} or longer.", duration(p50), duration(p99));
    let were = format!("Connections waited long before they were accepted: {half}");
    let advice = "The accepting thread does something else first: long requests in the event loop, a blocking call, or it has no \
                  CPU. Move that work elsewhere or add acceptors. A larger backlog would only lengthen the wait.";
    let found = Found::new(
        &KIND,
        if p99 >= VERY_SLOW_US { Severity::Warning } else { Severity::Info },
        if holds { format!("Connections wait long before they are accepted: {half}{none}") } else { were.clone() },
        vec![
            ("accept_wait_p50_ms", ms(p50)),
            ("accept_wait_p99_ms", ms(p99)),
            ("accepts", accepts as f64),
            ("depth", f64::from(l.now.accept_depth)),
        ],
        advice,
    );
    Some(found.holding(holds).remembered(p99 as f64, were, advice))
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
        assert_eq!(severities(&KIND, both, [(19, 19), (19, 20), (20, 20)]), [NONE, INFO, INFO]);
        let holds = |(us, recent)| {
            let mut case = Case::new();
            case.listener.recent_distributions.accept_wait = durations(&[(us, recent)]);
            case.listener.distributions.accept_wait = durations(&[(60_000, 20)]);
            case.find(&KIND).unwrap().holds
        };
        assert_eq!([(100, 20), (60_000, 0), (60_000, 1), (60_000, 20)].map(holds), [false, false, true, true]);
    }

    #[test]
    fn where_none_was_refused_it_says_so() {
        let says = |on_syn| {
            let mut case = Case::with(|case| waiting(case, 60_000));
            case.listener.drops.accept_queue_full_on_syn = on_syn;
            case.find(&KIND).unwrap().summary.ends_with(" None was refused.")
        };
        assert_eq!([None, Some(0), Some(1)].map(says), [true, true, false]);
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
