//! A history in one row.

/// Heights from none to whole.
pub(in crate::dashboard) const LEVELS: [&str; 9] = ["·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// The last `width` values against `top`, newest at the right: `·` is 0, a full block `top` or more, a blank no value.
pub(in crate::dashboard) fn sparkline(values: impl DoubleEndedIterator<Item = f64>, top: f64, width: usize) -> String {
    let mut newest_first: Vec<&str> = values.rev().take(width).map(|value| LEVELS[level(value, top, 8)]).collect();
    newest_first.resize(width, " ");
    newest_first.into_iter().rev().collect()
}

/// `value` in `steps` parts of `top`: 0 only for 0, `steps` only for `top` and more.
pub(in crate::dashboard) fn level(value: f64, top: f64, steps: usize) -> usize {
    match value / top.max(f64::MIN_POSITIVE) {
        share if value <= 0.0 || share.is_nan() => 0,
        share if share >= 1.0 => steps,
        share => ((share * steps as f64) as usize).clamp(1, steps.max(2) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_at_the_right_and_zero_is_not_nothing() {
        assert_eq!(sparkline([0.0, 1.0, 50.0, 99.0, 100.0].into_iter(), 100.0, 7), "  ·▁▄▇█");
        assert_eq!(sparkline([0.0, 1.0, 50.0, 100.0].into_iter(), 100.0, 2), "▄█");
        assert_eq!(sparkline(std::iter::empty(), 100.0, 3), "   ");
        assert_eq!(level(5.0, 0.0, 8), 8);
    }
}
