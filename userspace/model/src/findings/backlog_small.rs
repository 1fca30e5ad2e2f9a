//! The backlog is small against bursts: the queue fills up though accepting keeps pace.

use super::{FindingInput, duration, ms};
use crate::model::{Finding, Severity};

/// A queue whose mean depth is below this share of its limit is drained well enough.
const CALM: f64 = 0.25;
/// Fewer points of history show no mean.
const MIN_POINTS: usize = 4;
/// Half of the accepts waiting longer than this is slow accepting, not a burst.
const PROMPT_US: u64 = 20_000;

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let peak = l.now.accept_peak?;
    if peak < l.now.limit {
        return None;
    }
    let depths: Vec<f64> = l.history.points(input.timeline).map(|p| f64::from(p.accept_depth)).collect();
    if depths.len() < MIN_POINTS {
        return None;
    }
    let mean = depths.iter().sum::<f64>() / depths.len() as f64;
    let wait = l.distributions.accept_wait.as_ref()?.quantile_us(0.5)?;
    if mean > CALM * f64::from(l.now.limit) || wait > PROMPT_US {
        return None;
    }
    let refused = l.drops.accept_queue_full_on_syn.unwrap_or(0) + l.drops.accept_queue_full_on_ack.unwrap_or(0);
    Some(Finding {
        id: "backlog_small",
        severity: if refused > 0 { Severity::Warning } else { Severity::Info },
        summary: format!(
            "Bursts fill the accept queue (peak {peak} of {}), though it is nearly empty on average (mean depth {mean:.1}) and \
             half of the accepts wait no more than {}.",
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
            "Raise the backlog: the argument of listen() and net.core.somaxconn, which cuts it silently (the result, {}, is what \
             counts; 128 and 4096 are usual values of somaxconn). It takes effect when the program calls listen() again. More \
             acceptors are not needed for this.",
            l.now.backlog
        ),
    })
}
