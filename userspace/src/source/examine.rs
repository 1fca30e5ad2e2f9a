//! Finding out what a source could measure here, and leaving nothing behind.

use std::sync::Arc;

use super::{
    Options, Probes, Source as _,
    coverage::{Entry, WithoutProbes},
    live::{self, Kind, LiveSource, StartError, Trial},
    sock_diag::SockDiagSource,
};

/// Where measures would come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Probes in the kernel.
    Probes,
    /// The kernel's list of sockets.
    SockDiag,
    /// Nowhere.
    Nothing,
}

/// What was found out.
#[derive(Debug)]
pub struct Examination {
    /// Where measures would come from.
    pub origin: Origin,
    /// Why it is not a better one, and what would help.
    pub refusal: Option<String>,
    /// Every hook that was tried, in this order; none if the start failed before.
    pub trials: Vec<Trial>,
    /// Every measure; none if there is no source.
    pub coverage: Vec<Entry>,
    /// Whether walks over the probes' tables are made of test runs, because the kernel refuses iterators over their
    /// elements; `None`: no probes run.
    pub walks_by_test_runs: Option<bool>,
}

/// Starts the source that [`super::start`] would, with the same options, and ends it at once: no program stays
/// attached.
#[must_use]
pub fn examine(options: &Options) -> Examination {
    let kind = match options.probes {
        Probes::SockDiag => return without_probes(None, Vec::new()),
        Probes::Fentry => Some(Kind::Fentry),
        Probes::Tracepoint => Some(Kind::Tracepoint),
        Probes::Auto | Probes::Best => options.live.kind,
    };
    let mut trials = Vec::new();
    let outcome = LiveSource::try_start(&live::Options { kind, ..options.live.clone() }, &mut trials);
    match outcome {
        Ok(mut source) => {
            // Owners are known with the first sample. If it cannot be read, coverage is no worse.
            let _ = source.sample();
            let coverage = source.entries().to_vec();
            let walks_by_test_runs = Some(source.walks_by_test_runs());
            Examination { origin: Origin::Probes, refusal: None, trials, coverage, walks_by_test_runs }
        }
        Err(error) => without_probes(Some(error), trials),
    }
}

/// What can be measured without probes. `error`: why they cannot be attached; `None`: they are not requested.
fn without_probes(error: Option<StartError>, trials: Vec<Trial>) -> Examination {
    let refusal = error.as_ref().map(ToString::to_string);
    let why = error.map_or(WithoutProbes::NotRequested, |error| WithoutProbes::Failed(Arc::new(error)));
    match SockDiagSource::start(why) {
        Ok(mut source) => {
            let _ = source.sample();
            let coverage = source.entries().to_vec();
            Examination { origin: Origin::SockDiag, refusal, trials, coverage, walks_by_test_runs: None }
        }
        Err(error) => {
            let refusal = refusal.map_or_else(|| error.to_string(), |refusal| format!("{refusal}; {error}"));
            let (origin, coverage) = (Origin::Nothing, Vec::new());
            Examination { origin, refusal: Some(refusal), trials, coverage, walks_by_test_runs: None }
        }
    }
}
