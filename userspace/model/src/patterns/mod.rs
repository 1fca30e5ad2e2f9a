//! How a listener is served, told from what its threads are seen doing. A file per pattern; `unknown` rather than a
//! guess.

mod acceptor_readers;
mod lifetime;
mod message_balancing;
mod multi_acceptor;
mod process_per_connection;
mod sharded;
mod single_thread;
mod thread_per_connection;
mod work;

pub(crate) use work::Work;

use crate::model::{Pattern, PatternName};

/// Fewer accepts than this show no pattern: with 20, a thread that does a tenth of the work has still been seen.
pub(crate) const MIN_ACCEPTS: u64 = 20;
/// As for accepts: fewer reads, or writes, show nothing.
const MIN_WORK: u64 = 20;
/// A pattern fits if this much of what was seen does. The rest is allowed for start-up, signals, health checks.
const FITS: f64 = 0.9;

/// The pattern that fits, if one does.
pub(crate) fn recognise(work: &Work) -> Pattern {
    if !work.accepts_measured {
        return unknown(vec!["accepts are not measured here".to_owned()]);
    }
    if work.accepts < MIN_ACCEPTS {
        let seen = match work.accepts {
            0 => "no accepts were seen".to_owned(),
            n => format!("only {n} accepts were seen, fewer than {MIN_ACCEPTS}"),
        };
        return unknown(vec![seen]);
    }
    // In this order: how connections are accepted comes before how they are read.
    let patterns = [
        sharded::fits,
        multi_acceptor::fits,
        single_thread::fits,
        message_balancing::fits,
        process_per_connection::fits,
        thread_per_connection::fits,
        acceptor_readers::fits,
    ];
    patterns.iter().find_map(|fits| fits(work)).unwrap_or_else(|| unknown(work.describe()))
}

fn unknown(evidence: Vec<String>) -> Pattern {
    Pattern { name: PatternName::Unknown, confidence: 0.0, evidence }
}

/// A pattern with this confidence, if that is enough.
fn found(name: PatternName, confidence: f64, evidence: Vec<String>) -> Option<Pattern> {
    (confidence >= FITS).then(|| Pattern { name, confidence: confidence.min(1.0), evidence })
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

#[cfg(test)]
mod tests;
