//! The bounds of the design, the figures, and whether they got worse: no I/O.

use std::time::Duration;

use crate::figures::Uncertain;

/// A bound is missed for sure when the figure misses it by more than this many standard errors. Of figures exactly at
/// their bound, one in forty misses it by more; with one standard error it would be one in six.
const ERRORS: f64 = 2.0;

/// The unit of a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Ratio,
    /// Of latencies: an upper limit, as of all units below.
    Latencies,
    Nanoseconds,
    /// Held in seconds.
    Milliseconds,
    /// Of a core; held as a ratio.
    Percent,
    /// Held in bytes.
    Mebibytes,
    /// Whole things.
    Number,
}

/// A bound of the design.
#[derive(Debug)]
pub(crate) struct Bound {
    /// What is measured.
    what: String,
    /// A lower limit for a ratio, otherwise an upper one.
    limit: f64,
    unit: Unit,
    measured: Option<Uncertain>,
    /// The limit's own standard error, if the limit is measured too.
    limit_error: f64,
    /// Shown when the bound is missed.
    remark: Option<String>,
    /// Why it is not measured.
    skipped: Option<String>,
}

impl Bound {
    fn new(what: &str, limit: f64, unit: Unit, measured: Option<Uncertain>) -> Self {
        Self { what: what.to_owned(), limit, unit, measured, limit_error: 0.0, remark: None, skipped: None }
    }

    /// A ratio of throughputs.
    pub(crate) fn at_least(what: &str, ratio: f64, measured: Option<Uncertain>) -> Self {
        Self::new(what, ratio, Unit::Ratio, measured)
    }

    /// A ratio of latencies.
    pub(crate) fn at_most_ratio(what: &str, ratio: f64, measured: Option<Uncertain>) -> Self {
        Self::new(what, ratio, Unit::Latencies, measured)
    }

    /// A time in nanoseconds.
    pub(crate) fn at_most_ns(what: &str, ns: f64, measured: Option<Uncertain>) -> Self {
        Self::new(what, ns, Unit::Nanoseconds, measured)
    }

    /// A time in seconds.
    pub(crate) fn at_most(what: &str, time: Duration, measured: Option<Uncertain>) -> Self {
        Self::new(what, time.as_secs_f64(), Unit::Milliseconds, measured)
    }

    /// A share of a core.
    pub(crate) fn at_most_of_a_core(what: &str, share: f64, measured: Option<Uncertain>) -> Self {
        Self::new(what, share, Unit::Percent, measured)
    }

    /// Memory in bytes.
    pub(crate) fn at_most_bytes(what: &str, bytes: u64, measured: Option<Uncertain>) -> Self {
        Self::new(what, bytes as f64, Unit::Mebibytes, measured)
    }

    /// A number of things.
    pub(crate) fn at_most_number(what: &str, number: usize, measured: Option<Uncertain>) -> Self {
        Self::new(what, number as f64, Unit::Number, measured)
    }

    /// A bound that cannot be measured on this machine.
    pub(crate) fn skipped(what: &str, reason: &str) -> Self {
        Self { skipped: Some(reason.to_owned()), ..Self::new(what, 0.0, Unit::Nanoseconds, None) }
    }

    /// The same bound, for a limit that was measured with this standard error.
    pub(crate) fn with_limit_error(self, limit_error: f64) -> Self {
        Self { limit_error, ..self }
    }

    /// The same bound, with a remark for when it is missed.
    pub(crate) fn with_remark(self, remark: Option<String>) -> Self {
        Self { remark, ..self }
    }

    /// How far the figure misses the limit; negative if it meets it. `None` without a figure.
    fn missed_by(&self) -> Option<f64> {
        let value = self.measured?.value;
        Some(match self.unit {
            // Rounded as shown: the error is larger than the digits left out.
            Unit::Ratio => ((self.limit * 1e3).round() - (value * 1e3).round()) / 1e3,
            Unit::Latencies => ((value * 1e3).round() - (self.limit * 1e3).round()) / 1e3,
            Unit::Nanoseconds | Unit::Milliseconds | Unit::Percent | Unit::Mebibytes | Unit::Number => {
                value - self.limit
            }
        })
    }

    fn is_met(&self) -> Option<bool> {
        self.missed_by().map(|by| by <= 0.0)
    }

    /// Whether it is missed by more than the errors of the figures explain.
    fn is_missed_for_sure(&self) -> bool {
        let error = self.measured.map_or(0.0, |measured| measured.error).hypot(self.limit_error);
        self.missed_by().is_some_and(|by| by > ERRORS * error && by > 0.0)
    }

