//! Why the clients of a listener suffer, and what to do about it first.

use super::{
    super::{
        names::{listener_endpoint, process},
        text::clean,
    },
    likely::likely,
};
use crate::{
    model::{Finding, ListenerModel, Role},
    sample::ThreadState,
};

/// The finding that explains the others: the first root cause that holds.
#[must_use]
pub fn root(findings: &[Finding]) -> Option<&Finding> {
    let holding = || findings.iter().filter(|finding| finding.until_unix_ms.is_none());
    holding().find(|finding| finding.follows_from.is_none()).or_else(|| holding().next())
}

/// Why the clients of a listener suffer, as the end of a sentence about it: `its only acceptor sleeps in
/// futex_wait_queue`.
#[must_use]
pub fn cause(listener: &ListenerModel) -> Option<String> {
    let finding = root(&listener.findings)?;
    let brief = brief(finding.id);
    Some(match finding.id {
        "hung_acceptor" | "dead_shard" => acceptor(listener).or_else(|| likely(listener)).unwrap_or(brief),
        _ => brief,
    })
}

/// A finding in a few words.
fn brief(id: &str) -> String {
    let words = match id {
        "accept_errors" => "its accepts fail",
        "cpu_starved_acceptor" => "its acceptor gets no CPU",
        "acceptor_gone" => "no thread accepts from it",
        "dead_shard" => "this shard accepts nothing while others do",
        "acceptor_paused" => "it has stopped asking for connections",
        "hung_acceptor" => "its acceptor does nothing",
        "acceptor_imbalance" => "one of its acceptors gets most of the connections",
        "shard_imbalance" => "one of its shards gets most of the connections",
        "busy_acceptor" => "its acceptor is busy with other work",
        "hung_reader" => "what its clients sent is not read",
        "backlog_small" => "its backlog is too small for bursts",
        "accept_queue_overflow" => "its accept queue is full",
        "syn_queue_overflow" => "its SYN queue is full",
        "syn_backlog_reserve" => "tcp_max_syn_backlog is nearly used up",
        "refused_otherwise" => "the host has no way or no memory for them",
        "refused_unexplained" => "the kernel does not say why",
        "connections_lost_on_close" => "it closed while clients waited",
        "slow_accept" => "it accepts slowly",
        "dead_on_accept" => "clients give up before they are accepted",
        "slow_reader" => "it reads requests late",
        "descriptors_low" => "its process has few descriptors left",
        "would_block_storm" => "its acceptors wake up for nothing",
        other => return other.replace('_', " "),
    };
    words.to_owned()
}

/// What the thread that should accept does.
fn acceptor(listener: &ListenerModel) -> Option<String> {
    let mut acceptors =
        listener.threads.iter().filter(|thread| !thread.ended && thread.roles.contains(&Role::Acceptor));
    let (thread, others) = (acceptors.next()?, acceptors.next().is_some());
    let state = thread.state.as_ref()?;
    let whose = if others { "" } else { "only " };
    Some(format!("its {whose}acceptor{} {}", named(&thread.comm, thread.tid, listener), doing(state)))
}

/// The thread's name, unless it is the listener's process that is named anyway.
pub(super) fn named(comm: &str, tid: u32, listener: &ListenerModel) -> String {
    let is_named = listener.process.as_ref().is_some_and(|p| p.pid == tid && p.comm == comm);
    if is_named { String::new() } else { format!(" {}[{tid}]", clean(comm)) }
}

/// What a thread does, as the verb of a sentence: `sleeps in futex_wait_queue`.
#[must_use]
pub fn doing(state: &ThreadState) -> String {
    let verb = match state.letter {
        'R' => "runs",
        'S' => "sleeps",
        'D' => "sleeps and cannot be interrupted",
        'T' => "is stopped by a signal",
        't' => "is stopped by a debugger",
        'Z' | 'X' => "has ended",
        'I' => "is idle",
        _ => "does nothing",
    };
    let place = state.wchan.as_ref().or(state.syscall.as_ref()).map(|place| format!(" in {}", clean(place)));
    format!("{verb}{}", place.unwrap_or_default())
}

/// Programs whose call an advice names.
const COMMANDS: [&str; 6] = ["strace ", "gdb ", "kill ", "grep ", "perf ", "sysctl "];

/// The command that an advice names first: `strace -p 7`.
#[must_use]
pub fn command(advice: &str) -> Option<&str> {
    let begins = |at: &usize| COMMANDS.iter().any(|command| advice[*at..].starts_with(command));
    let starts = advice.match_indices([' ', ':']).map(|(at, _)| at + 1).chain([0]);
    let start = starts.filter(|at| advice.is_char_boundary(*at)).filter(begins).min()?;
    let rest = &advice[start..];
    let ends = [", ", ". ", "; ", " (", " < "].into_iter().filter_map(|end| rest.find(end));
    Some(rest[..ends.min().unwrap_or(rest.len())].trim_end_matches('.'))
}

