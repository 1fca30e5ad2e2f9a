//! What the bench can attach while a load runs.

/// A level of measuring below the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// No read and no write is traced.
    Accepts,
    /// And no system call.
    Queues,
}

impl Level {
    /// As the option `--measure` names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepts => "accepts",
            Self::Queues => "queues",
        }
    }
}

/// Something to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Nothing.
    Nothing,
    /// listentop as it is.
    Listentop,
    /// listentop at a lower level.
    Level(Level),
    /// `listentop blame`: all that listentop has, and more.
    Blame,
    /// Empty programs on listentop's hooks.
    Empty,
    /// No program, but one traced system call: that alone costs time, with any tool.
    TracedCalls,
    /// The bpftrace script.
    Bpftrace,
    /// `ss` in a loop.
    Ss,
}

impl Tool {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listentop => "listentop",
            Self::Level(Level::Accepts) => "listentop, `--measure accepts`",
            Self::Level(Level::Queues) => "listentop, `--measure queues`",
            Self::Blame => "`listentop blame`",
            Self::Empty => "empty programs",
            Self::TracedCalls => "a system call traced, no program",
            Self::Bpftrace => "bpftrace, accept wait",
            Self::Ss => "`ss` ten times a second",
        }
    }
}
