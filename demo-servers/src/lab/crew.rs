//! The processes of a lab: started so that they die with it, ended in order, and reaped.

use super::namespace::Namespace;
use super::progress;
use super::terminal::Terminal;
use crate::sys::say;
use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long processes may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Lines of a program's stderr that are kept to explain its end.
const KEPT: usize = 20;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A demo server.
    Server,
    /// A load generator.
    Load,
    /// listentop, which runs in the foreground and in the lab's own namespaces.
    Listentop,
}

/// What the lab waits for.
#[derive(Debug)]
pub(super) enum Event {
    /// A line on a process' stdout.
    Out(usize, String),
    /// A line on a process' stderr.
    Err(usize, String),
    /// A signal for the lab.
    Signal(Signal),
}

/// A process of the lab.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in messages.
    pub(super) name: String,
    /// What it is there for.
    pub(super) kind: Kind,
    child: Child,
    /// Set when it was reaped.
    pub(super) status: Option<ExitStatus>,
    /// Last line of its stdout.
    pub(super) last_out: Option<String>,
    /// Last lines of its stderr.
    pub(super) errors: VecDeque<String>,
    /// The lab has told it to end.
    ending: bool,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Member {
    fn signal(&mut self, signal: Signal) {
        if self.status.is_none() {
            self.ending = true;
            // It may have ended meanwhile; it is not reaped yet, so nobody else has its id.
            let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
        }
    }

    /// Why it ended, for a message.
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

/// All processes of the lab. Dropping it, also while a panic unwinds, ends listentop in order and kills what else is
/// left.
#[derive(Debug)]
pub(super) struct Crew {
    /// In the order they were started.
    pub(super) members: Vec<Member>,
    /// As it was before the dashboard, if there is one: listentop's stderr would tear it, else it goes to the lab's.
    terminal: Option<Terminal>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Crew {
    /// No processes yet; with the terminal if listentop is going to be a dashboard on it.
    pub(super) fn new(terminal: Option<Terminal>) -> Self {
        let (sender, events) = channel();
        Self { members: Vec::new(), terminal, sender, events }
    }

    /// Where events that come from elsewhere are sent.
    pub(super) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Starts a process; one in a namespace gets a process group of its own, so that the terminal's signals pass it by.
    /// Its number is returned.
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
        let death_signal = match kind {
            // It gets the chance to put the terminal back.
            Kind::Listentop => Signal::SIGTERM,
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
            // The parent may have died before its death could be noticed.
            if getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
        };
        // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(prepare) };
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let number = self.members.len();
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(self.read(out, move |line| Event::Out(number, line)));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(self.read(err, move |line| Event::Err(number, line)));
        }
        self.members.push(Member {
            name: name.to_owned(),
            kind,
            child,
            status: None,
            last_out: None,
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
    ) -> std::thread::JoinHandle<()> {
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(event(text)).is_err() {
                    return;
                }
                line.clear();
            }
        })
    }

    /// The next event, if one comes in time. What processes print is remembered on the way.
    pub(super) fn next(&mut self, timeout: Duration) -> Option<Event> {
        let event = match self.events.recv_timeout(timeout) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        match &event {
            Event::Out(number, line) => self.members[*number].last_out = Some(line.clone()),
            Event::Err(number, line) => {
                let member = &mut self.members[*number];
                if self.terminal.is_none() && member.kind == Kind::Listentop {
                    progress::erase();
                    say(line);
                }
                member.errors.push_back(line.clone());
                if member.errors.len() > KEPT {
                    member.errors.pop_front();
                }
            }
            Event::Signal(_) => {}
        }
        Some(event)
    }

    /// Reaps what has ended. Numbers of the processes that ended without having been told to; a load may come to its
    /// end.
    pub(super) fn reap(&mut self) -> Vec<usize> {
        let mut unexpected = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.status.is_none()
                && let Ok(Some(status)) = member.child.try_wait()
            {
                member.status = Some(status);
                if !(member.ending || member.kind == Kind::Load && status.success()) {
                    unexpected.push(number);
                }
            }
        }
        unexpected
    }

    /// Waits until everything that ended processes have printed is remembered.
    fn collect(&mut self, kind: Kind) {
        for member in self.members.iter_mut().filter(|member| member.kind == kind && member.status.is_some()) {
            for reader in member.readers.drain(..) {
                // A panic there could only have lost output.
                let _ = reader.join();
            }
        }
        while self.next(Duration::ZERO).is_some() {}
    }

    /// Asks all processes of a kind to end, insists after `patience`, and reaps them. Puts the terminal back if
    /// listentop could not.
    pub(super) fn end(&mut self, kind: Kind, patience: Duration) {
        let deadline = Instant::now() + patience;
        for member in self.members.iter_mut().filter(|member| member.kind == kind) {
            member.signal(Signal::SIGTERM);
        }
        while self.reap_kind(kind) {
            if Instant::now() >= deadline {
                for member in self.members.iter_mut().filter(|member| member.kind == kind && member.status.is_none()) {
                    say(format_args!("lab: {} does not end and is killed", member.name));
                    member.kill();
                }
                break;
            }
            // Their output goes on, and their end comes as an event too.
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

    /// Reaps; whether processes of the kind are left.
    fn reap_kind(&mut self, kind: Kind) -> bool {
        self.reap();
        self.members.iter().any(|member| member.kind == kind && member.status.is_none())
    }

    /// The error that a process which ended too early means.
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
        // The dashboard goes before the message of whatever has failed comes. It can put the terminal back better than
        // anybody else.
        self.end(Kind::Listentop, PATIENCE);
        for member in &mut self.members {
            member.kill();
        }
    }
}
