//! The command line.

mod blame;
mod blaming;
mod chronicle;
mod completions;
mod config;
mod doctor;
mod events;
mod export;
mod feed;
mod filter;
mod limits;
mod man;
mod moment;
mod options;
mod progress;
mod record;
mod recorded;
mod replay;
mod report;
mod serve;
mod signals;
mod still;
mod top;
mod values;

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    process::ExitCode,
};

use anyhow::Context as _;
use caps::Capability;
use clap::{Parser as _, error::ErrorKind};

use crate::{
    dashboard,
    errors::{self, Shortage},
    output,
    rights::{
        self,
        sandbox::{self, Allowed},
    },
    say::{charset, say},
    source::{self, StartError, Started},
};
use options::{Cli, Command, Probing};

/// Success.
const OK: u8 = 0;
/// Failure; one line on stderr names it.
const FAILED: u8 = 1;
/// A wrong command line, or a filter that no listener can pass; one line on stderr explains it.
const UNUSABLE: u8 = 2;
/// Nothing can be measured on this machine, or by this user; one line on stderr explains why, and what would help.
const IMPOSSIBLE: u8 = 3;
/// `listentop doctor`: some measures are unavailable.
const PARTIAL: u8 = 4;
/// `listentop report`: no listener passed the filters. The report is printed.
const NOTHING_PASSED: u8 = 5;
/// Too few descriptors, threads or bytes of memory; one line on stderr says of what, and what would help.
const SHORT: u8 = crate::SHORT;
/// Whoever read standard output is gone, as with `| head`. A shell reports a program that SIGPIPE ended so, too.
const UNREAD: u8 = 128 + libc::SIGPIPE as u8;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[cfg_attr(not(feature = "blame"), expect(dead_code, reason = "only 'blame' can do less than the source"))]
    #[error("{0}")]
    Impossible(String),
    #[error("{0} cannot be written: {1}")]
    Output(&'static str, #[source] io::Error),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code.
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => UNUSABLE,
            Self::Output(_, error) if error.kind() == io::ErrorKind::BrokenPipe => UNREAD,
            _ if self.shortage().is_some() => SHORT,
            Self::Start(_) | Self::Impossible(_) => IMPOSSIBLE,
            Self::Output(..) | Self::Other(_) => FAILED,
        }
    }

    /// What there is too little of, if that is the reason.
    fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::Usage(_) | Self::Output(..) | Self::Impossible(_) => None,
            Self::Start(error) => error.shortage(),
            Self::Other(error) => Shortage::behind(&**error),
        }
    }

    /// What to say about it, in one line; nothing to someone who stopped reading on purpose.
    fn line(&self) -> Option<String> {
        if self.code() == UNREAD {
            return None;
        }
        let text = match self {
            Self::Other(error) => errors::chain(&**error),
            other => other.to_string(),
        };
        let text = errors::one_line(&text);
        Some(match self.shortage() {
            Some(shortage) if !text.contains(shortage.remedy()) => format!("{text}; {}", shortage.remedy()),
            _ => text,
        })
    }
}

/// Parses the command line and runs it. `listentop --help` lists the exit codes.
#[must_use]
pub fn main() -> ExitCode {
    // First: from the second thread on, a tracer of the same user could take what another thread may do.
    rights::tracers::keep_out();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match (cli.misplaced(), &cli.command) {
        (Some(option), _) => Err(Failure::Usage(option)),
        (None, None | Some(Command::Top(_))) => top::run(&cli),
        (None, Some(Command::Report(report))) => report::run(&cli, report),
        (None, Some(Command::Serve(serve))) => serve::run(&cli, serve),
        (None, Some(Command::Blame(blame))) => blame::run(&cli, blame),
        (None, Some(Command::Events(events))) => events::run(&cli, events),
        (None, Some(Command::Record(record))) => record::run(&cli, record),
        (None, Some(Command::Replay(replay))) => replay::run(&cli, replay),
        (None, Some(Command::Export(export))) => export::run(&cli, export),
        (None, Some(Command::Doctor(doctor))) => doctor::run(&cli, doctor),
        (None, Some(Command::Completions(completions))) => completions::run(completions),
        (None, Some(Command::Man(man))) => man::run(man),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failed(&failure),
    }
}

const OUT_OF_MEMORY: &str = "listentop: memory ran out; too little memory: raise 'ulimit -v', or lower --max-connections, \
    --max-listeners and --max-threads\n";

/// Ends the program because there is no memory left. It allocates nothing.
pub fn out_of_memory() -> ! {
    dashboard::give_back_at_once();
    output::last_words(io::stderr().as_fd(), OUT_OF_MEMORY);
    // SAFETY: it ends the process, without anything that would run at its end.
    unsafe { libc::_exit(SHORT.into()) }
}

/// Says why, and returns the exit code for it.
fn failed(failure: &Failure) -> ExitCode {
    if let Some(line) = failure.line() {
        say(format_args!("listentop: {line}"));
    }
    ExitCode::from(failure.code())
}

/// Descriptors that the runtime opens: epoll, its waker, and a pair of sockets for signals, with copies.
const OF_THE_RUNTIME: usize = 8;

/// The runtime, to be made before the source: while this is the only thread, nobody else takes the descriptors that are
/// found to be free. tokio panics if it cannot open its sockets for signals.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    limits::raise();
    let free: io::Result<Vec<_>> = (0..OF_THE_RUNTIME).map(|_| std::fs::File::open("/dev/null")).collect();
    drop(free.context("cannot start the runtime")?);
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// Starts the source, gives up the privileges that only the start required, and turns the sandbox on, in which the
/// command goes on doing what is `allowed`. If it is not the best source, one line on stderr explains why, and what
/// would help.
fn start(probing: &Probing, allowed: &Allowed) -> Result<Started, Failure> {
    start_with(&probing.options(), probing.no_sandbox, allowed)
}

/// As [`start`], with options that the command has changed.
fn start_with(options: &source::Options, no_sandbox: bool, allowed: &Allowed) -> Result<Started, Failure> {
    start_and(options, no_sandbox, allowed, |_| ()).map(|(started, ())| started)
}

/// As [`start_with`]; `then` starts what needs the privileges, too, and keeps some.
fn start_and<T>(
    options: &source::Options,
    no_sandbox: bool,
    allowed: &Allowed,
    then: impl FnOnce(&mut dyn source::Source) -> T,
) -> Result<(Started, T), Failure> {
    limits::raise();
    let mut started = source::start(options)?;
    if let Some(notice) = &started.notice {
        say(format_args!("listentop: {}", errors::one_line(notice)));
    }
    let with = then(&mut *started.source);
    let kept = rights::drop_after_attach(allowed.changes_level).map_err(anyhow::Error::new)?;
    if !no_sandbox {
        sandbox::confine(allowed, kept.contains(&Capability::CAP_SYS_PTRACE));
    }
    Ok((started, with))
}

/// Prints help and version as clap does, but a mistake in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // With the weights of clap on a terminal, without them elsewhere.
        let text = error.render();
        let text = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        return match print("standard output", &charset().of_text(&text)) {
            Ok(()) => ExitCode::from(OK),
            Err(failure) => failed(&failure),
        };
    }
    let text = error.to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let line = first.join(" ");
    failed(&Failure::Usage(format!("{} (try 'listentop --help')", line.trim_start_matches("error: "))))
}

/// Prints `what`.
fn print(what: &'static str, text: &str) -> Result<(), Failure> {
    output::print(text).map_err(|error| Failure::Output(what, error))
}
