//! The plan for a virtual machine, and the events that its init sends to the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The path of the plan in the machine.
pub const PLAN_FILE: &str = "/plan.json";

/// The machine's serial port for events: one per line, in JSON. Another port is the kernel's console.
#[cfg(not(target_arch = "aarch64"))]
pub const EVENTS_PORT: &str = "/dev/ttyS1";
/// The machine's serial port for events: one per line, in JSON. The console is a port of another kind (`ttyAMA0`).
#[cfg(target_arch = "aarch64")]
pub const EVENTS_PORT: &str = "/dev/ttyS0";

/// Everything that one boot does.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Module files, in loading order.
    pub modules: Vec<String>,
    /// Programs, run one after the other.
    pub runs: Vec<Run>,
    /// Whether the kernel times every run of every probe.
    pub timed: bool,
}

/// One program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Its name in events.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// All environment variables.
    pub environment: Vec<(String, String)>,
    /// Its time limit: then it is killed, with all its children.
    pub seconds: u64,
}

/// Something that happened in the machine.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The init is up.
    Booted {
        /// As `uname -r` prints it.
        release: String,
        /// The CPUs that are online.
        online: String,
        /// The possible CPUs.
        possible: String,
    },
    /// A step failed; the runs go on.
    Trouble {
        /// The message.
        what: String,
    },
    /// A run begins.
    Begin {
        /// Its name.
        run: String,
    },
    /// The run printed a line.
    Line {
        /// On stderr; otherwise on stdout.
        stderr: bool,
        /// The line.
        text: String,
    },
    /// The run ended.
    End {
        /// Its name.
        run: String,
        /// Its exit code, 128 + signal, or `None` when it took too long.
        code: Option<i32>,
    },
    /// All runs have ended; the machine powers off.
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
