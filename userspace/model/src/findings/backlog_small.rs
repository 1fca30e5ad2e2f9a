//! The backlog is small against bursts: the queue fills up though accepting keeps pace.

use super::{FindingInput, FindingKind, duration, ms};
use crate::{
    catalogue::thresholds,
    model::{Finding, Severity},
};

thresholds! {
    /// A queue whose mean depth is at most this share of its limit is drained well enough, so bursts filled it.
    CALM: f64 = 0.25, Share;
    /// Fewer points of history have no meaningful mean.
    MIN_POINTS: u64 = 4, Count;
    /// If half of the accepts wait longer than this, accepting is slow: that is no burst.
    PROMPT_US: u64 = 20_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "backlog_small",
    meaning: "The program keeps pace on average, but bursts do not fit into the queue. A larger backlog does help here.",
    when: "The peak reached the limit, but the mean depth over at least {MIN_POINTS} points of history is at most {CALM} of \
           the limit, and half of the accepts waited at most {PROMPT_US}.",
    severity: "warning if the queue refused attempts, else info",
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let peak = l.now.accept_peak?;
    if peak < l.now.limit {
        return None;
    }
    let depths: Vec<f64> = l.history.points(input.timeline).map(|p| f64::from(p.accept_depth)).collect();
    if (depths.len() as u64) < MIN_POINTS {
        return None;
    }
    let mean = depths.iter().sum::<f64>() / depths.len() as f64;
    let wait = l.distributions.accept_wait.as_ref()?.quantile_us(0.5)?;
    if mean > CALM * f64::from(l.now.limit) || wait > PROMPT_US {
        return None;
    }
    let refused = l.drops.accept_queue_full_on_syn.unwrap_or(0) + l.drops.accept_queue_full_on_ack.unwrap_or(0);
    Some(Finding {
        id: KIND.id,
        severity: if refused > 0 { Severity::Warning } else { Severity::Info },
        summary: format!(
            "Bursts fill the accept queue (peak {peak}, limit {}), but on average it is nearly empty (mean depth {mean:.1}). \
             Half of the accepted connections waited {} or less.",
            l.now.limit,
            duration(wait)
        ),
        evidence: vec![
            ("peak", f64::from(peak)),
            ("limit", f64::from(l.now.limit)),
            ("mean_depth", mean),
            ("accept_wait_p50_ms", ms(wait)),
            ("refused", refused as f64),
        ],
        advice: format!(
            "Raise the backlog: both the argument of listen() and net.core.somaxconn, which caps it silently. What counts is the \
             result, now {}; usual values of somaxconn are 128 and 4096. It takes effect when the program calls listen() again. \
             More acceptors are not needed for this.",
            l.now.backlog
        ),
    })
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
        // What is read are the middles of buckets: 19.9 ms and 22.0 ms.
        let wait = |us| after(|case| case.listener.distributions.accept_wait = durations(&[(us, 10), (us * 9, 9)]));
        assert_eq!([19_900, 21_500].map(wait), [INFO, NONE]);
        assert_eq!(after(|case| case.listener.distributions.accept_wait = None), NONE);
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
