//! Connections wait and nobody accepts.

use super::{
    FindingInput, FindingKind, Found, duration,
    likely::Likely,
    ms,
    stall::{self, Why},
    taken,
};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "hung_acceptor",
    meaning: "The accepting thread hangs: every server pauses, but not for this long with work waiting. A thread that goes on \
              working is busy (`busy_acceptor`).",
    when: "The oldest connection has waited longer than {HUNG_US}, nothing was accepted in the recent span, no accept failed, \
           and no acceptor read, wrote or used a CPU meanwhile. Where several accept, all are known and each is in the work of a \
           client (asleep elsewhere than in accept, epoll, io_uring or a futex, or running), it says that all are taken.",
    severity: "critical",
    follows_from: &[],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let hung = input.stalled(Why::Stuck)?;
    // A critical finding gives way to nothing less, nor to anything that may end before it does: clients wait
    // meanwhile.
    if input.is_dead_shard() {
        return None; // `dead_shard` reports it for as long, and compares it with the rest of the group
    }
    let quiet = input.quiet_us();
    let (thread, ended) =
        (input.acceptors().next(), l.threads.iter().find(|t| t.ended && t.accepts > 0 && t.summed.is_none()));
    let taken = taken::all(input);
    // Nobody was seen accepting: who should can be inferred.
    let likely = Likely::of(input);
    let [state, was] = match (&taken, thread, &likely) {
        (Some(taken), ..) => [&taken.now, &taken.then].map(|text| format!(" {text}")),
        (None, Some(t), _) => ["is", "was"].map(|verb| {
            stall::whereabouts(t).map_or(String::new(), |place| format!(" {} {verb} {place}.", stall::name(t)))
        }),
        (None, None, Some(likely)) => likely.state(),
        (None, None, None) => [String::new(), String::new()],
    };
    let advice = match (&taken, thread, ended) {
        (Some(taken), ..) => taken.advice.clone(),
        (None, Some(t), _) => format!(
            "{} accepted before, and does nothing now. {} Usual causes are a lock, a blocking call or a stopped process.",
            stall::name(t),
            stall::look(t)
        ),
        (None, None, Some(t)) => {
            format!("{}, which accepted before, has ended: find out why (logs, core dumps).", stall::name(t))
        }
        (None, None, None) => likely.as_ref().map_or_else(
            || {
                format!(
                    "No thread was seen accepting in the interval. {} Usual causes are a lock, a blocking call or a stopped \
                     process.",
                    stall::look_at_owner(l)
                )
            },
            Likely::advice,
        ),
    };
    let [now, then] = stall::waiting(l.now.accept_depth, hung.oldest_us);
    let mut evidence = vec![
        ("oldest_waiting_ms", ms(hung.oldest_us)),
        ("without_accept_ms", ms(quiet)),
        ("depth", f64::from(l.now.accept_depth)),
        ("limit", f64::from(l.now.limit)),
    ];
    evidence.extend(likely.as_ref().map(Likely::evidence));
    Some(
        Found::new(
            &KIND,
            Severity::Critical,
            format!("Nothing was accepted for {}, while {now}.{state}", duration(quiet)),
            evidence,
            format!("{advice} A larger backlog changes nothing."),
        )
        .lasting(hung.oldest_us)
        .remembered(
            hung.oldest_us as f64,
            format!("Nothing was accepted for {}, while {then}.{was}", duration(quiet)),
            match thread.filter(|_| taken.is_none()) {
                Some(t) => format!(
                    "What {} did at that time its log shows, or a tracer that runs when it happens again: perf trace -p {}. A larger \
                     backlog changes nothing.",
                    stall::name(t),
                    t.pid
                ),
                None => format!("{advice} A larger backlog changes nothing."),
            },
        ),
    )
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
        let case = Case::with(|case| waiting(case, 1_500_000));
        let found = case.find(&KIND).unwrap();
        assert_eq!(found.summary, "Nothing was accepted for 10.0 s, while 4 connections wait, the oldest for 1.5 s.");
        let figures =
            [("oldest_waiting_ms", 1_500.0), ("without_accept_ms", 10_000.0), ("depth", 4.0), ("limit", 17.0)];
        assert_eq!(found.evidence, figures);
        assert!(found.advice.starts_with("No thread was seen accepting in the interval."), "{}", found.advice);
        let one = Case::with(|case| {
            waiting(case, 1_500_000);
            case.listener.now.accept_depth = 1;
        });
        let one = one.find(&KIND).unwrap().summary;
        assert!(one.ends_with(" while 1 connection waits, for 1.5 s."), "{one}");
        let past = found.past.unwrap();
        assert_eq!(past.summary, "Nothing was accepted for 10.0 s, while 4 connections waited, the oldest for 1.5 s.");
    }

    #[test]
    fn it_names_the_thread_that_accepted() {
        let mut case = Case::with(|case| waiting(case, 1_500_000));
        case.listener.threads[1].accepts = 1;
        let advice = case.find(&KIND).unwrap().advice;
        assert!(
            advice.starts_with("srv (thread 2) accepted before, and does nothing now. Look: strace -p 2, "),
            "{advice}"
        );
        case.listener.threads[1].ended = true;
        let advice = case.find(&KIND).unwrap().advice;
        assert!(advice.contains("srv (thread 2), which accepted before, has ended"), "{advice}");
    }
}
