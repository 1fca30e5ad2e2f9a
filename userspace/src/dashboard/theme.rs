//! Colours: only the sixteen of the terminal's own palette, and never as the only carrier of a meaning. Everything that
//! is coloured is also a word, a symbol or a weight.

use listentop_model::model::Severity;
use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    color: bool,
}

impl Theme {
    /// With colours, or with weights alone (bold, dim, reversed).
    #[must_use]
    pub const fn new(color: bool) -> Self {
        Self { color }
    }

    /// Whether <https://no-color.org> allows colours: NO_COLOR is unset or empty.
    #[must_use]
    pub fn color_allowed(no_color: Option<&std::ffi::OsStr>) -> bool {
        no_color.is_none_or(std::ffi::OsStr::is_empty)
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
    use std::ffi::OsStr;

    use super::*;

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
