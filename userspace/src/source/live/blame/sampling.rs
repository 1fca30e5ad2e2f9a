//! How far what is charged to a stack may be from the truth, where stacks were drawn at random.

/// What was charged to the draws of one stack.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Drawn {
    /// In all, in nanoseconds.
    pub(super) wait_ns: u64,
    /// The sum of the squares of what each draw was charged with.
    pub(super) squares: f64,
}

impl Drawn {
    /// One draw.
    pub(super) fn one(wait_ns: u64) -> Self {
        Self { wait_ns, squares: (wait_ns as f64).powi(2) }
    }

    /// So many draws, of which only the sum is known: as if all had the same.
    pub(super) fn equal(wait_ns: u64, count: u64) -> Self {
        Self { wait_ns, squares: (wait_ns as f64).powi(2) / count.max(1) as f64 }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.wait_ns += other.wait_ns;
        self.squares += other.squares;
    }

    /// The variance, in square nanoseconds, of what `whole_ns` has for this stack if it is divided as the draws are:
    /// that of a ratio. One more draw is imagined elsewhere. Otherwise a stack that is the only one to be drawn would
    /// have no error, however few draws there were.
    pub(super) fn variance(self, all: Self, whole_ns: u64) -> f64 {
        if all.wait_ns == 0 {
            return 0.0;
        }
        let sum = all.wait_ns as f64;
        let (part, usual) = (self.wait_ns as f64 / sum, all.squares / sum);
        let elsewhere = (all.squares - self.squares).max(0.0) + usual.powi(2);
        let of_part = (1.0 - part).powi(2) * self.squares + part.powi(2) * elsewhere;
        of_part * (whole_ns as f64 / sum).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard deviation of how often a coin shows its head is known.
    #[test]
    fn equal_draws_are_a_binomial() {
        let (part, all) = (Drawn::equal(30_000, 30), Drawn::equal(100_000, 100));
        let deviation = part.variance(all, 1_000_000).sqrt() / 1_000_000.0;
        assert!((deviation - (0.3_f64 * 0.7 / 100.0).sqrt()).abs() < 0.0005, "{deviation}");
    }

    #[test]
    fn one_of_few_long_draws_counts_for_more() {
        let mut few = Drawn::default();
        (0..3).for_each(|_| few.add(Drawn::one(10_000)));
        let mut many = Drawn::equal(20_000, 200);
        let part = few;
        many.add(few);
        let deviation = part.variance(many, 50_000).sqrt() / 50_000.0;
        // One draw more or less is 14 points, and three are expected.
        assert!((0.1..0.2).contains(&deviation), "{deviation}");
    }

    #[test]
    fn a_single_draw_proves_nothing() {
        let one = Drawn::one(500);
        assert!((one.variance(one, 1_000).sqrt() - 1_000.0).abs() < 1.0);
        let hundred = Drawn::equal(500, 100);
        assert!((hundred.variance(hundred, 1_000).sqrt() - 10.0).abs() < 1.0);
        assert_eq!(Drawn::default().variance(Drawn::default(), 5), 0.0);
    }

    /// Many times the same estimate, from draws by chance: the error covers the truth as often as it should.
    #[test]
    fn the_truth_is_within_two_deviations() {
        // A generator that is the same everywhere (xorshift).
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let (short, long) = (160_u64, 10_100_u64);
        let truth = long as f64 / (long + 40 * short) as f64;
        let mut within = 0;
        for _ in 0..1_000 {
            let (mut seldom, mut all) = (Drawn::default(), Drawn::default());
            for _ in 0..1_000 {
                let one = if next() % 41 == 0 { long } else { short };
                if one == long {
                    seldom.add(Drawn::one(one));
                }
                all.add(Drawn::one(one));
            }
            let share = seldom.wait_ns as f64 / all.wait_ns as f64;
            let error = 1.96 * seldom.variance(all, 1).sqrt();
            within += u32::from((share - truth).abs() <= error);
        }
        assert!((920..=980).contains(&within), "{within} of 1000");
    }
}
