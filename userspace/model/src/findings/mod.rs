//! What is wrong with a listener, with evidence and advice. A file per finding, each a pure function of the
//! `FindingInput`. `memory.rs` knows since when each holds, and remembers what has passed; `causes.rs` puts them into
//! order: root causes first, what follows from each under it.
//!
//! A new finding is a file here, its `mod` line and its line in [`ALL`].

mod accept_errors;
mod accept_queue_overflow;
mod acceptor_gone;
mod acceptor_imbalance;
mod acceptor_paused;
mod activity;
mod backlog_small;
mod busy_acceptor;
mod causes;
mod connections_lost_on_close;
mod cpu_starved_acceptor;
mod dead_on_accept;
mod dead_shard;
mod descriptors_low;
mod hung_acceptor;
mod hung_reader;
mod likely;
mod memory;
mod refused_otherwise;
mod refused_unexplained;
mod shard_imbalance;
mod slow_accept;
mod slow_reader;
mod stall;
mod syn_backlog_reserve;
mod syn_queue_overflow;
mod taken;
mod would_block_storm;

pub(crate) use self::{
    activity::Activity,
    causes::merge,
    hung_reader::MANY_UNREAD,
    memory::{Memory, NOTHING},
};
use crate::{
    blame::Blamed,
    catalogue::{Threshold, thresholds},
    history::Timeline,
    model::{Finding, GroupModel, Interval, ListenerModel, NamespaceModel, Severity},
    sample::Descriptors,
    words::prose::{agree, duration, grouped, percent, plural},
};

/// Every finding. A cause comes before what may follow from it. Root causes of the same severity are reported in this
/// order.
pub const ALL: &[&FindingKind] = &[
    &accept_errors::KIND,
    &cpu_starved_acceptor::KIND,
    &acceptor_gone::KIND,
    &dead_shard::KIND,
    &acceptor_paused::KIND,
    &hung_acceptor::KIND,
    &acceptor_imbalance::KIND,
    &shard_imbalance::KIND,
    &busy_acceptor::KIND,
    &hung_reader::KIND,
    &backlog_small::KIND,
    &accept_queue_overflow::KIND,
    &syn_queue_overflow::KIND,
    &syn_backlog_reserve::KIND,
    &refused_otherwise::KIND,
    &refused_unexplained::KIND,
    &connections_lost_on_close::KIND,
    &slow_accept::KIND,
    &dead_on_accept::KIND,
    &slow_reader::KIND,
    &descriptors_low::KIND,
    &would_block_storm::KIND,
];

/// What a finding's file declares. The documentation shows the texts, with the thresholds' values for their names.
#[derive(Debug)]
pub struct FindingKind {
    /// Stable name, snake_case.
    pub id: &'static str,
    /// What it means for the clients or the program.
    pub meaning: &'static str,
    /// What must be seen.
    pub when: &'static str,
    /// Which severity it has when.
    pub severity: &'static str,
    /// The findings that explain it, the nearest first. Beside one of them it is no root cause: it follows from that
    /// one, and so does what to do.
    pub follows_from: &'static [&'static str],
    /// The bounds that are its own.
    pub thresholds: &'static [Threshold],
    /// Looks for it.
    pub(crate) find: fn(&FindingInput<'_>) -> Option<Found>,
}

/// What a finding may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindingInput<'a> {
    pub(crate) listener: &'a ListenerModel,
    /// The group that it is a shard of, if that has at least two open shards.
    pub(crate) group: Option<&'a GroupModel>,
    pub(crate) namespace: Option<&'a NamespaceModel>,
    pub(crate) cpus: u32,
    pub(crate) interval: Interval,
    pub(crate) timeline: &'a Timeline,
    /// When it last did what.
    pub(crate) activity: &'a Activity,
    /// What its acceptors did while its connections waited, if somebody asks.
    pub(crate) blamed: Option<&'a Blamed>,
    /// What was found before.
    pub(crate) memory: &'a Memory,
    /// What was found now, of the kinds that come before in [`ALL`].
    pub(crate) found: &'a [Found],
}

/// What a finding's file reports.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) summary: String,
    pub(crate) evidence: Vec<(&'static str, f64)>,
    pub(crate) advice: String,
    /// It holds now; otherwise it did earlier in the interval.
    pub(crate) holds: bool,
    /// For how long it has held at least, in microseconds.
    pub(crate) for_us: u64,
    /// When it last held, if it does not and that is known: in microseconds of the interval.
    pub(crate) over_us: Option<u64>,
    /// What will be said of it when it has passed; `None`: nothing.
    pub(crate) past: Option<Past>,
}

/// A finding in the past tense.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Past {
    pub(crate) summary: String,
    pub(crate) advice: String,
    /// How bad it was: of several times the worst is remembered.
    pub(crate) weight: f64,
}

