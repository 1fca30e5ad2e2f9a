//! What a request costs: the same each time, or unequal. The same seed gives the n-th request the same cost in every
//! server, whichever thread or process serves it.

use clap::ValueEnum;
use std::time::Duration;

/// How the cost of a request varies around its mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Spread {
    /// Every request costs the same
    Fixed,
    /// Exponential: most cost less than the mean, 1 in 100 more than 4.6 times as much
    Exponential,
    /// Pareto with exponent 1.5: few requests have most of the cost; at most about 100 times the mean
    HeavyTailed,
}

/// Exponent of the Pareto distribution. Below 2 its variance would be infinite without [`LARGEST`].
const EXPONENT: f64 = 1.5;
/// The largest Pareto value, of which 1 is the mean without this bound.
const LARGEST: f64 = 100.0;
/// The smallest Pareto value: mean 1 = SMALLEST × EXPONENT ÷ (EXPONENT − 1).
const SMALLEST: f64 = (EXPONENT - 1.0) / EXPONENT;

impl Spread {
    /// The cost of request `number` in mean costs: above 0, with mean 1.
    #[must_use]
    pub fn factor(self, seed: u64, number: u64) -> f64 {
        // 1 − [0, 1) is never 0, whose logarithm and inverse would be infinite.
        let random = || 1.0 - fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number).f64();
        match self {
            Self::Fixed => 1.0,
            Self::Exponential => -random().ln(),
            Self::HeavyTailed => {
                let pareto = SMALLEST * random().powf(-1.0 / EXPONENT);
                // Cutting off the largest values lowers the mean, which the division restores.
                let mean = SMALLEST * (EXPONENT - (SMALLEST / LARGEST).powf(EXPONENT - 1.0)) / (EXPONENT - 1.0);
                pareto.min(LARGEST) / mean
            }
        }
    }
}

/// Requests that take much longer than the others, such as those that ask another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// One request in this many.
    pub every: u64,
    /// Time that its thread sleeps, in addition to the cost of every request.
    pub length: Duration,
}

impl Slow {
    /// Parses `N:MILLISECONDS`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(every, length)| Some((every.parse().ok()?, length.parse().ok()?)));
        match parts {
            Some((every, length)) if (1..=1_000_000_000).contains(&every) && (1..=60_000u64).contains(&length) => {
                Ok(Self { every, length: Duration::from_millis(length) })
            }
            _ => Err("must be N:MILLISECONDS, N at least 1, at most a minute".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Spread; 3] = [Spread::Fixed, Spread::Exponential, Spread::HeavyTailed];

    #[test]
    fn the_mean_is_one_whatever_the_spread() {
        for (spread, tolerance) in ALL.into_iter().zip([0.0, 0.01, 0.05]) {
            let sum: f64 = (1..=200_000).map(|number| spread.factor(7, number)).sum();
            let mean = sum / 200_000.0;
            assert!((mean - 1.0).abs() <= tolerance, "{spread:?}: {mean}");
        }
    }

    #[test]
    fn the_seed_and_the_number_decide() {
        for spread in [Spread::Exponential, Spread::HeavyTailed] {
            assert!(spread.factor(1, 5).total_cmp(&spread.factor(1, 5)).is_eq());
            assert!(spread.factor(1, 5).total_cmp(&spread.factor(2, 5)).is_ne());
            assert!(spread.factor(1, 5).total_cmp(&spread.factor(1, 6)).is_ne());
        }
    }

    #[test]
    fn few_requests_have_most_of_a_heavy_tailed_cost() {
        let dearest = |spread: Spread| {
            let mut costs: Vec<f64> = (1..=10_000).map(|number| spread.factor(3, number)).collect();
            costs.sort_by(|one, other| other.total_cmp(one));
            costs[..1000].iter().sum::<f64>() / costs.iter().sum::<f64>()
        };
        let [fixed, exponential, heavy] = ALL.map(dearest);
        assert!((fixed - 0.1).abs() < 1e-9 && exponential > 0.25 && exponential < 0.4, "{fixed} {exponential}");
        assert!(heavy > 0.4, "{heavy}");
        assert!((1..=10_000).all(|number| (0.0..110.0).contains(&Spread::HeavyTailed.factor(3, number))));
    }

    #[test]
    fn slow_requests_are_read() {
        assert_eq!(Slow::parse("20:200"), Ok(Slow { every: 20, length: Duration::from_millis(200) }));
        for bad in ["", "5", "0:5", "5:0", "a:b", "1:2:3", "1:99999999"] {
            assert!(Slow::parse(bad).is_err(), "{bad}");
        }
    }
}
