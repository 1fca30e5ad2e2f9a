//! `lab`: starts servers, load and listentop together for a lesson, and ends them together.

mod act;
mod blame;
mod check;
mod clients;
mod counters;
mod crew;
mod depths;
mod hub;
mod menu;
mod moment;
pub mod namespace;
pub mod options;
mod outcome;
pub mod plan;
mod progress;
mod quiz;
mod results;
mod run;
mod sampler;
mod snapshot;
mod terminal;

use crate::cli::usage;
use crate::sys::{block, say};
use anyhow::Context;
use check::Proof;
use crew::{Crew, Event, Kind, PATIENCE};
use hub::Hub;
use lab_control::VARIABLE;
use lessons::Lesson;
use lessons::format::Program;
use namespace::Namespace;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use options::{Format, Options};
use plan::Plan;
use quiz::Answer;
use run::{Leave, Run, Stop};
use sampler::Sampler;
use std::fs::File;
use std::io::{IsTerminal, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use terminal::Terminal;

/// Time that servers may take until they listen.
const LISTEN: Duration = Duration::from_secs(5);
/// Time that listentop may take to attach its probes, before a headless run fails.
const ATTACH: Duration = Duration::from_secs(60);
/// Time that the load waits for the dashboard to speak with the lab.
const DASHBOARD: Duration = Duration::from_secs(2);
/// How often a check runs at most, while the machine cannot offer the lesson's load.
const ATTEMPTS: u32 = 3;
/// Time to read what to look for, before the dashboard covers it.
const READING: Duration = Duration::from_secs(2);

/// The programs of a lab.
struct Programs {
    /// The directory of all but listentop.
    directory: PathBuf,
    listentop: PathBuf,
}

impl Programs {
    fn find(options: &Options, plan: &Plan) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find the lab's own program file")?;
        let directory = own.parent().unwrap_or(Path::new(".")).to_owned();
        let listentop = options.listentop.clone().unwrap_or_else(|| directory.join("listentop"));
        let programs = Self { directory, listentop };
        let servers = plan.servers.iter().map(|server| server.program);
        let wanted = servers.chain(plan.loads.iter().map(|load| load.program)).map(|program| programs.of(program));
        for program in wanted.chain([programs.listentop.clone()]) {
            if !program.is_file() {
                let lesson = plan.lesson.name;
                return Err(usage(format!(
                    "{} does not exist: `cargo xtask demo {lesson}` builds it",
                    program.display()
                )));
            }
        }
        Ok(programs)
    }

    /// The file of a program.
    fn of(&self, program: Program) -> PathBuf {
        self.directory.join(program.binary)
    }
}

