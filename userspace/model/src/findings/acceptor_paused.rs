//! Connections wait, and the program has stopped asking for them.

use super::{
    FindingInput, FindingKind, Found, agree,
    hung_reader::{WAITS_FOR_EVENTS, is_asleep_in, sleeps_in},
    ms, plural,
    stall::{self, Why},
};
use crate::{
    model::{Severity, ThreadModel},
    sample::{WaitKind, Waiter},
};

pub(super) const KIND: FindingKind = FindingKind {
    id: "acceptor_paused",
    meaning: "The program has stopped asking for connections: a limit of its own is reached, such as maxconn or worker_connections. \
              It neither hangs nor has too much work, and takes the place of `hung_acceptor` and `busy_acceptor`.",
    when: "The oldest connection has waited longer than {HUNG_US}, no accept failed, and an acceptor sleeps in epoll or io_uring, \
           while none is asleep elsewhere or stopped; where nobody was seen accepting, all of those that probably should accept sleep \
           so. It is known that no epoll, poll, select, accept or ring of the program waits \
           for this listener.",
    severity: "critical",
    follows_from: &[],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let stall = input.stalled(Why::Paused)?;
    let [now, then] = stall::waiting(l.now.accept_depth, stall.oldest_us);
    let who = input.acceptors().find(|t| is_asleep(t)).map_or_else(|| "The program".to_owned(), stall::name);
    let open = |n| format!(" {} {} open.", plural(n, "accepted connection"), agree(n, "is", "are"));
    let open = l.now.open.map_or(String::new(), open);
    let mut evidence = vec![
        ("oldest_waiting_ms", ms(stall.oldest_us)),
        ("depth", f64::from(l.now.accept_depth)),
        ("limit", f64::from(l.now.limit)),
    ];
    evidence.extend(l.now.open.map(|n| ("open_connections", n as f64)));
    let advice = "The program has stopped asking for connections: a limit of its own is reached, such as maxconn, worker_connections or \
                  a limit of clients. Raise that limit, if memory and descriptors allow it, or close idle connections sooner \
                  (keep-alive, timeouts of clients). It neither hangs nor needs more CPU, and a larger backlog only lengthens \
                  the wait.";
    Some(
        Found::new(
            &KIND,
            Severity::Critical,
            format!("{now}. {who} sleeps until something else comes: it has taken this listener out of what it waits for.{open}"),
            evidence,
            advice,
        )
        .lasting(stall.oldest_us)
        .remembered(
            stall.oldest_us as f64,
            format!("{then}. {who} slept until something else came: it had taken this listener out of what it waits for."),
            advice,
        ),
    )
}

fn is_asleep(thread: &ThreadModel) -> bool {
    sleeps_in(thread, WAITS_FOR_EVENTS)
}