impl Found {
    /// A finding that holds now and is forgotten when it has passed.
    fn new(
        kind: &FindingKind,
        severity: Severity,
        summary: String,
        evidence: Vec<(&'static str, f64)>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = advice.into();
        Self { id: kind.id, severity, summary, evidence, advice, holds: true, for_us: 0, over_us: None, past: None }
    }

    /// Adds what acceptors did while connections waited.
    fn explain(&mut self, blamed: Option<&Blamed>) {
        let Some(sentence) = blamed.and_then(Blamed::sentence) else { return };
        self.summary = format!("{} {sentence}", self.summary);
        if let Some(past) = &mut self.past {
            past.summary = format!("{} {sentence}", past.summary);
        }
    }

    /// It may no longer hold.
    fn holding(self, holds: bool) -> Self {
        Self { holds, ..self }
    }

    /// It last held at this time, if it does not hold now.
    fn over(self, over_us: Option<u64>) -> Self {
        Self { over_us: over_us.filter(|_| !self.holds), ..self }
    }

    /// It has held for so long.
    fn lasting(self, for_us: u64) -> Self {
        Self { for_us, ..self }
    }

    /// What to say of it later, with its weight among several times.
    fn remembered(self, weight: f64, summary: String, advice: impl Into<String>) -> Self {
        Self { past: Some(Past { summary, advice: advice.into(), weight }), ..self }
    }
}

thresholds! {
    /// Every server stops accepting for a time. While a connection waits longer than this and none is accepted, the
    /// accepting thread hangs.
    HUNG_US: u64 = 1_000_000, Micros;
    /// Fewer values than this have no meaningful 99th percentile.
    MIN_VALUES: u64 = 20, Count;
    /// A finding keeps the severity that it had for this long, and one that has passed can explain others for this
    /// long: what comes and goes within this time is one thing.
    HOLD_US: u64 = 5_000_000, Micros;
}

/// For longer than this nobody should wait, whatever the findings say.
pub(crate) const TOO_LONG_US: u64 = HUNG_US;

/// The bounds that several findings share.
pub const SHARED: &[Threshold] = THRESHOLDS;

/// Findings that say why a queue is not emptied: then it is full for that reason, not because of a burst.
const NO_BURST: &[&str] =
    &["accept_errors", "acceptor_gone", "dead_shard", "acceptor_paused", "hung_acceptor", "busy_acceptor"];

/// Findings about connections that wait to be accepted: what acceptors did meanwhile explains them.
const ABOUT_WAITING: &[&str] = &[
    "cpu_starved_acceptor",
    "acceptor_gone",
    "dead_shard",
    "acceptor_paused",
    "hung_acceptor",
    "busy_acceptor",
    "backlog_small",
    "accept_queue_overflow",
    "slow_accept",
];

/// Whether this finding is about connections that wait to be accepted.
#[must_use]
pub fn is_about_waiting(id: &str) -> bool {
    ABOUT_WAITING.contains(&id)
}

/// Names of a stall in which nobody accepts. One stall has one of them.
const STANDSTILLS: &[&str] = &["acceptor_gone", "dead_shard", "acceptor_paused", "hung_acceptor"];
/// What a stall may have been called until it was known that it is one of them.
const STALLS: &[&str] = &["acceptor_gone", "dead_shard", "acceptor_paused", "hung_acceptor", "busy_acceptor"];

impl FindingInput<'_> {
    /// The length of the interval, in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        (self.interval.seconds * 1e6).round() as u64
    }

    /// Whether this finding holds beside the one that is looked for, or held until a moment ago.
    fn beside(&self, id: &str) -> bool {
        self.found.iter().any(|found| found.id == id && found.holds) || self.memory.held_lately(id, self.now_us())
    }

    /// Whether one of these findings was there at any time in the interval.
    fn ever(&self, ids: &[&str]) -> bool {
        self.found.iter().any(|found| ids.contains(&found.id)) || ids.iter().any(|id| self.memory.knows(id))
    }

    /// The descriptors of the accepting process when accepts failed, to be put behind an error: `: 40 of 40 open`. If
    /// they were not seen at their limit: `: of 40`.
    fn descriptors_in_words(&self) -> String {
        let seen = self.activity.descriptors_at_failure();
        let words = |seen: Descriptors| {
            if seen.open >= seen.soft_limit {
                format!(": {} of {} open", grouped(seen.open), grouped(seen.soft_limit))
            } else {
                format!(": the limit is {}", grouped(seen.soft_limit))
            }
        };
        seen.map_or(String::new(), words)
    }

    /// Attempts that the full accept queue refused in the interval, and in the recent span.
    fn refused_by_accept_queue(&self) -> (u64, u64) {
        let sum = |drops: &crate::model::Drops| {
            drops.accept_queue_full_on_syn.unwrap_or(0) + drops.accept_queue_full_on_ack.unwrap_or(0)
        };
        (sum(&self.listener.drops), sum(&self.listener.recent_drops))
    }
}

/// All that is wrong: root causes first, the worst before the others, and under each what follows from it.
pub(crate) fn find(input: &FindingInput<'_>, memory: &mut Memory) -> Vec<Finding> {
    let mut found: Vec<Found> = Vec::new();
    for kind in ALL {
        if let Some(new) = (kind.find)(&FindingInput { found: &found, memory, ..*input }) {
            found.push(new.holding_if(!input.listener.closed));
        }
    }
    // Causes come first: what was done meanwhile is said once.
    if let Some(cause) = found.iter_mut().find(|found| found.holds && is_about_waiting(found.id)) {
        cause.explain(input.blamed);
    }
    let now_us = input.now_us();
    let stall = FindingInput { memory, ..*input }.stall();
    // What it did when the stall began, it did before it.
    if stall.is_some_and(|stall| stall.at_work && stall.oldest_us >= input.recent_us() + HUNG_US) {
        memory.note_work(now_us);
    }
    // Who waits, and which threads have ended, is known a moment later than that nobody accepts.
    if let Some(stall) = stall.filter(|stall| stall.why != stall::Why::Busy) {
        memory.correct(STALLS, &found, now_us as i64 - stall.oldest_us as i64);
    }
    causes::arrange(memory.update(found, now_us), now_us, input.interval.start_unix_ms)
}

impl Found {
    /// Nothing holds any more at a listener that has closed.
    fn holding_if(self, open: bool) -> Self {
        let holds = self.holds && open;
        self.holding(holds)
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