/// A line that is worth copying: the command that shows the cause, or else what was found.
#[must_use]
pub fn line_to_copy(listener: &ListenerModel) -> String {
    let about = || format!("{} {}", listener_endpoint(listener), process(listener));
    let Some(finding) = root(&listener.findings).or(listener.findings.first()) else { return about() };
    let command = command(&finding.advice).map(clean);
    command.unwrap_or_else(|| format!("{}: {}", about(), clean(&finding.summary)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures,
        model::Model,
        sample::{LikelyAcceptor, LikelyBy, Sample},
        tracker::Tracker,
    };

    fn model(samples: &[Sample]) -> Model {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    }

    #[test]
    fn the_thread_that_should_accept_is_named_with_what_it_does() {
        let mut machine = model(&fixtures::overflow());
        let listener = &mut machine.listeners[0];
        let finding = Finding { id: "hung_acceptor", follows_from: None, ..listener.findings[0].clone() };
        listener.findings.insert(0, finding);
        assert_eq!(cause(listener).as_deref(), Some("its acceptor does nothing"));
        listener.threads[0].state = Some(ThreadState {
            letter: 'S',
            wchan: Some("futex_wait_queue".to_owned()),
            syscall: Some("futex".to_owned()),
            kernel_stack: Vec::new(),
        });
        assert_eq!(cause(listener).as_deref(), Some("its only acceptor sleeps in futex_wait_queue"));
        listener.threads[0].tid = 2_202;
        let sleeps = "its only acceptor demo-server[2202] sleeps in futex_wait_queue";
        assert_eq!(cause(listener).as_deref(), Some(sleeps));
        let other = listener.threads[0].clone();
        listener.threads.push(other);
        assert_eq!(cause(listener).as_deref(), Some(&*sleeps.replace("only ", "")));
    }

    #[test]
    fn who_probably_should_accept_is_named_so() {
        let mut machine = model(&fixtures::overflow());
        let listener = &mut machine.listeners[0];
        let finding = Finding { id: "hung_acceptor", follows_from: None, ..listener.findings[0].clone() };
        listener.findings.insert(0, finding);
        listener.threads.clear();
        let one = |tid, place: Option<&str>| LikelyAcceptor {
            pid: tid,
            tid,
            comm: "worker".to_owned(),
            by: LikelyBy::OnlyThread,
            state: place.map(|place| ThreadState {
                letter: 'S',
                wchan: Some(place.to_owned()),
                syscall: None,
                kernel_stack: Vec::new(),
            }),
        };
        let mut verdict = |likely: Vec<LikelyAcceptor>| {
            listener.likely_acceptors = Some(likely);
            cause(listener).expect("there is a finding")
        };
        assert_eq!(verdict(vec![one(9, Some("x"))]), "its acceptor, probably worker[9], sleeps in x");
        assert_eq!(verdict(vec![one(9, None)]), "its acceptor, probably worker[9], accepts nothing");
        let own = LikelyAcceptor { comm: "demo-server".to_owned(), ..one(2_201, Some("x")) };
        assert_eq!(verdict(vec![own]), "its acceptor probably sleeps in x");
        let known = LikelyAcceptor { by: LikelyBy::Accepted, ..one(9, Some("x")) };
        assert_eq!(verdict(vec![known]), "its acceptor worker[9] sleeps in x");
        let several = [Some("y"), Some("x"), None, Some("x")].map(|place| one(9, place));
        assert_eq!(verdict(several.to_vec()), "none of its 4 probable acceptors accepts (2 in x)");
        assert_eq!(verdict(vec![one(8, None), one(9, None)]), "none of its 2 probable acceptors accepts");
        assert_eq!(verdict(Vec::new()), "its acceptor does nothing");
    }

    #[test]
    fn every_finding_has_a_few_words() {
        for kind in crate::findings::ALL {
            let words = brief(kind.id);
            assert_ne!(words, kind.id.replace('_', " "), "{} has none of its own", kind.id);
            assert!(words.len() <= 52 && !words.ends_with('.'), "{words}");
        }
    }

    #[test]
    fn commands_are_found_in_advice() {
        for (advice, copied) in [
            ("Look: strace -p 7, or gdb -p 7 -batch -ex 'bt'. More.", Some("strace -p 7")),
            ("Let it go on: kill -CONT 7.", Some("kill -CONT 7")),
            (
                "Let the debugger go on, or find it: grep TracerPid /proc/7/status.",
                Some("grep TracerPid /proc/7/status"),
            ),
            ("strace -f -p 3300", Some("strace -f -p 3300")),
            ("Make the program accept sooner.", None),
            ("", None),
        ] {
            assert_eq!(command(advice), copied, "{advice}");
        }
        let mut listener = model(&fixtures::overflow()).listeners[0].clone();
        listener.findings[0].advice = "Do not wait.".to_owned();
        let line = line_to_copy(&listener);
        assert!(line.starts_with("0.0.0.0:8080 demo-server[2201]: "), "{line}");
        listener.findings[0].advice = "Look: strace -p 7.".to_owned();
        assert_eq!(line_to_copy(&listener), "strace -p 7");
        listener.findings.clear();
        assert_eq!(line_to_copy(&listener), "0.0.0.0:8080 demo-server[2201]");
    }

    #[test]
    fn threads_do_something() {
        for (letter, place, words) in [
            ('S', Some("pipe_read"), "sleeps in pipe_read"),
            ('T', None, "is stopped by a signal"),
            ('R', None, "runs"),
            ('?', None, "does nothing"),
        ] {
            let state =
                ThreadState { letter, wchan: place.map(str::to_owned), syscall: None, kernel_stack: Vec::new() };
            assert_eq!(doing(&state), words);
        }
    }
}
