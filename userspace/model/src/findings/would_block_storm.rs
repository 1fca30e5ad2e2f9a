//! Threads wake up for connections that others take.

use super::{FindingInput, FindingKind, Found, agree, plural};
use crate::{
    catalogue::thresholds,
    model::{Role, Severity},
    words::prose::grouped,
};

thresholds! {
    /// Would-block accepts per accept. An event loop that accepts until EAGAIN makes one per wake-up, so up to one per
    /// accept is normal.
    PER_ACCEPT: f64 = 2.0, Times;
    /// From this many per accept on, most wake-ups of the server are useless.
    BAD_PER_ACCEPT: f64 = 8.0, Times;
    /// Fewer would-block accepts cost next to nothing.
    MIN_PER_SECOND: f64 = 100.0, PerSecond;
    /// A single thread with would-block accepts runs a poll loop: that is no thundering herd.
    MIN_THREADS: u64 = 2, Count;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "would_block_storm",
    meaning: "A thundering herd: several threads wake up for each connection, and all but one find nothing.",
    when: "At least {MIN_THREADS} acceptors have would-block accepts, {MIN_PER_SECOND} or more together, and {PER_ACCEPT} or more \
           per accept.",
    severity: "warning from {BAD_PER_ACCEPT} per accept on, else info",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let (rate, accepts) = (l.rate.would_block?, l.rate.accepts?);
    let herd = |t: &&crate::model::ThreadModel| t.would_block > 0 && !t.ended && t.roles.contains(&Role::Acceptor);
    let threads = l.threads.iter().filter(herd).count() as u64;
    if rate < MIN_PER_SECOND || rate < PER_ACCEPT * accepts || threads < MIN_THREADS {
        return None;
    }
    // Infinite if nothing was accepted.
    let per_accept = rate / accepts;
    let mut evidence =
        vec![("would_block_per_second", rate), ("accepts_per_second", accepts), ("threads", threads as f64)];
    if per_accept.is_finite() {
        evidence.push(("would_block_per_accept", per_accept));
    }
    let summary = |wake: &str, returned: &str| {
        format!(
            "{} {wake} up for connections that others {}. Per second, {} {returned} EAGAIN and {} {returned} a connection.",
            plural(threads, "thread"),
            if wake == "wake" { "take" } else { "took" },
            plural(rate.round() as u64, "accept"),
            grouped(accepts.round() as u64)
        )
    };
    // Those that epoll wakes for every connection, and those that it wakes one at a time.
    let by_epoll = |exclusive| {
        let waiters = l.waiters.iter().flatten().filter(move |waiter| waiter.exclusive == Some(exclusive));
        waiters.count() as u64
    };
    let (all_at_once, one_at_a_time) = (by_epoll(false), by_epoll(true));
    if l.waiters.is_some() {
        evidence.push(("epoll_without_exclusive", all_at_once as f64));
        evidence.push(("epoll_exclusive", one_at_a_time as f64));
    }
    let epoll = match (all_at_once, one_at_a_time) {
        (0, 0) => String::new(),
        (0, _) => format!(" All {one_at_a_time} that poll it use EPOLLEXCLUSIVE already."),
        (n, _) => format!(" {} without EPOLLEXCLUSIVE.", plural(n, "thread") + agree(n, " polls it", " poll it")),
    };
    let summary = |wake: &str, returned: &str| summary(wake, returned) + &epoll;
    let severity = if per_accept >= BAD_PER_ACCEPT { Severity::Warning } else { Severity::Info };
    let ways = if all_at_once == 0 && one_at_a_time > 0 {
        "accept once per wake-up, use a blocking accept"
    } else {
        "use EPOLLEXCLUSIVE, a blocking accept"
    };
    let advice = format!(
        "Wake one thread per connection: {ways}, or one listener per thread (SO_REUSEPORT). More acceptors make it worse. The \
         backlog is not involved."
    );
    Some(Found::new(&KIND, severity, summary("wake", "returned"), evidence, advice.clone()).remembered(
        rate,
        summary("woke", "returned"),
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, severities},
        *,
    };

    /// Threads 1 to 4 have would-block accepts, so many per second together, beside so many accepts.
    fn herd(case: &mut Case, (would_block, accepts): (f64, f64)) {
        case.listener.rate.would_block = Some(would_block);
        case.listener.rate.accepts = Some(accepts);
        for thread in &mut case.listener.threads {
            thread.would_block = 1;
            thread.roles = vec![Role::Acceptor];
        }
    }

    #[test]
    fn two_per_accept_are_too_many_and_eight_are_bad() {
        let found = severities(&KIND, herd, [(190.0, 100.0), (199.9, 100.0), (200.0, 100.0), (210.0, 100.0)]);
        assert_eq!(found, [NONE, NONE, INFO, INFO]);
        let found = severities(&KIND, herd, [(760.0, 100.0), (799.9, 100.0), (800.0, 100.0), (840.0, 100.0)]);
        assert_eq!(found, [INFO, INFO, WARNING, WARNING]);
        assert_eq!(severities(&KIND, herd, [(200.0, 0.0)]), [WARNING], "no accept at all");
    }

    #[test]
    fn a_hundred_per_second_matter() {
        let found = severities(&KIND, herd, [(95.0, 1.0), (99.9, 1.0), (100.0, 1.0), (105.0, 1.0)]);
        assert_eq!(found, [NONE, NONE, WARNING, WARNING]);
    }

    #[test]
    fn one_thread_is_no_herd() {
        let members = |case: &mut Case, change: fn(&mut Case)| {
            herd(case, (200.0, 100.0));
            case.listener.threads.truncate(2);
            change(case);
        };
        let found = severities(
            &KIND,
            members,
            [
                |_| {},
                |case| case.listener.threads[0].would_block = 0,
                |case| case.listener.threads[0].ended = true,
                |case| case.listener.threads[0].roles = vec![Role::Reader],
            ],
        );
        assert_eq!(found, [INFO, NONE, NONE, NONE]);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| herd(case, (1_240.4, 155.05))).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "4 threads wake up for connections that others take. Per second, 1,240 accepts returned EAGAIN and 155 returned \
             a connection."
        );
        let figures = [
            ("would_block_per_second", 1_240.4),
            ("accepts_per_second", 155.05),
            ("threads", 4.0),
            ("would_block_per_accept", 1_240.4 / 155.05),
        ];
        assert_eq!(found.evidence, figures);
        let none = Case::with(|case| herd(case, (200.0, 0.0))).find(&KIND).unwrap();
        assert_eq!(none.evidence.len(), 3, "a share of nothing is left out");
    }

    #[test]
    fn waiters_show_why() {
        let polling = |exclusive: &[bool]| {
            let mut case = Case::with(|case| herd(case, (200.0, 100.0)));
            let waiter = |&exclusive| crate::sample::Waiter {
                exclusive: Some(exclusive),
                ..crate::fixtures::waiter(7, crate::sample::WaitKind::Epoll)
            };
            case.listener.waiters = Some(exclusive.iter().map(waiter).collect());
            let found = case.find(&KIND).unwrap();
            assert_eq!(found.evidence[4].0, "epoll_without_exclusive");
            (found.summary, found.advice.contains("use EPOLLEXCLUSIVE"), found.evidence[4].1, found.evidence[5].1)
        };
        let (summary, advised, without, with) = polling(&[false, false, true]);
        assert!(summary.ends_with(" 2 threads poll it without EPOLLEXCLUSIVE."), "{summary}");
        assert_eq!((advised, without.to_bits(), with.to_bits()), (true, 2f64.to_bits(), 1f64.to_bits()));
        let (summary, advised, ..) = polling(&[true, true]);
        assert!(summary.ends_with(" All 2 that poll it use EPOLLEXCLUSIVE already.") && !advised, "{summary}");
        let (summary, advised, ..) = polling(&[]);
        assert!(summary.ends_with(" returned a connection.") && advised, "{summary}");
    }

    #[test]
    fn where_rates_are_unknown_there_is_none() {
        let mut case = Case::with(|case| herd(case, (200.0, 100.0)));
        case.listener.rate.accepts = None;
        assert_eq!(case.find(&KIND), None);
        case.listener.rate = crate::model::Rates { accepts: Some(1.0), would_block: None, ..case.listener.rate };
        assert_eq!(case.find(&KIND), None);
    }
}
