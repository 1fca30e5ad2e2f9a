//! What a virtual machine is to do, and how it tells what came of it. Shared by xtask and the init inside.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the init finds its plan.
pub(crate) const PLAN_FILE: &str = "/plan.json";

/// The serial port, in the machine, that events come through, as JSON, one per line. The kernel's console is the first
/// port.
#[allow(dead_code, reason = "only the init opens it")]
pub(crate) const EVENTS_PORT: &str = "/dev/ttyS1";

/// Everything that one boot does.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Module files, in the order in which they are to be loaded.
    pub(crate) modules: Vec<String>,
    /// Programs, run one after the other.
    pub(crate) runs: Vec<Run>,
    /// Whether the kernel times every run of every probe.
    pub(crate) timed: bool,
}

/// One program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// By what the events call it.
    pub(crate) name: String,
    /// The file, and its arguments.
    pub(crate) command: Vec<String>,
    /// Environment variables; there are no others.
    pub(crate) environment: Vec<(String, String)>,
    /// After so long it is killed, with all that it started.
    pub(crate) seconds: u64,
}

/// What happened in the machine.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub(crate) enum Event {
    /// The init is up: `uname -r`, and the CPUs that are online and possible.
    Booted { release: String, online: String, possible: String },
    /// Something that should have worked did not; the runs go on.
    Trouble { what: String },
    /// A run begins.
    Begin { run: String },
    /// It printed a line.
    Line { stderr: bool, text: String },
    /// It ended: with this exit code, 128 + signal, or `None` when it took too long.
    End { run: String, code: Option<i32> },
    /// All runs are over; the machine powers off.
    Done,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booted { release, online, possible } => write!(f, "up: {release}, CPUs {online} of {possible}"),
            Self::Trouble { what } => write!(f, "trouble: {what}"),
            Self::Begin { run } => write!(f, "begin {run}"),
            Self::Line { stderr: false, text } => f.write_str(text),
            Self::Line { stderr: true, text } => write!(f, "stderr: {text}"),
            Self::End { run, code: Some(code) } => write!(f, "end {run}: code {code}"),
            Self::End { run, code: None } => write!(f, "end {run}: out of time"),
            Self::Done => f.write_str("done"),
        }
    }
}
