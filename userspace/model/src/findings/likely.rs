//! What is said of those who probably should accept, where nobody was seen accepting.

use std::collections::BTreeMap;

use super::{
    FindingInput, plural,
    stall::{look_at, place},
};
use crate::{
    model::{LikelyAcceptor, LikelyBy},
    words::prose::{agree, counted},
};

/// Places that are told apart, and threads that are named: more are a number.
const PLACES: usize = 3;
const NAMED: usize = 8;

/// One thread or several of which one should accept. There is one at least.
pub(super) struct Likely<'a>(&'a [LikelyAcceptor]);

impl<'a> Likely<'a> {
    /// Those of the listener; `None` where an acceptor was seen, or where nothing can be inferred.
    pub(super) fn of(input: &FindingInput<'a>) -> Option<Self> {
        if input.acceptors().next().is_some() {
            return None;
        }
        input.listener.likely_acceptors.as_deref().filter(|likely| !likely.is_empty()).map(Self)
    }

    /// How many there are, for the evidence.
    pub(super) fn evidence(&self) -> (&'static str, f64) {
        ("likely_acceptors", self.0.len() as f64)
    }

    /// The reason of all of them: the weakest, if they differ.
    fn by(&self) -> LikelyBy {
        self.0.iter().map(|one| one.by).max().unwrap_or(LikelyBy::OneOfSeveral)
    }

    /// Whether they are certain to accept, because they were seen doing so before.
    fn certain(&self) -> bool {
        self.by() == LikelyBy::Accepted
    }

    /// What they do, as a further sentence, now and in the past tense.
    pub(super) fn state(&self) -> [String; 2] {
        let probably = if self.certain() { "" } else { "probably " };
        match self.0 {
            [one] => {
                let name = name(one);
                let Some(place) = one.state.as_ref().map(place) else {
                    let verb = if self.certain() { "should" } else { "probably should" };
                    return ["accept", "have accepted"].map(|accept| format!(" {name} {verb} {accept} them."));
                };
                ["is", "was"].map(|verb| format!(" {name}, which {probably}should accept, {verb} {place}."))
            }
            several => {
                let (count, places) = (plural(several.len() as u64, "thread"), self.places());
                ["should accept", "should have accepted"]
                    .map(|accept| format!(" One of {count} {probably}{accept} them: {places}."))
            }
        }
    }

    /// Where they are, with a count for each place, the most common one first.
    fn places(&self) -> String {
        let unknown = || "where it cannot be read".to_owned();
        let counts = counted(self.0.iter().map(|one| one.state.as_ref().map_or_else(unknown, place)));
        let rest: u64 = counts.iter().skip(PLACES).map(|(_, count)| count).sum();
        let mut told: Vec<String> =
            counts.iter().take(PLACES).map(|(place, count)| format!("{count} {place}")).collect();
        if rest > 0 {
            told.push(format!("{rest} elsewhere"));
        }
        told.join("; ")
    }

    /// What to do.
    pub(super) fn advice(&self) -> String {
        let (because, look, causes) = (self.by().because(self.0.len() > 1), self.look(), self.causes());
        let probably = if self.certain() { "" } else { "probably " };
        match self.0 {
            [one] => format!("{} {probably}should accept: {because}. {look} {causes}", name(one)),
            several => format!(
                "One of {} {probably}should accept, {}: {because}. {look} {causes}",
                plural(several.len() as u64, "thread"),
                names(several)
            ),
        }
    }

