//! What became of the points.

use std::sync::atomic::{AtomicU64, Ordering};

use super::outcome::Failure;

/// Why points were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The collector took the request, and not these points of it.
    Rejected,
    /// The collector refused the request, or what answers is none.
    Refused,
    /// They waited too long.
    TooOld,
    /// Too many waited.
    QueueFull,
    /// listentop ended before the collector took them.
    Ended,
}

impl Loss {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Rejected, "rejected"),
        (Self::Refused, "refused"),
        (Self::TooOld, "too_old"),
        (Self::QueueFull, "queue_full"),
        (Self::Ended, "ended"),
    ];
}

/// Data points and requests, since the start.
#[derive(Debug, Default)]
pub(in crate::serve) struct Counters {
    /// Points that the collector took.
    pub(in crate::serve) sent: AtomicU64,
    /// Points that wait.
    pub(in crate::serve) queued: AtomicU64,
    lost: [AtomicU64; Loss::ALL.len()],
    failed: [AtomicU64; Failure::ALL.len()],
}

impl Counters {
    /// More points are lost.
    pub(super) fn lose(&self, why: Loss, points: u64) {
        self.lost[why as usize].fetch_add(points, Ordering::Relaxed);
    }

    /// One more request failed.
    pub(super) fn fail(&self, why: Failure) {
        self.failed[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Points that are lost, by reason.
    pub(in crate::serve) fn lost(&self) -> [(&'static str, u64); Loss::ALL.len()] {
        Loss::ALL.map(|(why, name)| (name, self.lost[why as usize].load(Ordering::Relaxed)))
    }

    /// All points that are lost.
    pub(super) fn all_lost(&self) -> u64 {
        self.lost().iter().map(|(_, points)| points).sum()
    }

    /// Requests that failed, by reason.
    pub(in crate::serve) fn failed(&self) -> [(&'static str, u64); Failure::ALL.len()] {
        Failure::ALL.map(|why| (why.name(), self.failed[why as usize].load(Ordering::Relaxed)))
    }
}
