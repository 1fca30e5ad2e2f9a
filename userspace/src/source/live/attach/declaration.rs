//! What a declaration of an event consists of: methods, hooks, and what is missing without them.

use std::fmt;

use listentop_model::coverage::Measure;

use Target::{Entry, Exit, Syscall, Tracepoint};

/// Where a program attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A BTF tracepoint with at least this many arguments.
    Tracepoint(&'static str, u32),
    /// A classic tracepoint of the category `syscalls`.
    Syscall(&'static str),
    /// The beginning of a function.
    Entry(&'static str),
    /// The end of a function.
    Exit(&'static str),
}

impl Target {
    /// Whether it is a function.
    #[must_use]
    pub fn is_function(self) -> bool {
        matches!(self, Entry(_) | Exit(_))
    }
}

/// The name that every list shows, and that the option `--refuse` of the tests takes.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tracepoint(name, _) => write!(f, "tp_btf/{name}"),
            Syscall(name) => write!(f, "tracepoint/syscalls/{name}"),
            Entry(name) => write!(f, "fentry/{name}"),
            Exit(name) => write!(f, "fexit/{name}"),
        }
    }
}

/// What measures lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Which measures.
    pub measures: &'static [Measure],
    /// What they lack, as a sentence.
    pub without: &'static str,
}

/// Whether a method works without a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// The method does not work without it.
    Required,
    /// As `Required`. A kernel that does not have the target works without it.
    IfPresent,
    /// The method works without it, with this loss. A kernel that does not have the target loses nothing.
    Optional(Loss),
}

/// One program on one hook.
#[derive(Debug)]
pub struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it goes.
    pub target: Target,
    /// Whether the method works without it.
    pub requirement: Requirement,
    /// The measures that it brings; `None`: all that the event carries.
    pub brings: Option<&'static [Measure]>,
}

impl Hook {
    /// It brings only these measures.
    pub(super) const fn brings(self, measures: &'static [Measure]) -> Self {
        Self { brings: Some(measures), ..self }
    }

    /// Whether it brings a measure.
    #[must_use]
    pub fn has(&self, measure: Measure) -> bool {
        self.brings.is_none_or(|measures| measures.contains(&measure))
    }

    /// What is missing without it; `None` where the method does not work without it.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self.requirement {
            Requirement::Optional(loss) => Some(loss),
            Requirement::Required | Requirement::IfPresent => None,
        }
    }
}

/// A hook that the method does not work without.
pub(in crate::source::live) const fn hook(program: &'static str, target: Target) -> Hook {
    Hook { program, target, requirement: Requirement::Required, brings: None }
}

/// A hook that the method does not work without where the kernel has the target.
pub(super) const fn if_present(program: &'static str, target: Target) -> Hook {
    Hook { program, target, requirement: Requirement::IfPresent, brings: None }
}

/// A hook that brings what is missing without it.
pub(super) const fn optional(
    program: &'static str,
    target: Target,
    measures: &'static [Measure],
    without: &'static str,
) -> Hook {
    let requirement = Requirement::Optional(Loss { measures, without });
    Hook { program, target, requirement, brings: Some(measures) }
}

/// A kind of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// fentry and fexit programs, on functions.
    Fentry,
    /// Programs on tracepoints.
    Tracepoint,
}

impl Kind {
    /// As the option `--probes` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fentry => "fentry",
            Kind::Tracepoint => "tracepoint",
        }
    }
}

/// A set of hooks that together bring an event.
#[derive(Debug)]
pub struct Method {
    /// Which kind of probes it counts as; `None`: either, for tracepoints that no function could better.
    pub kind: Option<Kind>,
    /// The hooks, in the order of attaching.
    pub hooks: &'static [Hook],
    /// Another event that these hooks bring too.
    pub also: Option<Event>,
    /// What measures lack that this method brings.
    pub limits: &'static [Loss],
    /// Hooks of other events that this method relies on, and what is missing without them.
    pub relies_on: &'static [(Target, Loss)],
    /// Parts of measures that this method does not bring.
    pub lacks: &'static [Part],
}

impl Method {
    const fn of(kind: Option<Kind>, hooks: &'static [Hook]) -> Self {
        Self { kind, hooks, also: None, limits: &[], relies_on: &[], lacks: &[] }
    }

    /// It brings this event too.
    pub(super) const fn also(self, event: Event) -> Self {
        Self { also: Some(event), ..self }
    }

    /// These measures lack something by this method.
    pub(super) const fn limited(self, limits: &'static [Loss]) -> Self {
        Self { limits, ..self }
    }

    /// It does not bring these parts of measures.
    pub(super) const fn lacks(self, parts: &'static [Part]) -> Self {
        Self { lacks: parts, ..self }
    }

