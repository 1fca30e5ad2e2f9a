//! `lab`: servers, load and listentop, started together and ended together.

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

/// How long servers may take to listen.
const LISTEN: Duration = Duration::from_secs(5);
/// How long listentop may take to attach its probes before a headless run gives up.
const ATTACH: Duration = Duration::from_secs(60);
/// How long the load waits for the dashboard to say that it measures; it need not say so on a terminal.
const DASHBOARD: Duration = Duration::from_secs(2);
/// How long what to look for can be read before the dashboard covers it.
const READING: Duration = Duration::from_secs(2);

/// The programs of a lab.
struct Programs {
    demo_server: PathBuf,
    stress: PathBuf,
    listentop: PathBuf,
}

impl Programs {
    fn find(options: &Options) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find the lab's own binary")?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let programs = Self {
            demo_server: beside.join("demo-server"),
            stress: beside.join("stress"),
            listentop: options.listentop.clone().unwrap_or_else(|| beside.join("listentop")),
        };
        for program in [&programs.demo_server, &programs.stress, &programs.listentop] {
            if !program.is_file() {
                return Err(usage(format!("{} is not there: `cargo xtask demo` builds it", program.display())));
            }
        }
        Ok(programs)
    }
}

/// Shows a scenario until listentop ends.
///
/// # Errors
/// An unknown scenario, not root, a program that is missing or ended unexpectedly. Nothing is left running in any case.
pub fn run(options: Options) -> anyhow::Result<ExitCode> {
    if options.list {
        let mut stdout = std::io::stdout().lock();
        for scenario in scenarios::ALL {
            writeln!(stdout, "{:<12} {}", scenario.name, scenario.summary).context("cannot write to stdout")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scenario = scenarios::find(options.scenario.as_deref().unwrap_or(scenarios::DEFAULT))?;
    let programs = Programs::find(&options)?;
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !options.headless && !on_terminal {
        return Err(usage("the dashboard needs a terminal: use --headless for a report"));
    }
    let mut crew = Crew::new((!options.headless).then(Terminal::save));
    follow_signals(crew.sender())?;
    show(&mut crew, &options, scenario, &programs)
}

/// Turns the lab's signals into events.
fn follow_signals(sender: Sender<Event>) -> anyhow::Result<()> {
    // SIGTTOU: putting the terminal back must not stop a lab in the background.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGTTOU];
    let mask = block(&signals)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("signalfd")?;
    std::thread::spawn(move || {
        while let Ok(Some(signal)) = signals.read_signal() {
            let Ok(signal) = Signal::try_from(signal.ssi_signo as i32) else { continue };
            if sender.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Why waiting ended.
enum Outcome {
    /// A line that was waited for came, or time was up.
    Went,
    /// listentop ended.
    ListentopEnded,
    /// The lab was told to end.
    Told(Signal),
}

/// Waits until `done` accepts an event, listentop ends, or a signal comes.
///
/// # Errors
/// A server or load generator ended unexpectedly.
fn wait(crew: &mut Crew, deadline: Option<Instant>, mut done: impl FnMut(&Event) -> bool) -> anyhow::Result<Outcome> {
    loop {
        let left =
            deadline.map_or(Duration::from_secs(3600), |deadline| deadline.saturating_duration_since(Instant::now()));
        let event = crew.next(left);
        match event {
            Some(event) if done(&event) => return Ok(Outcome::Went),
            Some(Event::Signal(Signal::SIGCHLD)) => {
                let ended = crew.reap();
                if let Some(&number) = ended.iter().find(|&&number| crew.members[number].kind != Kind::Listentop) {
                    return Err(crew.unexpected(number));
                }
                if !ended.is_empty() {
                    return Ok(Outcome::ListentopEnded);
                }
            }
            Some(Event::Signal(signal @ (Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP))) => {
                return Ok(Outcome::Told(signal));
            }
            Some(_) => {}
            None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(Outcome::Went),
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
        // The load's own ends may use all ports.
        ("net/ipv4/ip_local_port_range", "10000 65535"),
    ])?;
    let servers = (scenario.servers)(options);
    say(format_args!("{}: {}", scenario.name, scenario.summary));
    for line in scenario.look_for {
        say(format_args!("  {line}"));
    }
    if let Some(signal) = start_servers(crew, programs, &servers, &namespace)? {
        return Ok(told(signal));
    }
    if !options.headless
        && let Outcome::Told(signal) = wait(crew, Some(Instant::now() + READING), |_| false)?
    {
        return Ok(told(signal));
    }
    let outcome = measure(crew, options, programs, &servers, &namespace)?;

    // Nobody watches any more. The load ends first: servers that go before it would make its connections fail.
    crew.end(Kind::Listentop, PATIENCE);
    crew.end(Kind::Load, PATIENCE);
    crew.end(Kind::Server, PATIENCE);
    if let Some(listentop) = crew.members.iter().find(|member| member.kind == Kind::Listentop) {
        if !options.headless {
            // Kept back, so as not to tear the dashboard.
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
        Outcome::Told(signal) => told(signal),
        // --for is over: whatever listentop makes of SIGTERM, this end is the one that was asked for.
        Outcome::Went => ExitCode::SUCCESS,
        Outcome::ListentopEnded => passed_on(crew),
    })
}

/// Starts the servers and waits until they listen; a signal if one came meanwhile.
fn start_servers(
    crew: &mut Crew,
    programs: &Programs,
    servers: &[Server],
    namespace: &Namespace,
) -> anyhow::Result<Option<Signal>> {
    for server in servers {
        let mut command = Command::new(&programs.demo_server);
        command.args(["--port", &server.port.to_string(), "--name", server.name]).args(&server.arguments);
        crew.start(Kind::Server, server.name, command, Some(namespace))?;
    }
    let deadline = Instant::now() + LISTEN;
    let mut ready = 0;
    let outcome = wait(crew, Some(deadline), |event| {
        // A server's first line says that it listens.
        ready += usize::from(matches!(event, Event::Out(..)));
        ready == servers.len()
    })?;
    match outcome {
        Outcome::Told(signal) => Ok(Some(signal)),
        _ if ready < servers.len() => bail!("the servers do not listen after {} s", LISTEN.as_secs()),
        _ => Ok(None),
    }
}

/// Starts listentop and, when it measures, the load; returns when listentop ends, time is up, or a signal comes.
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
    if !matches!(outcome, Outcome::Went) {
        return Ok(outcome);
    }
    if options.headless && !measuring {
        bail!("listentop does not measure after {} s", ATTACH.as_secs());
    }
    for server in servers {
        let mut command = Command::new(&programs.stress);
        command.args(["--quiet", "--target", &format!("127.0.0.1:{}", server.port)]).args(&server.load);
        if let Some(length) = options.load_for {
            command.args(["--for", &format!("{}ms", length.as_millis())]);
        }
        crew.start(Kind::Load, &format!("load on {}", server.name), command, Some(namespace))?;
    }
    assert!(!options.panic, "as it was asked to");
    // A report ends by itself; only one that does not is ended from here.
    let deadline = match (options.headless, options.duration) {
        (true, _) => Some(Instant::now() + length + ATTACH),
        (false, duration) => duration.map(|duration| Instant::now() + duration),
    };
    let progress = options.headless.then(|| Progress::begin(length));
    let outcome = loop {
        let word = progress.as_ref().and_then(Progress::next);
        let outcome = wait(crew, word.into_iter().chain(deadline).min(), |_| false)?;
        match (&outcome, &progress) {
            (Outcome::Went, Some(progress)) if word.is_some() => progress.tell(),
            _ => break outcome,
        }
    };
    if options.headless && matches!(outcome, Outcome::Went) {
        return Err(anyhow!("listentop does not end"));
    }
    Ok(outcome)
}

/// listentop's exit status as the lab's.
fn passed_on(crew: &Crew) -> ExitCode {
    let status = crew.members.iter().find(|member| member.kind == Kind::Listentop).and_then(|member| member.status);
    match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Some((None, Some(signal))) => ExitCode::from(128 + signal as u8),
        _ => ExitCode::FAILURE,
    }
}

/// The exit status of a lab that was ended by a signal, as a shell would report it.
fn told(signal: Signal) -> ExitCode {
    ExitCode::from(128 + signal as u8)
}
