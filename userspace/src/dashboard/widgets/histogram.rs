//! A distribution as columns over a logarithmic axis.

use listentop_model::histogram::Histogram;
use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    sparkline::{LEVELS, level},
    text::{left, put, right},
};
use crate::dashboard::theme::Theme;

/// How values of a distribution are written.
pub(in crate::dashboard) type Unit = fn(u64) -> String;

/// Draws the columns of `histogram` and, below them, the smallest and largest value. `unit` writes a value given in the
/// histogram's units.
pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, histogram: &Histogram, unit: Unit, theme: Theme) {
    if area.height < 2 || area.width < 10 {
        return;
    }
    let bars = histogram.bars(area.width.into());
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return };
    let height = area.height - 1;
    let most = bars.iter().map(|b| b.count).max().unwrap_or(1) as f64;
    // Few bars are drawn wide rather than squeezed to the left.
    let wide = (area.width / bars.len() as u16).clamp(1, 6);
    for (i, bar) in bars.iter().enumerate() {
        let steps = level(bar.count as f64, most, usize::from(height) * 8);
        for row in 0..usize::from(height) {
            let part = steps.saturating_sub(row * 8).min(8);
            if part > 0 {
                let x = area.x + i as u16 * wide;
                put(buf, x, area.y + height - 1 - row as u16, wide, &LEVELS[part].repeat(wide.into()), theme.flow());
            }
        }
    }
    let used = (wide * bars.len() as u16).max(16).min(area.width);
    let axis = area.y + height;
    put(buf, area.x, axis, used, &"╌".repeat(used.into()), theme.label());
    left(buf, area.x, axis, used, &unit(first.low), theme.label());
    right(buf, area.x, axis, used, &unit(last.high), theme.label());
}
