//! The processes of a lab. They die with the lab; the lab ends them in order and reaps them.

use super::hub::Incoming;
use super::namespace::Namespace;
use super::progress;
use super::terminal::Terminal;
use crate::sys::{handles, say};
use anyhow::{Context, anyhow};
use lab_control::{NAME_VARIABLE, ToLab, take_line};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Time that processes may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Number of events that may wait for the lab. Whoever sends more waits.
const ROOM: usize = 1024;
/// The longest line that a program may print. A server's counters have a row for each of its threads.
const LONGEST: usize = 16 << 20;

/// Number of lines of a program's stderr that are kept to explain its end.
const KEPT: usize = 20;

/// Begins the names of loads in messages: a server and its load may have the same name.
pub(super) const LOAD: &str = "load on ";

/// The purpose of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A demo server.
    Server,
    /// A load generator.
    Load,
    /// listentop, which runs in the foreground and in the namespaces of the lab's own process.
    Listentop,
    /// `listentop blame` beside it, where a lesson wants it.
    Blame,
}

/// An event that the lab waits for.
#[derive(Debug)]
pub(super) enum Event {
    /// A line on a process' stdout.
    Out(usize, String),
    /// A line on a process' stderr.
    Err(usize, String),
    /// A signal for the lab.
    Signal(Signal),
    /// Processes have ended and are reaped: the numbers of those that ended unexpectedly; a load may end by itself.
    Ended(Vec<usize>),
    /// From a connection to the control socket, with its number.
    Control(usize, Incoming),
}

/// A process of the lab.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in messages.
    pub(super) name: String,
    /// Its purpose.
    pub(super) kind: Kind,
    child: Child,
    /// Its exit status, once it has been reaped.
    pub(super) status: Option<ExitStatus>,
    /// Last line of its stdout.
    pub(super) last_out: Option<String>,
    /// All of its stdout, if it is [`Kind::Blame`]: its report has many lines.
    pub(super) out: String,
    /// Number of lines on its stdout.
    pub(super) printed: u64,
    /// Last lines of its stderr.
    pub(super) errors: VecDeque<String>,
    /// The lab has sent it a signal to end.
    ending: bool,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Member {
    /// Sends it a signal that it handles. Returns false if it has ended, or does not handle it yet: before its first
    /// lines of code the signal would end it.
    pub(super) fn ask(&self, signal: Signal) -> bool {
        self.status.is_none() && handles(self.pid(), signal) && kill(Pid::from_raw(self.pid() as i32), signal).is_ok()
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal that ends it.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.status.is_none() {
            self.ending = true;
            // It may have ended, but it is not reaped: no other process can have its id.
            let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
        }
    }

    /// Whether it has ended, and all that it printed was read.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some() && self.readers.iter().all(std::thread::JoinHandle::is_finished)
    }

    /// How it ended, for a message.
    pub(super) fn describe_end(&self) -> String {
        let end = match self.status {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => Signal::try_from(signal).map_or(format!("signal {signal}"), |s| s.to_string()),
                (None, None) => status.to_string(),
            },
            None => "still running".to_owned(),
        };
        match self.errors.back() {
            Some(line) => format!("{end}: {line}"),
            None => end,
        }
    }
}

/// All processes of the lab. Dropping it, also during a panic, ends listentop by a signal and kills the others.
#[derive(Debug)]
pub(super) struct Crew {
    /// In the order they were started.
    pub(super) members: Vec<Member>,
    /// The terminal, if there is a dashboard on it: then listentop's stderr is held back, otherwise it is passed on.
    terminal: Option<Terminal>,
    /// Variables that all programs get.
    pub(super) environment: Vec<(&'static str, String)>,
    /// The last report of listentop, and the number of its request.
    pub(super) report: Option<(u64, serde_json::Value)>,
    /// What listentop says is not passed on.
    pub(super) quiet: bool,
    sender: SyncSender<Event>,
    events: Receiver<Event>,
}

impl Crew {
    /// Without processes.
    pub(super) fn new() -> Self {
        let (sender, events) = sync_channel(ROOM);
        Self {
            members: Vec::new(),
            terminal: None,
            environment: Vec::new(),
            report: None,
            quiet: false,
            sender,
            events,
        }
    }

    /// For events from other sources.
    pub(super) fn sender(&self) -> SyncSender<Event> {
        self.sender.clone()
    }

