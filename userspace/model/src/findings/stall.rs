//! Connections that wait too long, and why nobody takes them.

use super::{
    FindingInput, HOLD_US, HUNG_US,
    activity::{self, Lately},
    cpu_starved_acceptor, duration, percent, plural,
};
use crate::{
    catalogue::thresholds,
    model::{ListenerModel, ThreadModel, ThreadState},
    words::prose::grouped,
};

thresholds! {
    /// A thread that takes this share of a CPU works, even if it neither reads nor writes.
    BUSY_CPU: f64 = 0.05, Share;
    /// After so long without an accept the CPU time that a thread used tells whether it works. It is read every second,
    /// so what was read up to a second after the last accept may be of before.
    CPU_TELLS_US: u64 = 3_000_000, Micros;
}

/// How old a CPU time may be when it is looked at.
const CPU_READ_US: u64 = 1_000_000;

/// What keeps connections waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Accepts fail.
    Failing,
    /// The threads that accept do other work.
    Busy,
    /// Nobody accepts, nor waits to.
    Gone,
    /// The threads that accept wait for something else: the program has stopped asking.
    Paused,
    /// The threads that accept do nothing.
    Stuck,
}

/// Connections wait longer than `HUNG_US`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    /// How long the oldest has waited.
    pub(super) oldest_us: u64,
    pub(super) why: Why,
    /// Whether an acceptor was at work in the recent span. One that is busy may pause for a moment.
    pub(super) at_work: bool,
}

impl<'a> FindingInput<'a> {
    /// Whether connections wait too long to be accepted, and why. `None` too where accepts are not measured.
    pub(super) fn stall(&self) -> Option<Stall> {
        let l = self.listener;
        let oldest_us = l.now.oldest_waiting_us.filter(|us| *us > HUNG_US && !l.closed)?;
        let accepts = l.rate.accepts?;
        let at_work = accepts > 0.0 || self.acceptors().any(|thread| self.works_since(thread, oldest_us));
        if at_work && oldest_us < self.recent_us() {
            return None; // it may have worked before the oldest one came
        }
        let why = if self.activity.fails(true, self.now_us()) {
            Why::Failing
        } else if self.is_paused(oldest_us) {
            Why::Paused
        } else if at_work || self.worked_lately(oldest_us) {
            Why::Busy
        } else if self.nobody_waits() {
            Why::Gone
        } else {
            Why::Stuck
        };
        Some(Stall { oldest_us, why, at_work })
    }

    /// Whether an acceptor was at work a moment ago, in this stall, and may be again in a moment: what comes and goes
    /// keeps its name. One that a signal or a debugger has stopped does not go on.
    fn worked_lately(&self, oldest_us: u64) -> bool {
        let goes_on = |t: &ThreadModel| !t.state.as_ref().is_some_and(|state| matches!(state.letter, 'T' | 't'));
        self.without_work_us().is_some_and(|ago| ago <= HOLD_US.min(oldest_us)) && self.acceptors().any(goes_on)
    }

    /// How long ago an acceptor was last at work while connections waited too long, at most; `None` if it never was.
    pub(super) fn without_work_us(&self) -> Option<u64> {
        // When it was last seen at work, that was in the recent span.
        Some(self.memory.seen_at_work_us_ago(self.now_us())? + self.recent_us())
    }

    /// A stall for this reason.
    pub(super) fn stalled(&self, why: Why) -> Option<Stall> {
        self.stall().filter(|stall| stall.why == why)
    }

    /// Whether the listener is stuck or abandoned while other shards of its group accept.
    pub(super) fn is_dead_shard(&self) -> bool {
        self.group.is_some_and(|group| group.open.accepts_per_second > 0.0)
            && self.stall().is_some_and(|stall| matches!(stall.why, Why::Stuck | Why::Gone))
    }

