//! Text put at a place, within a width.

use listentop_model::words::{self, Charset};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};

use crate::dashboard::theme::Theme;

/// Writes `text` at the left of a field, cut off with `…`.
pub(in crate::dashboard) fn left(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    put(buf, x, y, width, &words::fit(text, width.into()), style);
}

/// Writes `text` at the right of a field, cut off with `…`.
pub(in crate::dashboard) fn right(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let text = words::fit(text, width.into());
    let used = words::width(&text) as u16;
    put(buf, x + width.saturating_sub(used), y, used, &text, style);
}

/// Writes what fits of `text`; outside of the buffer nothing. What was there before shows through in no way: a weight
/// would stay.
pub(in crate::dashboard) fn put(buf: &mut Buffer, x: u16, y: u16, width: u16, text: &str, style: Style) {
    let area = buf.area;
    if x < area.right() && y < area.bottom() && x >= area.x && y >= area.y {
        buf.set_stringn(x, y, text, width.min(area.right() - x).into(), Style::reset().patch(style));
    }
}

/// Writes a line of spans in the first row of `area`.
pub(in crate::dashboard) fn line(buf: &mut Buffer, area: Rect, line: Line<'_>) {
    if !area.is_empty() {
        line.render(Rect { height: 1, ..area }, buf);
    }
}

/// Lines of `lines` from `scroll` on, as many as fit. If not all fit, the last column shows the position.
pub(in crate::dashboard) fn scrolled(buf: &mut Buffer, area: Rect, lines: &[Line<'_>], scroll: usize, theme: Theme) {
    let height = usize::from(area.height);
    let scroll = scroll.min(lines.len().saturating_sub(height));
    for (y, row) in (area.y..area.bottom()).zip(&lines[scroll.min(lines.len())..]) {
        row.render(Rect { y, height: 1, width: area.width.saturating_sub(2), ..area }, buf);
    }
    scrollbar(buf, area, lines.len(), scroll, theme);
}

/// A thumb in the last column of `area`, if `length` is more than what fits.
pub(in crate::dashboard) fn scrollbar(buf: &mut Buffer, area: Rect, length: usize, scroll: usize, theme: Theme) {
    let height = usize::from(area.height);
    if length <= height || area.is_empty() {
        return;
    }
    let thumb = (height * height / length).clamp(1, height);
    let top = (scroll * (height - thumb)).div_ceil((length - height).max(1)).min(height - thumb);
    // Behind a figure, what stands for these in ASCII would look like another digit or a unit: `60I`.
    let [on, off] = if theme.charset() == Charset::Ascii { ["#", ":"] } else { ["┃", "│"] };
    for row in 0..height {
        let is_thumb = (top..top + thumb).contains(&row);
        let (symbol, style) = if is_thumb { (on, Style::new()) } else { (off, theme.label()) };
        put(buf, area.right() - 1, area.y + row as u16, 1, symbol, style);
    }
}

/// Clears `area`, and draws a frame with a title around it.
pub(in crate::dashboard) fn frame(buf: &mut Buffer, area: Rect, title: &str, theme: Theme) {
    if area.width < 4 || area.height < 2 {
        return;
    }
    let inner = usize::from(area.width) - 2;
    for y in area.y..area.bottom() {
        put(buf, area.x, y, area.width, &format!("│{}│", " ".repeat(inner)), Style::reset());
    }
    let line = "─".repeat(inner);
    put(buf, area.x, area.y, area.width, &format!("┌{line}┐"), Style::new());
    put(buf, area.x, area.bottom() - 1, area.width, &format!("└{line}┘"), Style::new());
    left(buf, area.x + 2, area.y, area.width - 4, &format!(" {title} "), theme.title());
}

/// Marks where one of these words, in lower case, stands in a field.
pub(in crate::dashboard) fn highlight<'a>(
    buf: &mut Buffer,
    field: Rect,
    sought: impl Iterator<Item = &'a str>,
    style: Style,
) {
    let mut sought = sought.filter(|word| !word.is_empty()).peekable();
    if sought.peek().is_none() {
        return;
    }
    // Which column each byte of the text is in.
    let (mut text, mut columns) = (String::new(), Vec::new());
    for x in field.x..field.right().min(buf.area.right()) {
        let lower = buf[(x, field.y)].symbol().to_lowercase();
        columns.extend(std::iter::repeat_n(x, lower.len()));
        text.push_str(&lower);
    }
    for word in sought {
        for (at, found) in text.match_indices(word) {
            for &x in &columns[at..at + found.len()] {
                buf[(x, field.y)].set_style(style);
            }
        }
    }
}

/// Columns for the title of a rule of this width.
pub(in crate::dashboard) fn title_room(width: u16) -> usize {
    usize::from(width).saturating_sub(5)
}

/// A rule with a title: `── title ─────`.
pub(in crate::dashboard) fn rule(buf: &mut Buffer, area: Rect, title: &str, theme: Theme) {
    if area.is_empty() {
        return;
    }
    put(buf, area.x, area.y, area.width, &"─".repeat(area.width.into()), theme.label());
    if !title.is_empty() {
        let title = format!(" {} ", words::fit(title, title_room(area.width)));
        put(buf, area.x + 2, area.y, area.width.saturating_sub(2), &title, theme.title());
    }
}

/// A label and its value, a space after both.
pub(in crate::dashboard) fn fact(label: &'static str, value: String, style: Style, theme: Theme) -> [Span<'static>; 4] {
    [Span::styled(label, theme.label()), Span::raw(" "), Span::styled(value, style), Span::raw("  ")]
}

#[cfg(test)]
mod tests {
    use ratatui::style::Modifier;

    use super::*;
    use crate::dashboard::theme::Palette;

    #[test]
    fn in_ascii_a_scroll_bar_does_not_look_like_a_digit() {
        for (charset, expected) in [(Charset::Unicode, "┃│"), (Charset::Ascii, "#:")] {
            let mut buf = Buffer::empty(Rect::new(0, 0, 3, 2));
            scrollbar(&mut buf, Rect::new(0, 0, 3, 2), 4, 0, Theme::new(Palette::Dark).with_charset(charset));
            let shown: String = (0..2).map(|y| buf[(2, y)].symbol()).collect();
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn words_are_marked_where_they_stand() {
        let field = Rect::new(1, 0, 10, 1);
        let mut buf = Buffer::empty(Rect::new(0, 0, 12, 1));
        put(&mut buf, 0, 0, 12, "ab Éab·AB b", Style::new());
        let marked = Style::new().add_modifier(Modifier::UNDERLINED);
        highlight(&mut buf, field, ["ab", "é", ""].into_iter(), marked);
        let is_marked = |cell: &ratatui::buffer::Cell| cell.modifier.contains(Modifier::UNDERLINED);
        let shown: String = buf.content.iter().map(|cell| if is_marked(cell) { '^' } else { ' ' }).collect();
        assert_eq!(shown, "   ^^^ ^^   ");
    }
}
