//! What the bench attaches while a load runs: the names.

/// What may be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Nothing.
    Nothing,
    /// listentop as it is.
    Listentop,
    /// Empty programs on the hooks of listentop.
    Empty,
    /// No program, but one system call traced: what that alone costs, whoever does it.
    TracedCalls,
    /// The bpftrace script.
    Bpftrace,
}

impl Tool {
    /// As the report calls it.
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
