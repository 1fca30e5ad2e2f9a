//! One run of a lesson: its steps, its programs, and what becomes of them.

use super::clients::Clients;
use super::crew::{Crew, Event, Kind, LOAD};
use super::hub::{Hub, Incoming};
use super::namespace::Namespace;
use super::options::{Format, Options};
use super::outcome::{Verdict, judge};
use super::plan::{self, Plan};
use super::progress::Progress;
use super::sampler::Sampler;
use super::snapshot::Snapshot;
use super::{ATTACH, DASHBOARD, ENDING, LISTEN, Programs};
use anyhow::anyhow;
use lab_control::{Expected, Mark, Order, State, ToLab};
use lessons::Act;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the state is judged anew where somebody watches.
const REFRESH: Duration = Duration::from_millis(500);
/// How long programs may take to print their counters, and listentop to send its report. That is a moment, but on a
/// machine with a load average of 38 on two CPUs five seconds were not enough.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// Once all loads have ended, the last step of a check ends after this time: the servers have closed what they served.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a check waits for its loads at most, when the last step is over.
const GRACE: Duration = Duration::from_secs(2);

/// Why a run ended before its time.
#[derive(Debug)]
pub(super) enum Stop {
    /// A program ended unexpectedly, or something could not be done.
    Failed(anyhow::Error),
    /// listentop ended.
    ListentopEnded,
    /// The lab received a signal to end.
    Signalled(Signal),
    /// Somebody wants something else.
    Left(Leave),
}

/// What follows a lesson that somebody leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The same from its beginning.
    Repeat,
    /// The menu of lessons.
    Course,
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Something that was done by the lesson, by key or through the control socket.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Acted {
    /// Seconds since the measuring began.
    pub(super) seconds: f64,
    /// What was done.
    pub(super) what: String,
    /// By the lesson itself, not by whoever watches.
    pub(super) by_lesson: bool,
}

/// An order that is not answered yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// Who wanted it; `None`: the lesson.
    pub(super) client: Option<usize>,
    /// What it is.
    pub(super) what: String,
    /// The server's port, and the order, if it counts as done only when the server says so.
    pub(super) of: Option<(u16, Order)>,
}

/// Marks that are kept. Each state has all of them.
const MARKS: usize = 64;

