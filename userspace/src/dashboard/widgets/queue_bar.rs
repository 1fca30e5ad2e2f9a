//! A queue as a bar against its limit, with a mark at its peak.

use ratatui::buffer::Buffer;

use super::text::put;
use crate::dashboard::theme::Theme;

/// Parts of a block, from none to whole.
const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// The bar as text: filled, the peak as `┃` where it is beyond the fill, the rest dotted.
///
/// A queue that is not empty shows at least an eighth; only a full one fills the last cell.
pub(in crate::dashboard) fn bar(width: usize, fill: f64, peak: Option<f64>) -> String {
    if width == 0 {
        return String::new();
    }
    let cells = width * 8;
    let filled = |share: f64| match share {
        s if s <= 0.0 => 0,
        s if s >= 1.0 => cells,
        s => ((s * cells as f64) as usize).clamp(1, cells - 1),
    };
    let eighths = filled(fill);
    let mark = peak.map(|p| filled(p).div_ceil(8)).filter(|&cell| cell > eighths.div_ceil(8)).map(|cell| cell - 1);
    (0..width)
        .map(|cell| match (eighths.saturating_sub(cell * 8).min(8), mark) {
            (0, Some(mark)) if mark == cell => "┃",
            (0, _) => "·",
            (part, _) => EIGHTHS[part],
        })
        .collect()
}

/// Draws [`bar`] in the colour of its fill.
pub(in crate::dashboard) fn draw(
    buf: &mut Buffer,
    (x, y): (u16, u16),
    width: u16,
    (fill, peak): (f64, Option<f64>),
    theme: Theme,
) {
    put(buf, x, y, width, &bar(width.into(), fill, peak), theme.fill(fill));
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(bar(4, fill, peak), text, "{fill} {peak:?}");
        }
        assert_eq!(bar(0, 0.5, Some(1.0)), "");
    }
}
