//! What a machine that counts instructions tells. Shared by xtask and the program inside.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Connect, accept, close.
    Connect,
    /// Requests and responses on connections that stay open.
    Requests,
}

impl Work {
    /// All.
    pub(crate) const ALL: [Self; 2] = [Self::Connect, Self::Requests];
}

/// Where listentop is attached, as `--probes` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hooks {
    /// Where it would be by itself.
    Auto,
    /// Functions.
    Fentry,
    /// Tracepoints.
    Tracepoint,
}

impl Hooks {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::Auto, Self::Fentry, Self::Tracepoint];
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// What is attached while a load runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attached {
    /// Nothing.
    Nothing,
    /// Programs that return at once.
    Empty(Hooks),
    /// listentop's own.
    Listentop(Hooks),
}

/// A line that the program inside prints: what the whole machine executes for one operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Of this load.
    pub(crate) work: Work,
    /// With this attached.
    pub(crate) attached: Attached,
    /// Instructions.
    pub(crate) instructions: f64,
}
