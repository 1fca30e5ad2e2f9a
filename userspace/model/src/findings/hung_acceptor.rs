//! Connections wait and nobody accepts.

use super::{FindingInput, HUNG_US, duration, plural};
use crate::model::{Finding, ListenerModel, Severity};

/// How long the oldest connection has waited, if that is too long and nothing was accepted lately.
pub(super) fn hung_us(l: &ListenerModel) -> Option<u64> {
    let oldest = l.now.oldest_waiting_us.filter(|us| *us > HUNG_US)?;
    (!l.closed && l.rate.accepts == Some(0.0)).then_some(oldest)
}

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let oldest = hung_us(l)?;
    if super::dead_shard::is_dead(input) {
        return None; // said there, with the rest of the group beside it
    }
    let last = l.threads.iter().find(|t| t.accepts > 0);
    let who = match last {
        Some(t) if t.ended => format!("{} (thread {}), which accepted before, has ended", t.comm, t.tid),
        Some(t) => format!("look where {} (thread {}), which accepted before, is stuck", t.comm, t.tid),
        None => "no thread was seen accepting".to_owned(),
    };
    let tid = last.map_or_else(|| "TID".to_owned(), |t| t.tid.to_string());
    Some(Finding {
        id: "hung_acceptor",
        severity: Severity::Critical,
        summary: format!(
            "Nothing was accepted for the last {:.1} s, while {} wait, the oldest for {}.",
            input.interval.recent_seconds,
            plural(l.now.accept_depth.into(), "connection"),
            duration(oldest)
        ),
        evidence: vec![
            ("oldest_waiting_ms", super::ms(oldest)),
            ("depth", f64::from(l.now.accept_depth)),
            ("limit", f64::from(l.now.limit)),
        ],
        advice: format!(
            "In the program, {who} (/proc/{tid}/stack, /proc/{tid}/wchan, a debugger): a lock, a blocking call, a descriptor limit. \
             A larger backlog changes nothing about it."
        ),
    })
}
