//! What a lesson consists of. A lesson is a constant of type [`Lesson`] in a file of its own.

/// Part of the course. The course goes through the parts in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// From the SYN to accept(2).
    Accepting,
    /// Which threads and processes accept, which read.
    WhoAccepts,
    /// Receive queue, send queue, delays between them.
    ReadingAndSending,
    /// Requests, polling, push.
    Communication,
    /// What a protocol costs before the handler runs.
    Protocols,
    /// Proxies, pools, retries.
    InBetween,
    /// How to measure, and how not to.
    Measuring,
}

impl Part {
    /// All parts in order.
    pub const ALL: [Self; 7] = [
        Self::Accepting,
        Self::WhoAccepts,
        Self::ReadingAndSending,
        Self::Communication,
        Self::Protocols,
        Self::InBetween,
        Self::Measuring,
    ];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Accepting => "Accepting",
            Self::WhoAccepts => "Who accepts, who reads",
            Self::ReadingAndSending => "Reading and sending",
            Self::Communication => "Communication patterns",
            Self::Protocols => "Protocols",
            Self::InBetween => "In between",
            Self::Measuring => "Measuring",
        }
    }
}

/// A lesson: data and text. All texts are plain sentences; the lab wraps them.
#[derive(Debug)]
pub struct Lesson {
    /// Its name on the command line, such as `burst-or-overload`. Its file is `burst_or_overload.rs`.
    pub name: &'static str,
    /// The part of the course that it belongs to.
    pub part: Part,
    /// What happens, in at most 60 characters: the line of the menu.
    pub title: &'static str,
    /// What the learner wants to know.
    pub question: &'static str,
    /// The answers to choose from before the run.
    pub prediction: Prediction,
    /// What runs.
    pub setup: Setup,
    /// What happens when. The first step begins when listentop measures.
    pub steps: &'static [Step],
    /// The figures that prove the answer.
    pub expectations: &'static [Expectation],
    /// Findings that listentop reports because of what the lesson does, besides those that an expectation names: they
    /// are marked as expected. In order.
    pub findings: &'static [&'static str],
    /// The belief that the lesson breaks, as somebody who holds it would say it.
    pub belief: &'static str,
    /// What the kernel does and why: a sentence or a few per entry.
    pub mechanism: &'static [&'static str],
    /// What to try next: a command, a key or an idea per entry.
    pub try_next: &'static [&'static str],
    /// A wrong set-up that the expectations must notice.
    pub spoiler: Spoiler,
}

/// A question with answers, of which one is right.
#[derive(Debug)]
pub struct Prediction {
    /// The question, with what must be known of the set-up to answer it.
    pub ask: &'static str,
    /// Two to four answers.
    pub answers: &'static [&'static str],
    /// Which of them is right, from 0.
    pub right: usize,
    /// Why, in a sentence or two with the figures that show it.
    pub because: &'static str,
}

/// What runs, in a network namespace of its own. Everything listens on and connects to 127.0.0.1 there.
#[derive(Debug)]
pub struct Setup {
    /// Paths below /proc/sys with their values, such as `("net/core/somaxconn", "64")`. They belong to the namespace.
    /// SYN cookies are off unless this says otherwise.
    pub sysctls: &'static [(&'static str, &'static str)],
    /// The servers.
    pub servers: &'static [Server],
    /// The clients.
    pub loads: &'static [Load],
}

/// A program that a lesson runs. It ends upon SIGTERM, prints one line of JSON on stdout at its end, and upon SIGUSR1
/// one such line of what it has counted so far. A server also prints one line when it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The workspace's package that builds it. One other than `demo-servers` is built only when a lesson needs it.
    pub package: &'static str,
    /// Its file.
    pub binary: &'static str,
    /// Options that every lesson passes. A server also gets `--port` and `--name`, a client `--target`.
    pub options: &'static str,
    /// For clients: it takes `--for` and, if `seeded`, `--seed`.
    pub seeded: bool,
}

/// The demo server.
pub const DEMO_SERVER: Program = Program { package: "demo-servers", binary: "demo-server", options: "", seeded: false };
/// The open loop.
pub const STRESS: Program = Program { package: "demo-servers", binary: "stress", options: "--quiet", seeded: true };

/// SYNs from addresses that do not answer.
pub const FLOOD: Program = Program { package: "demo-servers", binary: "flood", options: "", seeded: true };

/// A server of a lesson.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Its name in the figures and on the screen. The kernel keeps the first 15 bytes as the name of the process.
    pub name: &'static str,
    /// Its port. Servers of different steps may have the same.
    pub port: u16,
    /// The program.
    pub program: Program,
    /// Its options, without port and name, separated by spaces. `{port:NAME}` is the port of another server.
    pub options: &'static str,
    /// The step at whose beginning it starts, from 0. Those of step 0 listen before anything is measured.
    pub step: usize,
}

