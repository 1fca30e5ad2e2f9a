//! A text under a title, which scrolls.

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use super::text;
use crate::dashboard::{action::Action, theme::Theme, view::Outcome};

/// The text, wrapped once for a width, and where it is scrolled to.
#[derive(Debug, Default)]
pub(in crate::dashboard) struct Page {
    lines: Vec<Line<'static>>,
    width: u16,
    scroll: usize,
}

impl Page {
    /// Back to the top.
    pub(in crate::dashboard) const fn rewind(&mut self) {
        self.scroll = 0;
    }

    /// Whether the text is wrapped for this width.
    pub(in crate::dashboard) const fn fits(&self, width: u16) -> bool {
        self.width == width
    }

    /// Takes the text, wrapped for `width`, to be shown in a body of `height` rows.
    pub(in crate::dashboard) fn set(&mut self, lines: Vec<Line<'static>>, width: u16, height: u16) {
        (self.lines, self.width) = (lines, width);
        self.scroll = self.scroll.min(self.last(height));
    }

    /// Scrolls in a body of `height` rows.
    pub(in crate::dashboard) fn update(&mut self, action: Action, height: u16) -> Outcome {
        let before = self.scroll;
        self.scroll = action.travel(before, page(height), self.last(height));
        Outcome::changed_if(self.scroll != before)
    }

    /// How far it can be scrolled.
    fn last(&self, height: u16) -> usize {
        self.lines.len().saturating_sub(page(height))
    }

    /// Draws it. `wrapped` makes the lines for another width: a frame may come between a change of size and its event.
    pub(in crate::dashboard) fn draw(
        &self,
        buf: &mut Buffer,
        area: Rect,
        title: &str,
        theme: Theme,
        wrapped: impl FnOnce(u16) -> Vec<Line<'static>>,
    ) {
        text::rule(buf, area, title, theme);
        let body = Rect { x: area.x + 1, y: area.y + 1, width: area.width - 1, height: area.height - 1 };
        if self.fits(area.width) {
            text::scrolled(buf, body, &self.lines, self.scroll, theme);
        } else {
            text::scrolled(buf, body, &wrapped(area.width), self.scroll, theme);
        }
    }
}

/// Rows of a page: the first row of the body is the title.
fn page(height: u16) -> usize {
    usize::from(height).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_scrolls_to_its_last_line_and_no_further() {
        let mut page = Page::default();
        page.set(vec![Line::raw("line"); 20], 80, 9);
        assert_eq!((page.update(Action::Up, 9), page.scroll), (Outcome::Unchanged, 0));
        assert_eq!((page.update(Action::PageDown, 9), page.scroll), (Outcome::Changed, 8));
        assert_eq!((page.update(Action::Last, 9), page.scroll), (Outcome::Changed, 12));
        assert_eq!((page.update(Action::Down, 9), page.scroll), (Outcome::Unchanged, 12));
        assert_eq!((page.update(Action::PageUp, 9), page.scroll), (Outcome::Changed, 4));
        assert_eq!((page.update(Action::Quit, 9), page.scroll), (Outcome::Unchanged, 4));
        page.set(vec![Line::raw("line"); 10], 80, 9);
        assert_eq!(page.scroll, 2);
        page.set(vec![Line::raw("line"); 3], 80, 9);
        assert_eq!(page.scroll, 0);
        assert!(page.fits(80) && !page.fits(81));
    }
}