/// Shows or checks a lesson.
///
/// # Errors
/// An unknown lesson, a user other than root, a program that is missing or that ended unexpectedly. All processes end
/// in any case.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    options.check()?;
    if options.list {
        let text = match options.format {
            Some(Format::Json) => format!("{:#}\n", lessons::list_json()),
            _ => lessons::list_text(),
        };
        std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
        return Ok(ExitCode::SUCCESS);
    }
    let watched = !(options.headless || options.check);
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let named = options.lesson.as_deref();
    let menu = named == Some(lessons::MENU);
    if menu && !watched {
        return Err(usage("the menu of lessons needs a terminal: name a lesson"));
    }
    let first = if menu { None } else { Some(lessons::find(named.unwrap_or(lessons::DEFAULT)).map_err(usage)?) };
    if let Some(lesson) = first {
        Programs::find(options, &plan_of(lesson, options)?)?;
    }
    if watched && !on_terminal {
        return Err(usage("the dashboard needs a terminal: use --check or --headless for a report"));
    }
    let predicted = options.predict.map(|number| predicted(first, number)).transpose()?;
    let outcome = options.outcome.as_deref().map(outcome_file).transpose()?;
    namespace::may_create()?;
    // The first demo opens at once. Until a lesson runs, signals end the process as usual.
    let asks = watched && !options.no_quiz;
    let asks_first = asks && named.is_some() && predicted.is_none();
    let chosen = match first.filter(|_| asks_first) {
        Some(lesson) => match quiz::ask(lesson, &mut || None)? {
            Answer::Given(chosen) => chosen,
            Answer::Signal(signal) => return Ok(exit_status(signal)),
        },
        None => predicted,
    };
    let mut crew = Crew::new();
    crew.quiet = options.check;
    follow_signals(crew.sender())?;
    let mut next = match first {
        Some(lesson) => Next::Lesson(lesson, Asked { chosen, has_read: asks_first }),
        None => Next::Menu(None),
    };
    let mut attempt = 0;
    loop {
        next = match next {
            Next::Menu(selected) => from_menu(&mut crew, options, first, selected, asks)?,
            Next::Lesson(lesson, asked) => {
                let options = &for_lesson(options, first, lesson);
                let plan = plan_of(lesson, options)?;
                let programs = Programs::find(options, &plan)?;
                crew.begin(watched.then(Terminal::save));
                attempt += 1;
                match show(&mut crew, options, &plan, &programs, asked, attempt, outcome.as_ref())? {
                    After::Busy(why) => {
                        say(format_args!("lab: {}: {why}: once more ({} of {ATTEMPTS})", lesson.name, attempt + 1));
                        Next::Lesson(lesson, asked)
                    }
                    After::Leave(Leave::Repeat) => Next::Lesson(lesson, asked),
                    After::Leave(Leave::Course) => Next::Menu(Some(lesson)),
                    After::End(code) if menu && code == ExitCode::SUCCESS => {
                        match quiz::go_on(&mut || signal_of(&mut crew))? {
                            Answer::Given(true) => Next::Menu(lessons::next(lesson).or(Some(lesson))),
                            Answer::Given(false) => return Ok(code),
                            Answer::Signal(signal) => return Ok(exit_status(signal)),
                        }
                    }
                    After::End(code) => return Ok(code),
                }
            }
            Next::End(code) => return Ok(code),
        };
    }
}

/// The answer of this number, from 1, of the lesson that the command line names.
fn predicted(lesson: Option<&Lesson>, number: usize) -> anyhow::Result<usize> {
    let lesson = lesson.ok_or_else(|| usage("--predict is for one lesson: name it"))?;
    lesson.answer(number).map_err(usage)
}

/// The file for the outcome. It is opened before anything starts, so that a lesson is not run in vain, and is empty
/// until its end: an older outcome is none of this run. root does not write through a symbolic link: it may be another
/// user's.
fn outcome_file(path: &Path) -> anyhow::Result<File> {
    let open = || {
        // A pipe that nobody reads would wait for somebody.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = File::options().write(true).create(true).truncate(true).custom_flags(flags).open(path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("it is no regular file")) }
    };
    open().with_context(|| format!("cannot write the outcome to {}", path.display()))
}

/// The command line as it is meant for a lesson: other programs' options and a real server belong to the lesson that it
/// names, not to those that are chosen from the menu later.
fn for_lesson(options: &Options, named: Option<&Lesson>, lesson: &Lesson) -> Options {
    let mut options = options.clone();
    if named.is_some_and(|named| named.name != lesson.name) {
        options.with.clear();
        options.server = None;
    }
    options
}

/// What a lesson starts, with a real server in the place of its own if the command line names one.
fn plan_of(lesson: &'static Lesson, options: &Options) -> anyhow::Result<Plan> {
    let plan = Plan::new(lesson, options);
    let plan = match options.server {
        Some(kind) => plan.with_real(kind).map_err(usage)?,
        None => plan,
    };
    options.with.iter().try_fold(plan, |plan, change| plan.with_options(change)).map_err(usage)
}