    /// Forgets the processes, which have ended, and what they sent. `terminal` is the one on which listentop will show
    /// a dashboard.
    pub(super) fn begin(&mut self, terminal: Option<Terminal>) {
        if !self.members.is_empty() {
            // What came too late. The first lesson has nothing but signals to wait for.
            while self.next(Duration::ZERO).is_some() {}
            self.members.clear();
        }
        self.report = None;
        self.terminal = terminal;
    }

    /// Starts a process and returns its number. Servers and load get process groups of their own, so that the
    /// terminal's signals do not reach them.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) fn start(
        &mut self,
        kind: Kind,
        name: &str,
        mut command: Command,
        namespace: Option<&Namespace>,
    ) -> anyhow::Result<usize> {
        for (variable, value) in &self.environment {
            command.env(variable, value);
        }
        command.env(NAME_VARIABLE, name.strip_prefix(LOAD).unwrap_or(name));
        let death_signal = match kind {
            // Unlike SIGKILL, this lets it restore the terminal.
            Kind::Listentop | Kind::Blame => Signal::SIGTERM,
            Kind::Server | Kind::Load => Signal::SIGKILL,
        };
        command.stderr(Stdio::piped());
        if kind != Kind::Listentop {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        }
        let namespace = match namespace {
            Some(namespace) => Some(namespace.as_fd().try_clone_to_owned().context("dup")?),
            None => None,
        };
        let parent = getpid();
        let prepare = move || {
            nix::sys::prctl::set_pdeathsig(death_signal)?;
            SigSet::empty().thread_set_mask()?;
            if let Some(namespace) = &namespace {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
            }
            // The parent may have died before prctl was called.
            if getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        };
        // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(prepare) };
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let number = self.members.len();
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(self.read(out, move |line| Event::Out(number, line))?);
        }
        if let Some(err) = child.stderr.take() {
            readers.push(self.read(err, move |line| Event::Err(number, line))?);
        }
        self.members.push(Member {
            name: name.to_owned(),
            kind,
            child,
            status: None,
            last_out: None,
            out: String::new(),
            printed: 0,
            errors: VecDeque::new(),
            ending: false,
            readers,
        });
        Ok(number)
    }

    fn read(
        &self,
        stream: impl Read + Send + 'static,
        event: impl Fn(String) -> Event + Send + 'static,
    ) -> anyhow::Result<std::thread::JoinHandle<()>> {
        let sender = self.sender.clone();
        let read = move || {
            let mut stream = BufReader::new(stream);
            while let Ok(Some(line)) = take_line(&mut stream, LONGEST) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(event(text)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().spawn(read).context("cannot start a thread for what processes print")
    }

    /// The next event, if one comes in time. Keeps what processes print, and reaps those that have ended: whoever looks
    /// at an event finds the members as they are after it.
    pub(super) fn next(&mut self, timeout: Duration) -> Option<Event> {
        let event = match self.events.recv_timeout(timeout) {
            Ok(Event::Signal(Signal::SIGCHLD)) => Event::Ended(self.reap()),
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        match &event {
            Event::Out(number, line) => {
                let member = &mut self.members[*number];
                member.last_out = Some(line.clone());
                member.printed += 1;
                if member.kind == Kind::Blame {
                    member.out.push_str(line);
                    member.out.push('\n');
                }
            }
            Event::Err(number, line) => {
                let member = &mut self.members[*number];
                if self.terminal.is_none() && !self.quiet && member.kind == Kind::Listentop {
                    progress::erase();
                    say(line);
                }
                member.errors.push_back(line.clone());
                if member.errors.len() > KEPT {
                    member.errors.pop_front();
                }
            }
            Event::Control(_, Incoming::Message(ToLab::Report { number, report })) => {
                self.report = Some((*number, report.clone()));
            }
            Event::Signal(_) | Event::Ended(_) | Event::Control(..) => {}
        }
        Some(event)
    }

    /// Reaps processes that have ended. Returns the numbers of those that ended unexpectedly; a load may end by itself.
    fn reap(&mut self) -> Vec<usize> {
        let mut unexpected = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.status.is_none()
                && let Ok(Some(status)) = member.child.try_wait()
            {
                member.status = Some(status);
                // What it says, if it fails, is the reason why its figures are unknown.
                let may_end = member.kind == Kind::Blame || member.kind == Kind::Load && status.success();
                if !(member.ending || may_end) {
                    unexpected.push(number);
                }
            }
        }
        unexpected
    }

    /// Waits until everything that the ended processes printed has been read.
    fn collect(&mut self, kind: Kind) {
        let ended = |member: &&mut Member| member.kind == kind && member.status.is_some();
        let readers: Vec<_> =
            self.members.iter_mut().filter(ended).flat_map(|member| member.readers.drain(..)).collect();
        // They wait while there is no room for their events.
        while !readers.iter().all(std::thread::JoinHandle::is_finished) {
            self.next(Duration::from_millis(5));
        }
        while self.next(Duration::ZERO).is_some() {}
    }

    /// Ends all processes of a kind by SIGTERM, kills them after `patience`, and reaps them. Restores the terminal if
    /// listentop was killed.
    pub(super) fn end(&mut self, kind: Kind, patience: Duration) {
        let deadline = Instant::now() + patience;
        for member in self.members.iter_mut().filter(|member| member.kind == kind) {
            member.signal(Signal::SIGTERM);
        }
        while self.reap_kind(kind) {
            if Instant::now() >= deadline {
                for member in self.members.iter_mut().filter(|member| member.kind == kind && member.status.is_none()) {
                    say(format_args!("lab: {} did not end in time and was killed", member.name));
                    member.kill();
                }
                break;
            }
            // Their output and their end come as events.
            self.next(Duration::from_millis(20));
        }
        self.collect(kind);
        let killed = |member: &Member| member.status.is_some_and(|status| status.signal().is_some());
        if kind == Kind::Listentop
            && let Some(terminal) = &mut self.terminal
        {
            terminal.leave(self.members.iter().any(|member| member.kind == kind && killed(member)));
        }
    }

    /// Reaps processes. Returns whether any of this kind are left.
    fn reap_kind(&mut self, kind: Kind) -> bool {
        self.reap();
        self.members.iter().any(|member| member.kind == kind && member.status.is_none())
    }

    /// The error for a process that ended unexpectedly.
    pub(super) fn unexpected(&mut self, number: usize) -> anyhow::Error {
        let kind = self.members[number].kind;
        self.collect(kind);
        let member = &self.members[number];
        anyhow!("{} ended unexpectedly ({})", member.name, member.describe_end())
    }
}

impl Member {
    fn kill(&mut self) {
        if self.status.is_none() {
            self.ending = true;
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // The dashboard ends before the error message is printed, and restores the terminal itself.
        self.end(Kind::Listentop, PATIENCE);
        for member in &mut self.members {
            member.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(crew: &mut Crew, script: &str) -> usize {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        crew.start(Kind::Load, "load on test", command, None).unwrap()
    }

    /// Waits for events until `done`.
    fn until(crew: &mut Crew, done: impl Fn(&Member) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(&crew.members[0]) {
            assert!(Instant::now() < deadline, "{:?}", crew.members[0]);
            crew.next(Duration::from_millis(10));
        }
    }

    #[test]
    fn who_looks_at_an_end_finds_it_reaped() {
        let mut crew = Crew::new();
        let number = load(&mut crew, "echo '{}'");
        until(&mut crew, |load| load.printed == 1 && load.readers.iter().all(std::thread::JoinHandle::is_finished));
        // What it printed last was read, and its end is not known yet. It may be asked once more, and will not answer.
        assert!(crew.members[number].status.is_none());
        // Its stdout closes a moment before it can be reaped.
        while !std::fs::read_to_string(format!("/proc/{}/stat", crew.members[number].pid())).unwrap().contains(") Z ") {
        }
        crew.sender().send(Event::Signal(Signal::SIGCHLD)).unwrap();
        let event = crew.next(Duration::from_secs(20)).unwrap();
        assert!(matches!(&event, Event::Ended(unexpected) if unexpected.is_empty()), "{event:?}");
        assert!(crew.members[number].status.is_some_and(|status| status.success()));
    }

    #[test]
    fn only_who_handles_a_signal_is_asked() {
        let mut crew = Crew::new();
        let asked = load(&mut crew, "trap 'echo asked' USR1; echo ready; while :; do sleep 0.01; done");
        let deaf = load(&mut crew, "exec sleep 60");
        assert!(!crew.members[deaf].ask(Signal::SIGUSR1), "it would end");
        until(&mut crew, |load| load.printed == 1);
        assert!(crew.members[asked].ask(Signal::SIGUSR1));
        until(&mut crew, |load| load.last_out.as_deref() == Some("asked"));
        assert!(crew.reap().is_empty(), "nobody has ended");
    }
}