    /// It relies on hooks of other events.
    pub(super) const fn relies_on(self, hooks: &'static [(Target, Loss)]) -> Self {
        Self { relies_on: hooks, ..self }
    }

    /// Whether it may be tried where probes of one kind are wanted, or of any (`None`).
    #[must_use]
    pub fn is_allowed(&self, wanted: Option<Kind>) -> bool {
        wanted.is_none() || self.kind.is_none() || self.kind == wanted
    }
}

/// A method by functions.
pub(super) const fn functions(hooks: &'static [Hook]) -> Method {
    Method::of(Some(Kind::Fentry), hooks)
}

/// A method by tracepoints.
pub(super) const fn tracepoints(hooks: &'static [Hook]) -> Method {
    Method::of(Some(Kind::Tracepoint), hooks)
}

/// A method by tracepoints that no function could better.
pub(super) const fn either(hooks: &'static [Hook]) -> Method {
    Method::of(None, hooks)
}

/// How much is measured. A higher level has all of a lower one, and costs more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Queues, handshakes and refused attempts: no system call, no read and no write is traced.
    Queues,
    /// Accepts as well: waits, and the threads that accept.
    Accepts,
    /// Reads and writes as well: residency, answers.
    #[default]
    All,
}

impl Level {
    /// From the lowest to the highest.
    pub const ALL: [Self; 3] = [Self::Queues, Self::Accepts, Self::All];

    /// As the option `--measure` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Queues => "queues",
            Level::Accepts => "accepts",
            Level::All => "all",
        }
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A socket is destroyed.
    Destroyed,
    /// A thread read.
    Read,
    /// A thread read by splice(2).
    Spliced,
    /// A thread wrote.
    Written,
    /// A SYN-ACK was sent again.
    SynackRetransmitted,
    /// A final ACK was refused.
    AckRefused,
    /// A SYN made a request, was answered with a cookie, or was refused.
    Syn,
    /// A valid cookie came back.
    CookieValidated,
    /// A request left the SYN queue without a connection.
    RequestGivenUp,
    /// A thread accepted, or found nothing.
    Accepted,
    /// Payload arrived.
    Arrived,
    /// A listener opened or closed; a connection was put on its accept queue.
    Enqueued,
}

impl Event {
    /// A word or two for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Event::Destroyed => "connection ends",
            Event::Read => "read",
            Event::Spliced => "read by splice",
            Event::Written => "write",
            Event::SynackRetransmitted => "SYN-ACK sent again",
            Event::AckRefused => "final ACK refused",
            Event::Syn => "SYN",
            Event::CookieValidated => "cookie came back",
            Event::RequestGivenUp => "request given up",
            Event::Accepted => "accept",
            Event::Arrived => "payload arrives",
            Event::Enqueued => "connection enqueued",
        }
    }
}

/// A figure whose measure may be there without it. It is unknown then, not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Accepts that fail, of [`Measure::Accepts`].
    FailedAccepts,
    /// Cookies that come back, of [`Measure::CookiesSent`].
    CookiesValidated,
    /// Requests that are given up, of [`Measure::SynRequests`].
    RequestsGivenUp,
    /// Connections that leave the queue unaccepted, of [`Measure::Enqueued`].
    Aborted,
}

/// An event and the methods to see it.
#[derive(Debug)]
pub struct Definition {
    /// Which event.
    pub event: Event,
    /// Measures that are unavailable without it.
    pub carries: &'static [Measure],
    /// Measures that lack something without it. If it also carries the measure, this says why no other event provides
    /// it.
    pub without: &'static [Loss],
    /// Parts of measures that it brings.
    pub parts: &'static [Part],
    /// Whether the start fails without it, because nothing else makes sense then.
    pub essential: bool,
    /// The lowest level that has it. Below, none of its hooks is attached.
    pub level: Level,
    /// The best first.
    pub methods: &'static [Method],
}

impl Definition {
    /// An event that carries these measures.
    pub(super) const fn of(event: Event, carries: &'static [Measure], methods: &'static [Method]) -> Self {
        Self { event, carries, without: &[], parts: &[], essential: false, level: Level::Queues, methods }
    }

    /// The start fails without it.
    pub(super) const fn essential(self) -> Self {
        Self { essential: true, ..self }
    }

    /// This level has it, and those above.
    pub(super) const fn from(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Measures that lack something without it.
    pub(super) const fn without(self, losses: &'static [Loss]) -> Self {
        Self { without: losses, ..self }
    }

    /// It brings these parts of measures.
    pub(super) const fn with_parts(self, parts: &'static [Part]) -> Self {
        Self { parts, ..self }
    }
}

/// These measures lack something.
pub(super) const fn loss(measures: &'static [Measure], without: &'static str) -> Loss {
    Loss { measures, without }
}
