//! What is shown on a terminal that is too small: its size, and the size that is necessary.

use listentop_model::words;
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::text;
use crate::dashboard::{
    geometry::{MIN_COLUMNS, MIN_ROWS},
    theme::Theme,
};

pub(in crate::dashboard) fn draw(buf: &mut Buffer, area: Rect, theme: Theme) {
    let message = [
        format!("This terminal is {}x{}; listentop needs at least {MIN_COLUMNS}x{MIN_ROWS}.", area.width, area.height),
        "Make it larger, or use a smaller font. Measuring continues; q quits.".to_owned(),
    ];
    let mut y = area.y;
    for (paragraph, style) in message.iter().zip([theme.strong(), Style::new()]) {
        for line in words::wrap(paragraph, area.width.into()) {
            if y < area.bottom() {
                text::left(buf, area.x, y, area.width, &line, style);
            }
            y += 1;
        }
    }
}