impl Server {
    /// A demo server that listens from the start.
    #[must_use]
    pub const fn demo(name: &'static str, port: u16, options: &'static str) -> Self {
        Self::of(DEMO_SERVER, name, port, options)
    }

    /// Another program that listens from the start.
    #[must_use]
    pub const fn of(program: Program, name: &'static str, port: u16, options: &'static str) -> Self {
        Self { name, port, program, options, step: 0 }
    }

    /// The same, started at the beginning of this step.
    #[must_use]
    pub const fn in_step(self, step: usize) -> Self {
        Self { step, ..self }
    }
}

/// A client program of a lesson.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Its name in the figures; usually that of its server.
    pub name: &'static str,
    /// The server that it connects to.
    pub server: &'static str,
    /// The program.
    pub program: Program,
    /// Its options, without target, seed and `--for`, separated by spaces. `{port:NAME}` is a server's port.
    pub options: &'static str,
    /// The step at whose beginning it starts, from 0.
    pub step: usize,
    /// For how many steps it makes new connections (`--for`); 0: until it ends by itself, such as by `--connections`.
    pub steps: usize,
}

impl Load {
    /// An open loop on this server during the first step. It has the server's name.
    #[must_use]
    pub const fn stress(server: &'static str, options: &'static str) -> Self {
        Self::of(STRESS, server, options)
    }

    /// Another program during the first step.
    #[must_use]
    pub const fn of(program: Program, server: &'static str, options: &'static str) -> Self {
        Self { name: server, server, program, options, step: 0, steps: 1 }
    }

    /// The same under another name: each load of a lesson has its own.
    #[must_use]
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same, started at the beginning of this step.
    #[must_use]
    pub const fn in_step(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// The same for so many steps; 0: until it ends by itself.
    #[must_use]
    pub const fn for_steps(self, steps: usize) -> Self {
        Self { steps, ..self }
    }
}

/// A part of a lesson's time.
#[derive(Debug)]
pub struct Step {
    /// A word without spaces: figures name it (`@overload`).
    pub name: &'static str,
    /// Its length in milliseconds.
    pub length_ms: u64,
    /// Its length in the short form, for tests.
    pub short_ms: u64,
    /// What happens and what to watch now, in at most 200 characters: the caption bar shows it.
    pub watch: &'static str,
    /// What the lab does at its beginning, besides starting servers and loads.
    pub acts: &'static [Act],
}

/// Something that the lab does to a running program or to the namespace. The same can be done by key and through the
/// control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The server accepts nothing until [`Act::Release`].
    Stall(&'static str),
    /// It accepts again.
    Release(&'static str),
    /// It calls listen(2) again with this backlog.
    Backlog(&'static str, u32),
    /// It gets another thread that accepts; `sharded`: with a listener of its own.
    AddAcceptor(&'static str),
    /// A load goes on at this share of its rate, in percent.
    Rate(&'static str, u32),
    /// From here to the end of the last step `listentop blame` runs, for the figures of `blame`. The step begins when
    /// it measures.
    Blame,
    /// Sets a sysctl of the namespace: path below /proc/sys, value.
    Sysctl(&'static str, &'static str),
    /// Ends a server or load by SIGTERM. Its last line of counters stays available to the figures.
    End(&'static str),
    /// Ends a server by SIGKILL: of its counters only those of the last [`Step`] are known.
    Kill(&'static str),
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stall(name) => write!(f, "stall {name}"),
            Self::Release(name) => write!(f, "release {name}"),
            Self::Backlog(name, backlog) => write!(f, "backlog {backlog} {name}"),
            Self::AddAcceptor(name) => write!(f, "one more acceptor {name}"),
            Self::Rate(name, percent) => write!(f, "load {name} at {percent} %"),
            Self::Blame => write!(f, "listentop blame"),
            Self::Sysctl(path, value) => write!(f, "{} = {value}", path.replace('/', ".")),
            Self::End(name) => write!(f, "end {name}"),
            Self::Kill(name) => write!(f, "kill {name}"),
        }
    }
}

/// A figure with bounds. Each must be able to fail.
#[derive(Debug)]
pub struct Expectation {
    /// A word that names it in JSON and in [`Spoiler::fails`].
    pub id: &'static str,
    /// What is expected, as half a sentence without the number: "connections that the queue holds at most".
    pub what: &'static str,
    /// The figure: an expression, see [`crate::figure`].
    pub figure: &'static str,
    /// Its unit: `connections`, `ms`, `%`; empty for a plain number.
    pub unit: &'static str,
    /// The bounds, both included.
    pub bounds: Bounds,
    /// The bounds in the short form, if they differ.
    pub short: Option<Bounds>,
    /// What widens the bounds where CPUs are busy: an expression of what the run itself measured, in the figure's unit,
    /// such as how late a thread that is ready gets a CPU (`run:late_us`). It raises the upper bound; where there is
    /// none, it lowers the lower one.
    pub widened: Option<&'static str>,
    /// Why these bounds.
    pub why: &'static str,
}

/// Bounds of a figure. Both ends are allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bounds {
    /// Exactly this.
    Exactly(f64),
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// From the first to the second.
    Between(f64, f64),
}

impl Bounds {
    /// Whether a value is within them.
    #[must_use]
    pub fn hold(self, value: f64) -> bool {
        let (low, high) = self.ends();
        low.is_none_or(|low| value >= low) && high.is_none_or(|high| value <= high)
    }

    /// The same, wider by this much: above, or below if there is no bound above. What must be exact stays so.
    #[must_use]
    pub fn widened(self, by: f64) -> Self {
        let by = by.max(0.0);
        match self {
            Self::Exactly(value) => Self::Exactly(value),
            Self::AtLeast(low) => Self::AtLeast(low - by),
            Self::AtMost(high) => Self::AtMost(high + by),
            Self::Between(low, high) => Self::Between(low, high + by),
        }
    }

    /// Lower and upper bound.
    #[must_use]
    pub fn ends(self) -> (Option<f64>, Option<f64>) {
        match self {
            Self::Exactly(value) => (Some(value), Some(value)),
            Self::AtLeast(low) => (Some(low), None),
            Self::AtMost(high) => (None, Some(high)),
            Self::Between(low, high) => (Some(low), Some(high)),
        }
    }
}

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(value) => write!(f, "{value}"),
            Self::AtLeast(low) => write!(f, "≥ {low}"),
            Self::AtMost(high) => write!(f, "≤ {high}"),
            Self::Between(low, high) => write!(f, "{low} to {high}"),
        }
    }
}

/// A wrong set-up. A test runs each lesson with it, and fails unless the named expectations fail.
#[derive(Debug)]
pub struct Spoiler {
    /// What is wrong, in words: "a backlog of 4096 instead of 8".
    pub what: &'static str,
    /// The change.
    pub change: Change,
    /// Ids of the expectations that must fail then. Others may.
    pub fails: &'static [&'static str],
}