    /// A line to copy that shows what they do, or wakes them.
    pub(super) fn look(&self) -> String {
        let [first, others @ ..] = self.0 else { return String::new() };
        if others.is_empty() {
            return look_at(first.pid, first.tid, first.state.as_ref());
        }
        let mut pids: Vec<u32> = self.0.iter().map(|one| one.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        if self.0.iter().all(|one| letter(one) == Some('T')) {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            return format!("Let them go on: kill -CONT {}.", pids.join(" "));
        }
        if let [pid] = pids[..] {
            return format!("Look: strace -f -p {pid}, or gdb -p {pid} -batch -ex 'thread apply all backtrace'.");
        }
        let threads: Vec<String> = self.0.iter().take(NAMED).map(|one| format!("-p {}", one.tid)).collect();
        let beyond = if self.0.len() > NAMED { format!(" (the first {NAMED})") } else { String::new() };
        format!("Look: strace {}{beyond}, or gdb -p {} -batch -ex 'backtrace'.", threads.join(" "), first.pid)
    }

    /// What makes a thread hang so.
    fn causes(&self) -> String {
        match self.0 {
            [one] if letter(one) == Some('R') => {
                format!("It takes a CPU, or waits for one: perf top -t {} shows for what.", one.tid)
            }
            several if several.iter().all(|one| letter(one) == Some('R')) => {
                "They take CPUs, or wait for one: perf top shows for what.".to_owned()
            }
            _ => "Usual causes are a lock, a blocking call or a stopped process.".to_owned(),
        }
    }
}

fn letter(one: &LikelyAcceptor) -> Option<char> {
    one.state.as_ref().map(|state| state.letter)
}

/// `srv (thread 7)`.
fn name(one: &LikelyAcceptor) -> String {
    format!("{} (thread {})", one.comm, one.tid)
}

/// `srv (threads 7 and 8)`, for each name.
fn names(several: &[LikelyAcceptor]) -> String {
    let mut of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in several.iter().take(NAMED) {
        of.entry(&one.comm).or_default().push(one.tid.to_string());
    }
    let mut told: Vec<String> = of
        .into_iter()
        .map(|(comm, tids)| format!("{comm} ({} {})", agree(tids.len() as u64, "thread", "threads"), tids.join(", ")))
        .collect();
    if let Some(rest) = several.len().checked_sub(NAMED).filter(|rest| *rest > 0) {
        told.push(format!("{rest} more"));
    }
    told.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{dead_shard, hung_acceptor, support::Case},
        *,
    };
    use crate::{sample::ThreadState, words::verdict::command};