    fn limit(&self) -> String {
        match self.unit {
            Unit::Ratio => format!("≥ {:.2}", self.limit),
            Unit::Latencies => format!("≤ {:.2}", self.limit),
            Unit::Nanoseconds => format!("≤ {:.0} ns", self.limit),
            Unit::Milliseconds => format!("≤ {:.0} ms", self.limit * 1e3),
            // 1.5 %.
            Unit::Percent => format!("≤ {} %", (self.limit * 1e3).round() / 10.0),
            Unit::Mebibytes => format!("≤ {:.0} MiB", self.limit / MEBIBYTE),
            Unit::Number => format!("≤ {:.0}", self.limit),
        }
    }

    fn figure(&self) -> String {
        let Some(Uncertain { value, error }) = self.measured else { return "not measured".to_owned() };
        match self.unit {
            Unit::Ratio | Unit::Latencies => format!("{value:.3} ± {error:.3}"),
            Unit::Nanoseconds => format!("{value:.0} ± {error:.0} ns"),
            Unit::Milliseconds => format!("{:.0} ms", value * 1e3),
            Unit::Percent => format!("{:.1} %", value * 100.0),
            Unit::Mebibytes => format!("{:.0} MiB", value / MEBIBYTE),
            Unit::Number => format!("{value:.0}"),
        }
    }

    /// Its row on the page.
    pub(crate) fn row(&self) -> String {
        let what = &self.what;
        if let Some(reason) = &self.skipped {
            return format!("| {what} | | skipped: {reason} | |");
        }
        let verdict = match (self.is_met(), &self.remark) {
            (Some(true), _) => MET.to_owned(),
            (Some(false), _) if !self.is_missed_for_sure() => {
                let error = self.measured.map_or(0.0, |measured| measured.error);
                let by_its_error = self.missed_by().is_none_or(|by| by <= ERRORS * error);
                let why = if by_its_error { "within two errors" } else { "equal runs differ as much" };
                format!("cannot be told: {why}")
            }
            (Some(false), None) => "**missed**".to_owned(),
            (Some(false), Some(remark)) => format!("**missed**; {remark}"),
            (None, _) => String::new(),
        };
        format!("| {what} | {} | {} | {verdict} |", self.limit(), self.figure())
    }

    /// What is measured, as in its row.
    #[cfg(test)]
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// A short form for the closing line.
    fn in_short(&self) -> String {
        format!("{} ({}, {})", self.what, self.limit(), self.figure())
    }
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const MET: &str = "met";

/// The bounds that are met on the committed page but missed for sure now. The bounds must be in the page's order.
pub(crate) fn lost<'a>(bounds: &'a [Bound], committed: &str) -> Vec<&'a Bound> {
    let was_met = |bound: &Bound, place: usize| {
        // Two loads have a row of the same name: their order distinguishes them.
        let rows = committed.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            (cells.next()? == bound.what).then(|| cells.last() == Some(MET))
        });
        rows.collect::<Vec<bool>>().get(place) == Some(&true)
    };
    let place = |index: usize| bounds[..index].iter().filter(|other| other.what == bounds[index].what).count();
    let all = bounds.iter().enumerate();
    all.filter(|(index, bound)| bound.is_missed_for_sure() && was_met(bound, place(*index)))
        .map(|(_, bound)| bound)
        .collect()
}

