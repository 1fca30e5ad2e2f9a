//! Statistics of the bench: no I/O.

use crate::tool::Tool;

/// The value below which this share (0 to 1) of the values lies, interpolated between neighbours. `None` without
/// values.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (lower, upper) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(lower + (upper - lower) * place.fract())
}

/// The middle value, or the mean of the two in the middle. `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A median and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Uncertain {
    /// The median.
    pub(crate) value: f64,
    /// Its standard error: 1.253 σ/√n for a median, with σ from the middle half (1.349 σ wide), as of a normal
    /// distribution.
    pub(crate) error: f64,
}

impl Uncertain {
    /// `None` when there are no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let half = quantile(values, 0.75)? - quantile(values, 0.25)?;
        Some(Self { value: median(values)?, error: 1.253 * half / 1.349 / (values.len() as f64).sqrt() })
    }
}

/// Two sides of a comparison in one round: operations per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pair {
    /// With the tool of the comparison attached, or nothing.
    pub(crate) without: f64,
    /// With the tool under test attached.
    pub(crate) with: f64,
}

/// Runs of one load, directly one after the other, in an order that is the same backwards.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// What was attached, and operations per second.
    pub(crate) runs: Vec<(Tool, f64)>,
}

impl Round {
    /// The means of the runs of both tools. A tool compared with itself compares its inner runs with its outer ones:
    /// how much equal runs differ. `None` without runs.
    pub(crate) fn pair(&self, tool: Tool, base: Tool) -> Option<Pair> {
        let of = |tool| self.runs.iter().filter(move |(of, _)| *of == tool).map(|(_, run)| *run).collect::<Vec<f64>>();
        let (with, without) = (of(tool), of(base));
        if tool != base {
            return Some(Pair { without: mean(&without)?, with: mean(&with)? });
        }
        let (first, rest) = with.split_first()?;
        let (last, inner) = rest.split_last()?;
        Some(Pair { without: f64::midpoint(*first, *last), with: mean(inner)? })
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The summary of a series of pairs.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparison {
    /// How many pairs.
    pub(crate) pairs: usize,
    /// Median throughput of the compared tool, operations per second.
    pub(crate) without: f64,
    /// Median throughput of the tool under test, operations per second.
    pub(crate) with: f64,
    /// Median of the pairs' ratios with : without. This is not the ratio of the medians: within a pair, drift of the
    /// machine cancels.
    pub(crate) ratio: f64,
    /// A quarter of the pairs' ratios lies below.
    pub(crate) lower_quartile: f64,
    /// A quarter of the pairs' ratios lies above.
    pub(crate) upper_quartile: f64,
    /// Standard error of `ratio`.
    pub(crate) error: f64,
}

impl Comparison {
    /// `None` when there are no pairs.
    pub(crate) fn of(pairs: &[Pair]) -> Option<Self> {
        let column = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<f64>>();
        let ratios = column(|pair| pair.with / pair.without);
        let (lower, upper) = (quantile(&ratios, 0.25)?, quantile(&ratios, 0.75)?);
        let Uncertain { value: ratio, error } = Uncertain::of(&ratios)?;
        Some(Self {
            pairs: pairs.len(),
            without: median(&column(|pair| pair.without))?,
            with: median(&column(|pair| pair.with))?,
            ratio,
            lower_quartile: lower,
            upper_quartile: upper,
            error,
        })
    }
}

/// Time that BPF programs took while a load ran, from the kernel's statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProbeTime {
    /// The number of programs with statistics.
    pub(crate) programs: u64,
    /// Their runs.
    pub(crate) runs: u64,
    /// The total time of the runs, in nanoseconds.
    pub(crate) ns: u64,
}

impl ProbeTime {
    /// The difference to `earlier`; `None` when programs came or went.
    pub(crate) fn since(self, earlier: Self) -> Option<Self> {
        (self.programs == earlier.programs).then_some(())?;
        let runs = self.runs.checked_sub(earlier.runs)?;
        Some(Self { programs: self.programs, runs, ns: self.ns.checked_sub(earlier.ns)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Pair, ProbeTime, Round, median, quantile};
    use crate::tool::Tool;

    #[test]
    fn a_symmetric_round_cancels_drift() {
        use Tool::{Empty, Listentop, Nothing};
        // The machine loses 1 with every run; each tool costs 10 and 20.
        let order = [Nothing, Listentop, Empty, Nothing, Nothing, Empty, Listentop, Nothing];
        let cost =
            |tool| [(Nothing, 0.0), (Listentop, 20.0), (Empty, 10.0)].iter().find(|(of, _)| *of == tool).unwrap().1;
        let runs = (0..).zip(order).map(|(n, tool)| (tool, 103.5 - f64::from(n) - cost(tool))).collect();
        let round = Round { runs };
        assert_eq!(round.pair(Listentop, Nothing), Some(Pair { without: 100.0, with: 80.0 }));
        assert_eq!(round.pair(Listentop, Empty), Some(Pair { without: 90.0, with: 80.0 }));
        assert_eq!(round.pair(Nothing, Nothing), Some(Pair { without: 100.0, with: 100.0 }));
        assert_eq!(round.pair(Tool::Bpftrace, Nothing), None);
        assert_eq!(Round { runs: vec![(Nothing, 1.0); 2] }.pair(Nothing, Nothing), None, "no inner runs");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.25), Some(1.25));
        assert_eq!((quantile(&[1.0, 5.0, 2.0], 0.0), quantile(&[1.0, 5.0, 2.0], 1.0)), (Some(1.0), Some(5.0)));
    }

    #[test]
    fn ratios_are_taken_within_pairs() {
        // The machine gets slower all the time; attached costs a tenth every time.
        let pairs = [100.0, 80.0, 40.0].map(|without| Pair { without, with: without * 0.9 });
        let comparison = Comparison::of(&pairs).unwrap();
        assert_eq!((comparison.pairs, comparison.without, comparison.with), (3, 80.0, 72.0));
        for ratio in [comparison.ratio, comparison.lower_quartile, comparison.upper_quartile] {
            assert!((ratio - 0.9).abs() < 1e-12, "{ratio}");
        }
    }

    #[test]
    fn the_spread_is_that_of_the_ratios() {
        let pairs = [0.5, 2.0, 0.75, 1.0, 0.25].map(|with| Pair { without: 1.0, with });
        let comparison = Comparison::of(&pairs).unwrap();
        assert_eq!((comparison.lower_quartile, comparison.ratio, comparison.upper_quartile), (0.5, 0.75, 1.0));
        assert!((comparison.error - 1.253 * 0.5 / 1.349 / 5f64.sqrt()).abs() < 1e-12, "{comparison:?}");
        assert_eq!(Comparison::of(&[]), None);
    }

    #[test]
    fn probe_time_is_a_difference() {
        let earlier = ProbeTime { programs: 3, runs: 10, ns: 1000 };
        let later = ProbeTime { programs: 3, runs: 15, ns: 1600 };
        assert_eq!(later.since(earlier), Some(ProbeTime { programs: 3, runs: 5, ns: 600 }));
        assert_eq!(earlier.since(later), None, "counters do not go backwards");
        assert_eq!(later.since(ProbeTime { programs: 2, ..earlier }), None, "a program came or went");
    }
}
