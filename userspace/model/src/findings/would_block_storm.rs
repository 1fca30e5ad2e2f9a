//! Threads wake up for connections that others take.

use super::{FindingInput, plural};
use crate::model::{Finding, Role, Severity};

/// An event loop that accepts until EAGAIN makes one per wake-up, so up to one per accept is normal.
const PER_ACCEPT: f64 = 2.0;
/// Beyond this, most wake-ups of the server are in vain.
const BAD_PER_ACCEPT: f64 = 8.0;
/// Fewer per second cost nothing worth naming.
const MIN_PER_SECOND: f64 = 100.0;

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let (rate, accepts) = (l.rate.would_block?, l.rate.accepts?);
    let threads =
        l.threads.iter().filter(|t| t.would_block > 0 && !t.ended && t.roles.contains(&Role::Acceptor)).count();
    // One thread in vain is a poll loop, not a herd.
    if rate < MIN_PER_SECOND || rate < PER_ACCEPT * accepts || threads < 2 {
        return None;
    }
    let per_accept = if accepts > 0.0 { rate / accepts } else { f64::INFINITY };
    let mut evidence =
        vec![("would_block_per_second", rate), ("accepts_per_second", accepts), ("threads", threads as f64)];
    if per_accept.is_finite() {
        evidence.push(("would_block_per_accept", per_accept));
    }
    Some(Finding {
        id: "would_block_storm",
        severity: if per_accept >= BAD_PER_ACCEPT { Severity::Warning } else { Severity::Info },
        summary: format!(
            "{} wake up in vain: {rate:.0} accepts per second find nothing, {accepts:.0} find a connection.",
            plural(threads as u64, "thread")
        ),
        evidence,
        advice: "Let one thread wake per connection: EPOLLEXCLUSIVE, blocking accept (which wakes one), or a listener of its own for each \
                 thread (SO_REUSEPORT). More acceptors make it worse; the backlog has nothing to do with it."
            .to_owned(),
    })
}
