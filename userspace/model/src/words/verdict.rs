//! The verdict: in one sentence, what is wrong on this machine, where, and why. The dashboard's header, the reports and
//! what follows from them share it.

use super::{
    dates::utc,
    names::{listener_endpoint, numbered_endpoint, process},
    numbers::status,
    prose::{agree, grouped, plural},
    text::clean,
};
use crate::{
    coverage::{Measure, Status},
    model::{Finding, ListenerModel, Model, Role, Severity, ThreadModel},
    sample::ThreadState,
};

/// What a listener's clients suffer now, the worst last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing that holds now is worse than worth knowing.
    #[default]
    None,
    /// There is a warning.
    Warned,
    /// Clients wait too long.
    Waiting,
    /// Clients are refused.
    Refused,
}

/// How a listener stands: what the verdict counts and compares. It costs little to make, and little to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// What its clients suffer.
    pub harm: Harm,
    /// The worst finding that holds.
    pub severity: Option<Severity>,
    /// Of two that suffer the same, the one with more refused and waiting clients is worse.
    weight: u64,
    /// Until when its clients suffered last, in milliseconds of Unix time; 0 if they do now, or did not.
    passed_ms: u64,
}

/// Findings that report refused clients.
const REFUSING: [&str; 5] =
    ["accept_queue_overflow", "syn_queue_overflow", "syn_backlog_reserve", "refused_otherwise", "refused_unexplained"];

impl Standing {
    /// How `listener` stands.
    #[must_use]
    pub fn of(listener: &ListenerModel) -> Self {
        let holding = || listener.findings.iter().filter(|finding| finding.until_unix_ms.is_none());
        let harm = holding().map(|finding| match finding.severity {
            Severity::Critical if REFUSING.contains(&finding.id) => Harm::Refused,
            Severity::Critical => Harm::Waiting,
            Severity::Warning => Harm::Warned,
            Severity::Info => Harm::None,
        });
        let weight = match holding().next() {
            Some(_) => listener.recent_drops.total.unwrap_or(0) + u64::from(listener.now.accept_depth),
            None => 0,
        };
        let harm = harm.max().unwrap_or_default();
        let passed = listener.findings.iter().filter(|finding| finding.severity == Severity::Critical);
        let passed_ms =
            if harm < Harm::Waiting { passed.filter_map(|finding| finding.until_unix_ms).max() } else { None };
        Self {
            harm,
            severity: holding().map(|finding| finding.severity).max(),
            weight,
            passed_ms: passed_ms.unwrap_or(0),
        }
    }
}

/// What is wrong on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What the clients of the worst listener suffer.
    pub harm: Harm,
    /// The id of the worst listener, or of the last whose clients suffered; `None` if nothing is or was wrong.
    pub listener: Option<u64>,
    /// The sentence, without a full stop.
    pub text: String,
}

impl Verdict {
    /// How bad it is; `None` if nothing is wrong.
    #[must_use]
    pub const fn severity(&self) -> Option<Severity> {
        match self.harm {
            Harm::None => None,
            Harm::Warned => Some(Severity::Warning),
            Harm::Waiting | Harm::Refused => Some(Severity::Critical),
        }
    }
}

/// The verdict on everything that `model` has.
#[must_use]
pub fn of(model: &Model) -> Verdict {
    let standings = model.listeners.iter().map(|listener| (!listener.closed).then(|| Standing::of(listener)));
    judge(model, standings)
}

