//! The results of the machine that counts instructions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Connect, accept, close.
    Connect,
    /// Requests and responses on connections that stay open.
    Requests,
}

impl Work {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Connect, Self::Requests];
}

/// The kind of hooks, with the names of `--probes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hooks {
    /// listentop's own choice.
    Auto,
    /// Functions.
    Fentry,
    /// Tracepoints.
    Tracepoint,
}

impl Hooks {
    /// All.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Fentry, Self::Tracepoint];
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
pub enum Attached {
    /// Nothing.
    Nothing,
    /// Programs that return at once.
    Empty(Hooks),
    /// listentop's own.
    Listentop(Hooks),
}

/// A line of output: the instructions that the whole machine executes for one operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// The load.
    pub work: Work,
    /// What is attached.
    pub attached: Attached,
    /// Instructions for one operation.
    pub instructions: f64,
}
