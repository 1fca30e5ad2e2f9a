//! `lab`: starts servers, load and listentop together, and ends them together.

mod crew;
pub mod namespace;
pub mod options;
mod progress;
mod results;
pub mod scenarios;
mod terminal;

use crate::cli::usage;
use crate::sys::{block, say};
use anyhow::{Context, anyhow, bail};
use crew::{Crew, Event, Kind, PATIENCE};
use namespace::Namespace;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use options::{Format, Options};
use progress::Progress;
use scenarios::{Scenario, Server};
use std::io::{IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use terminal::Terminal;

/// Time that servers may take until they listen.
const LISTEN: Duration = Duration::from_secs(5);
/// Time that listentop may take to attach its probes, before a headless run fails.
const ATTACH: Duration = Duration::from_secs(60);
/// Time that the load waits for the dashboard to report that it measures. On a terminal it need not report that.
const DASHBOARD: Duration = Duration::from_secs(2);
/// Time to read what to look for, before the dashboard covers it.
const READING: Duration = Duration::from_secs(2);

/// The programs of a lab.
struct Programs {
    demo_server: PathBuf,
    stress: PathBuf,
    listentop: PathBuf,
}

impl Programs {
    fn find(options: &Options) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find the lab's own program file")?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let programs = Self {
            demo_server: beside.join("demo-server"),
            stress: beside.join("stress"),
            listentop: options.listentop.clone().unwrap_or_else(|| beside.join("listentop")),
        };
        for program in [&programs.demo_server, &programs.stress, &programs.listentop] {
            if !program.is_file() {
                return Err(usage(format!("{} does not exist: `cargo xtask demo` builds it", program.display())));
            }
        }
        Ok(programs)
    }
}

/// Shows a scenario until listentop ends.
///
/// # Errors
/// An unknown scenario, a user other than root, a program that is missing or that ended unexpectedly. All processes end
/// in any case.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.list {
        let mut stdout = std::io::stdout().lock();
        for scenario in scenarios::ALL {
            writeln!(stdout, "{:<12} {}", scenario.name, scenario.summary).context("cannot write to stdout")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scenario = scenarios::find(options.scenario.as_deref().unwrap_or(scenarios::DEFAULT))?;
    let programs = Programs::find(options)?;
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !options.headless && !on_terminal {
        return Err(usage("the dashboard needs a terminal: use --headless for a report"));
    }
    let mut crew = Crew::new((!options.headless).then(Terminal::save));
    follow_signals(crew.sender())?;
    show(&mut crew, options, scenario, &programs)
}