/// The verdict, from the standing of each of the model's listeners in their order; `None` for one that does not count,
/// because it has closed or is not shown.
#[must_use]
pub fn judge(model: &Model, standings: impl Iterator<Item = Option<Standing>>) -> Verdict {
    let (mut total, mut refused, mut waiting, mut warned) = (0, 0, 0, 0);
    let mut worst: Option<(usize, Standing)> = None;
    let mut last: Option<(usize, u64)> = None;
    for (at, standing) in standings.enumerate().filter_map(|(at, standing)| Some((at, standing?))) {
        total += 1;
        if standing.passed_ms > last.map_or(0, |(_, until)| until) {
            last = Some((at, standing.passed_ms));
        }
        match standing.harm {
            Harm::None => continue,
            Harm::Warned => warned += 1,
            Harm::Waiting => waiting += 1,
            Harm::Refused => refused += 1,
        }
        if worst.is_none_or(|(_, before)| standing > before) {
            worst = Some((at, standing));
        }
    }
    let Some((listener, standing)) = worst.and_then(|(at, standing)| Some((model.listeners.get(at)?, standing))) else {
        let last = last.and_then(|(at, until)| Some((model.listeners.get(at)?, until)));
        let text =
            nothing(total, model) + &last.map_or(String::new(), |(listener, until)| passed(model, listener, until));
        return Verdict { text, listener: last.map(|(listener, _)| listener.id), ..Verdict::default() };
    };
    let (count, verb, others) = match standing.harm {
        Harm::Refused => (refused, agree(refused, "refuses clients", "refuse clients"), waiting),
        Harm::Waiting => (waiting, agree(waiting, "keeps clients waiting", "keep clients waiting"), 0),
        Harm::Warned | Harm::None => (warned, agree(warned, "needs a look", "need a look"), 0),
    };
    let others = match others {
        0 => String::new(),
        more => format!(", {} {} them waiting", grouped(more), agree(more, "keeps", "keep")),
    };
    let which = if count + waiting.min(refused) > 1 { "the worst is " } else { "" };
    let text = format!(
        "{} of {} {verb}{others}: {which}{} {}{}",
        grouped(count),
        plural(total, "listener"),
        numbered_endpoint(model, listener),
        process(listener),
        cause(listener).map_or(String::new(), |cause| format!(", {cause}")),
    );
    Verdict { harm: standing.harm, listener: Some(listener.id), text }
}

/// That nothing is wrong, as far as that can be told here: what is not measured may be wrong.
fn nothing(listeners: u64, model: &Model) -> String {
    let known = |measures: &[Measure]| measures.iter().any(|measure| status(model, *measure) != Status::Unavailable);
    let (refusals, waits) = (known(&[Measure::Drops]), known(&[Measure::AcceptWait, Measure::OldestWaiting]));
    let who =
        if listeners == 1 { "The listener".to_owned() } else { format!("None of {} listeners", grouped(listeners)) };
    match (listeners, refusals, waits) {
        (0, ..) => "No listener is open".to_owned(),
        (1, true, true) => format!("{who} refuses no client and keeps none waiting"),
        (1, true, false) => format!("{who} refuses no client; whether it keeps them waiting cannot be measured here"),
        (_, true, true) => format!("{who} refuses clients or keeps them waiting"),
        (_, true, false) => format!("{who} refuses clients; whether they wait cannot be measured here"),
        (_, false, _) => "Whether clients are refused cannot be measured here".to_owned(),
    }
}

/// The last listener whose clients suffered, as the end of a sentence.
fn passed(model: &Model, listener: &ListenerModel, until_ms: u64) -> String {
    let time = utc(until_ms);
    let time = time.get(11..19).unwrap_or(&time);
    format!(" (until {time} UTC {} {} did)", numbered_endpoint(model, listener), process(listener))
}

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
        "hung_acceptor" | "dead_shard" => acceptor(listener).unwrap_or(brief),
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
        "hung_acceptor" => "its acceptor does nothing",
        "acceptor_imbalance" => "one of its acceptors gets most of the connections",
        "shard_imbalance" => "one of its shards gets most of the connections",
        "busy_acceptor" => "its acceptor is busy with other work",
        "hung_reader" => "nobody reads what its clients sent",
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
    Some(format!("its {whose}acceptor{} {}", named(thread, listener), doing(state)))
}

