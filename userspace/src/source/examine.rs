//! Finding out what a source could measure here, and leaving nothing behind.

use listentop_model::coverage::Coverage;

use super::{
    Options, Probes, Source as _,
    live::{self, Kind, LiveSource, Trial},
    missing,
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
    /// Every hook that was tried, in this order; none if it did not come to that.
    pub trials: Vec<Trial>,
    /// Every measure; none if there is no source.
    pub coverage: Vec<Coverage>,
}

/// Starts the source that [`super::start`] would, with the same options, and ends it at once: no program stays
/// attached.
#[must_use]
pub fn examine(options: &Options) -> Examination {
    let kind = match options.probes {
        Probes::SockDiag => return without_probes("needs probes: --probes auto, where they can run", None, Vec::new()),
        Probes::Fentry => Some(Kind::Fentry),
        Probes::Tracepoint => Some(Kind::Tracepoint),
        Probes::Auto => options.live.kind,
    };
    let mut trials = Vec::new();
    let outcome = LiveSource::try_start(&live::Options { kind, ..options.live.clone() }, &mut trials);
    match outcome {
        Ok(mut source) => {
            // Owners are known with the first sample; one that cannot be read shows in the coverage no worse.
            let coverage = source.sample().map_or_else(|_| source.coverage().to_vec(), |sample| sample.coverage);
            Examination { origin: Origin::Probes, refusal: None, trials, coverage }
        }
        Err(error) => without_probes(&missing(&error), Some(error.to_string()), trials),
    }
}

fn without_probes(reason: &str, refusal: Option<String>, trials: Vec<Trial>) -> Examination {
    match SockDiagSource::start(reason) {
        Ok(mut source) => {
            let coverage = source.sample().map_or_else(|_| source.coverage().to_vec(), |sample| sample.coverage);
            Examination { origin: Origin::SockDiag, refusal, trials, coverage }
        }
        Err(error) => {
            let refusal = refusal.map_or_else(|| error.to_string(), |refusal| format!("{refusal}; {error}"));
            Examination { origin: Origin::Nothing, refusal: Some(refusal), trials, coverage: Vec::new() }
        }
    }
}
