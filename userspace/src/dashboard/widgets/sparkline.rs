//! A history in one row.

use ratatui::{
    buffer::Buffer,
    style::{Modifier, Style},
};

use super::text::put;
use crate::dashboard::theme::Theme;

/// Heights from none to whole.
pub(in crate::dashboard) const LEVELS: [&str; 9] = ["·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Draws the last `width` values against `top`, the newest at the right, each in its own colour: `·` is 0, a full block
/// `top` or more, a blank no value. A value at which something was done on purpose is underlined.
pub(in crate::dashboard) fn draw(
    buf: &mut Buffer,
    (x, y): (u16, u16),
    width: u16,
    values: impl DoubleEndedIterator<Item = (f64, bool)>,
    top: f64,
    theme: Theme,
) {
    for (back, (value, is_marked)) in (1..=width).zip(values.rev()) {
        let style: Style = theme.fill(value / top.max(1.0));
        let style = if is_marked { theme.title().add_modifier(Modifier::UNDERLINED) } else { style };
        put(buf, x + width - back, y, 1, LEVELS[level(value, top, 8)], style);
    }
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
    use ratatui::{layout::Rect, style::Color};

    use super::*;
    use crate::dashboard::theme::Palette;

    fn drawn(values: &[f64], top: f64, width: u16) -> Buffer {
        drawn_marked(values, top, width, &[])
    }

    fn drawn_marked(values: &[f64], top: f64, width: u16, marked: &[usize]) -> Buffer {
        let mut buf = Buffer::empty(Rect::new(0, 0, width, 1));
        let values = values.iter().enumerate().map(|(at, value)| (*value, marked.contains(&at)));
        draw(&mut buf, (0, 0), width, values, top, Theme::new(Palette::Sixteen));
        buf
    }

    fn text(buf: &Buffer) -> String {
        buf.content.iter().map(ratatui::buffer::Cell::symbol).collect()
    }

    #[test]
    fn the_newest_is_at_the_right_and_zero_is_not_nothing() {
        assert_eq!(text(&drawn(&[0.0, 1.0, 50.0, 99.0, 100.0], 100.0, 7)), "  ·▁▄▇█");
        assert_eq!(text(&drawn(&[0.0, 1.0, 50.0, 100.0], 100.0, 2)), "▄█");
        assert_eq!(text(&drawn(&[], 100.0, 3)), "   ");
        assert_eq!(level(5.0, 0.0, 8), 8);
    }

    /// What was full yesterday is not red today, and the other way round.
    #[test]
    fn each_value_has_its_own_colour() {
        let buf = drawn(&[100.0, 50.0, 10.0, 0.0], 100.0, 4);
        let colors: Vec<Color> = buf.content.iter().map(|cell| cell.fg).collect();
        assert_eq!(colors, [Color::Red, Color::Yellow, Color::Green, Color::Reset]);
        assert!(buf[(3, 0)].modifier.contains(Modifier::DIM), "idle is dim");
        let marked = drawn_marked(&[50.0, 50.0], 100.0, 2, &[1]);
        let underlined = |x| marked[(x, 0)].modifier.contains(Modifier::UNDERLINED);
        assert_eq!((underlined(0), underlined(1)), (false, true), "something was done there");
    }
}
