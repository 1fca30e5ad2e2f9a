//! A thread that accepts waits for a CPU.

use super::{FindingInput, duration, percent};
use crate::model::{Finding, Severity};

/// Share of the time observed in which the thread was ready to run and did not.
const STARVED: f64 = 0.2;
/// Share of the accepts that makes a thread's delay the listener's.
const MAIN_ACCEPTOR: f64 = 0.1;
/// Less time observed than this says nothing: the scheduler's own slices are several milliseconds.
const MIN_US: u64 = 500_000;

pub(super) fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let starved = |t: &&crate::model::ThreadModel| {
        let (cpu, queue, blocked) = (t.on_cpu_us?, t.run_queue_us?, t.blocked_us(&input.interval)?);
        let span = cpu + queue + blocked;
        let share = queue as f64 / span.max(1) as f64;
        let accepts = !t.ended && t.accept_share.is_some_and(|s| s >= MAIN_ACCEPTOR);
        (accepts && span >= MIN_US && share >= STARVED).then_some(share)
    };
    let (thread, share) =
        l.threads.iter().filter_map(|t| starved(&t).map(|s| (t, s))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let queue = thread.run_queue_us?;
    Some(Finding {
        id: "cpu_starved_acceptor",
        severity: Severity::Warning,
        summary: format!(
            "{} (thread {}), which accepts, spent {} ({}) ready to run but without a CPU.",
            thread.comm,
            thread.tid,
            percent(share),
            duration(queue)
        ),
        evidence: vec![
            ("run_queue_share", share),
            ("run_queue_ms", super::ms(queue)),
            ("on_cpu_ms", super::ms(thread.on_cpu_us.unwrap_or(0))),
            ("cpus", f64::from(input.cpus)),
        ],
        advice: format!(
            "Give it CPU time: fewer busy threads than the {} CPUs, a higher cgroup cpu.max or cpu.weight, a lower nice value, or an \
             own CPU. More acceptors would compete for the same CPUs; the backlog only hides it.",
            input.cpus
        ),
    })
}
