//! A queue as a bar against its limit, with a mark at its peak.

use ratatui::{buffer::Buffer, style::Style};

use super::text::put;
use crate::dashboard::theme::Theme;

/// Parts of a block, from none to whole.
const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
/// The part of the bar that is empty.
const EMPTY: &str = "·";
/// The peak, where it is beyond the fill.
const MARK: &str = "┃";

/// The bar as symbols: filled, the peak as `┃` where it is beyond the fill, the rest dotted.
///
/// A queue that is not empty shows at least an eighth; only a full one fills the last cell.
fn symbols(width: usize, fill: f64, peak: Option<f64>) -> Vec<&'static str> {
    let cells = width * 8;
    let filled = |share: f64| match share {
        s if s <= 0.0 || cells == 0 => 0,
        s if s >= 1.0 => cells,
        s => ((s * cells as f64) as usize).clamp(1, cells - 1),
    };
    let eighths = filled(fill);
    let mark = peak.map(|p| filled(p).div_ceil(8)).filter(|&cell| cell > eighths.div_ceil(8)).map(|cell| cell - 1);
    let symbol = |cell: usize| match (eighths.saturating_sub(cell * 8).min(8), mark) {
        (0, Some(mark)) if mark == cell => MARK,
        (0, _) => EMPTY,
        (part, _) => EIGHTHS[part],
    };
    (0..width).map(symbol).collect()
}

/// Draws it. The fill and the mark have their own colours; what is empty is idle.
pub(in crate::dashboard) fn draw(
    buf: &mut Buffer,
    (x, y): (u16, u16),
    width: u16,
    (fill, peak): (f64, Option<f64>),
    theme: Theme,
) {
    for (x, symbol) in (x..).zip(symbols(width.into(), fill, peak)) {
        let style: Style = match symbol {
            EMPTY => theme.label(),
            MARK => theme.fill(peak.unwrap_or_default()),
            _ => theme.fill(fill),
        };
        put(buf, x, y, 1, symbol, style);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{layout::Rect, style::Color};

    use super::*;
    use crate::dashboard::theme::Palette;

    #[test]
    fn bars() {
        for (fill, peak, text) in [
            (0.0, None, "····"),
            (0.001, None, "▏···"),
            (0.5, None, "██··"),
            (0.99, None, "███▉"),
            (1.0, None, "████"),
            (1.5, None, "████"),
            (0.5, Some(1.0), "██·┃"),
            (0.5, Some(0.5), "██··"),
            (0.0, Some(0.1), "┃···"),
            (0.0, Some(0.0), "····"),
            (1.0, Some(1.0), "████"),
        ] {
            assert_eq!(symbols(4, fill, peak).concat(), text, "{fill} {peak:?}");
        }
        assert_eq!(symbols(0, 0.5, Some(1.0)).concat(), "");
    }

    #[test]
    fn fill_mark_and_emptiness_have_their_own_colours() {
        let theme = Theme::new(Palette::Sixteen);
        let area = Rect::new(0, 0, 4, 1);
        let mut buf = Buffer::empty(area);
        draw(&mut buf, (0, 0), 4, (0.3, Some(1.0)), theme);
        let colors: Vec<Color> = buf.content.iter().map(|cell| cell.fg).collect();
        assert_eq!(colors, [Color::Green, Color::Green, Color::Reset, Color::Red]);
    }
}