/// A running lesson.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) plan: &'a Plan,
    pub(super) programs: &'a Programs,
    pub(super) crew: &'a mut Crew,
    pub(super) namespace: &'a Namespace,
    pub(super) sampler: &'a Sampler,
    pub(super) hub: &'a mut Hub,
    /// When the measuring began.
    pub(super) began: Instant,
    /// The moments at the ends of the steps that are over.
    pub(super) steps: Vec<(&'static str, Snapshot)>,
    /// What was known last.
    pub(super) now: Snapshot,
    /// What was known when everybody was last asked at one moment.
    pub(super) taken: Snapshot,
    /// What the servers had printed at the last refreshments, with the time; the oldest first.
    pub(super) printed: VecDeque<(Instant, BTreeMap<String, Value>)>,
    pub(super) state: State,
    pub(super) acts: Vec<Acted>,
    /// What `listentop blame` printed, or why it printed nothing; `None` before its end.
    pub(super) blame: Option<Result<Value, String>>,
    /// Orders that are not answered yet, by their numbers.
    pub(super) orders: BTreeMap<u64, Pending>,
    /// The next step must begin.
    pub(super) skip: bool,
    /// The lesson must end, and this follows.
    pub(super) leave: Option<Leave>,
    clients: Clients,
    /// The namespace's counters when the last report came.
    pub(super) kernel: BTreeMap<String, u64>,
    progress: Option<Progress>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        options: &'a Options,
        plan: &'a Plan,
        programs: &'a Programs,
        crew: &'a mut Crew,
        namespace: &'a Namespace,
        sampler: &'a Sampler,
        hub: &'a mut Hub,
    ) -> Self {
        let lesson = plan.lesson;
        let cookies = plan.sysctls.iter().find(|(path, _)| path.ends_with("tcp_syncookies"));
        let state = State {
            lesson: lesson.name.to_owned(),
            steps: lesson.steps.len(),
            findings: lesson.expected_findings().into_iter().map(str::to_owned).collect(),
            rate: 100,
            cookies: cookies.and_then(|(_, value)| value.parse().ok()).unwrap_or(0),
            ..State::default()
        };
        Self {
            options,
            plan,
            programs,
            crew,
            namespace,
            sampler,
            hub,
            began: Instant::now(),
            steps: Vec::new(),
            now: Snapshot::default(),
            taken: Snapshot::default(),
            printed: VecDeque::new(),
            state,
            acts: Vec::new(),
            blame: None,
            orders: BTreeMap::new(),
            skip: false,
            leave: None,
            clients: Clients::default(),
            kernel: BTreeMap::new(),
            progress: None,
        }
    }

    /// Whether somebody watches a dashboard.
    fn watched(&self) -> bool {
        !(self.options.headless || self.options.check)
    }

    /// Starts the servers that listen from the beginning.
    ///
    /// # Errors
    /// One does not listen.
    pub(super) fn start_first_servers(&mut self) -> Result<(), Stop> {
        self.start_servers(0)
    }

    /// Starts a step's servers and waits until they listen.
    fn start_servers(&mut self, step: usize) -> Result<(), Stop> {
        let plan = self.plan;
        let mut started = Vec::new();
        for server in plan.servers.iter().filter(|server| server.step == step) {
            let mut command = Command::new(self.programs.of(server.program));
            command.args(&server.arguments);
            started.push(self.crew.start(Kind::Server, server.name, command, Some(self.namespace))?);
        }
        // A server prints its first line when it listens.
        let listening = |crew: &Crew| started.iter().all(|&number| crew.members[number].printed > 0);
        if listening(self.crew) || self.wait(Instant::now() + LISTEN, &mut |crew, _| listening(crew))? {
            return Ok(());
        }
        Err(anyhow!("the servers do not listen within {} s", LISTEN.as_secs()).into())
    }

    /// Starts listentop, and the steps when it measures. Returns when all is over.
    ///
    /// # Errors
    /// Why it ended before.
    pub(super) fn measure(&mut self) -> Result<(), Stop> {
        let mut command = Command::new(&self.programs.listentop);
        let length = self.options.report_duration();
        if self.options.headless {
            let format = self.options.format.unwrap_or(Format::Table).name();
            command.args(["report", "--for", &format!("{}ms", length.as_millis()), "--format", format]);
            command.stdin(Stdio::null());
        } else if self.options.check {
            // It is ended by a signal.
            command.args(["report", "--for", "1d", "--format", "json"]).stdin(Stdio::null()).stdout(Stdio::null());
        }
        command.args(["--netns", &self.namespace.inode.to_string()]);
        let listentop = self.crew.start(Kind::Listentop, "listentop", command, None)?;
        let says_so =
            |event: &Event| matches!(event, Event::Err(number, line) if *number == listentop && line == "measuring");
        if self.watched() {
            self.wait_for_dashboard(&says_so)?;
        } else if !self.wait(Instant::now() + ATTACH, &mut |_, event| says_so(event))? {
            return Err(anyhow!("listentop does not measure within {} s", ATTACH.as_secs()).into());
        }
        self.began = Instant::now();
        self.sampler.begin();
        if self.watched() {
            self.note_first()?;
        }
        // A report ends by itself. This deadline ends one that does not.
        let deadline = match (self.options.headless, self.options.duration) {
            (true, _) => Some(self.began + length + ATTACH),
            (false, duration) => duration.map(|duration| self.began + duration),
        };
        self.progress = self.options.headless.then(|| Progress::begin(length));
        if self.go_through(deadline)? || self.options.check {
            return Ok(());
        }
        self.until(deadline, false)?;
        if self.options.headless {
            return Err(anyhow!("listentop does not end").into());
        }
        Ok(())
    }

    /// Waits until the dashboard measures: until it has sent a report. One that does not speak with the lab gets a
    /// while.
    fn wait_for_dashboard(&mut self, says_so: &dyn Fn(&Event) -> bool) -> Result<(), Stop> {
        let mut connected = false;
        self.wait(Instant::now() + DASHBOARD, &mut |_, event| {
            connected = matches!(event, Event::Control(_, Incoming::Hello(lab_control::Role::Listentop, ..)));
            connected || says_so(event)
        })?;
        if connected {
            self.hub.ask_report();
            self.wait(Instant::now() + ATTACH, &mut |crew, _| crew.report.is_some())?;
        }
        Ok(())
    }

    /// Goes through the steps. Returns whether the deadline came first.
    fn go_through(&mut self, deadline: Option<Instant>) -> Result<bool, Stop> {
        let lesson = self.plan.lesson;
        for (number, step) in lesson.steps.iter().enumerate() {
            self.begin(number)?;
            assert!(!self.options.panic, "a panic, because of --panic");
            let end = Instant::now() + Duration::from_millis(step.length(self.options.short));
            let last = number + 1 == lesson.steps.len();
            let settles = last && !self.options.headless;
            self.until(deadline.into_iter().chain([end]).min(), settles)?;
            if settles && !self.loads_are_over() {
                // They make no new connections any more, and what is open may be served soon.
                self.until(Some(Instant::now() + GRACE), true)?;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(true);
            }
            if last {
                self.end_blame()?;
            }
            if let Some(snapshot) = self.take()? {
                self.steps.push((step.name, snapshot));
            }
        }
        self.state.left = None;
        self.tell();
        Ok(false)
    }

    /// Begins a step: its acts, servers and loads.
    fn begin(&mut self, number: usize) -> Result<(), Stop> {
        let step = &self.plan.lesson.steps[number];
        step.name.clone_into(&mut self.state.step);
        step.watch.clone_into(&mut self.state.watch);
        self.state.number = number + 1;
        self.state.left = Some(step.length(self.options.short) / 1000);
        self.mark(format!("step {}", step.name), None);
        for act in step.acts {
            self.act_of_lesson(*act)?;
        }
        if number > 0 {
            self.start_servers(number)?;
        }
        let plan = self.plan;
        for load in plan.loads.iter().filter(|load| load.step == number) {
            self.start_load(load)?;
        }
        self.tell();
        Ok(())
    }

    fn start_load(&mut self, load: &plan::Load) -> Result<(), Stop> {
        let mut command = Command::new(self.programs.of(load.program));
        command.args(&load.arguments);
        if let Some(length) = load.length_ms {
            command.args(["--for", &format!("{length}ms")]);
        }
        self.crew.start(Kind::Load, &format!("{LOAD}{}", load.name), command, Some(self.namespace))?;
        Ok(())
    }

    /// What the lesson itself does at the beginning of a step.
    fn act_of_lesson(&mut self, act: Act) -> Result<(), Stop> {
        let failed = |error: String| Stop::Failed(anyhow!("the lesson's own act failed: {error}"));
        let server = |name: &str| Some(name.to_owned());
        let wanted = match act {
            Act::Stall(name) => lab_control::Act::Stall { server: server(name) },
            Act::Release(name) => lab_control::Act::Release { server: server(name) },
            Act::Backlog(name, backlog) => lab_control::Act::Backlog { server: server(name), backlog },
            Act::AddAcceptor(name) => lab_control::Act::AddAcceptor { server: server(name) },
            Act::Rate(name, percent) => lab_control::Act::Rate { load: server(name), percent },
            Act::Blame => return self.start_blame(),
            Act::Sysctl(path, value) => {
                self.sampler.set(path, value)?;
                // Its name is enough: /proc/sys has each once in a lesson.
                let name = path.rsplit('/').next().unwrap_or(path);
                self.note(format!("{name} = {value}"), None, true);
                return Ok(());
            }
            Act::End(name) | Act::Kill(name) => {
                self.end_program(name, matches!(act, Act::Kill(_)))?;
                let port = self.plan.servers.iter().find(|server| server.name == name).map(|server| server.port);
                self.note(format!("{} {name}", if matches!(act, Act::Kill(_)) { "kill" } else { "end" }), port, true);
                return Ok(());
            }
        };
        self.act(None, &wanted).map_err(failed)?;
        // The step begins when it is done.
        let deadline = Instant::now() + ANSWER;
        while !self.orders.is_empty() {
            if !self.wait(deadline, &mut |_, event| matches!(event, Event::Control(..)))? {
                return Err(failed("the program does not answer".to_owned()));
            }
        }
        Ok(())
    }

    /// Ends a server or load, and waits until it has ended.
    fn end_program(&mut self, name: &str, kill: bool) -> Result<(), Stop> {
        let is_it = |member: &super::crew::Member| member.name.strip_prefix(LOAD).unwrap_or(&member.name) == name;
        let Some(number) = self.crew.members.iter().position(|member| is_it(member) && member.status.is_none()) else {
            return Ok(());
        };
        self.remember(number);
        self.crew.members[number].signal(if kill { Signal::SIGKILL } else { Signal::SIGTERM });
        let ended = |crew: &Crew| crew.members[number].status.is_some();
        let deadline = Instant::now() + ANSWER;
        while !ended(self.crew) {
            if Instant::now() >= deadline {
                return Err(anyhow!("{name} does not end").into());
            }
            self.wait(Instant::now() + Duration::from_millis(20), &mut |crew, _| ended(crew))?;
        }
        Ok(())
    }

    /// Waits until an event for which `done` is true. Returns false if the deadline came first.
    ///
    /// # Errors
    /// Why the run is over.
    pub(super) fn wait(
        &mut self,
        deadline: Instant,
        done: &mut dyn FnMut(&Crew, &Event) -> bool,
    ) -> Result<bool, Stop> {
        loop {
            let Some(event) = self.crew.next(deadline.saturating_duration_since(Instant::now())) else {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
                continue;
            };
            let is_done = done(self.crew, &event);
            match event {
                Event::Ended(ended) => {
                    let other = ended.iter().find(|&&number| self.crew.members[number].kind != Kind::Listentop);
                    if let Some(&number) = other {
                        return Err(self.crew.unexpected(number).into());
                    }
                    if !ended.is_empty() {
                        return Err(Stop::ListentopEnded);
                    }
                }
                Event::Signal(signal) if ENDING.contains(&signal) => return Err(Stop::Signalled(signal)),
                Event::Control(number, incoming) => self.receive(number, incoming)?,
                Event::Signal(_) | Event::Out(..) | Event::Err(..) => {}
            }
            if let Some(leave) = self.leave {
                return Err(Stop::Left(leave));
            }
            if is_done {
                return Ok(true);
            }
        }
    }

    /// Takes what came through the control socket.
    fn receive(&mut self, number: usize, incoming: Incoming) -> Result<(), Stop> {
        let greets = matches!(incoming, Incoming::Hello(..));
        let message = self.hub.receive(number, incoming);
        if greets {
            self.tell();
        }
        match message {
            Some(ToLab::Act(act)) => {
                if let Err(reason) = self.act(Some(number), &act) {
                    self.hub.send(number, &lab_control::FromLab::Refused { reason });
                }
            }
            Some(ToLab::Done { number: order, error }) => {
                let Some(pending) = self.orders.remove(&order) else { return Ok(()) };
                let Some(error) = error else {
                    self.done(pending);
                    return Ok(());
                };
                let reason = format!("{}: {error}", pending.what);
                match pending.client {
                    Some(client) => self.hub.send(client, &lab_control::FromLab::Refused { reason }),
                    None => return Err(anyhow!("the lesson's own act failed: {reason}").into()),
                }
            }
            // The crew keeps it. The kernel's counters belong to the same moment.
            Some(ToLab::Report { .. }) => self.kernel = self.sampler.counters().unwrap_or_default(),
            Some(ToLab::Hello { .. }) | None => {}
        }
        Ok(())
    }

    /// Waits until the end, the next step is wanted, or, if `settle`, all loads have ended and a little later.
    fn until(&mut self, end: Option<Instant>, settle: bool) -> Result<(), Stop> {
        self.skip = false;
        let mut settled: Option<Instant> = None;
        // It is due whatever comes in between.
        let mut refresh = self.watched().then(|| Instant::now() + REFRESH);
        loop {
            let now = Instant::now();
            if end.into_iter().chain(settled).any(|end| now >= end) || self.skip {
                return Ok(());
            }
            let progress = self.progress.as_ref().and_then(Progress::next);
            // The end of a process comes as an event, so only a check for settling needs a tick.
            let tick = settle.then(|| now + Duration::from_millis(100));
            let next = end.into_iter().chain(settled).chain(refresh).chain(progress).chain(tick).min();
            let next = next.unwrap_or(now + Duration::from_secs(3600));
            while !self.wait(next, &mut |_, _| true)? && Instant::now() < next {}
            if progress.is_some_and(|due| Instant::now() >= due)
                && let Some(progress) = &self.progress
            {
                progress.print();
            }
            if refresh.is_some_and(|due| Instant::now() >= due) {
                self.refresh(end);
                refresh = Some(Instant::now() + REFRESH);
            }
            if settle && settled.is_none() && self.loads_are_over() {
                settled = Some(Instant::now() + SETTLE);
            }
        }
    }

    fn loads_are_over(&self) -> bool {
        let mut loads = self.crew.members.iter().filter(|member| member.kind == Kind::Load).peekable();
        loads.peek().is_some() && loads.all(|load| load.status.is_some())
    }

    /// Judges anew, tells whoever watches, and asks for the next figures.
    fn refresh(&mut self, end: Option<Instant>) {
        self.now = self.gather();
        self.note_printed();
        self.state.clients = self.clients.take(self.plan.lesson, &self.now, monotonic_ns());
        self.state.left = end.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        self.tell();
        for member in &self.crew.members {
            if matches!(member.kind, Kind::Server | Kind::Load) {
                member.ask(Signal::SIGUSR1);
            }
        }
        self.hub.ask_report();
    }

    /// Sends the state to all who watch.
    pub(super) fn tell(&mut self) {
        let judged = self.verdicts(&self.now).into_iter().zip(self.verdicts(&self.taken));
        let one = |(now, taken): (Verdict, Verdict)| expected(if compares(&now) { &taken } else { &now });
        self.state.expected = judged.map(one).collect();
        let state = self.state.clone();
        self.hub.tell(&state);
    }

    /// Judges the expectations with what was known at that moment.
    pub(super) fn verdicts(&self, now: &Snapshot) -> Vec<Verdict> {
        judge(self.plan.lesson, &self.steps, now, self.options.short)
    }

    /// Notes an act for the log, the caption and time lines. It was done to the server on this port, or concerns all.
    pub(super) fn note(&mut self, what: String, port: Option<u16>, by_lesson: bool) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.state.last_act = Some(format!("{seconds:.0} s: {what}"));
        self.mark(what.clone(), port);
        self.acts.push(Acted { seconds, what, by_lesson });
        self.tell();
    }

    /// Marks this moment on time lines.
    fn mark(&mut self, what: String, port: Option<u16>) {
        let netns = self.namespace.inode as u32;
        self.state.marks.push(Mark { monotonic_ns: monotonic_ns(), what, netns, port });
        let spare = self.state.marks.len().saturating_sub(MARKS);
        self.state.marks.drain(..spare);
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of listentop's samples.
fn monotonic_ns() -> u64 {
    // This clock is there, and an hour of it fits.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

/// Whether two counts are compared that must be of one moment.
fn compares(verdict: &Verdict) -> bool {
    lessons::figure::parse(verdict.figure).is_ok_and(|expression| expression.compares())
}

fn expected(verdict: &Verdict) -> Expected {
    Expected {
        what: verdict.what.to_owned(),
        bounds: super::check::bounds(verdict),
        value: super::check::value(verdict),
        holds: verdict.value.map(|_| verdict.ok),
    }
}