    #[expect(clippy::unnecessary_wraps, reason = "the field that it is for is an Option")]
    fn state(letter: char, wchan: &str, syscall: &str) -> Option<ThreadState> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(ThreadState { letter, wchan: some(wchan), syscall: some(syscall), kernel_stack: Vec::new() })
    }

    fn one(tid: u32, by: LikelyBy, state: Option<ThreadState>) -> LikelyAcceptor {
        LikelyAcceptor { pid: tid, tid, comm: "worker".to_owned(), by, state }
    }

    fn stalled(likely: Vec<LikelyAcceptor>) -> Case {
        Case::with(|case| {
            case.listener.now.accept_depth = 4;
            case.listener.now.oldest_waiting_us = Some(1_500_000);
            case.listener.likely_acceptors = Some(likely);
        })
    }

    /// Summary, advice, what is copied, and how many evidence names.
    fn told(case: &Case) -> (String, String, String, Option<f64>) {
        let found = case.find(&hung_acceptor::KIND).expect("it hangs");
        let count = found.evidence.iter().find(|(name, _)| *name == "likely_acceptors").map(|(_, count)| *count);
        let copied = command(&found.advice).unwrap_or_default().to_owned();
        (found.summary, found.advice, copied, count)
    }

    #[test]
    fn a_stopped_worker_is_named_and_not_its_master() {
        let case = stalled(vec![one(9, LikelyBy::Waits, state('T', "do_signal_stop", "epoll_wait"))]);
        let (summary, advice, copied, count) = told(&case);
        assert_eq!(
            summary,
            "Nothing was accepted for 10.0 s, while 4 connections wait, the oldest for 1.5 s. worker (thread 9), which \
             probably should accept, is stopped by a signal (state T) in do_signal_stop, system call epoll_wait."
        );
        assert!(
            advice.starts_with(
                "worker (thread 9) probably should accept: it waits at the socket or polls it, and accepted nothing since the start. "
            ),
            "{advice}"
        );
        assert_eq!((copied.as_str(), count), ("kill -CONT 9", Some(1.0)));
        let past = case.find(&hung_acceptor::KIND).and_then(|found| found.past).expect("it is remembered");
        assert!(
            past.summary.ends_with(
                "which probably should accept, was stopped by a signal (state T) in do_signal_stop, \
                                        system call epoll_wait."
            ),
            "{}",
            past.summary
        );
    }

    #[test]
    fn the_thread_that_sleeps_is_named_with_the_reason() {
        let sleeps = state('S', "hrtimer_nanosleep", "clock_nanosleep");
        let (summary, advice, copied, _) = told(&stalled(vec![one(9, LikelyBy::NotParked, sleeps)]));
        assert!(summary.contains("is asleep (state S) in hrtimer_nanosleep, system call clock_nanosleep"), "{summary}");
        assert!(advice.contains("its other threads are parked on futexes"), "{advice}");
        assert_eq!(copied, "strace -p 9");
        let (_, advice, copied, _) = told(&stalled(vec![one(9, LikelyBy::OnlyThread, state('R', "", ""))]));
        assert!(advice.ends_with("perf top -t 9 shows for what. A larger backlog changes nothing."), "{advice}");
        assert_eq!(copied, "strace -p 9");
        let (summary, ..) = told(&stalled(vec![one(9, LikelyBy::OnlyThread, None)]));
        assert!(summary.ends_with("1.5 s. worker (thread 9) probably should accept them."), "{summary}");
    }

    #[test]
    fn several_are_counted_by_place() {
        let sleeps = |tid, place| one(tid, LikelyBy::OnlyThread, state('S', place, ""));
        let mut likely = vec![sleeps(5, "a"), sleeps(6, "b"), sleeps(7, "b"), sleeps(8, "c"), sleeps(9, "d")];
        likely.push(one(10, LikelyBy::OnlyThread, None));
        let (summary, advice, copied, count) = told(&stalled(likely));
        assert!(
            summary.ends_with(
                "One of 6 threads probably should accept them: 2 asleep (state S) in b; 1 asleep (state S) in a; 1 asleep \
                 (state S) in c; 2 elsewhere."
            ),
            "{summary}"
        );
        assert!(
            advice.starts_with(
                "One of 6 threads probably should accept, worker (threads 5, 6, 7, 8, 9, 10): their processes hold the socket"
            ),
            "{advice}"
        );
        assert_eq!((copied.as_str(), count), ("strace -p 5 -p 6 -p 7 -p 8 -p 9 -p 10", Some(6.0)));
    }

    #[test]
    fn threads_of_one_process_and_stopped_ones_have_one_line() {
        let of_one = |tid| LikelyAcceptor { pid: 5, ..one(tid, LikelyBy::OneOfSeveral, state('S', "x", "")) };
        let (_, advice, copied, _) = told(&stalled(vec![of_one(5), of_one(6)]));
        assert_eq!(copied, "strace -f -p 5");
        assert!(advice.contains("nothing tells which should"), "{advice}");
        let stopped = |tid| one(tid, LikelyBy::Waits, state('T', "do_signal_stop", ""));
        let (_, _, copied, _) = told(&stalled(vec![stopped(5), stopped(6)]));
        assert_eq!(copied, "kill -CONT 5 6");
        let many: Vec<LikelyAcceptor> = (1..=12).map(|tid| one(tid, LikelyBy::OnlyThread, None)).collect();
        let (_, advice, copied, _) = told(&stalled(many));
        assert!(advice.contains("worker (threads 1, 2, 3, 4, 5, 6, 7, 8) and 4 more"), "{advice}");
        assert_eq!(copied, "strace -p 1 -p 2 -p 3 -p 4 -p 5 -p 6 -p 7 -p 8");
    }

    #[test]
    fn who_accepted_before_the_interval_is_not_probable_but_known() {
        let (summary, advice, ..) = told(&stalled(vec![one(9, LikelyBy::Accepted, state('S', "x", ""))]));
        assert!(summary.ends_with("worker (thread 9), which should accept, is asleep (state S) in x."), "{summary}");
        assert!(advice.starts_with("worker (thread 9) should accept: it accepted before this interval"), "{advice}");
    }

    #[test]
    fn it_never_stands_where_an_acceptor_was_seen() {
        let mut case = stalled(vec![one(9, LikelyBy::OnlyThread, None)]);
        case.listener.threads[1].accepts = 1;
        let (summary, advice, _, count) = told(&case);
        assert!(!summary.contains("probably") && advice.starts_with("srv (thread 2) accepted before"), "{advice}");
        assert_eq!(count, None);
    }

    #[test]
    fn of_a_dead_shard_it_is_said_too() {
        let mut case = stalled(vec![one(9, LikelyBy::OnlyThread, state('T', "do_signal_stop", ""))]);
        case.shard();
        let found = case.find(&dead_shard::KIND).expect("the others accept");
        assert!(
            found.summary.contains("worker (thread 9), which probably should accept, is stopped"),
            "{}",
            found.summary
        );
        assert_eq!(command(&found.advice), Some("kill -CONT 9"));
    }
}
