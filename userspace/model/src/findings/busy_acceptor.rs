//! Connections wait long because the threads that accept have other work.

use super::{
    FindingInput, FindingKind, Found, duration, ms,
    stall::{self, Why},
};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "busy_acceptor",
    meaning: "The thread that accepts works on, but too much for it comes: it is overloaded, or a slow call blocks its event loop \
              again and again. It is not stuck.",
    when: "The oldest connection has waited longer than {HUNG_US}, and not less than the recent span, no accept failed, and an acceptor accepted, read or wrote in \
           the recent span, or used {BUSY_CPU} of a CPU since (by its state, or {CPU_TELLS_US} after the last accept). Of a thread whose state \
           cannot be read it counts, too, that it waits for a CPU as in `cpu_starved_acceptor`. It may pause: when it \
           worked after a connection had waited for {HUNG_US}, it is busy for {HOLD_US} more, unless it was stopped. What came while nobody accepted waits for that reason, also while it is \
           accepted one after the other.",
    severity: "critical",
    follows_from: &["cpu_starved_acceptor", "acceptor_imbalance", "shard_imbalance"],
    thresholds: stall::THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let stall = input.stalled(Why::Busy)?;
    // What came while nobody accepted waits for that reason, also while it is accepted one after the other. An acceptor
    // that stops again meanwhile, or does something else, is busy.
    let began_us = input.now_us() as i64 - stall.oldest_us as i64;
    if stall.at_work
        && l.rate.accepts > Some(0.0)
        && input.memory.held_since(super::STANDSTILLS, began_us)
        && !input.memory.held_since(&[KIND.id], began_us)
    {
        return None;
    }
    let busiest =
        input.acceptors().find(|t| input.works_since(t, stall.oldest_us)).or_else(|| input.acceptors().next());
    let [now, then] = stall::waiting(l.now.accept_depth, stall.oldest_us);
    let paused_us = input.without_work_us().filter(|_| !stall.at_work);
    let (doing, did) = if let (Some(t), Some(ago)) = (busiest, paused_us) {
        let (name, ago) = (stall::name(t), duration(ago));
        (format!(" {name} pauses: it was at work in the last {ago}."), format!(" {name} worked now and then."))
    } else if let Some(t) = busiest {
        let (name, work) = (stall::name(t), input.work(t));
        (format!(" {name} goes on working: {work}."), format!(" {name} went on working: {work}."))
    } else {
        let rate = format!("{:.1} connections are accepted per second.", l.rate.accepts.unwrap_or(0.0));
        (format!(" {rate}"), format!(" {}", rate.replace(" are ", " were ")))
    };
    let mut evidence = vec![
        ("oldest_waiting_ms", ms(stall.oldest_us)),
        ("depth", f64::from(l.now.accept_depth)),
        ("accepts_per_second", l.rate.accepts.unwrap_or(0.0)),
    ];
    evidence.extend(l.rate.reads.map(|rate| ("reads_per_second", rate)));
    evidence.extend(l.rate.writes.map(|rate| ("writes_per_second", rate)));
    evidence.extend(busiest.and_then(|t| input.lately(t)?.on_cpu()).map(|share| ("on_cpu_share", share)));
    let profile = busiest.map_or(String::new(), |t| {
        format!(" To see what takes its time: perf top -t {tid}, or strace -c -p {tid}.", tid = t.tid)
    });
    let advice = format!(
        "Do less on the thread that accepts: move slow work and blocking calls to other threads, make requests cheaper, or add \
         acceptors. The clients wait for its work, not for a larger backlog, which would only lengthen the wait.{profile}"
    );
    Some(
        Found::new(
            &KIND,
            Severity::Critical,
            format!("{}, though the program works.{doing}", capital(&now)),
            evidence,
            advice.clone(),
        )
        .lasting(stall.oldest_us)
        .remembered(
            stall.oldest_us as f64,
            format!("{}, though the program worked.{did}", capital(&then)),
            advice,
        ),
    )
}