/// One change of a set-up.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// In the options of the server of this name: a part of the text, and what replaces it.
    Server(&'static str, &'static str, &'static str),
    /// In the options of the load of this name: likewise.
    Load(&'static str, &'static str, &'static str),
    /// A sysctl of the set-up gets another value, or one more is set.
    Sysctl(&'static str, &'static str),
}

impl Lesson {
    /// Whether `--with` names one of its programs by its first word: `server:NAME` or `load:NAME`.
    ///
    /// # Errors
    /// It does not. The line lists those that there are.
    pub fn has_program(&self, change: &str) -> Result<(), String> {
        let servers = self.setup.servers.iter().map(|server| format!("server:{}", server.name));
        let known: Vec<String> =
            servers.chain(self.setup.loads.iter().map(|load| format!("load:{}", load.name))).collect();
        let program = change.split_whitespace().next().unwrap_or_default();
        if known.iter().any(|name| name == program) {
            return Ok(());
        }
        Err(format!("--with '{program}': lesson '{}' has {}", self.name, known.join(", ")))
    }

    /// The answer of a number, from 1: its place, from 0.
    ///
    /// # Errors
    /// There is none. The line says which there are.
    pub fn answer(&self, number: usize) -> Result<usize, String> {
        let answers = self.prediction.answers.len();
        if (1..=answers).contains(&number) {
            return Ok(number - 1);
        }
        Err(format!("--predict {number}: lesson '{}' has the answers 1 to {answers}", self.name))
    }

    /// The length of a run in milliseconds.
    #[must_use]
    pub fn length_ms(&self, short: bool) -> u64 {
        self.steps.iter().map(|step| step.length(short)).sum()
    }

    /// The ids of all findings that are expected, in order.
    #[must_use]
    pub fn expected_findings(&self) -> Vec<&'static str> {
        let mut found = self.findings.to_vec();
        for expectation in self.expectations {
            let named = expectation.figure.split("findings[").skip(1).filter_map(|rest| rest.split_once(']'));
            found.extend(named.map(|(id, _)| id));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether `listentop blame` is run.
    #[must_use]
    pub fn blames(&self) -> bool {
        self.steps.iter().flat_map(|step| step.acts).any(|act| *act == Act::Blame)
    }

    /// The packages that build its programs, besides `demo-servers`.
    #[must_use]
    pub fn extra_packages(&self) -> Vec<&'static str> {
        let servers = self.setup.servers.iter().map(|server| server.program.package);
        let loads = self.setup.loads.iter().map(|load| load.program.package);
        let mut packages: Vec<_> = servers.chain(loads).filter(|package| *package != DEMO_SERVER.package).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }
}

impl Step {
    /// Its length in milliseconds.
    #[must_use]
    pub fn length(&self, short: bool) -> u64 {
        if short { self.short_ms } else { self.length_ms }
    }
}

impl Expectation {
    /// The bounds that apply.
    #[must_use]
    pub fn bounds(&self, short: bool) -> Bounds {
        if short { self.short.unwrap_or(self.bounds) } else { self.bounds }
    }
}