/// The closing line: how many bounds are met and missed, and which of the missed ones are met on the committed page.
pub(crate) fn verdict(bounds: &[Bound], lost: &[&Bound], document: &str) -> String {
    let met = bounds.iter().filter(|bound| bound.is_met() == Some(true)).count();
    let missed = bounds.iter().filter(|bound| bound.is_missed_for_sure()).count();
    let untold = bounds.iter().filter(|bound| bound.is_met() == Some(false)).count() - missed;
    let untold = if untold > 0 { format!(", {untold} within their errors") } else { String::new() };
    let unknown = bounds.iter().filter(|bound| bound.is_met().is_none()).count();
    let unknown = if unknown > 0 { format!(", {unknown} not measured") } else { String::new() };
    let of_those = match lost {
        [] => "no bound that was met there is missed for sure".to_owned(),
        lost => {
            let lost: Vec<String> = lost.iter().map(|bound| bound.in_short()).collect();
            format!("met there but MISSED now: {}", lost.join("; "))
        }
    };
    format!("{met} bounds met, {missed} missed{untold}{unknown}; compared with {document}: {of_those}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Bound, lost, verdict};
    use crate::figures::Uncertain;

    #[expect(clippy::unnecessary_wraps, reason = "bounds take a figure that may be missing")]
    fn of(value: f64, error: f64) -> Option<Uncertain> {
        Some(Uncertain { value, error })
    }

    const COMMITTED: &str = "| what | bound | measured | |\n|---|---|---|---|\n\
        | connects | ≥ 0.97 | 0.964 ± 0.004 | **missed** |\n\
        | the same | ≥ 0.97 | 0.985 ± 0.004 | met |\n\
        | requests | ≥ 0.98 | 0.915 ± 0.003 | **missed**; empty programs on these hooks: 0.934 |\n\
        | the same | ≥ 0.98 | 0.970 ± 0.003 | **missed** |\n\
        | probe time | ≤ 150 ns | 85 ± 2 ns | met |\n\
        | script | | skipped: bpftrace is not installed | |\n\
        | start | ≤ 500 ms | 308 ms | met |\n";

    /// Bounds with these figures for the two that can get worse.
    fn bounds(own: Option<Uncertain>, time: Option<Uncertain>) -> Vec<Bound> {
        vec![
            Bound::at_least("connects", 0.97, of(0.90, 0.001)),
            Bound::at_least("the same", 0.97, own),
            Bound::at_least("requests", 0.98, of(0.90, 0.001)),
            Bound::at_least("the same", 0.98, of(0.90, 0.001)),
            Bound::at_most_ns("probe time", 150.0, time),
            Bound::at_most_ns("script", 100.0, of(900.0, 1.0)),
            Bound::at_most("start", Duration::from_millis(500), of(0.3, 0.01)),
        ]
    }

    fn names(bounds: &[Bound]) -> Vec<&str> {
        lost(bounds, COMMITTED).iter().map(|bound| &*bound.what).collect()
    }

    #[test]
    fn a_bound_that_was_met_stays_met_within_its_error() {
        assert_eq!(
            names(&bounds(of(0.985, 0.004), of(85.0, 2.0))),
            [""; 0],
            "bounds that were missed or skipped may be missed"
        );
        assert_eq!(names(&bounds(of(0.963, 0.004), of(153.0, 2.0))), [""; 0], "within the errors");
        assert_eq!(names(&bounds(of(0.961, 0.004), of(85.0, 2.0))), ["the same"]);
        assert_eq!(names(&bounds(of(0.985, 0.004), of(155.0, 2.0))), ["probe time"]);
        assert_eq!(names(&bounds(None, None)), [""; 0], "not measured is not missed");
    }

    #[test]
    fn a_row_tells_what_is_sure() {
        let last = |bound: Bound| bound.row().split(" | ").last().unwrap_or_default().trim_end_matches(" |").to_owned();
        assert_eq!(last(Bound::at_most_ratio("p99", 1.1, of(1.05, 0.2))), "met");
        assert_eq!(last(Bound::at_most_ratio("p99", 1.1, of(1.4, 0.2))), "cannot be told: within two errors");
        assert_eq!(last(Bound::at_most_ratio("p99", 1.1, of(1.4, 0.1))), "**missed**");
        let as_unequal_as_equal_runs = Bound::at_most_ratio("p99", 1.1, of(1.4, 0.1)).with_limit_error(0.3);
        assert_eq!(last(as_unequal_as_equal_runs), "cannot be told: equal runs differ as much");
    }

    #[test]
    fn an_uncertain_limit_makes_a_miss_less_sure() {
        let bound = |limit_error| Bound::at_most_ns("probe time", 150.0, of(160.0, 3.0)).with_limit_error(limit_error);
        assert!(bound(0.0).is_missed_for_sure() && !bound(4.0).is_missed_for_sure());
    }

    #[test]
    fn the_closing_line_names_lost_bounds() {
        let bounds = bounds(of(0.95, 0.004), None);
        let line = verdict(&bounds, &lost(&bounds, COMMITTED), "docs/benchmarks.md");
        assert_eq!(
            line,
            "1 bounds met, 5 missed, 1 not measured; compared with docs/benchmarks.md: met there but MISSED now: the same (≥ 0.97, \
             0.950 ± 0.004)"
        );
        assert!(
            verdict(&bounds, &[], "docs/benchmarks.md").ends_with("no bound that was met there is missed for sure")
        );
    }
}