/// With a capital letter, as a sentence begins.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Memory, find as find_all, hung_acceptor,
            support::{CRITICAL, Case, NONE, severities},
        },
        *,
    };
    use crate::fixtures;

    /// Thread 1 accepts for the listener, at which a connection waits; per second it accepts and reads so often.
    fn works(case: &mut Case, (oldest_us, accepts, reads): (u64, f64, f64)) {
        let l = &mut case.listener;
        l.now.accept_depth = 4;
        l.now.oldest_waiting_us = Some(oldest_us);
        l.rate.accepts = Some(accepts);
        l.rate.reads = Some(reads);
        l.rate.writes = Some(reads);
        l.threads[0].accepts = 9;
        l.threads[0].accepts_per_second = accepts;
        l.threads[0].reads_per_second = reads;
    }

    #[test]
    fn a_second_is_too_long_also_if_it_works() {
        let found = severities(&KIND, works, [(1_000_000, 2.0, 9.0), (1_000_001, 2.0, 9.0), (1_000_001, 0.0, 9.0)]);
        assert_eq!(found, [NONE, CRITICAL, CRITICAL]);
    }

    #[test]
    fn a_thread_that_does_nothing_is_not_busy_and_one_that_works_does_not_hang() {
        for (reads, kind, other) in [(0.0, &hung_acceptor::KIND, &KIND), (0.5, &KIND, &hung_acceptor::KIND)] {
            let case = Case::with(|case| works(case, (3_000_000, 0.0, reads)));
            assert!(case.find(kind).is_some() && case.find(other).is_none(), "{reads} reads");
        }
    }

    #[test]
    fn writes_are_work() {
        let mut case = Case::with(|case| works(case, (3_000_000, 0.0, 0.0)));
        case.observe(1);
        case.listener.threads[0].writes = 1;
        assert!(case.find(&KIND).is_some());
    }

    #[test]
    fn a_write_before_the_oldest_came_is_not_the_stalls() {
        // It was looked at 1.5 s and 1 s ago, and wrote in between. The recent span is 1 s.
        for (oldest_us, wrote_later, busy) in [(1_400_000, 0, false), (1_600_000, 0, true), (1_400_000, 1, true)] {
            let mut case = Case::with(|case| works(case, (oldest_us, 0.0, 0.0)));
            case.interval.recent_seconds = 1.2;
            case.observe_us(1_500_000);
            case.listener.threads[0].writes = 1;
            case.observe_us(1_000_000);
            case.listener.threads[0].writes += wrote_later;
            let found = [&KIND, &hung_acceptor::KIND].map(|kind| case.find(kind).is_some());
            assert_eq!(found, [busy, !busy], "{oldest_us} {wrote_later}");
        }
    }

    #[test]
    fn cpu_time_is_work_once_it_is_the_stalls() {
        // The last accept was so many seconds ago; since 3 s ago, or 2, it has used so much of a CPU.
        let share = |case: &mut Case, (quiet_seconds, since, share): (u64, u64, f64)| {
            works(case, (3_000_000, 0.0, 0.0));
            case.quiet(quiet_seconds);
            let used = case.listener.threads[0].on_cpu_us.unwrap();
            case.observe(since);
            case.listener.threads[0].on_cpu_us = Some(used + (2e6 * share) as u64);
            if since > 2 {
                case.observe(2);
            }
        };
        let cases = [(3, 2, 0.049), (3, 2, 0.05), (2, 2, 0.5), (3, 3, 0.5)];
        assert_eq!(severities(&KIND, share, cases), [NONE, CRITICAL, NONE, NONE]);
    }

    /// The acceptor worked in the stall, and pauses; the recent span is 3 s.
    fn pauses(seen_seconds_ago: f64, state: Option<&str>) -> Case {
        let mut case = Case::with(|case| works(case, (9_000_000, 0.0, 0.5)));
        let (mut memory, now) = (Memory::default(), case.interval.seconds);
        case.interval.recent_seconds = 3.0;
        find_all(&case.input(), &mut memory);
        case.memory = memory;
        case.listener.threads[0].reads_per_second = 0.0;
        case.listener.threads[0].state =
            state.map(|letter| fixtures::thread_state(letter.chars().next().unwrap(), "", ""));
        case.interval.seconds = now + seen_seconds_ago;
        case
    }

    #[test]
    fn a_pause_is_not_the_end_of_its_work() {
        let found = |seconds, state| {
            let case = pauses(seconds, state);
            [&KIND, &hung_acceptor::KIND].map(|kind| case.find(kind).is_some())
        };
        assert_eq!(found(1.0, None), [true, false]);
        assert_eq!(found(2.0, Some("S")), [true, false], "five seconds after it worked, at most");
        assert_eq!(found(2.1, Some("S")), [false, true]);
        assert_eq!(found(1.0, Some("T")), [false, true], "a stopped thread does not go on by itself");
        let summary = pauses(1.0, None).find(&KIND).unwrap().summary;
        assert!(summary.ends_with("works. srv (thread 1) pauses: it was at work in the last 4.0 s."), "{summary}");
    }

    /// At the edge of the recent span its last work may be as old as the oldest connection.
    #[test]
    fn work_with_which_the_stall_began_is_no_reason_to_wait() {
        for (oldest_us, waits) in [(3_900_000, false), (4_000_000, true)] {
            let mut case = Case::with(|case| works(case, (oldest_us, 0.0, 0.5)));
            case.interval.recent_seconds = 3.0;
            let mut memory = Memory::default();
            find_all(&case.input(), &mut memory);
            assert_eq!(memory.seen_at_work_us_ago(case.input().now_us()).is_some(), waits, "{oldest_us}");
        }
    }

    #[test]
    fn work_before_the_oldest_came_is_not_the_stalls() {
        let mut case = pauses(1.0, None);
        case.listener.now.oldest_waiting_us = Some(3_900_000);
        assert!(case.find(&KIND).is_none() && case.find(&hung_acceptor::KIND).is_some());
    }

    /// While it takes what came in a standstill, that is over; if it does other work instead, it is busy.
    #[test]
    fn a_standstill_ends_with_accepts() {
        let after = |accepts, reads, ids: &[&str]| {
            let mut case = Case::with(|case| works(case, (9_000_000, 0.0, 0.0)));
            ids.iter().for_each(|id| case.held(id));
            works(&mut case, (9_000_000, accepts, reads));
            case.find(&KIND).is_some()
        };
        assert!(!after(2.0, 2.0, &["hung_acceptor"]));
        assert!(after(0.0, 2.0, &["hung_acceptor"]), "it reads, and accepts nothing");
        assert!(after(2.0, 2.0, &["hung_acceptor", "busy_acceptor"]), "it accepts now and then");
        assert!(after(2.0, 2.0, &[]));
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| works(case, (2_300_000, 0.4, 10.0))).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "4 connections wait, the oldest for 2.3 s, though the program works. srv (thread 1) goes on working: under 1 \
             accept, 10 reads and 0 writes per second."
        );
        let figures = [
            ("oldest_waiting_ms", 2_300.0),
            ("depth", 4.0),
            ("accepts_per_second", 0.4),
            ("reads_per_second", 10.0),
            ("writes_per_second", 10.0),
        ];
        assert_eq!(found.evidence, figures);
        assert!(found.advice.ends_with("perf top -t 1, or strace -c -p 1."), "{}", found.advice);
        let past = found.past.unwrap().summary;
        assert!(
            past.starts_with("4 connections waited, the oldest for 2.3 s, though the program worked. srv"),
            "{past}"
        );
        let mut unnamed = Case::with(|case| works(case, (2_300_000, 0.4, 10.0)));
        unnamed.listener.threads.clear();
        let unnamed = unnamed.find(&KIND).unwrap().summary;
        assert!(unnamed.ends_with("works. 0.4 connections are accepted per second."), "{unnamed}");
    }
}
