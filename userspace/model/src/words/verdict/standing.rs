//! How a listener stands: by its findings, and by the figures that stand beside them. A finding may need time, or more
//! than the figures, until it holds. What the figures show counts before.

use super::super::{
    numbers::{marked, status},
    prose::{duration, grouped, plural},
};
use crate::{
    coverage::Measure,
    findings::{MANY_UNREAD, TOO_LONG_US},
    model::{Drops, ListenerModel, Model, Severity},
};

/// What a listener's clients suffer now, the worst last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing that holds now is worse than worth knowing.
    #[default]
    None,
    /// There is a warning.
    Warned,
    /// Clients wait too long.
    Waiting,
    /// Clients are refused.
    Refused,
}

impl Harm {
    /// As a severity; `None` if nothing is wrong.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Harm::None => None,
            Harm::Warned => Some(Severity::Warning),
            Harm::Waiting | Harm::Refused => Some(Severity::Critical),
        }
    }
}

/// How a listener stands: what the verdict counts and compares. It costs little to make, and little to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// What its clients suffer.
    pub harm: Harm,
    /// The worst finding that holds, or what the figures show.
    pub severity: Option<Severity>,
    /// Of two that suffer the same, the one with more refused and waiting clients is worse.
    weight: u64,
    /// Until when its clients suffered last, in milliseconds of Unix time; 0 if they do now, or did not.
    pub(super) passed_ms: u64,
    /// What is no harm for certain, but must not be passed over.
    pub(super) note: Note,
}

/// What the figures show of a listener of which nothing says that its clients suffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    /// Connections that wait to be accepted, nobody knows for how long.
    pub(super) unaged: u32,
    /// For how long its oldest unread bytes have waited, in microseconds; 0 if not too long. Programs leave bytes on
    /// purpose, too.
    pub(super) unread_us: u64,
    /// Unread bytes, nobody knows for how long; 0 if they are few.
    pub(super) unread_bytes: u64,
    /// Attempts that it refused earlier in the interval, without a finding that says so.
    pub(super) refused: u64,
}

/// Findings that report refused clients.
pub(super) const REFUSING: [&str; 5] =
    ["accept_queue_overflow", "syn_queue_overflow", "syn_backlog_reserve", "refused_otherwise", "refused_unexplained"];

/// Findings that report clients that are left waiting.
const DELAYING: [&str; 6] =
    ["acceptor_gone", "dead_shard", "acceptor_paused", "hung_acceptor", "busy_acceptor", "hung_reader"];

impl Standing {
    /// How `listener` stands.
    #[must_use]
    pub fn of(listener: &ListenerModel) -> Self {
        let holding = || listener.findings.iter().filter(|finding| finding.until_unix_ms.is_none());
        let shown = shown(listener);
        let harm = found(listener).max(shown);
        let weight = if holding().next().is_some() || harm > Harm::None {
            refused(&listener.recent_drops).saturating_add(listener.now.accept_depth.into())
        } else {
            0
        };
        let suffered = |id: &str| REFUSING.contains(&id) || DELAYING.contains(&id);
        let passed = listener.findings.iter().filter(|finding| match finding.severity {
            Severity::Critical => true,
            // What was critical is a warning some seconds after it has passed.
            Severity::Warning => suffered(finding.id),
            Severity::Info => false,
        });
        let passed_ms =
            if harm < Harm::Waiting { passed.filter_map(|finding| finding.until_unix_ms).max() } else { None };
        Self {
            harm,
            severity: holding().map(|finding| finding.severity).max().max(shown.severity()),
            weight,
            passed_ms: passed_ms.unwrap_or(0),
            note: if harm < Harm::Waiting { Note::of(listener) } else { Note::default() },
        }
    }
}

