//! Colours and characters.
//!
//! Views draw in Unicode; [`Theme::settle`] replaces what the terminal cannot show. Colours: only the sixteen of the
//! terminal's own palette, and never as the only carrier of a meaning. Everything that is coloured is also a word, a
//! symbol or a weight.

use std::ffi::OsStr;

use listentop_model::{model::Severity, words::Charset};
use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style},
};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    color: bool,
    charset: Charset,
}

impl Theme {
    /// In Unicode; with colours, or with weights alone (bold, dim, reversed).
    #[must_use]
    pub const fn new(color: bool) -> Self {
        Self { color, charset: Charset::Unicode }
    }

    /// With these characters.
    #[must_use]
    pub const fn with_charset(self, charset: Charset) -> Self {
        Self { charset, ..self }
    }

    /// The characters that the terminal can show: those of its locale, and ASCII on the console of Linux, whose fonts
    /// lack the blocks and arrows.
    #[must_use]
    pub fn charset_of(term: Option<&OsStr>, locale: Charset) -> Charset {
        if term.is_some_and(|term| term == "linux") { Charset::Ascii } else { locale }
    }

    /// The characters that it draws with.
    #[must_use]
    pub const fn charset(self) -> Charset {
        self.charset
    }

    /// Replaces in a drawn screen what the terminal cannot show, and what would control it.
    pub fn settle(self, buf: &mut Buffer) {
        for at in 0..buf.content.len() {
            let Some(shown) = self.charset.of_cell(buf.content[at].symbol()) else { continue };
            // A wide character took the next cell, too.
            for (cell, c) in buf.content[at..].iter_mut().zip(shown.chars()) {
                if self.charset == Charset::Ascii {
                    cell.set_char(c);
                }
            }
            if self.charset == Charset::Unicode {
                buf.content[at].set_symbol(&shown);
            }
        }
    }

    /// Whether <https://no-color.org> allows colours: NO_COLOR is unset or empty.
    #[must_use]
    pub fn color_allowed(no_color: Option<&OsStr>) -> bool {
        no_color.is_none_or(OsStr::is_empty)
    }

    fn paint(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    /// Names, titles.
    #[must_use]
    pub fn title(self) -> Style {
        self.paint(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Column heads, labels.
    #[must_use]
    pub fn label(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Important values.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The row or tab that keys act on.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Bars, graphs, arrows.
    #[must_use]
    pub fn flow(self) -> Style {
        self.paint(Color::Green)
    }

    /// Nearly full, worth a look.
    #[must_use]
    pub fn warning(self) -> Style {
        self.paint(Color::Yellow)
    }

    /// Full, lost, refused.
    #[must_use]
    pub fn critical(self) -> Style {
        self.paint(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The style of a finding.
    #[must_use]
    pub fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => self.paint(Color::Cyan),
            Severity::Warning => self.warning(),
            Severity::Critical => self.critical(),
        }
    }

    /// The style of a queue that is `fill` full.
    #[must_use]
    pub fn fill(self, fill: f64) -> Style {
        match fill {
            f if f >= 1.0 => self.critical(),
            f if f >= 0.5 => self.warning(),
            _ => self.flow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_has_no_blocks_and_arrows() {
        let charset = |term: &str, locale| Theme::charset_of(Some(OsStr::new(term)), locale);
        assert_eq!(charset("linux", Charset::Unicode), Charset::Ascii);
        assert_eq!(charset("xterm", Charset::Unicode), Charset::Unicode);
        assert_eq!(charset("xterm", Charset::Ascii), Charset::Ascii);
        assert_eq!(Theme::charset_of(None, Charset::Unicode), Charset::Unicode);
    }

    #[test]
    fn what_the_terminal_cannot_show_is_replaced_in_its_cells() {
        let buffer = || {
            let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 6, 1));
            buffer.set_string(0, 0, "│日é\u{200d}x", Style::new());
            // `set_string` keeps some of them out; a widget need not.
            buffer[(5, 0)].set_symbol("\u{202e}");
            buffer
        };
        let text = |buffer: &Buffer| buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
        let mut unicode = buffer();
        Theme::new(true).settle(&mut unicode);
        assert_eq!(text(&unicode), "│日 éx?");
        let mut ascii = buffer();
        Theme::new(true).with_charset(Charset::Ascii).settle(&mut ascii);
        assert_eq!(text(&ascii), "|???x?");
    }

    #[test]
    fn no_color_means_no_color() {
        assert!(Theme::color_allowed(None));
        assert!(Theme::color_allowed(Some(OsStr::new(""))));
        assert!(!Theme::color_allowed(Some(OsStr::new("1"))));
        let theme = Theme::new(false);
        for style in [theme.title(), theme.warning(), theme.critical(), theme.flow(), theme.fill(1.0)] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
