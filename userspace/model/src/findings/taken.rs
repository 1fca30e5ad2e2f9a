//! Acceptors that each serve a client, as the workers of a pool do (prefork): none hangs, none is left.

use super::{
    FindingInput,
    hung_reader::{WAITS_FOR_EVENTS, WAITS_FOR_WORK, sleeps_in},
    stall,
};
use crate::{model::ThreadModel, words::prose::counted};

/// Where a thread sleeps that waits for a connection.
const ACCEPTS: &[&str] = &["accept", "accept4", "inet_csk_accept"];

/// All acceptors are elsewhere.
pub(super) struct Taken {
    /// In a sentence.
    pub(super) now: String,
    /// The same in the past tense.
    pub(super) then: String,
    /// What to do.
    pub(super) advice: String,
}

/// Several acceptors, all of them in the work of some client: none waits for events, for work or for a connection, and
/// none is stopped. `None` if that is not so, or not known.
pub(super) fn all(input: &FindingInput<'_>) -> Option<Taken> {
    let known: Vec<&ThreadModel> = input.acceptors().filter(|t| t.state.is_some()).collect();
    if known.len() < 2 || known.len() < input.acceptors().count() || !known.iter().all(|t| works(t)) {
        return None;
    }
    if input.listener.waiters.as_ref().is_some_and(|waiters| waiters.iter().any(|waiter| waiter.waits)) {
        return None;
    }
    let places = counted(known.iter().map(|t| place(t)));
    let places: Vec<String> = places.into_iter().map(|(place, n)| format!("{n} in {place}")).collect();
    let (n, places) = (known.len(), places.join(", "));
    Some(Taken {
        now: format!("All {n} acceptors are taken: {places}."),
        then: format!("All {n} acceptors were taken: {places}."),
        advice: format!(
            "Each of the {n} acceptors is busy with a client that it accepted. Let there be more of them (pm.max_children, \
             MaxRequestWorkers, --workers), or make what they do shorter: slow requests, and connections that are kept open. If \
             they should not take so long, see what one waits for. {}",
            stall::look(known[0])
        ),
    })
}

fn works(thread: &ThreadModel) -> bool {
    let waits = [WAITS_FOR_EVENTS, WAITS_FOR_WORK, ACCEPTS].into_iter().any(|places| sleeps_in(thread, places));
    thread.state.as_ref().is_some_and(|state| match state.letter {
        'R' => true,
        'S' => (state.syscall.is_some() || state.wchan.is_some()) && !waits,
        _ => false,
    })
}

/// Where a thread is: its system call, or the function of the kernel that it sleeps in.
fn place(thread: &ThreadModel) -> String {
    let state = thread.state.as_ref().filter(|state| state.letter == 'S');
    let place = state.and_then(|state| state.syscall.clone().or_else(|| state.wchan.clone()));
    place.unwrap_or_else(|| "its own code".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{
        hung_acceptor,
        support::{Case, NONE},
    };
    use crate::{
        fixtures::{thread_state, waiter},
        sample::{WaitKind, Waiter},
    };

    /// Connections wait for acceptors in these states.
    fn stuck(states: &[(char, &str)]) -> Case {
        Case::with(|case| {
            case.listener.now.accept_depth = 4;
            case.listener.now.oldest_waiting_us = Some(3_000_000);
            for (thread, (letter, syscall)) in case.listener.threads.iter_mut().zip(states) {
                thread.accepts = 3;
                thread.state = Some(thread_state(*letter, "", syscall));
            }
        })
    }

    fn told(states: &[(char, &str)]) -> bool {
        stuck(states).find(&hung_acceptor::KIND).unwrap().summary.contains("acceptors are taken")
    }

    #[test]
    fn acceptors_that_are_all_elsewhere_are_taken() {
        assert!(told(&[('S', "clock_nanosleep"), ('S', "poll")]));
        assert!(told(&[('S', "clock_nanosleep"), ('S', "recvfrom"), ('S', "wait4")]));
        for other in [('S', "accept4"), ('S', "epoll_wait"), ('S', "futex"), ('T', ""), ('D', "read"), ('S', "")] {
            assert!(!told(&[('S', "clock_nanosleep"), other]), "{other:?}");
        }
        assert!(!told(&[('S', "clock_nanosleep")]), "one is not all of several");
        let mut one_unknown = stuck(&[('S', "poll"), ('S', "poll"), ('S', "poll")]);
        one_unknown.listener.threads[2].state = None;
        assert!(!one_unknown.find(&hung_acceptor::KIND).unwrap().summary.contains("taken"));
    }

    #[test]
    fn one_that_waits_and_has_accepted_nothing_yet_is_not_taken() {
        let mut case = stuck(&[('S', "poll"), ('S', "poll")]);
        case.listener.waiters = Some(vec![Waiter { waits: true, ..waiter(9, WaitKind::Accept) }]);
        let found = case.find(&hung_acceptor::KIND);
        assert_ne!(found.as_ref().map(|found| found.severity), NONE);
        assert!(!found.unwrap().summary.contains("taken"));
    }

    #[test]
    fn they_are_counted_by_place() {
        let case = stuck(&[('S', "poll"), ('S', "clock_nanosleep"), ('S', "clock_nanosleep")]);
        let found = case.find(&hung_acceptor::KIND).unwrap();
        assert!(
            found.summary.ends_with("All 3 acceptors are taken: 2 in clock_nanosleep, 1 in poll."),
            "{}",
            found.summary
        );
        assert!(found.advice.starts_with("Each of the 3 acceptors is busy") && found.advice.contains("strace -p 1"));
        let past = found.past.unwrap();
        assert!(past.summary.ends_with("All 3 acceptors were taken: 2 in clock_nanosleep, 1 in poll."));
        assert!(past.advice.starts_with("Each of the 3 acceptors"), "{}", past.advice);
    }
}