    /// The living threads that accept, the one with most accepts first.
    pub(super) fn acceptors(&self) -> impl Iterator<Item = &'a ThreadModel> {
        activity::acceptors(self.listener)
    }

    /// For how long nothing was accepted, at least.
    pub(super) fn quiet_us(&self) -> u64 {
        self.activity.without_accept_us(self.now_us())
    }

    /// The length of the recent span, in microseconds.
    pub(super) fn recent_us(&self) -> u64 {
        (self.interval.recent_seconds * 1e6).round() as u64
    }

    /// What a thread did in the last seconds, as far as that is known.
    pub(super) fn lately(&self, thread: &ThreadModel) -> Option<Lately> {
        self.activity.lately(thread, CPU_TELLS_US, self.now_us())
    }

    /// Whether no thread accepts or may wake up for a connection. A listener from before the interval may have an
    /// acceptor that is busy elsewhere and was never seen, unless one is known to have ended.
    fn nobody_waits(&self) -> bool {
        let l = self.listener;
        let history_is_known = l.opened_in_interval || l.threads.iter().any(|t| t.ended && t.accepts > 0);
        history_is_known && l.waiters.as_ref().is_some_and(Vec::is_empty) && self.acceptors().next().is_none()
    }

    /// Writes per second in the recent span, which may be a little longer, but not than `most_us`.
    fn writes_per_second(&self, thread: &ThreadModel, most_us: u64) -> f64 {
        let lately = self.activity.since(thread, self.recent_us(), most_us, self.now_us());
        let lately = lately.filter(|lately| lately.span_us > 0);
        lately.map_or(0.0, |lately| lately.writes as f64 * 1e6 / lately.span_us as f64)
    }

    /// Whether the thread was at work in the recent span, while a connection waits that came `oldest_us` ago. What it
    /// did before is not the stall's: a thread may answer a request and then hang.
    pub(super) fn works_since(&self, thread: &ThreadModel, oldest_us: u64) -> bool {
        let counted = [thread.accepts_per_second, thread.reads_per_second, self.writes_per_second(thread, oldest_us)];
        let runs = match &thread.state {
            Some(state) => state.letter == 'R',
            // One that waits for a CPU has work.
            None => {
                self.lately(thread).is_some_and(cpu_starved_acceptor::is_starved)
                    || self.quiet_us() >= CPU_TELLS_US
                        && self.cpu_since_quiet(thread).is_some_and(|share| share >= BUSY_CPU)
            }
        };
        counted.into_iter().any(|rate| rate > 0.0) || runs
    }

    /// The share of a CPU that the thread took lately, without what it may have used before the last accept.
    fn cpu_since_quiet(&self, thread: &ThreadModel) -> Option<f64> {
        let certain_us = self.quiet_us().saturating_sub(CPU_READ_US);
        self.activity.since(thread, CPU_TELLS_US - CPU_READ_US, certain_us, self.now_us())?.on_cpu()
    }

    /// What the thread did in the recent span: `12 accepts, 10 reads and 10 writes per second, 98% of a CPU`.
    pub(super) fn work(&self, thread: &ThreadModel) -> String {
        let count = |rate: f64, noun| match rate.round() as u64 {
            0 if rate > 0.0 => format!("under 1 {noun}"),
            count => plural(count, noun),
        };
        let cpu = self.lately(thread).and_then(|lately| lately.on_cpu());
        let cpu = cpu.map_or(String::new(), |share| format!(", {} of a CPU", percent(share)));
        format!(
            "{}, {} and {} per second{cpu}",
            count(thread.accepts_per_second, "accept"),
            count(thread.reads_per_second, "read"),
            count(self.writes_per_second(thread, u64::MAX), "write")
        )
    }
}

/// The thread in words: `srv (thread 7)`.
pub(super) fn name(thread: &ThreadModel) -> String {
    format!("{} (thread {})", thread.comm, thread.tid)
}

/// Where a thread is, as far as it can be read: `asleep in futex_wait_queue (system call futex)`.
pub(super) fn whereabouts(thread: &ThreadModel) -> Option<String> {
    thread.state.as_ref().map(place)
}

/// A thread's state in the same words.
pub(super) fn place(state: &ThreadState) -> String {
    let doing = match state.letter {
        'R' => "running or ready to run",
        'S' => "asleep",
        'D' => "asleep and cannot be interrupted",
        'T' => "stopped by a signal",
        't' => "stopped by a debugger",
        'Z' | 'X' => "ended",
        'I' => "idle",
        _ => "in a state of its own",
    };
    let wchan = state.wchan.as_ref().map_or(String::new(), |wchan| format!(" in {wchan}"));
    let syscall = state.syscall.as_ref().map_or(String::new(), |syscall| format!(", system call {syscall}"));
    format!("{doing} (state {}){wchan}{syscall}", state.letter)
}

/// A line to copy that shows what the thread does, or wakes it.
pub(super) fn look(thread: &ThreadModel) -> String {
    look_at(thread.pid, thread.tid, thread.state.as_ref())
}

/// The same, of any thread.
pub(super) fn look_at(pid: u32, tid: u32, state: Option<&ThreadState>) -> String {
    let stack = match state.map(|state| &state.kernel_stack[..]) {
        Some([]) | None => String::new(),
        Some(stack) => format!(" Its kernel stack: {}.", stack.join(" < ")),
    };
    match state.map(|state| state.letter) {
        Some('T') => format!("Let it go on: kill -CONT {pid}.{stack}"),
        Some('t') => format!("Let the debugger go on, or find it: grep TracerPid /proc/{pid}/status.{stack}"),
        _ => format!("Look: strace -p {tid}, or gdb -p {pid} -batch -ex 'thread apply all backtrace'.{stack}"),
    }
}

/// The same for a listener of which no acceptor is known.
pub(super) fn look_at_owner(l: &ListenerModel) -> String {
    let pid = l.process.as_ref().map(|process| process.pid);
    pid.map_or(String::new(), |pid| {
        format!("Look: strace -f -p {pid}, or gdb -p {pid} -batch -ex 'thread apply all backtrace'.")
    })
}

/// `4 connections wait, the oldest for 1.5 s`; the same in the past tense.
pub(super) fn waiting(depth: u32, oldest_us: u64) -> [String; 2] {
    let oldest = duration(oldest_us);
    match depth {
        1 => [format!("1 connection waits, for {oldest}"), format!("1 connection waited, for {oldest}")],
        n => [
            format!("{} connections wait, the oldest for {oldest}", grouped(n.into())),
            format!("{} connections waited, the oldest for {oldest}", grouped(n.into())),
        ],
    }
}