impl Note {
    fn of(listener: &ListenerModel) -> Self {
        let now = &listener.now;
        if listener.closed {
            return Self::default();
        }
        let known = listener.findings.iter().any(|finding| REFUSING.contains(&finding.id));
        Self {
            unaged: if now.oldest_waiting_us.is_none() { now.accept_depth } else { 0 },
            unread_us: now.oldest_unread_us.filter(|us| *us > TOO_LONG_US).unwrap_or(0),
            unread_bytes: match (now.oldest_unread_us, now.queued_bytes) {
                (None, Some(bytes)) if bytes >= MANY_UNREAD => bytes,
                _ => 0,
            },
            refused: if known { 0 } else { refused(&listener.drops) },
        }
    }
}

/// What its findings say that its clients suffer now.
pub(super) fn found(listener: &ListenerModel) -> Harm {
    let holding = listener.findings.iter().filter(|finding| finding.until_unix_ms.is_none());
    let harm = holding.map(|finding| match finding.severity {
        Severity::Critical if REFUSING.contains(&finding.id) => Harm::Refused,
        Severity::Critical => Harm::Waiting,
        Severity::Warning => Harm::Warned,
        Severity::Info => Harm::None,
    });
    harm.max().unwrap_or_default()
}

/// Attempts that were refused, as far as they are known.
fn refused(drops: &Drops) -> u64 {
    let parts = [drops.accept_queue_full_on_syn, drops.accept_queue_full_on_ack, drops.syn_queue_full, drops.other];
    drops.total.unwrap_or_else(|| parts.into_iter().flatten().sum())
}

/// The same without those whose cause is not known. Those may be none: the next reading of the counters may tell.
fn refused_for_certain(drops: &Drops) -> u64 {
    refused(drops).saturating_sub(drops.unexplained.unwrap_or(0))
}

/// What its figures show that its clients suffer now, whatever its findings say.
fn shown(listener: &ListenerModel) -> Harm {
    let (now, drops) = (&listener.now, &listener.recent_drops);
    let is_full = now.accept_depth > 0 && now.accept_depth >= now.limit;
    if listener.closed {
        Harm::None
    } else if refused_for_certain(drops) > 0 {
        Harm::Refused
    } else if now.oldest_waiting_us.is_some_and(|us| us > TOO_LONG_US) {
        Harm::Waiting
    } else if refused(drops) > 0 || is_full && now.oldest_waiting_us.is_none() {
        Harm::Warned
    } else {
        Harm::None
    }
}

/// What the figures of a listener show that none of its findings says: how bad it is, and in words, as the end of a
/// sentence about it: `288 connections wait, the oldest for 5.8 s`. `None` if the findings say all.
#[must_use]
pub fn unfound(model: &Model, listener: &ListenerModel) -> Option<(Severity, String)> {
    let shown = shown(listener);
    let severity = shown.severity().filter(|_| shown > found(listener))?;
    let (now, drops) = (&listener.now, &listener.recent_drops);
    let of = |text: String, measure| marked(Some(text), status(model, measure));
    let refused = refused(drops);
    let text = match shown {
        Harm::Waiting => {
            let oldest = of(duration(now.oldest_waiting_us.unwrap_or(0)), Measure::OldestWaiting);
            match now.accept_depth {
                0 | 1 => format!("a connection waits for {oldest}"),
                depth => format!("{} connections wait, the oldest for {oldest}", grouped(depth.into())),
            }
        }
        _ if refused > 0 => {
            let attempts = if refused == 1 { "attempt was" } else { "attempts were" };
            let lately = duration((model.interval.recent_seconds * 1e6).round() as u64);
            let why = if refused_for_certain(drops) == 0 { ", why is not known" } else { "" };
            format!("{} {attempts} refused in the last {lately}{why}", of(grouped(refused), Measure::Drops))
        }
        _ => {
            let limit = grouped(now.limit.into());
            format!("its accept queue is full: {} of {limit}", plural(now.accept_depth.into(), "connection"))
        }
    };
    Some((severity, text))
}

/// The same as a line of its own.
#[must_use]
pub fn unfound_line(model: &Model, listener: &ListenerModel) -> Option<(Severity, String)> {
    let (severity, text) = unfound(model, listener)?;
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    Some((severity, format!("{first}{}. No finding says why yet.", letters.as_str())))
}