impl FindingInput<'_> {
    /// Whether the program waits for events, but not for connections of this listener, of which the oldest came
    /// `oldest_us` ago.
    pub(super) fn is_paused(&self, oldest_us: u64) -> bool {
        let Some(waiters) = &self.listener.waiters else { return false };
        // One that waited a moment ago is there, too. Whoever waits in accept may use an epoll for something else.
        let paused = |waiter: &Waiter| {
            !waiter.waits && waiter.polls == Some(false) && matches!(waiter.how, WaitKind::Epoll | WaitKind::IoUring)
        };
        if !waiters.iter().all(paused) {
            return false;
        }
        if self.acceptors().next().is_none() {
            return self.likely_are_paused();
        }
        // After some seconds it is no longer known how they waited: then it is what it was.
        let began_us = self.now_us() as i64 - oldest_us as i64;
        if waiters.is_empty() && self.memory.held_since(&["hung_acceptor"], began_us) {
            return false;
        }
        let mut known = self.acceptors().filter(|t| t.state.is_some()).peekable();
        let works = |t: &ThreadModel| t.state.as_ref().is_some_and(|state| state.letter == 'R');
        let mut asleep = false;
        known.all(|t| {
            asleep |= is_asleep(t);
            is_asleep(t) || works(t)
        }) && asleep
    }

    /// Whether all sleep who probably should accept. Whoever came during the stall has seen none of them accept.
    fn likely_are_paused(&self) -> bool {
        let likely = self.listener.likely_acceptors.as_deref().unwrap_or_default();
        !likely.is_empty() && likely.iter().all(|one| is_asleep_in(one.state.as_ref(), WAITS_FOR_EVENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            busy_acceptor, hung_acceptor,
            support::{CRITICAL, Case, NONE, severities},
        },
        *,
    };
    use crate::{
        fixtures::{thread_state, waiter},
        model::{LikelyAcceptor, LikelyBy},
    };

    /// Connections wait; thread 1 accepted before, and sleeps in an epoll without the listener.
    fn paused(case: &mut Case) {
        let l = &mut case.listener;
        l.now.accept_depth = 10;
        l.now.oldest_waiting_us = Some(5_000_000);
        l.now.open = Some(10);
        l.threads[0].accepts = 10;
        l.threads[0].state = Some(thread_state('S', "do_epoll_wait", "epoll_wait"));
        l.waiters = Some(vec![Waiter { waits: false, polls: Some(false), ..waiter(1, WaitKind::Epoll) }]);
    }

    fn kinds(case: &Case) -> [bool; 3] {
        [&KIND, &hung_acceptor::KIND, &busy_acceptor::KIND].map(|kind| case.find(kind).is_some())
    }

    #[test]
    fn one_whose_epoll_does_not_hold_the_listener_is_paused() {
        let with = |waits, polls| {
            let mut case = Case::with(paused);
            case.listener.waiters = Some(vec![Waiter { waits, polls, ..waiter(1, WaitKind::Epoll) }]);
            kinds(&case)
        };
        let (is_paused, hangs) = ([true, false, false], [false, true, false]);
        assert_eq!(with(false, Some(false)), is_paused);
        assert_eq!([with(false, Some(true)), with(true, Some(true)), with(false, None)], [hangs; 3]);
        let mut accepts = Case::with(paused);
        accepts.listener.waiters.as_mut().unwrap()[0].how = WaitKind::Accept;
        assert_eq!(kinds(&accepts), hangs, "it accepts in its turn, and waits in an epoll of its own meanwhile");
        let mut case = Case::with(paused);
        case.listener.waiters = Some(Vec::new());
        assert_eq!(kinds(&case), is_paused, "nobody has waited lately");
        case.listener.waiters = None;
        assert_eq!(kinds(&case), hangs, "it is not known");
    }

    /// Nobody was seen accepting: those who hold the listener sleep, and no epoll holds it.
    #[test]
    fn one_that_was_paused_before_the_start_is_too() {
        let with = |place: &str, waiters| {
            let mut case = Case::with(paused);
            case.listener.threads.iter_mut().for_each(|thread| thread.accepts = 0);
            case.listener.waiters = waiters;
            let state = Some(thread_state('S', place, ""));
            let likely = LikelyAcceptor { pid: 9, tid: 9, comm: "srv".to_owned(), by: LikelyBy::OnlyThread, state };
            case.listener.likely_acceptors = Some(vec![likely]);
            kinds(&case)
        };
        let (is_paused, hangs) = ([true, false, false], [false, true, false]);
        assert_eq!(with("do_epoll_wait", Some(Vec::new())), is_paused);
        assert_eq!(with("hrtimer_nanosleep", Some(Vec::new())), hangs, "it sleeps elsewhere");
        assert_eq!(with("do_epoll_wait", None), hangs, "it is not known what it waits for");
        let polls = vec![Waiter { waits: false, polls: Some(true), ..waiter(9, WaitKind::Epoll) }];
        assert_eq!(with("do_epoll_wait", Some(polls)), hangs, "it asks for connections");
    }

    #[test]
    fn one_that_sleeps_elsewhere_hangs() {
        let seen = |states: &[(char, &str)]| {
            let mut case = Case::with(paused);
            for (thread, (letter, wchan)) in case.listener.threads.iter_mut().zip(states) {
                thread.accepts = 10;
                thread.state = Some(thread_state(*letter, wchan, ""));
            }
            kinds(&case)
        };
        let (is_paused, hangs) = ([true, false, false], [false, true, false]);
        assert_eq!(seen(&[('S', "ep_poll"), ('S', "io_cqring_wait")]), is_paused);
        assert_eq!(seen(&[('S', "ep_poll"), ('R', "")]), is_paused, "it serves who is there");
        for elsewhere in [('S', "futex_wait_queue"), ('S', "do_poll"), ('T', "ep_poll"), ('D', "io_schedule")] {
            assert_eq!(seen(&[('S', "ep_poll"), elsewhere]), hangs, "{elsewhere:?}");
        }
        assert_eq!(seen(&[('R', "")]), [false, false, true], "it works");
    }

    #[test]
    fn what_it_serves_meanwhile_does_not_make_it_busy() {
        let mut case = Case::with(paused);
        case.listener.threads[0].reads_per_second = 9.0;
        assert_eq!(kinds(&case), [true, false, false]);
        case.listener.waiters.as_mut().unwrap()[0].polls = Some(true);
        assert_eq!(kinds(&case), [false, false, true]);
    }

    #[test]
    fn a_second_is_too_long() {
        let waits = |case: &mut Case, oldest_us| {
            paused(case);
            case.listener.now.oldest_waiting_us = Some(oldest_us);
        };
        assert_eq!(severities(&KIND, waits, [1_000_000, 1_000_001]), [NONE, CRITICAL]);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(paused).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "10 connections wait, the oldest for 5.0 s. srv (thread 1) sleeps until something else comes: it has taken this \
             listener out of what it waits for. 10 accepted connections are open."
        );
        assert!(found.advice.contains("maxconn") && !found.advice.contains("strace"), "{}", found.advice);
        assert_eq!(found.for_us, 5_000_000);
        assert!(
            found
                .past
                .unwrap()
                .summary
                .starts_with("10 connections waited, the oldest for 5.0 s. srv (thread 1) slept")
        );
    }
}
