//! What the bench can attach while a load runs.

/// Something to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Nothing.
    Nothing,
    /// listentop as it is.
    Listentop,
    /// Empty programs on listentop's hooks.
    Empty,
    /// No program, but one traced system call: that alone costs time, with any tool.
    TracedCalls,
    /// The bpftrace script.
    Bpftrace,
}

impl Tool {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listentop => "listentop",
            Self::Empty => "empty programs",
            Self::TracedCalls => "a system call traced, no program",
            Self::Bpftrace => "bpftrace, accept wait",
        }
    }
}
