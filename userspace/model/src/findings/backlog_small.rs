//! The backlog is small against bursts: the queue fills up though accepting keeps pace.

use super::{FindingInput, FindingKind, Found, NO_BURST, duration, ms};
use crate::{catalogue::thresholds, model::Severity};

thresholds! {
    /// A queue whose mean depth is at most this share of its limit is drained well enough, so bursts filled it.
    CALM: f64 = 0.25, Share;
    /// Fewer points of history have no meaningful mean.
    MIN_POINTS: u64 = 4, Count;
    /// If 1 in 100 accepts waits longer than this, accepting is slow: that is no burst.
    PROMPT_US: u64 = 500_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "backlog_small",
    meaning: "The program keeps pace on average, but bursts do not fit into the queue. A larger backlog does help here.",
    when: "The peak reached the limit, but the mean depth over at least {MIN_POINTS} points of history is at most {CALM} of \
           the limit, and p99 of accept wait is at most {PROMPT_US}. Not beside a stall: accepts that fail, an acceptor that hangs, \
           is busy, starved or gone.",
    severity: "warning if the queue refused attempts, else info",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let peak = l.now.accept_peak?;
    // A queue that nobody empties is full whatever its length.
    if peak < l.now.limit || input.ever(NO_BURST) || input.beside("cpu_starved_acceptor") {
        return None;
    }
    let depths: Vec<f64> = l.history.points(input.timeline).map(|p| f64::from(p.accept_depth)).collect();
    if (depths.len() as u64) < MIN_POINTS {
        return None;
    }
    let mean = depths.iter().sum::<f64>() / depths.len() as f64;
    let waits = l.distributions.accept_wait.as_ref()?;
    let (wait, longest) = (waits.quantile_us(0.5)?, waits.quantile_us(0.99)?);
    if mean > CALM * f64::from(l.now.limit) || longest > PROMPT_US {
        return None;
    }
    let (refused, _) = input.refused_by_accept_queue();
    let found = Found::new(
        &KIND,
        if refused > 0 { Severity::Warning } else { Severity::Info },
        format!(
            "Bursts fill the accept queue (peak {peak}, limit {}), but on average it is nearly empty (mean depth {mean:.1}). \
             Half of the accepted connections waited {} or less.",
            l.now.limit,
            duration(wait)
        ),
        vec![
            ("peak", f64::from(peak)),
            ("limit", f64::from(l.now.limit)),
            ("mean_depth", mean),
            ("accept_wait_p50_ms", ms(wait)),
            ("refused", refused as f64),
        ],
        format!(
            "Raise the backlog: both the argument of listen() and net.core.somaxconn, which caps it silently. What counts is the \
             result, now {}; usual values of somaxconn are 128 and 4096. It takes effect when the program calls listen() again. \
             More acceptors are not needed for this.",
            l.now.backlog
        ),
    );
    Some(found.holding(l.now.recent_accept_peak.is_none_or(|peak| peak >= l.now.limit)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, durations, severities},
        *,
    };

    /// The limit is 80: what is a quarter of it is 20.
    fn burst() -> Case {
        Case::with(|case| {
            case.listener.now.backlog = 79;
            case.listener.now.limit = 80;
            case.listener.now.accept_peak = Some(80);
            case.listener.distributions.accept_wait = durations(&[(100, 10)]);
            case.depths([0, 0, 2, 0]);
        })
    }

    fn after(change: impl Fn(&mut Case)) -> Option<Severity> {
        let mut case = burst();
        change(&mut case);
        case.find(&KIND).map(|found| found.severity)
    }

    #[test]
    fn the_peak_reaches_the_limit() {
        let peak = |peak| after(|case| case.listener.now.accept_peak = peak);
        assert_eq!([Some(79), Some(80), Some(81), None].map(peak), [NONE, INFO, INFO, NONE]);
    }

    #[test]
    fn the_queue_is_nearly_empty_on_average() {
        // Means of 18, 20, 20.25 and 22.
        let depths = [[18, 18, 18, 18], [10, 30, 0, 40], [20, 20, 20, 21], [22, 22, 22, 22]];
        assert_eq!(depths.map(|depths| after(|case| case.depths(depths))), [INFO, INFO, NONE, NONE]);
    }

    #[test]
    fn four_points_have_a_mean() {
        assert_eq!([3, 4].map(|n| after(|case| case.depths(vec![1; n]))), [NONE, INFO]);
    }

    #[test]
    fn accepting_is_prompt() {
        // What is read are the middles of buckets: 486.5 and 520.1 ms.
        let wait = |us| after(|case| case.listener.distributions.accept_wait = durations(&[(100, 10), (us, 9)]));
        assert_eq!([486_000, 520_000].map(wait), [INFO, NONE]);
        assert_eq!(after(|case| case.listener.distributions.accept_wait = None), NONE);
    }

    #[test]
    fn a_queue_that_nobody_empties_needs_no_larger_backlog() {
        let mut case = burst();
        case.remember("hung_acceptor");
        assert_eq!(case.find(&KIND), None);
        let mut case = burst();
        case.remember("slow_accept");
        assert!(case.find(&KIND).is_some());
    }

    #[test]
    fn it_holds_while_the_recent_peak_reaches_the_limit() {
        let holds = |peak| {
            let mut case = burst();
            case.listener.now.recent_accept_peak = peak;
            case.find(&KIND).unwrap().holds
        };
        assert_eq!([Some(79), Some(80), None].map(holds), [false, true, true]);
    }

    #[test]
    fn it_is_a_warning_if_attempts_were_refused() {
        let refused = severities(
            &KIND,
            |case, (on_syn, on_ack)| {
                *case = burst();
                case.listener.drops.accept_queue_full_on_syn = on_syn;
                case.listener.drops.accept_queue_full_on_ack = on_ack;
            },
            [(Some(0), Some(0)), (Some(1), None), (None, Some(1))],
        );
        assert_eq!(refused, [INFO, WARNING, WARNING]);
    }

    #[test]
    fn what_it_reports() {
        let mut case = burst();
        case.listener.drops.accept_queue_full_on_syn = Some(2);
        case.listener.drops.accept_queue_full_on_ack = Some(3);
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Bursts fill the accept queue (peak 80, limit 80), but on average it is nearly empty (mean depth 0.5). Half of \
             the accepted connections waited 102 µs or less."
        );
        let figures =
            [("peak", 80.0), ("limit", 80.0), ("mean_depth", 0.5), ("accept_wait_p50_ms", 0.102), ("refused", 5.0)];
        assert_eq!(found.evidence, figures);
        assert!(found.advice.contains("now 79;"), "{}", found.advice);
    }
}