/// The thread's name, unless it is the listener's process that is named anyway.
fn named(thread: &ThreadModel, listener: &ListenerModel) -> String {
    let is_named = listener.process.as_ref().is_some_and(|p| p.pid == thread.tid && p.comm == thread.comm);
    if is_named { String::new() } else { format!(" {}[{}]", clean(&thread.comm), thread.tid) }
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
    use crate::{fixtures, sample::Sample, tracker::Tracker};

    fn model(samples: &[Sample]) -> Model {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    }

    #[test]
    fn a_quiet_machine_has_nothing_to_say_about() {
        let verdict = of(&model(&fixtures::quiet()));
        assert_eq!(verdict.text, "None of 3 listeners refuses clients or keeps them waiting");
        assert_eq!((verdict.severity(), verdict.listener), (None, None));
        let mut blind = model(&fixtures::quiet());
        let mut hide = |measures: &[Measure]| {
            let hidden = blind.coverage.iter_mut().filter(|coverage| measures.contains(&coverage.measure));
            hidden.for_each(|coverage| coverage.status = Status::Unavailable);
            of(&blind).text
        };
        let text = hide(&[Measure::AcceptWait, Measure::OldestWaiting]);
        assert_eq!(text, "None of 3 listeners refuses clients; whether they wait cannot be measured here");
        assert_eq!(hide(&[Measure::Drops]), "Whether clients are refused cannot be measured here");
        let mut none = model(&fixtures::quiet());
        none.listeners.retain(|_| false);
        assert_eq!(of(&none).text, "No listener is open");
    }

    #[test]
    fn the_worst_listener_is_named_with_its_cause() {
        let mut machine = model(&fixtures::quiet());
        let ill = model(&fixtures::overflow()).listeners[0].clone();
        machine.listeners.push(ill.clone());
        let verdict = of(&machine);
        assert_eq!((verdict.harm, verdict.listener), (Harm::Refused, Some(ill.id)));
        assert_eq!(verdict.severity(), Some(Severity::Critical));
        assert!(verdict.text.starts_with("1 of 4 listeners refuses clients: 0.0.0.0:8080 demo-server[2201], its "));
        // A second one that only keeps clients waiting does not take its place.
        let mut waiting = ill.clone();
        waiting.id += 1;
        waiting.port = 9;
        waiting.findings.retain(|finding| !REFUSING.contains(&finding.id));
        waiting.findings.push(Finding {
            id: "hung_acceptor",
            severity: Severity::Critical,
            follows_from: None,
            until_unix_ms: None,
            ..ill.findings[0].clone()
        });
        machine.listeners.push(waiting);
        let both = of(&machine).text;
        assert!(
            both.starts_with(
                "1 of 5 listeners refuses clients, 1 keeps them waiting: the worst is 0.0.0.0:8080 demo-server[2201]"
            ),
            "{both}"
        );
    }

    #[test]
    fn a_shard_is_named_by_its_number() {
        let text = of(&model(&fixtures::dead_shard())).text;
        let says = "1 of 4 listeners refuses clients: 10.0.0.1:8443 shard 4 envoy[3300], this shard accepts nothing";
        assert!(text.starts_with(says), "{text}");
    }

    #[test]
    fn what_has_passed_or_closed_does_not_count() {
        let mut machine = model(&fixtures::overflow());
        machine.listeners[0].findings.iter_mut().for_each(|finding| finding.until_unix_ms = Some(1));
        let verdict = of(&machine);
        let did = "(until 00:00:00 UTC 0.0.0.0:8080 demo-server[2201] did)";
        assert_eq!(verdict.text, format!("The listener refuses no client and keeps none waiting {did}"));
        assert_eq!((verdict.severity(), verdict.listener), (None, Some(machine.listeners[0].id)));
        let mut machine = model(&fixtures::overflow());
        machine.listeners[0].closed = true;
        assert_eq!(of(&machine).text, "No listener is open");
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
