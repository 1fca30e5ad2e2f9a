//! Data waits long to be read, though connections are accepted in time.

use super::{FindingInput, FindingKind, Found, MIN_VALUES, duration, ms};
use crate::{catalogue::thresholds, histogram::Histogram, model::Severity};

thresholds! {
    /// A request waits this long before the program starts on it: a delay that people notice.
    SLOW_US: u64 = 100_000, Micros;
    /// Clients with a timeout of one second give up.
    VERY_SLOW_US: u64 = 1_000_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "slow_reader",
    meaning: "Requests have arrived on accepted connections, but the program starts on them late. What waited before the accept is \
              the accept queue's (`slow_accept`).",
    when: "p99 of residency is {SLOW_US} or more, of at least {MIN_VALUES} values: in the recent span, or else over the interval. It \
           holds now if the recent reads took what had waited so long, and began when the longest of them came.",
    severity: "warning from {VERY_SLOW_US} on, else info",
    follows_from: &[
        "hung_reader",
        "accept_errors",
        "cpu_starved_acceptor",
        "dead_shard",
        "acceptor_paused",
        "hung_acceptor",
        "busy_acceptor",
    ],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let slow = |residency: Option<&Histogram>, at_least: u64| {
        let residency = residency.filter(|h| h.count() >= at_least)?;
        let (p50, p99) = (residency.quantile_us(0.5)?, residency.quantile_us(0.99)?);
        (p99 >= SLOW_US).then_some((residency.count(), p50, p99))
    };
    let recent = l.recent_distributions.residency.as_ref();
    let (reads, p50, p99) =
        slow(recent, MIN_VALUES).or_else(|| slow(l.distributions.residency.as_ref(), MIN_VALUES))?;
    let holds = slow(recent, 1).is_some();
    let mut evidence = vec![("residency_p99_ms", ms(p99)), ("residency_p50_ms", ms(p50)), ("reads", reads as f64)];
    evidence.extend(l.now.queued_bytes.map(|n| ("queued_bytes", n as f64)));
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    // Only where that is so.
    let prompt =
        l.distributions.accept_wait.as_ref().and_then(|h| h.quantile_us(0.99)).is_some_and(|us| us < SLOW_US / 2);
    let queue = if prompt && input.refused_by_accept_queue().0 == 0 {
        " Connections are accepted in time: leave backlog and acceptors alone."
    } else {
        ""
    };
    let advice = format!(
        "The reading threads are busy or blocked: the table of threads shows whether they run, wait for a CPU or sleep. More \
         readers or less work per request help.{queue} Larger receive buffers would only hide the delay."
    );
    let late = format!("for 1 read in 100 it had waited {} or longer.", duration(p99));
    let were = format!("Data waited long before it was read: {late}");
    let found = Found::new(
        &KIND,
        if p99 >= VERY_SLOW_US { Severity::Warning } else { Severity::Info },
        if holds { format!("Data waits long before it is read: {late}") } else { were.clone() },
        evidence,
        advice.clone(),
    );
    // It began when what waited longest came, not when it was read.
    let began_us = recent.filter(|_| holds).and_then(Histogram::max_us).unwrap_or(0);
    Some(found.holding(holds).lasting(began_us).remembered(p99 as f64, were, advice))
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
    fn it_holds_while_recent_reads_are_late() {
        let holds = |recent: &[(u64, u64)]| {
            let mut case = Case::new();
            case.listener.recent_distributions.residency = durations(recent);
            case.listener.distributions.residency = durations(&[(200_000, 20)]);
            let found = case.find(&KIND).unwrap();
            (found.holds, found.summary.starts_with("Data waits "))
        };
        assert_eq!(holds(&[(200_000, 1)]), (true, true));
        assert_eq!(holds(&[]), (false, false));
        assert_eq!(holds(&[(200, 30)]), (false, false));
    }

    #[test]
    fn it_began_when_the_longest_waiting_byte_came() {
        let lasted = |recent: &[(u64, u64)], all: &[(u64, u64)]| {
            let mut case = Case::new();
            case.listener.recent_distributions.residency = durations(recent);
            case.listener.distributions.residency = durations(all);
            case.find(&KIND).unwrap().for_us
        };
        let five = lasted(&[(200, 30), (5_000_000, 1)], &[]);
        assert!((4_500_000..=5_500_000).contains(&five), "{five}");
        assert_eq!(lasted(&[(200, 1)], &[(200_000, 30)]), 0, "it has passed");
    }

    #[test]
    fn the_accept_queue_is_fine_only_where_it_is() {
        let says = |wait_us, refused| {
            let mut case = Case::with(|case| residency(case, 200_000));
            case.listener.distributions.accept_wait = durations(&[(wait_us, 30)]);
            case.listener.drops.accept_queue_full_on_ack = Some(refused);
            case.find(&KIND).unwrap().advice.contains("leave backlog and acceptors alone")
        };
        assert_eq!([says(48_000, 0), says(52_000, 0), says(200, 1)], [true, false, false]);
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
            ("residency_p99_ms", 192.938),
            ("residency_p50_ms", 2.032),
            ("reads", 100.0),
            ("queued_bytes", 0.0),
            ("open_connections", 7.0),
        ];
        assert_eq!(found.evidence, figures);
        case.listener.now.open = None;
        case.listener.now.queued_bytes = None;
        assert_eq!(case.find(&KIND).unwrap().evidence.len(), 3);
        let past = found.past.unwrap().summary;
        assert!(past.starts_with("Data waited long before it was read: for 1 read in 100"), "{past}");
    }
}
