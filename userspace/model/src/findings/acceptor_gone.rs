//! Connections queue, and no thread accepts or waits for them.

use super::{
    FindingInput, FindingKind, Found, duration, ms,
    stall::{self, Why},
};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "acceptor_gone",
    meaning: "Nobody will take these connections: the socket listens, but no thread accepts from it or polls it. It takes the place \
              of `hung_acceptor`.",
    when: "The conditions of `hung_acceptor` hold, no living thread accepted in the interval, and it is known that no thread \
           blocks in accept, nor in a poll, of this listener. An acceptor has ended, or the listener opened in the interval: \
           otherwise a thread may be busy elsewhere that accepted before.",
    severity: "critical",
    follows_from: &[],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let l = input.listener;
    let stall = input.stalled(Why::Gone)?;
    if input.is_dead_shard() {
        return None; // `dead_shard` reports it, and compares it with the rest of the group
    }
    let [now, then] = stall::waiting(l.now.accept_depth, stall.oldest_us);
    let last = l.threads.iter().find(|t| t.ended && t.accepts > 0 && t.summed.is_none());
    let last = last.map_or(String::new(), |t| format!(" {}, which accepted before, has ended.", stall::name(t)));
    let advice = format!(
        "Find out why the program listens and does not accept: its accepting thread has ended, it has not begun yet, the \
         listener was taken out of its event loop, or a child process keeps a socket that it inherited (close-on-exec).{} A \
         larger backlog changes nothing.",
        l.process.as_ref().map_or(String::new(), |process| format!(
            " Who holds it: lsof -nP -i TCP:{} -a -p {}.",
            l.port, process.pid
        ))
    );
    Some(
        Found::new(
            &KIND,
            Severity::Critical,
            format!("No thread accepts, or waits to: {now}.{last}"),
            vec![
                ("oldest_waiting_ms", ms(stall.oldest_us)),
                ("depth", f64::from(l.now.accept_depth)),
                ("limit", f64::from(l.now.limit)),
                ("holders", l.holders.len() as f64),
            ],
            advice.clone(),
        )
        .lasting(stall.oldest_us)
        .remembered(
            stall.oldest_us as f64,
            format!("For {} no thread accepted, or waited to: {then}.{last}", duration(input.quiet_us())),
            advice,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::{hung_acceptor, support::Case},
        *,
    };

    fn abandoned() -> Case {
        Case::with(|case| {
            case.listener.now.accept_depth = 2;
            case.listener.now.oldest_waiting_us = Some(1_500_000);
            case.listener.holders = vec![7];
            case.listener.waiters = Some(Vec::new());
            case.listener.opened_in_interval = true;
        })
    }

    #[test]
    fn it_takes_the_place_of_a_hung_acceptor_where_waiters_are_known() {
        let mut case = abandoned();
        assert!(case.find(&KIND).is_some() && case.find(&hung_acceptor::KIND).is_none());
        case.listener.waiters = None;
        assert!(case.find(&KIND).is_none() && case.find(&hung_acceptor::KIND).is_some(), "not known");
    }

    #[test]
    fn a_waiter_or_a_living_acceptor_will_take_them() {
        let mut case = abandoned();
        case.listener.waiters = Some(vec![crate::fixtures::waiter(7, crate::sample::WaitKind::Epoll)]);
        assert_eq!(case.find(&KIND), None);
        let mut case = abandoned();
        case.listener.threads[2].accepts = 1;
        assert_eq!(case.find(&KIND), None, "it hangs");
        case.listener.threads[2].ended = true;
        assert!(case.find(&KIND).unwrap().summary.ends_with("srv (thread 3), which accepted before, has ended."));
    }

    #[test]
    fn a_listener_from_before_may_have_an_acceptor_that_was_never_seen() {
        let mut case = abandoned();
        case.listener.opened_in_interval = false;
        assert!(case.find(&KIND).is_none() && case.find(&hung_acceptor::KIND).is_some());
        (case.listener.threads[2].accepts, case.listener.threads[2].ended) = (1, true);
        assert!(case.find(&KIND).is_some() && case.find(&hung_acceptor::KIND).is_none(), "its acceptor has ended");
    }

    #[test]
    fn a_second_is_too_long() {
        let mut case = abandoned();
        for (oldest, there) in [(1_000_000, false), (1_000_001, true)] {
            case.listener.now.oldest_waiting_us = Some(oldest);
            assert_eq!(case.find(&KIND).is_some(), there, "{oldest}");
        }
    }

    #[test]
    fn what_it_reports() {
        let found = abandoned().find(&KIND).unwrap();
        assert_eq!(found.summary, "No thread accepts, or waits to: 2 connections wait, the oldest for 1.5 s.");
        let figures = [("oldest_waiting_ms", 1_500.0), ("depth", 2.0), ("limit", 17.0), ("holders", 1.0)];
        assert_eq!(found.evidence, figures);
    }
}
