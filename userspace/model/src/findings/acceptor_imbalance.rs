//! One of several acceptors of a socket takes far more connections than the others, and has no time left.

use super::{FindingInput, FindingKind, Found, percent, plural, stall};
use crate::{
    catalogue::thresholds,
    model::{Severity, ThreadModel},
    words::prose::grouped,
};

thresholds! {
    /// Accepts per acceptor, on average. With fewer, a random spread is uneven by itself.
    MIN_PER_ACCEPTOR: u64 = 100, Count;
    /// Times its equal share: more than chance gives any acceptor.
    UNEVEN: f64 = 2.0, Times;
    /// Of two acceptors the busiest has at most twice its share, if it has all connections. This share is enough.
    OF_TWO: f64 = 0.9, Share;
    /// Share of a CPU that the busiest takes. With less it has time for more: epoll wakes the same worker first, so a
    /// server at ease is uneven, and nobody suffers.
    LOADED: f64 = 0.6, Share;
    /// The others take at most this part of what it takes.
    IDLE: f64 = 0.5, Share;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "acceptor_imbalance",
    meaning: "One of the threads or processes that accept from this socket gets most of the connections, and is near the limit of what \
              one CPU does, while the others have time: clients wait, though the server could do more.",
    when: "The busiest living acceptor got {UNEVEN} times its equal share for the time that it lived, or {OF_TWO} of two; on average \
           there were at least {MIN_PER_ACCEPTOR} accepts for each. It took {LOADED} of a CPU in the last seconds, the others at \
           most {IDLE} of that each.",
    severity: "warning if the accept queue refused attempts in the recent span, else info",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let acceptors: Vec<&ThreadModel> = input.acceptors().collect();
    let count = acceptors.len() as u64;
    let accepts: u64 = acceptors.iter().map(|t| t.accepts).sum();
    if count < 2 || accepts < MIN_PER_ACCEPTOR * count {
        return None;
    }
    // Those that began later have had less time.
    let now_us = input.now_us();
    let rate = |t: &ThreadModel| t.accepts as f64 / now_us.saturating_sub(t.known_from_us).max(1) as f64;
    let all: f64 = acceptors.iter().map(|t| rate(t)).sum();
    let busiest = acceptors.iter().copied().max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
    let times = rate(busiest) * count as f64 / all;
    if times < UNEVEN.min(count as f64 * OF_TWO) {
        return None;
    }
    let cpu = |t: &ThreadModel| input.lately(t)?.on_cpu();
    let load = cpu(busiest).filter(|share| *share >= LOADED)?;
    let others = acceptors.iter().filter(|t| (t.tid, t.pid) != (busiest.tid, busiest.pid));
    if others.clone().any(|t| cpu(t).is_none_or(|share| share > IDLE * load)) {
        return None;
    }
    let idlest = others.filter_map(|t| cpu(t)).fold(0.0, f64::max);
    let (_, refused) = input.refused_by_accept_queue();
    let said = |takes: &str, have: &str| {
        format!(
            "{} made {} of {} accepts, {times:.1} times an equal share among {}. It {takes} {} of a CPU, the others {have} {} at most.",
            stall::name(busiest),
            grouped(busiest.accepts),
            grouped(accepts),
            plural(count, "acceptor"),
            percent(load),
            percent(idlest)
        )
    };
    let advice = "Spread the connections: EPOLLEXCLUSIVE wakes the worker that waited last first, so the same one wins. Give each worker a \
                  listener of its own (SO_REUSEPORT), let a worker accept a few at a time and not until EAGAIN, or let one thread accept \
                  and hand over in turn. More acceptors do not help, nor does a larger backlog.";
    let found = Found::new(
        &KIND,
        if refused > 0 { Severity::Warning } else { Severity::Info },
        said("takes", "take"),
        vec![
            ("accepts", busiest.accepts as f64),
            ("all_accepts", accepts as f64),
            ("acceptors", count as f64),
            ("times_fair_share", times),
            ("on_cpu_share", load),
            ("on_cpu_share_of_others", idlest),
        ],
        advice,
    );
    Some(found.remembered(times, said("took", "took"), advice))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, severities},
        *,
    };

    /// Threads 1 to 4 accept: the first so many, the others so many each; in the last 3 s the first takes this share of
    /// a CPU, the others that.
    fn uneven(case: &mut Case, (first, others, load, idle): (u64, u64, f64, f64)) {
        let threads = &mut case.listener.threads;
        for (n, thread) in threads.iter_mut().enumerate() {
            thread.accepts = if n == 0 { first } else { others };
            thread.on_cpu_us = Some(0);
        }
        case.observe(3);
        for (n, thread) in case.listener.threads.iter_mut().enumerate() {
            thread.on_cpu_us = Some((3e6 * if n == 0 { load } else { idle }) as u64);
        }
    }

    #[test]
    fn twice_its_share_is_uneven() {
        let cases = [(590, 200, 0.9, 0.1), (600, 200, 0.9, 0.1), (599, 200, 0.9, 0.1)];
        assert_eq!(severities(&KIND, uneven, cases), [NONE, INFO, NONE]);
        let two = |case: &mut Case, (first, second)| {
            uneven(case, (first, second, 0.9, 0.1));
            case.listener.threads.truncate(2);
        };
        assert_eq!(severities(&KIND, two, [(900, 100), (899, 101)]), [INFO, NONE]);
    }

    #[test]
    fn a_hundred_accepts_each_are_needed() {
        let cases = [(397, 1, 0.9, 0.1), (396, 1, 0.9, 0.1)];
        assert_eq!(severities(&KIND, uneven, cases), [INFO, NONE]);
        let alone = |case: &mut Case, ()| {
            uneven(case, (900, 0, 0.9, 0.1));
            case.listener.threads.truncate(1);
        };
        assert_eq!(severities(&KIND, alone, [()]), [NONE]);
    }

    #[test]
    fn a_server_at_ease_is_uneven_and_nobody_suffers() {
        let cases = [(900, 100, 0.59, 0.1), (900, 100, 0.6, 0.3), (900, 100, 0.6, 0.31)];
        assert_eq!(severities(&KIND, uneven, cases), [NONE, INFO, NONE]);
    }

    #[test]
    fn one_that_began_late_has_had_less_time() {
        let late = |case: &mut Case, seconds: u64| {
            uneven(case, (600, 200, 0.9, 0.1));
            case.listener.threads[1..].iter_mut().for_each(|t| t.known_from_us = seconds * 1_000_000);
        };
        assert_eq!(severities(&KIND, late, [0, 2]), [INFO, NONE]);
    }

    #[test]
    fn it_is_a_warning_if_attempts_are_refused() {
        let refuse = |case: &mut Case, n| {
            uneven(case, (900, 100, 0.9, 0.1));
            case.listener.recent_drops.accept_queue_full_on_ack = Some(n);
        };
        assert_eq!(severities(&KIND, refuse, [0, 1]), [INFO, WARNING]);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| uneven(case, (900, 100, 0.9, 0.1))).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "srv (thread 1) made 900 of 1,200 accepts, 3.0 times an equal share among 4 acceptors. It takes 90% of a CPU, the \
             others take 10% at most."
        );
        assert_eq!(
            found.evidence[..4],
            [("accepts", 900.0), ("all_accepts", 1_200.0), ("acceptors", 4.0), ("times_fair_share", 3.0)]
        );
        assert!(found.past.unwrap().summary.contains("It took 90% of a CPU, the others took 10%"));
    }
}
