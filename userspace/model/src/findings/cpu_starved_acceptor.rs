//! A thread that accepts waits for a CPU.

use super::{FindingInput, FindingKind, Found, activity::Lately, duration, ms, percent, plural, stall};
use crate::{
    catalogue::thresholds,
    model::{Severity, ThreadModel},
    patterns,
};

thresholds! {
    /// Share of its time that the thread was ready to run but had no CPU. A thread among as many busy ones as there are
    /// CPUs stays far below.
    STARVED: f64 = 0.2, Share;
    /// A thread with this share of the accepts delays the listener noticeably.
    MAIN_ACCEPTOR: f64 = patterns::MAIN_ACCEPTOR, Share;
    /// Of many threads that accept, none has so much: this part of an equal share is enough.
    MAIN_PART: f64 = patterns::MAIN_PART, Share;
    /// The scheduler's own slices are several milliseconds: a shorter observation proves nothing.
    MIN_US: u64 = 500_000, Micros;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "cpu_starved_acceptor",
    meaning: "The accepting thread has work but no CPU: other threads, a cgroup limit or its priority keep it waiting. The \
              times are from `/proc/PID/task/TID/schedstat`.",
    when: "A living thread with {MAIN_ACCEPTOR} of the accepts, or {MAIN_PART} of an equal share, was ready to run but had no CPU \
           for {STARVED} of the time, observed for at least {MIN_US}: in the last seconds, or else over the interval.",
    severity: "warning",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

/// The times of a thread, in microseconds.
#[derive(Clone, Copy)]
struct Times {
    span: u64,
    queue: u64,
    cpu: u64,
}

impl Times {
    fn of(lately: Lately) -> Option<Self> {
        Some(Self { span: lately.span_us, queue: lately.run_queue_us?, cpu: lately.on_cpu_us? })
    }

    fn share(self) -> f64 {
        self.queue as f64 / self.span.max(1) as f64
    }

    fn starved(self) -> Option<Self> {
        (self.span >= MIN_US && self.share() >= STARVED).then_some(self)
    }
}

/// Whether a thread that did this lately waited for a CPU too long.
pub(super) fn is_starved(lately: Lately) -> bool {
    Times::of(lately).and_then(Times::starved).is_some()
}

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    // Shares are of the group. Its other shards have as many acceptors as this one, or so.
    let shards = input.group.map_or(1, |group| group.open.count);
    let acceptors = l.threads.iter().filter(|t| t.accepts > 0 && !t.ended).count() as u64 * shards;
    let is_main = |t: &ThreadModel| t.accept_share.is_some_and(|share| patterns::is_main_acceptor(share, acceptors));
    let main = || l.threads.iter().filter(|t| !t.ended && is_main(t));
    let recent = |t: &ThreadModel| Times::of(input.lately(t)?);
    let interval = |t: &ThreadModel| {
        let (cpu, queue, blocked) = (t.on_cpu_us?, t.run_queue_us?, t.blocked_us(&input.interval)?);
        Some(Times { span: cpu + queue + blocked, queue, cpu })
    };
    let worst = |times: &dyn Fn(&ThreadModel) -> Option<Times>| {
        let starved = main().filter_map(|t| Some((t, times(t)?.starved()?)));
        starved.max_by(|a, b| a.1.share().total_cmp(&b.1.share()))
    };
    let now = worst(&recent);
    // A thread of which the last seconds are not known may be waiting still.
    let (thread, times) = now.or_else(|| worst(&interval))?;
    let holds = now.is_some() || recent(thread).is_none_or(|times| times.span < MIN_US);
    let said = |verb| {
        format!(
            "{} {verb} connections, but waited for a CPU {} of the time ({} of {}).",
            stall::name(thread),
            percent(times.share()),
            duration(times.queue),
            duration(times.span)
        )
    };
    let advice = format!(
        "Give the thread CPU time: no more busy threads than {}, a higher cgroup cpu.max or cpu.weight, a lower nice value, or \
         a CPU of its own. More acceptors would compete for the same CPUs. A larger backlog only hides the problem.",
        plural(input.cpus.into(), "CPU")
    );
    let found = Found::new(
        &KIND,
        Severity::Warning,
        said(if holds { "accepts" } else { "accepted" }),
        vec![
            ("run_queue_share", times.share()),
            ("run_queue_ms", ms(times.queue)),
            ("on_cpu_ms", ms(times.cpu)),
            ("cpus", f64::from(input.cpus)),
        ],
        advice.clone(),
    );
    Some(found.holding(holds).remembered(times.share(), said("accepted"), advice))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, NONE, WARNING, severities},
        *,
    };

    /// Thread 1 made `accept_share` of the accepts; within 10 s it ran 1 s and waited for a CPU `queue_us`.
    fn waiting(case: &mut Case, (accept_share, queue_us): (f64, u64)) {
        let thread = &mut case.listener.threads[0];
        thread.accept_share = Some(accept_share);
        thread.on_cpu_us = Some(1_000_000);
        thread.run_queue_us = Some(queue_us);
    }

    #[test]
    fn a_fifth_of_the_time_is_too_much() {
        let found =
            severities(&KIND, waiting, [(1.0, 1_900_000), (1.0, 1_999_999), (1.0, 2_000_000), (1.0, 2_100_000)]);
        assert_eq!(found, [NONE, NONE, WARNING, WARNING]);
    }

    #[test]
    fn a_tenth_of_the_accepts_matters() {
        let found = severities(&KIND, waiting, [(0.095, 5_000_000), (0.1, 5_000_000), (0.105, 5_000_000)]);
        assert_eq!(found, [NONE, WARNING, WARNING]);
    }

    #[test]
    fn among_many_half_of_an_equal_share_matters() {
        let thirty = |case: &mut Case, share: f64| {
            let one = ThreadModel { accepts: 10, ..case.listener.threads[0].clone() };
            case.listener.threads = vec![one; 30];
            waiting(case, (share, 5_000_000));
        };
        // An equal share is a thirtieth.
        let found = severities(&KIND, thirty, [0.8 / 60.0, 0.99 / 60.0, 1.01 / 60.0, 1.0 / 30.0]);
        assert_eq!(found, [NONE, NONE, WARNING, WARNING]);
        // Of thirty that accepted, the others have ended.
        let last = |case: &mut Case, share: f64| {
            thirty(case, share);
            case.listener.threads[1..].iter_mut().for_each(|t| t.ended = true);
        };
        assert_eq!(severities(&KIND, last, [0.09, 0.1]), [NONE, WARNING]);
        // Thirty shards with a thread each.
        let shard = |case: &mut Case, share: f64| {
            case.shard().count = 30;
            case.listener.threads.truncate(1);
            case.listener.threads[0].accepts = 10;
            waiting(case, (share, 5_000_000));
        };
        assert_eq!(severities(&KIND, shard, [0.99 / 60.0, 1.01 / 60.0]), [NONE, WARNING]);
    }

    #[test]
    fn the_last_seconds_tell_whether_it_holds() {
        let lately = |queue_us: u64| {
            let mut case = Case::with(|case| waiting(case, (1.0, 5_000_000)));
            case.listener.threads[0].accepts = 1;
            case.observe(3);
            case.listener.threads[0].run_queue_us = Some(5_000_000 + queue_us);
            let found = case.find(&KIND).unwrap();
            (found.holds, found.summary)
        };
        let (holds, summary) = lately(600_000);
        assert!(holds, "{summary}");
        assert!(
            summary.ends_with(" accepts connections, but waited for a CPU 20% of the time (600.0 ms of 3.0 s)."),
            "{summary}"
        );
        let (holds, summary) = lately(590_000);
        assert!(!holds, "{summary}");
        assert!(
            summary.ends_with(" accepted connections, but waited for a CPU 56% of the time (5.6 s of 10.0 s)."),
            "{summary}"
        );
    }

    #[test]
    fn half_a_second_must_have_been_observed() {
        let found = severities(
            &KIND,
            |case, span_us| {
                waiting(case, (1.0, span_us / 2));
                let thread = &mut case.listener.threads[0];
                thread.on_cpu_us = Some(span_us / 4);
                thread.known_from_us = 10_000_000 - span_us;
            },
            [480_000, 499_999, 500_000, 520_000],
        );
        assert_eq!(found, [NONE, NONE, WARNING, WARNING]);
    }

    #[test]
    fn a_thread_that_ended_or_whose_times_are_unknown_is_left_out() {
        let without = |change: fn(&mut ThreadModel)| {
            let mut case = Case::with(|case| waiting(case, (1.0, 5_000_000)));
            change(&mut case.listener.threads[0]);
            case.find(&KIND)
        };
        assert!(without(|_| {}).is_some());
        assert_eq!(without(|t| t.ended = true), None);
        assert_eq!(without(|t| t.on_cpu_us = None), None);
        assert_eq!(without(|t| t.run_queue_us = None), None);
        assert_eq!(without(|t| t.accept_share = None), None);
    }

    #[test]
    fn it_reports_the_thread_that_waited_most() {
        let mut case = Case::with(|case| waiting(case, (0.5, 2_500_000)));
        case.listener.threads[1] = ThreadModel {
            tid: 7,
            accept_share: Some(0.5),
            on_cpu_us: Some(1_500_000),
            run_queue_us: Some(4_000_000),
            ..case.listener.threads[1].clone()
        };
        case.cpus = 2;
        let found = case.find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "srv (thread 7) accepts connections, but waited for a CPU 40% of the time (4.0 s of 10.0 s)."
        );
        let figures = [("run_queue_share", 0.4), ("run_queue_ms", 4_000.0), ("on_cpu_ms", 1_500.0), ("cpus", 2.0)];
        assert_eq!(found.evidence, figures);
        assert!(found.advice.contains("than 2 CPUs"), "{}", found.advice);
        case.cpus = 1;
        assert!(case.find(&KIND).unwrap().advice.contains("than 1 CPU,"));
    }
}
