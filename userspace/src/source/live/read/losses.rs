//! What the probes could not track.

use listentop_abi::loss::Loss;
use listentop_model::sample::Losses;

use super::shared::SharedArray;

/// What the probes themselves count as lost.
pub(crate) fn counted(losses: &SharedArray<u64>) -> Losses {
    let loss = |loss: Loss| losses.read(loss as u32);
    Losses {
        listeners: loss(Loss::Listeners),
        connections: loss(Loss::Connections),
        threads: loss(Loss::Threads),
        missed_runs: 0,
        unseen: loss(Loss::UnseenEnd),
        ambiguous: loss(Loss::AmbiguousOrigin),
        other: loss(Loss::UnknownChild),
    }
}
