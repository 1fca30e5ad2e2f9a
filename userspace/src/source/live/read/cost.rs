//! What the probes cost: the kernel's own statistics of each program.
//!
//! While the kernel times programs, every run takes longer. So by default it times them for a moment each second, and
//! the time between is interpolated. With `--probe-stats`, or kernel.bpf_stats_enabled = 1, it times every run.

use std::{
    io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use crate::{
    rights,
    source::live::bpf::{self, ProgramRuns},
};

/// For how long runs are timed.
const WINDOW: Duration = Duration::from_millis(10);
/// Time from one window to the next: runs take longer for a hundredth of the time.
const PERIOD: Duration = Duration::from_secs(1);

/// How much is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Every run.
    All,
    /// A moment each second.
    Windows,
    /// None; the kernel's error.
    None(String),
}

/// Runs and nanoseconds of all probes since they were attached.
pub(crate) struct ProbeCost {
    timing: Timing,
    /// Keeps the kernel timing, where every run is to be timed.
    _always: Option<OwnedFd>,
    estimate: Estimate,
}

/// The interpolation, apart from where its figures come from.
struct Estimate {
    /// Runs and nanoseconds, up to `settled`.
    sum: (f64, f64),
    /// Per second, in the last window.
    rate: (f64, f64),
    /// When that was; `None` before the first.
    settled: Option<Instant>,
}

impl ProbeCost {
    /// Begins to time, every run if `always`.
    ///
    /// # Errors
    /// If `always` is asked for and refused.
    pub(crate) fn start(always: bool) -> io::Result<Self> {
        let by_sysctl = std::fs::read("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.starts_with(b"1"));
        let (timing, always) = match rights::privileged(bpf::enable_statistics) {
            _ if by_sysctl => (Timing::All, None),
            Ok(enabled) if always => (Timing::All, Some(enabled)),
            Ok(_) => (Timing::Windows, None),
            Err(error) if always => return Err(error),
            Err(error) => (Timing::None(error.to_string()), None),
        };
        Ok(Self { timing, _always: always, estimate: Estimate { sum: (0.0, 0.0), rate: (0.0, 0.0), settled: None } })
    }

    /// How much is timed.
    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Runs and nanoseconds since the start; `None` if nothing is timed. `statistics` reads what the kernel has
    /// counted. Once a period this takes as long as a window.
    pub(crate) fn read(&mut self, statistics: impl Fn() -> ProgramRuns) -> Option<(u64, u64)> {
        match self.timing {
            Timing::All => {
                let counted = statistics();
                Some((counted.runs, counted.ns))
            }
            Timing::None(_) => None,
            Timing::Windows => {
                if self.estimate.due(Instant::now())
                    && let Ok(enabled) = rights::privileged(bpf::enable_statistics)
                {
                    let (before, begin) = (statistics(), Instant::now());
                    thread::sleep(WINDOW);
                    let (after, end) = (statistics(), Instant::now());
                    drop(enabled);
                    self.estimate.settle(end, before, after, end - begin);
                }
                Some(self.estimate.at(Instant::now()))
            }
        }
    }
}

impl Estimate {
    fn due(&self, now: Instant) -> bool {
        self.settled.is_none_or(|settled| now.saturating_duration_since(settled) >= PERIOD)
    }

    /// Adds a window that has ended. Between the previous window and this one the rate counts as the mean of both.
    fn settle(&mut self, end: Instant, before: ProgramRuns, after: ProgramRuns, length: Duration) {
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / length.as_secs_f64();
        let rate = (per_second(before.runs, after.runs), per_second(before.ns, after.ns));
        if let Some(settled) = self.settled {
            let elapsed = end.saturating_duration_since(settled).as_secs_f64();
            self.sum.0 += f64::midpoint(self.rate.0, rate.0) * elapsed;
            self.sum.1 += f64::midpoint(self.rate.1, rate.1) * elapsed;
        }
        self.rate = rate;
        self.settled = Some(end);
    }

    /// The sums now, as if the last window's rate had gone on.
    fn at(&self, now: Instant) -> (u64, u64) {
        let elapsed = self.settled.map_or(0.0, |settled| now.saturating_duration_since(settled).as_secs_f64());
        ((self.sum.0 + self.rate.0 * elapsed) as u64, (self.sum.1 + self.rate.1 * elapsed) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_timed_is_interpolated_from_what_was() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let runs = |runs| ProgramRuns { runs, ns: runs * 100, missed: 0 };
        let window = Duration::from_millis(10);
        let mut estimate = Estimate { sum: (0.0, 0.0), rate: (0.0, 0.0), settled: None };
        assert!(estimate.due(start));
        estimate.settle(at(0), runs(0), runs(0), window);
        assert_eq!(estimate.at(at(500)), (0, 0));
        assert!(!estimate.due(at(999)));
        assert!(estimate.due(at(1000)));
        // 100 runs in 10 ms: 10,000 a second at the end of a second that began with none.
        estimate.settle(at(1000), runs(0), runs(100), window);
        assert_eq!(estimate.at(at(1000)), (5_000, 500_000));
        assert_eq!(estimate.at(at(1500)), (10_000, 1_000_000));
        estimate.settle(at(2000), runs(100), runs(200), window);
        assert_eq!(estimate.at(at(2000)), (15_000, 1_500_000));
    }
}
