//! How a listener is served, recognised by what its threads are seen doing. A file per pattern; `unknown` rather than a
//! guess.
//!
//! A new pattern is a file here, its `mod` line and its line in `patterns!` below.

mod acceptor_in_pool;
mod acceptor_readers;
mod lifetime;
mod message_balancing;
mod multi_acceptor;
mod one_acceptor;
mod process_per_connection;
mod sharded;
mod single_thread;
mod succession;
mod thread_per_connection;
mod work;

pub(crate) use work::{MAIN_ACCEPTOR, MAIN_PART, Work, is_main_acceptor};

use self::one_acceptor::OneAcceptor;
use crate::{
    catalogue::{Threshold, thresholds},
    model::Pattern,
    names::names,
    words::prose::{agree, percent, plural},
};

/// What a pattern's file declares. The documentation shows the texts.
#[derive(Debug)]
pub struct PatternKind {
    /// Which it is.
    pub name: PatternName,
    /// What must be seen.
    pub seen: &'static str,
    /// Well-known programs that work so.
    pub programs: &'static str,
    /// The pattern, if it fits.
    pub(crate) fits: fn(&Work<'_>) -> Option<Pattern>,
}

macro_rules! patterns {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal in $file:ident,)+) => {
        names! {
            /// The patterns.
            pub enum PatternName {
                $($(#[$doc])+ $variant = $name,)+
                /// Not enough was seen, or it fits none.
                Unknown = "unknown",
            }
        }

        /// Every pattern but `unknown`, in the order in which they are tried.
        pub const ALL: &[&PatternKind] = &[$(&$file::KIND,)+];
    };
}

// The first that fits is it: how connections are accepted comes before how they are read.
patterns! {
    /// SO_REUSEPORT: each acceptor has its own listener.
    Sharded = "sharded" in sharded,
    /// Several threads or processes accept from the same socket.
    MultiAcceptor = "multi_acceptor" in multi_acceptor,
    /// One thread accepts, reads and writes.
    SingleThread = "single_thread" in single_thread,
    /// One thread accepts and reads; other threads write the answers.
    MessageBalancing = "message_balancing" in message_balancing,
    /// One process accepts, a new process reads each connection.
    ProcessPerConnection = "process_per_connection" in process_per_connection,
    /// One thread accepts, a new thread reads each connection.
    ThreadPerConnection = "thread_per_connection" in thread_per_connection,
    /// One thread accepts, and is one of those that read or write.
    AcceptorInPool = "acceptor_in_pool" in acceptor_in_pool,
    /// One thread accepts; each connection is then read by one of several others.
    AcceptorReaders = "acceptor_readers" in acceptor_readers,
}

thresholds! {
    /// Share of what was seen that must fit. The rest is left for other threads' start-up, signals and health checks.
    /// No pattern is shown with less confidence than this.
    FITS: f64 = 0.9, Share;
    /// With fewer accepts, a thread that does a tenth of the work has probably not been seen yet.
    MIN_ACCEPTS: u64 = 20, Count;
    /// As for accepts: fewer reads, or writes where a pattern asks about them, show nothing.
    MIN_WORK: u64 = 20, Count;
}

/// The bounds that the patterns share.
pub const SHARED: &[&[Threshold]] = &[
    THRESHOLDS,
    work::THRESHOLDS,
    succession::THRESHOLDS,
    lifetime::THRESHOLDS,
    multi_acceptor::THRESHOLDS,
    acceptor_in_pool::THRESHOLDS,
];

/// The pattern that fits, if one does.
pub(crate) fn recognise(work: &Work) -> Pattern {
    if !work.accepts_measured {
        return unknown(vec!["accepts are not measured here".to_owned()]);
    }
    if work.accepts < MIN_ACCEPTS {
        let seen = match work.accepts {
            0 => "no accepts were seen".to_owned(),
            n => format!("only {} {} seen, fewer than {MIN_ACCEPTS}", plural(n, "accept"), agree(n, "was", "were")),
        };
        return unknown(vec![seen]);
    }
    ALL.iter()
        .find_map(|kind| (kind.fits)(work))
        .or_else(|| multi_acceptor::others_wait(work))
        .unwrap_or_else(|| unknown(work.describe()))
}

fn unknown(evidence: Vec<String>) -> Pattern {
    Pattern { name: PatternName::Unknown, confidence: 0.0, evidence }
}

/// A pattern with this confidence, if that is enough.
fn found(name: PatternName, confidence: f64, evidence: Vec<String>) -> Option<Pattern> {
    (confidence >= FITS).then(|| Pattern { name, confidence: confidence.min(1.0), evidence })
}

#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