/// Signals that end the lab: all that would end it without restoring the terminal.
const ENDING: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Turns the lab's signals into events.
fn follow_signals(sender: Sender<Event>) -> anyhow::Result<()> {
    // SIGTTOU: putting the terminal back must not stop a lab in the background.
    let mask = block(&[&ENDING[..], &[Signal::SIGCHLD, Signal::SIGTTOU]].concat())?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    let follow = move || {
        while let Ok(Some(signal)) = signals.read_signal() {
            let Ok(signal) = Signal::try_from(signal.ssi_signo as i32) else { continue };
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().spawn(follow).context("cannot start a thread for signals")?;
    Ok(())
}

/// Why a wait ended.
enum Outcome {
    /// The expected event came, or the time was over.
    Done,
    /// listentop ended.
    ListentopEnded,
    /// The lab received a signal to end.
    Signalled(Signal),
}

/// Waits until `done` is true for an event, listentop ends, a signal comes, or the deadline is over.
///
/// # Errors
/// A server or load generator ended unexpectedly.
fn wait(crew: &mut Crew, deadline: Option<Instant>, mut done: impl FnMut(&Event) -> bool) -> anyhow::Result<Outcome> {
    loop {
        let left =
            deadline.map_or(Duration::from_secs(3600), |deadline| deadline.saturating_duration_since(Instant::now()));
        let event = crew.next(left);
        match event {
            Some(event) if done(&event) => return Ok(Outcome::Done),
            Some(Event::Signal(Signal::SIGCHLD)) => {
                let ended = crew.reap();
                if let Some(&number) = ended.iter().find(|&&number| crew.members[number].kind != Kind::Listentop) {
                    return Err(crew.unexpected(number));
                }
                if !ended.is_empty() {
                    return Ok(Outcome::ListentopEnded);
                }
            }
            Some(Event::Signal(signal)) if ENDING.contains(&signal) => return Ok(Outcome::Signalled(signal)),
            Some(_) => {}
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(Outcome::Done),
            None => {}
        }
    }
}

fn show(crew: &mut Crew, options: &Options, scenario: &Scenario, programs: &Programs) -> anyhow::Result<ExitCode> {
    let cookies = options.cookies.unwrap_or(scenario.cookies).value();
    let abort = if options.abort_on_overflow { "1" } else { "0" };
    let namespace = Namespace::create(&[
        ("net/ipv4/tcp_syncookies", cookies),
        ("net/ipv4/tcp_abort_on_overflow", abort),
        // The clients may use all ports.
        ("net/ipv4/ip_local_port_range", "10000 65535"),
    ])?;
    let servers = (scenario.servers)(options);
    say(format_args!("{}: {}", scenario.name, scenario.summary));
    for line in scenario.look_for {
        say(format_args!("  {line}"));
    }
    if let Some(signal) = start_servers(crew, programs, &servers, &namespace)? {
        return Ok(exit_status(signal));
    }
    if !options.headless
        && let Outcome::Signalled(signal) = wait(crew, Some(Instant::now() + READING), |_| false)?
    {
        return Ok(exit_status(signal));
    }
    let outcome = measure(crew, options, programs, &servers, &namespace)?;

    // The load ends before the servers: otherwise its connections would fail.
    crew.end(Kind::Listentop, PATIENCE);
    crew.end(Kind::Load, PATIENCE);
    crew.end(Kind::Server, PATIENCE);
    if let Some(listentop) = crew.members.iter().find(|member| member.kind == Kind::Listentop) {
        if !options.headless {
            // Held back until now, because it would have overwritten the dashboard.
            for line in listentop.errors.iter().filter(|line| *line != "measuring") {
                say(line);
            }
        }
        let died = listentop.status.is_some_and(|status| status.signal().is_some());
        if died && matches!(outcome, Outcome::ListentopEnded) {
            say(format_args!("lab: listentop ended by {}", listentop.describe_end()));
        }
    }
    say(results::describe(crew).trim_end());
    Ok(match outcome {
        Outcome::Signalled(signal) => exit_status(signal),
        // --for is over. That is a success, even if listentop's exit status after SIGTERM is not 0.
        Outcome::Done => ExitCode::SUCCESS,
        Outcome::ListentopEnded => listentop_status(crew),
    })
}

/// Starts the servers and waits until they listen. Returns a signal that came meanwhile.
fn start_servers(
    crew: &mut Crew,
    programs: &Programs,
    servers: &[Server],
    namespace: &Namespace,
) -> anyhow::Result<Option<Signal>> {
    for server in servers {
        let mut command = Command::new(&programs.demo_server);
        command.args(["--port", &server.port.to_string(), "--name", &server.name]).args(&server.arguments);
        crew.start(Kind::Server, &server.name, command, Some(namespace))?;
    }
    let deadline = Instant::now() + LISTEN;
    let mut ready = 0;
    let outcome = wait(crew, Some(deadline), |event| {
        // A server prints its first line when it listens.
        ready += usize::from(matches!(event, Event::Out(..)));
        ready == servers.len()
    })?;
    match outcome {
        Outcome::Signalled(signal) => Ok(Some(signal)),
        _ if ready < servers.len() => bail!("the servers do not listen within {} s", LISTEN.as_secs()),
        _ => Ok(None),
    }
}

/// Starts listentop and, when it measures, the load. Returns when listentop ends, the time is over, or a signal comes.
fn measure(
    crew: &mut Crew,
    options: &Options,
    programs: &Programs,
    servers: &[Server],
    namespace: &Namespace,
) -> anyhow::Result<Outcome> {
    let mut command = Command::new(&programs.listentop);
    let length = options.report_duration();
    if options.headless {
        let format = options.format.unwrap_or(Format::Table).name();
        command.args(["report", "--for", &format!("{}ms", length.as_millis()), "--format", format]);
        command.stdin(Stdio::null());
    }
    command.args(["--netns", &namespace.inode.to_string()]);
    let listentop = crew.start(Kind::Listentop, "listentop", command, None)?;

    let patience = if options.headless { ATTACH } else { DASHBOARD };
    let mut measuring = false;
    let outcome = wait(crew, Some(Instant::now() + patience), |event| {
        measuring |= matches!(event, Event::Err(number, line) if *number == listentop && line == "measuring");
        measuring
    })?;
    if !matches!(outcome, Outcome::Done) {
        return Ok(outcome);
    }
    if options.headless && !measuring {
        bail!("listentop does not measure within {} s", ATTACH.as_secs());
    }
    for server in servers {
        let mut command = Command::new(&programs.stress);
        command.args(["--quiet", "--target", &format!("127.0.0.1:{}", server.port)]).args(&server.load);
        if let Some(length) = options.load_for {
            command.args(["--for", &format!("{}ms", length.as_millis())]);
        }
        crew.start(Kind::Load, &format!("load on {}", server.name), command, Some(namespace))?;
    }
    assert!(!options.panic, "a panic, because of --panic");
    // A report ends by itself. This deadline ends one that does not.
    let deadline = match (options.headless, options.duration) {
        (true, _) => Some(Instant::now() + length + ATTACH),
        (false, duration) => duration.map(|duration| Instant::now() + duration),
    };
    let progress = options.headless.then(|| Progress::begin(length));
    let outcome = loop {
        let next = progress.as_ref().and_then(Progress::next);
        let outcome = wait(crew, next.into_iter().chain(deadline).min(), |_| false)?;
        match (&outcome, &progress) {
            (Outcome::Done, Some(progress)) if next.is_some() => progress.print(),
            _ => break outcome,
        }
    };
    if options.headless && matches!(outcome, Outcome::Done) {
        return Err(anyhow!("listentop does not end"));
    }
    Ok(outcome)
}

/// The lab's exit status after listentop has ended: the same as listentop's.
fn listentop_status(crew: &Crew) -> ExitCode {
    let status = crew.members.iter().find(|member| member.kind == Kind::Listentop).and_then(|member| member.status);
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Some((None, Some(signal))) => ExitCode::from(128 + signal as u8),
        _ => ExitCode::FAILURE,
    }
}

/// The lab's exit status after a signal, as a shell reports it.
fn exit_status(signal: Signal) -> ExitCode {
    ExitCode::from(128 + signal as u8)
}
