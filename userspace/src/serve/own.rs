//! What the exporter says about itself: its cost, its losses, and who asked.

use std::sync::atomic::{AtomicU64, Ordering};

use listentop_model::sample::Losses;

/// Requests, by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Scrapes that were answered.
    pub(super) scrapes: AtomicU64,
    /// Requests without the right name and password.
    pub(super) unauthorized: AtomicU64,
    /// Requests for something else, or by another method.
    pub(super) mistaken: AtomicU64,
    /// Connections that sent no request that can be read, or failed before its end.
    pub(super) broken: AtomicU64,
    /// Exchanges that were not over in time.
    pub(super) slow: AtomicU64,
    /// Points that are pushed, if any are.
    #[cfg(feature = "otlp")]
    pub(super) pushed: std::sync::OnceLock<std::sync::Arc<super::otlp::Counters>>,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// Requests that brought nothing, by reason.
    pub(super) fn refused(&self) -> [(&'static str, u64); 4] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("unauthorized", value(&self.unauthorized)),
            ("mistaken", value(&self.mistaken)),
            ("broken", value(&self.broken)),
            ("slow", value(&self.slow)),
        ]
    }
}

/// What the probes could not track, by kind.
pub(super) fn losses(losses: &Losses) -> [(&'static str, u64); 7] {
    // A new kind does not compile before it is here.
    let Losses { listeners, connections, threads, missed_runs, unseen, ambiguous, other } = losses;
    [
        ("listeners", *listeners),
        ("connections", *connections),
        ("thread_calls", *threads),
        ("skipped_probe_runs", *missed_runs),
        ("unseen_connections", *unseen),
        ("ambiguous_connections", *ambiguous),
        ("other", *other),
    ]
}
