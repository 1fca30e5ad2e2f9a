//! What is known of the processes behind a listener, and of its limit, in sentences.

use super::{
    prose::{agree, grouped, plural},
    text::clean,
};
use crate::{
    model::ListenerModel,
    sample::{LimitSetBy, Waiter},
};

/// What set the limit of the accept queue; `None` if somaxconn is not known.
#[must_use]
pub fn limit(listener: &ListenerModel) -> Option<String> {
    let (backlog, somaxconn) = (grouped(listener.now.backlog.into()), listener.somaxconn?);
    let here = grouped(somaxconn.into());
    let told = match (listener.limit_set_by?, listener.backlog_wanted) {
        (LimitSetBy::Program, Some(_)) => {
            format!(
                "{backlog} is the program's own argument of listen(); net.core.somaxconn here is {here}, which would allow more."
            )
        }
        (LimitSetBy::Program, None) => format!(
            "{backlog} is the program's own argument of listen(), unless net.core.somaxconn was changed since; it is {here} here, \
             which would allow more."
        ),
        (LimitSetBy::Somaxconn, wanted) => {
            let wanted = wanted.map_or_else(|| "more".to_owned(), |wanted| grouped(wanted.into()));
            format!("The program asked for {wanted}; net.core.somaxconn cut that to {backlog} (it is {here} now).")
        }
        (LimitSetBy::Either, Some(wanted)) if wanted == somaxconn => {
            format!("{backlog} is both the program's own argument of listen() and net.core.somaxconn: raise both.")
        }
        (LimitSetBy::Either, _) => format!(
            "Whether {backlog} is the program's argument of listen() or what net.core.somaxconn (now {here}) left of it cannot be \
             told: look at both."
        ),
    };
    Some(match listener.backlog_needed {
        Some(needed) => format!(
            "{told} A backlog of {} would have held the largest burst that was refused.",
            grouped(needed.into())
        ),
        None => told,
    })
}

/// Threads that are named one by one.
const NAMED: usize = 4;

/// Who waits for the listener's connections; `None` if that is not known.
#[must_use]
pub fn waiters(listener: &ListenerModel) -> Option<String> {
    let waiters = listener.waiters.as_ref()?;
    if waiters.is_empty() {
        return Some("Nobody waits for its connections.".to_owned());
    }
    let waiting = waiters.iter().filter(|waiter| waiter.waits).count() as u64;
    let mut named: Vec<String> = waiters.iter().take(NAMED).map(one).collect();
    if let Some(others) = waiters.len().checked_sub(NAMED).filter(|others| *others > 0) {
        named.push(plural(others as u64, "other"));
    }
    let now = match waiting {
        0 => "No thread waits for its connections at the moment".to_owned(),
        _ => {
            format!("{} {} for its connections", plural(waiting, "thread"), agree(waiting, "waits", "wait"))
        }
    };
    Some(format!("{now}: {}.", named.join(", ")))
}

fn one(waiter: &Waiter) -> String {
    let id = if waiter.tid == 0 { format!("process {}", waiter.pid) } else { waiter.tid.to_string() };
    let flags = [(waiter.exclusive, "EPOLLEXCLUSIVE"), (waiter.edge, "EPOLLET")];
    let set: Vec<&str> = flags.into_iter().filter(|(flag, _)| *flag == Some(true)).map(|(_, name)| name).collect();
    let how =
        if set.is_empty() { waiter.how.to_string() } else { format!("{} with {}", waiter.how, set.join(" and ")) };
    let busy = match (waiter.waits, waiter.polls) {
        (true, _) => "",
        (false, Some(false)) => " a moment ago",
        (false, _) => ", busy now",
    };
    format!("{}[{id}] by {how}{busy}", clean(&waiter.comm))
}

/// How many descriptors the accepting process has left; `None` if that is not known.
#[must_use]
pub fn descriptors(listener: &ListenerModel) -> Option<String> {
    let descriptors = listener.descriptors?;
    let (open, limit) = (grouped(descriptors.open), grouped(descriptors.soft_limit));
    Some(format!("Process {} has {open} of at most {limit} descriptors open (RLIMIT_NOFILE).", descriptors.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures,
        sample::{Descriptors, WaitKind},
    };

    fn listener(backlog: u32, set_by: LimitSetBy, wanted: Option<u32>, somaxconn: u32) -> ListenerModel {
        let mut listener = fixtures::distinct_model().listeners[0].clone();
        listener.now.backlog = backlog;
        (listener.limit_set_by, listener.backlog_wanted) = (Some(set_by), wanted);
        (listener.somaxconn, listener.backlog_needed) = (Some(somaxconn), None);
        listener
    }

    #[test]
    fn limits_in_sentences() {
        for (listener, says) in [
            (
                listener(511, LimitSetBy::Program, Some(511), 4_096),
                "511 is the program's own argument of listen(); net.core.somaxconn here is 4,096, which would allow more.",
            ),
            (
                listener(128, LimitSetBy::Somaxconn, Some(511), 4_096),
                "The program asked for 511; net.core.somaxconn cut that to 128 (it is 4,096 now).",
            ),
            (
                listener(511, LimitSetBy::Either, Some(511), 511),
                "511 is both the program's own argument of listen() and net.core.somaxconn: raise both.",
            ),
        ] {
            assert_eq!(limit(&listener).as_deref(), Some(says));
        }
        let unseen = limit(&listener(511, LimitSetBy::Program, None, 4_096)).expect("known");
        assert!(unseen.contains("unless net.core.somaxconn was changed since"), "{unseen}");
        let mut unclear = listener(128, LimitSetBy::Either, None, 128);
        unclear.backlog_needed = Some(1_500);
        let told = limit(&unclear).expect("known");
        assert!(
            told.contains("cannot be told")
                && told.ends_with("A backlog of 1,500 would have held the largest burst that was refused."),
            "{told}"
        );
        unclear.somaxconn = None;
        assert_eq!(limit(&unclear), None);
    }

    #[test]
    fn waiters_in_a_sentence() {
        let mut listener = fixtures::distinct_model().listeners[0].clone();
        let waiter = |tid, waits, exclusive| Waiter {
            pid: 7,
            tid,
            comm: "srv".to_owned(),
            how: WaitKind::Epoll,
            exclusive: Some(exclusive),
            edge: Some(exclusive),
            waits,
            polls: Some(true),
        };
        listener.waiters = Some(vec![waiter(8, true, true), waiter(0, false, false)]);
        let told = "1 thread waits for its connections: srv[8] by epoll with EPOLLEXCLUSIVE and EPOLLET, \
                    srv[process 7] by epoll, busy now.";
        assert_eq!(waiters(&listener).as_deref(), Some(told));
        listener.waiters = Some((1..=6).map(|tid| waiter(tid, false, false)).collect());
        let told = waiters(&listener).expect("known");
        assert!(told.starts_with("No thread waits") && told.ends_with("2 others."), "{told}");
        listener.waiters = Some(Vec::new());
        assert_eq!(waiters(&listener).as_deref(), Some("Nobody waits for its connections."));
        listener.waiters = None;
        assert_eq!(waiters(&listener), None);
        listener.descriptors = Some(Descriptors { pid: 7, open: 1_000, soft_limit: 1_024 });
        let told = "Process 7 has 1,000 of at most 1,024 descriptors open (RLIMIT_NOFILE).";
        assert_eq!(descriptors(&listener).as_deref(), Some(told));
    }
}
