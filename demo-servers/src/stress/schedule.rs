//! When connections are due. The times are fixed before the first connection starts, so no server can influence them.

use super::options::{Arrivals, Burst, Options};
use std::iter::Peekable;
use std::time::Duration;

/// Times at which connections are due, in nanoseconds since the start, in order.
///
/// Only [`Self::go_on_at`] changes those that nobody has looked at yet.
pub struct Schedule {
    rate: f64,
    steady: Option<Steady>,
    bursts: Option<Peekable<Bursts>>,
    end_ns: u64,
    left: u64,
}

impl Schedule {
    /// The schedule for these options.
    pub fn new(options: &Options) -> Self {
        let steady = options.rate.map(|rate| {
            let gap = match options.arrivals {
                Arrivals::Constant => Gap::Constant,
                Arrivals::Poisson => Gap::Poisson(fastrand::Rng::with_seed(options.seed)),
            };
            Steady::new(rate, gap)
        });
        Self {
            rate: options.rate.unwrap_or_default(),
            steady,
            bursts: options.burst.map(|burst| Bursts { burst, count: 0 }.peekable()),
            end_ns: options.duration.map_or(u64::MAX, nanoseconds),
            left: options.connections.unwrap_or(u64::MAX),
        }
    }

    /// The next time.
    pub fn peek(&mut self) -> Option<u64> {
        let steady = self.steady.as_ref().map(|steady| steady.next);
        let burst = self.bursts.as_mut().and_then(Peekable::peek).copied();
        let due = match (steady, burst) {
            (Some(steady), Some(burst)) => steady.min(burst),
            (one, other) => one.or(other)?,
        };
        (self.left > 0 && due < self.end_ns).then_some(due)
    }

    /// The next time, if it is not after `now_ns`.
    pub fn next_until(&mut self, now_ns: u64) -> Option<u64> {
        self.peek().filter(|&due| due <= now_ns)?;
        self.next()
    }

    /// From the next time on the rate is `factor` times that of the options. Bursts stay as they are.
    pub fn go_on_at(&mut self, factor: f64) {
        if let Some(steady) = &mut self.steady {
            steady.go_on_at(self.rate * factor);
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due = self.peek()?;
        self.left -= 1;
        match &mut self.steady {
            Some(steady) if steady.next == due => steady.advance(),
            _ => {
                let _ = self.bursts.as_mut().and_then(Iterator::next);
            }
        }
        Some(due)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

enum Gap {
    Constant,
    Poisson(fastrand::Rng),
}

/// Times at a rate.
struct Steady {
    /// Arrivals per second.
    rate: f64,
    gap: Gap,
    /// The time from which gaps are added up, in nanoseconds since the start.
    base_ns: u64,
    /// Number of gaps since then.
    count: u64,
    /// Sum of the random gaps since then, in mean gaps.
    sum: f64,
    /// The next time.
    next: u64,
}

impl Steady {
    fn new(rate: f64, gap: Gap) -> Self {
        let mut steady = Self { rate, gap, base_ns: 0, count: 0, sum: 0.0, next: 0 };
        // Constant arrivals begin at once, random ones after a random gap.
        if matches!(steady.gap, Gap::Poisson(_)) {
            steady.advance();
        }
        steady
    }

    fn go_on_at(&mut self, rate: f64) {
        (self.rate, self.base_ns, self.count, self.sum) = (rate, self.next, 0, 0.0);
    }

    fn advance(&mut self) {
        self.count += 1;
        // Each time is computed from the base, so that rounding errors do not accumulate.
        let gaps = match &mut self.gap {
            Gap::Constant => self.count as f64,
            Gap::Poisson(random) => {
                // 1 − [0, 1) is never 0, whose logarithm would be infinite.
                self.sum -= (1.0 - random.f64()).ln();
                self.sum
            }
        };
        self.next = self.base_ns + (gaps / self.rate * 1e9) as u64;
    }
}

struct Bursts {
    burst: Burst,
    count: u64,
}

impl Iterator for Bursts {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let number = self.count / self.burst.connections + 1;
        self.count += 1;
        Some(number.saturating_mul(nanoseconds(self.burst.every)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn schedule(arguments: &str) -> Vec<u64> {
        let arguments = format!("stress --target 127.0.0.1:1 {arguments}");
        Schedule::new(&Options::parse_from(arguments.split_whitespace())).collect()
    }

    #[test]
    fn constant_arrivals_are_evenly_spaced() {
        let millisecond = 1_000_000;
        assert_eq!(schedule("--rate 1000 --connections 4"), [0, 1, 2, 3].map(|number| number * millisecond));
        assert_eq!(schedule("--rate 1000 --for 2").len(), 2000);
        assert_eq!(schedule("--rate 3 --connections 300001")[300_000], 100_000 * 1_000_000_000);
    }

    #[test]
    fn the_seed_decides_poisson_arrivals() {
        let one = schedule("--rate 1000 --arrivals poisson --seed 1 --connections 1000");
        assert_eq!(one, schedule("--rate 1000 --arrivals poisson --seed 1 --connections 1000"));
        assert_ne!(one, schedule("--rate 1000 --arrivals poisson --seed 2 --connections 1000"));
        assert!(one.is_sorted());
        // Known values: a new release of the random generator must not change the times of a seed.
        assert_eq!(one[..3], KNOWN);
    }

    const KNOWN: [u64; 3] = [1_070_140, 1_835_032, 2_108_989];

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let times = schedule("--rate 1000 --arrivals poisson --seed 7 --connections 100000");
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential: standard deviation = mean. Five standard errors of 100,000 gaps.
        assert!((mean - 1.0).abs() < 0.016, "{mean}");
        assert!((variance.sqrt() - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn another_rate_holds_from_the_next_time_on() {
        let ms = 1_000_000;
        let arguments = "stress --target 127.0.0.1:1 --rate 1000 --connections 6";
        let mut schedule = Schedule::new(&Options::parse_from(arguments.split_whitespace()));
        assert_eq!(schedule.next_until(0), Some(0));
        assert_eq!(schedule.next_until(ms - 1), None, "the next is not due yet");
        assert_eq!(schedule.peek(), Some(ms));
        schedule.go_on_at(0.1);
        assert_eq!(schedule.next_until(ms), Some(ms));
        assert_eq!(schedule.next(), Some(11 * ms));
        schedule.go_on_at(2.0);
        assert_eq!(schedule.collect::<Vec<_>>(), [21 * ms, 21 * ms + ms / 2, 22 * ms]);
    }

    #[test]
    fn bursts_are_added_or_alone() {
        let ms = 1_000_000;
        assert_eq!(schedule("--burst 2:10 --connections 5"), [10, 10, 20, 20, 30].map(|number| number * ms));
        assert_eq!(schedule("--burst 2:10 --rate 200 --for 0.016"), [0, 5, 10, 10, 10, 15].map(|number| number * ms));
    }
}
