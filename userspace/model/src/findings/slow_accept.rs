//! Connections wait long to be accepted, though the queue does not overflow.

use super::{FindingInput, duration, ms, telling};
use crate::model::{Finding, Severity};

/// People notice 100 ms; here half of that is gone before the program knows of the client.
const SLOW_US: u64 = 50_000;
/// Past half a second, clients with a timeout of one second are in danger.
const VERY_SLOW_US: u64 = 500_000;

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let refused = l.drops.accept_queue_full_on_syn.unwrap_or(0) + l.drops.accept_queue_full_on_ack.unwrap_or(0);
    let wait = telling(&l.recent_distributions.accept_wait, &l.distributions.accept_wait)?;
    let (p50, p99) = (wait.quantile_us(0.5)?, wait.quantile_us(0.99)?);
    if refused > 0 || p99 < SLOW_US {
        return None;
    }
    Some(Finding {
        id: "slow_accept",
        severity: if p99 >= VERY_SLOW_US { Severity::Warning } else { Severity::Info },
        summary: format!(
            "Connections wait long to be accepted: half of them {}, one in a hundred {} or more, without any refused.",
            duration(p50),
            duration(p99)
        ),
        evidence: vec![
            ("accept_wait_p50_ms", ms(p50)),
            ("accept_wait_p99_ms", ms(p99)),
            ("accepts", wait.count() as f64),
            ("depth", f64::from(l.now.accept_depth)),
        ],
        advice: "The thread that accepts does something else first: long requests in the event loop, a blocking call, or no CPU. Move \
                 that work elsewhere or add acceptors. A larger backlog would only lengthen the wait."
            .to_owned(),
    })
}