/// What the lab does next.
enum Next {
    /// Shows the menu, with this lesson selected.
    Menu(Option<&'static Lesson>),
    /// Runs a lesson.
    Lesson(&'static Lesson, Asked),
    /// Ends.
    End(ExitCode),
}

/// What the learner saw and said before a lesson.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The answer that was predicted, by its place.
    chosen: Option<usize>,
    /// The question was on the terminal: nobody needs time to read it.
    has_read: bool,
}

/// What follows a lesson.
enum After {
    /// Somebody wants something else.
    Leave(Leave),
    /// A check failed on a machine that could not offer its load: what failed and why, in a clause.
    Busy(String),
    /// The end of the lab.
    End(ExitCode),
}

/// Shows the menu, and asks for a prediction.
fn from_menu(
    crew: &mut Crew,
    options: &Options,
    named: Option<&'static Lesson>,
    selected: Option<&'static Lesson>,
    asks: bool,
) -> anyhow::Result<Next> {
    let missing = |lesson: &Lesson| {
        let lesson = lessons::find(lesson.name).ok()?;
        let options = for_lesson(options, named, lesson);
        let found = plan_of(lesson, &options).and_then(|plan| Programs::find(&options, &plan));
        found.err().map(|error| format!("{error:#}"))
    };
    Ok(match menu::choose(selected, &missing, &mut || signal_of(crew))? {
        menu::Chosen::Lesson(lesson) if asks => match quiz::ask(lesson, &mut || signal_of(crew))? {
            Answer::Given(chosen) => Next::Lesson(lesson, Asked { chosen, has_read: true }),
            Answer::Signal(signal) => Next::End(exit_status(signal)),
        },
        menu::Chosen::Lesson(lesson) => Next::Lesson(lesson, Asked { chosen: None, has_read: false }),
        menu::Chosen::Nothing => Next::End(ExitCode::SUCCESS),
        menu::Chosen::Signal(signal) => Next::End(exit_status(signal)),
    })
}

/// A signal that has come and that ends the lab. Other events are of lessons that are over.
fn signal_of(crew: &mut Crew) -> Option<Signal> {
    loop {
        match crew.next(Duration::ZERO)? {
            Event::Signal(signal) if ENDING.contains(&signal) => return Some(signal),
            _ => {}
        }
    }
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
fn follow_signals(sender: SyncSender<Event>) -> anyhow::Result<()> {
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

/// Runs a lesson once, and prints what it proved.
fn show(
    crew: &mut Crew,
    options: &Options,
    plan: &Plan,
    programs: &Programs,
    asked: Asked,
    attempt: u32,
    outcome: Option<&File>,
) -> anyhow::Result<After> {
    let lesson = plan.lesson;
    let namespace = Namespace::create(&plan.sysctls)?;
    let sampler = Sampler::start(&namespace)?;
    let mut hub = Hub::open(lesson.name, &namespace, &crew.sender())?;
    crew.environment = vec![(VARIABLE, hub.name.clone())];
    if !options.check {
        say(format_args!("{}: {}", lesson.name, lesson.title));
        for text in std::iter::once(lesson.question).chain(lesson.steps.iter().map(|step| step.watch)) {
            say(check::filled("  ", text).trim_end());
        }
    }
    let mut run = Run::new(options, plan, programs, crew, &namespace, &sampler, &mut hub);
    let began = Instant::now();
    let ended = run.start_first_servers().and_then(|()| {
        if !(options.headless || options.check || asked.has_read) {
            run.wait(began + READING, &mut |_, _| false)?;
        }
        run.measure()
    });
    if let Err(Stop::Failed(error)) = ended {
        return Err(error);
    }
    let finished = run.steps.len() == lesson.steps.len();
    if !(finished || options.headless) {
        run.take_last();
    }
    let proof = prove(&mut run, asked.chosen, attempt);

    // The load ends before the servers: otherwise its connections would fail.
    crew.end(Kind::Listentop, PATIENCE);
    crew.end(Kind::Blame, PATIENCE);
    // Nobody answers any more: a program that has just started and introduces itself would wait for that.
    drop(hub);
    crew.end(Kind::Load, PATIENCE);
    crew.end(Kind::Server, PATIENCE);
    if let Some(file) = outcome {
        write_outcome(file, &proof, options)?;
    }
    let is_known = !proof.verdicts.iter().all(|verdict| verdict.value.is_none());
    if let Err(Stop::Left(leave)) = ended {
        if is_known {
            say(format_args!("\n{}", proof.text().trim_end()));
        }
        // Who has seen the lesson to its end reads what it proved before the menu covers it.
        if finished && matches!(leave, Leave::Course) {
            return Ok(match quiz::go_on(&mut || signal_of(crew))? {
                Answer::Given(true) => After::Leave(leave),
                Answer::Given(false) => After::End(ExitCode::SUCCESS),
                Answer::Signal(signal) => After::End(exit_status(signal)),
            });
        }
        return Ok(After::Leave(leave));
    }
    say_of_listentop(crew, options, matches!(ended, Err(Stop::ListentopEnded)));
    if options.check {
        // A deliberate mistake must fail, and fails on a busy machine too.
        let again = ended.is_ok() && !options.spoil && !proof.ok() && attempt < ATTEMPTS;
        if let Some(why) = proof.busy.clone().filter(|_| again) {
            return Ok(After::Busy(format!("{} did not hold, but {why}", proof.failed().join(", "))));
        }
        return print_proof(options, &proof, &ended).map(After::End);
    }
    say(results::describe(crew).trim_end());
    if !options.headless && is_known {
        say(format_args!("\n{}", proof.text().trim_end()));
    }
    Ok(After::End(match ended {
        Err(Stop::Signalled(signal)) => exit_status(signal),
        Err(Stop::ListentopEnded) => listentop_status(crew),
        // --for is over. That is a success, even if listentop's exit status after SIGTERM is not 0.
        _ => ExitCode::SUCCESS,
    }))
}

/// What the run proved: at the end of the last step, or, if it ended before, what was known last.
fn prove(run: &mut Run, chosen: Option<usize>, attempt: u32) -> Proof {
    run.warn();
    let lesson = run.plan.lesson;
    let finished = run.steps.len() == lesson.steps.len();
    let end = run.steps.last().filter(|_| finished).map_or(&run.now, |(_, end)| end);
    Proof {
        lesson,
        chosen,
        finished,
        verdicts: run.verdicts(end),
        totals: outcome::totals(lesson, end),
        little: outcome::little(lesson, end),
        findings: outcome::found(lesson, end),
        busy: outcome::busy(end),
        attempt,
        acts: run.acts.clone(),
        seconds: end.seconds,
    }
}

/// Writes what was proved, in the place of what the file has: the last attempt counts.
fn write_outcome(mut file: &File, proof: &Proof, options: &Options) -> anyhow::Result<()> {
    let text = format!("{:#}\n", proof.json(options));
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    };
    write().context("cannot write the outcome")
}

/// Prints what a check proved. Its exit status is 1 unless all is as expected.
fn print_proof(options: &Options, proof: &Proof, ended: &Result<(), Stop>) -> anyhow::Result<ExitCode> {
    if let Err(Stop::Signalled(signal)) = ended {
        return Ok(exit_status(*signal));
    }
    let text = match options.format {
        Some(Format::Json) => format!("{:#}\n", proof.json(options)),
        _ => proof.text(),
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(if ended.is_ok() && proof.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what listentop said, where it could not be printed before, and how it ended, if that was not expected.
fn say_of_listentop(crew: &Crew, options: &Options, ended: bool) {
    let Some(listentop) = crew.members.iter().find(|member| member.kind == Kind::Listentop) else { return };
    if !options.headless && (!options.check || ended) {
        // Held back until now, because it would have overwritten the dashboard.
        for line in listentop.errors.iter().filter(|line| *line != "measuring") {
            say(line);
        }
    }
    let died = listentop.status.is_some_and(|status| status.signal().is_some());
    if ended && (died || options.check) {
        say(format_args!("lab: listentop ended by {}", listentop.describe_end()));
    }
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
