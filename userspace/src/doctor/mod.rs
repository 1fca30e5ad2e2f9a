//! What this machine and this user allow: facts, rights, every hook tried and detached again, every measure, and what
//! to do.

mod advice;
mod facts;
mod table;
#[cfg(test)]
mod tests;

use listentop_model::coverage::{Coverage, Measure, Status};
use serde::Serialize;

use crate::{
    report::json::{CoverageEntry, Tool},
    rights,
    source::{
        self, Examination, Options,
        coverage::{Entry, in_words},
        live::Trial,
    },
};

pub use advice::Advice;
pub use facts::{Fact, Hindrance};
pub use source::Origin;
pub use table::table;

/// Version of the JSON.
pub const SCHEMA: u32 = 1;

/// What the dashboard would show here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is unavailable, apart from what `--measure` leaves out.
    Complete,
    /// Probes run, and some measure is unavailable.
    Partial,
    /// No probes run: depths and drops at most, sampled.
    Impossible,
}

impl Verdict {
    fn of(origin: Origin, coverage: &[Entry]) -> Self {
        match origin {
            // What is left out on purpose does not make it less.
            Origin::Probes
                if coverage.iter().all(|entry| entry.status() != Status::Unavailable || entry.is_left_out()) =>
            {
                Self::Complete
            }
            Origin::Probes => Self::Partial,
            Origin::SockDiag | Origin::Nothing => Self::Impossible,
        }
    }
}

/// Everything that was found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "docs/schema.md describes each field, once, for those who read the JSON too")]
pub struct Diagnosis {
    pub schema: u32,
    pub tool: Tool,
    pub verdict: Verdict,
    pub source: Option<&'static str>,
    pub source_reason: Option<String>,
    pub machine: Vec<Fact>,
    pub capabilities: Vec<Right>,
    pub hooks: Vec<TriedHook>,
    pub coverage: Vec<CoverageEntry>,
    pub advice: Vec<Advice>,
}

/// A capability, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/schema.md describes each field")]
pub struct Right {
    pub name: String,
    pub held: bool,
    pub brings: &'static str,
    pub without: &'static str,
}

/// A hook that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "docs/schema.md describes each field")]
pub struct TriedHook {
    pub hook: String,
    pub program: &'static str,
    pub event: &'static str,
    pub attached: bool,
    pub reason: Option<String>,
    pub measures: Vec<Measure>,
}

impl Diagnosis {
    /// Looks at the machine and tries every hook. When it returns, all hooks are detached.
    #[must_use]
    pub fn make(options: &Options) -> Self {
        let examination = source::examine(options);
        let machine = facts::all(&examination);
        Self::of(&examination, machine, rights::has)
    }

    fn of(examination: &Examination, machine: Vec<Fact>, has: impl Fn(caps::Capability) -> bool) -> Self {
        let right = |grant: &rights::Grant| Right {
            name: grant.capability.to_string(),
            held: has(grant.capability),
            brings: grant.brings,
            without: grant.without,
        };
        Self {
            schema: SCHEMA,
            tool: Tool { version: env!("CARGO_PKG_VERSION") },
            verdict: Verdict::of(examination.origin, &examination.coverage),
            source: match examination.origin {
                Origin::Probes => Some("probes"),
                Origin::SockDiag => Some("sock_diag"),
                Origin::Nothing => None,
            },
            source_reason: examination.refusal.clone(),
            advice: advice::of(examination, &machine, &has),
            capabilities: rights::GRANTS.iter().map(right).collect(),
            hooks: examination.trials.iter().map(hook).collect(),
            coverage: in_words(&examination.coverage).iter().map(entry).collect(),
            machine,
        }
    }

    /// How many measures have this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.coverage.iter().filter(|entry| entry.status == status).count()
    }
}

fn hook(trial: &Trial) -> TriedHook {
    TriedHook {
        hook: trial.target.to_string(),
        program: trial.program,
        event: trial.event.name(),
        attached: trial.outcome.is_ok(),
        reason: trial.outcome.as_ref().err().map(ToString::to_string),
        measures: trial.measures.to_vec(),
    }
}

fn entry(entry: &Coverage) -> CoverageEntry {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    CoverageEntry {
        measure: entry.measure.name(),
        status: entry.status,
        via: some(&entry.via),
        reason: some(&entry.reason),
        since: None,
    }
}
