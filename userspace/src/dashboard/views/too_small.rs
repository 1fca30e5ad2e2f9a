//! What a terminal shows that is too small: its size and the size it takes.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{MIN_COLUMNS, MIN_ROWS};
use crate::dashboard::{format, theme::Theme, widgets::text};

pub(super) fn draw(buf: &mut Buffer, area: Rect, theme: Theme) {
    let message = [
        format!("This terminal is {}x{}; listentop needs at least {MIN_COLUMNS}x{MIN_ROWS}.", area.width, area.height),
        "Make it larger, or use a smaller font. Measuring goes on; q quits.".to_owned(),
    ];
    let mut y = area.y;
    for (paragraph, style) in message.iter().zip([theme.strong(), Style::new()]) {
        for line in format::wrap(paragraph, area.width.into()) {
            if y < area.bottom() {
                text::left(buf, area.x, y, area.width, &line, style);
            }
            y += 1;
        }
    }
}
