//! Connections wait and nobody accepts.

use super::{FindingInput, FindingKind, agree, duration, ms, plural};
use crate::model::{Finding, Severity};

pub(super) const KIND: FindingKind = FindingKind {
    id: "hung_acceptor",
    meaning: "The accepting thread hangs: every server pauses, but not for this long with work waiting.",
    when: "The oldest connection has waited longer than {HUNG_US}, and nothing was accepted in the recent span.",
    severity: "critical",
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Finding> {
    let l = input.listener;
    let oldest = input.hung_us()?;
    if input.is_dead_shard() {
        return None; // `dead_shard` reports it, and compares it with the rest of the group
    }
    let last = l.threads.iter().find(|t| t.accepts > 0);
    let who = match last {
        Some(t) if t.ended => format!("{} (thread {}), which accepted before, has ended", t.comm, t.tid),
        Some(t) => format!("find out where {} (thread {}), which accepted before, is stuck", t.comm, t.tid),
        None => "no thread was seen accepting".to_owned(),
    };
    let tid = last.map_or_else(|| "TID".to_owned(), |t| t.tid.to_string());
    let waiting = u64::from(l.now.accept_depth);
    Some(Finding {
        id: KIND.id,
        severity: Severity::Critical,
        summary: format!(
            "Nothing was accepted in the last {:.1} s, while {} {}, the oldest for {}.",
            input.interval.recent_seconds,
            plural(waiting, "connection"),
            agree(waiting, "waits", "wait"),
            duration(oldest)
        ),
        evidence: vec![
            ("oldest_waiting_ms", ms(oldest)),
            ("depth", f64::from(l.now.accept_depth)),
            ("limit", f64::from(l.now.limit)),
        ],
        advice: format!(
            "In the program, {who} (/proc/{tid}/stack, /proc/{tid}/wchan, a debugger). Usual causes are a lock, a blocking call or a \
             descriptor limit. A larger backlog changes nothing."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{CRITICAL, Case, NONE, severities},
        *,
    };

    fn waiting(case: &mut Case, oldest_us: u64) {
        case.listener.now.accept_depth = 4;
        case.listener.now.oldest_waiting_us = Some(oldest_us);
    }

    #[test]
    fn a_second_is_too_long() {
        let found = severities(&KIND, waiting, [950_000, 1_000_000, 1_000_001, 1_050_000]);
        assert_eq!(found, [NONE, NONE, CRITICAL, CRITICAL]);
    }

    #[test]
    fn one_that_accepts_is_closed_or_cannot_be_measured_does_not_hang() {
        let with = |change: fn(&mut Case)| {
            let mut case = Case::with(|case| waiting(case, 3_000_000));
            change(&mut case);
            case.find(&KIND)
        };
        assert!(with(|_| {}).is_some());
        assert_eq!(with(|case| case.listener.rate.accepts = Some(0.5)), None);
        assert_eq!(with(|case| case.listener.rate.accepts = None), None);
        assert_eq!(with(|case| case.listener.closed = true), None);
        assert_eq!(with(|case| case.listener.now.oldest_waiting_us = None), None);
    }

    #[test]
    fn what_it_reports() {
        let mut case = Case::with(|case| waiting(case, 1_500_000));
        case.interval.recent_seconds = 1.0;
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "Nothing was accepted in the last 1.0 s, while 4 connections wait, the oldest for 1.5 s."
        );
        assert_eq!(found.evidence, [("oldest_waiting_ms", 1_500.0), ("depth", 4.0), ("limit", 17.0)]);
        assert!(found.advice.contains("no thread was seen accepting (/proc/TID/stack, "), "{}", found.advice);
        case.listener.now.accept_depth = 1;
        let one = case.find(&KIND).unwrap().summary;
        assert!(one.contains("1 connection waits, "), "{one}");
    }

    #[test]
    fn it_names_the_thread_that_accepted() {
        let mut case = Case::with(|case| waiting(case, 1_500_000));
        case.listener.threads[1].accepts = 1;
        let advice = case.find(&KIND).unwrap().advice;
        assert!(
            advice.contains("find out where srv (thread 2), which accepted before, is stuck (/proc/2/stack, "),
            "{advice}"
        );
        case.listener.threads[1].ended = true;
        let advice = case.find(&KIND).unwrap().advice;
        assert!(advice.contains("srv (thread 2), which accepted before, has ended"), "{advice}");
    }
}
