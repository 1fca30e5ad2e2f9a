//! Colours and characters.
//!
//! Views draw in Unicode; [`Theme::settle`] replaces what the terminal cannot show. Colour is never the only carrier of
//! a meaning: everything that is coloured is also a word, a symbol or a weight. The background is the terminal's own.

use std::ffi::OsStr;

use listentop_model::{model::Severity, words::Charset};
use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style},
};
use serde::Deserialize;

/// A set of colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Palette {
    /// For a dark background, from the 256 colours that most terminals have.
    #[default]
    Dark,
    /// The same for a light background.
    Light,
    /// The sixteen of the terminal's own palette.
    #[serde(rename = "16")]
    #[value(name = "16")]
    Sixteen,
    /// No colours: weights alone (bold, dim, reversed).
    None,
}

impl Palette {
    /// The palette for a terminal: `term` and `colorterm` are the variables TERM and COLORTERM, `light` whether its
    /// background is light.
    #[must_use]
    pub fn of_terminal(term: Option<&OsStr>, colorterm: Option<&OsStr>, light: bool) -> Self {
        let term = term.unwrap_or_default().to_string_lossy();
        // Terminals whose names do not say that they have 256 colours.
        let named = ["256color", "direct", "kitty", "ghostty", "alacritty", "foot", "wezterm", "contour"];
        let many = named.iter().any(|name| term.contains(name)) || colorterm.is_some_and(|value| !value.is_empty());
        match (many && term != "linux", light) {
            (false, _) => Self::Sixteen,
            (true, false) => Self::Dark,
            (true, true) => Self::Light,
        }
    }

    const fn colours(self) -> Option<&'static Colours> {
        match self {
            Self::Dark => Some(&DARK),
            Self::Light => Some(&LIGHT),
            Self::Sixteen => Some(&SIXTEEN),
            Self::None => None,
        }
    }
}

/// The colours of a palette. `None`: the terminal's own, with a weight instead.
#[derive(Debug)]
struct Colours {
    title: Color,
    label: Option<Color>,
    flow: Color,
    info: Color,
    warning: Color,
    critical: Color,
    /// Behind the row that keys act on, and the text before it.
    selected: Option<(Color, Color)>,
}

const DARK: Colours = Colours {
    title: Color::Indexed(117),
    label: Some(Color::Indexed(246)),
    flow: Color::Indexed(114),
    info: Color::Indexed(117),
    warning: Color::Indexed(221),
    critical: Color::Indexed(203),
    selected: Some((Color::Indexed(237), Color::Indexed(255))),
};

const LIGHT: Colours = Colours {
    title: Color::Indexed(25),
    label: Some(Color::Indexed(242)),
    flow: Color::Indexed(28),
    info: Color::Indexed(25),
    warning: Color::Indexed(130),
    critical: Color::Indexed(160),
    selected: Some((Color::Indexed(253), Color::Indexed(16))),
};

const SIXTEEN: Colours = Colours {
    title: Color::Cyan,
    label: None,
    flow: Color::Green,
    info: Color::Cyan,
    warning: Color::Yellow,
    critical: Color::Red,
    selected: None,
};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    palette: Palette,
    charset: Charset,
}

impl Theme {
    /// In Unicode, with these colours.
    #[must_use]
    pub const fn new(palette: Palette) -> Self {
        Self { palette, charset: Charset::Unicode }
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

    fn paint(self, pick: impl FnOnce(&Colours) -> Color) -> Style {
        self.palette.colours().map_or(Style::new(), |colours| Style::new().fg(pick(colours)))
    }

    /// Names, titles.
    #[must_use]
    pub fn title(self) -> Style {
        self.paint(|c| c.title).add_modifier(Modifier::BOLD)
    }

    /// Column heads, labels, and all that is idle.
    #[must_use]
    pub fn label(self) -> Style {
        match self.palette.colours().and_then(|colours| colours.label) {
            Some(color) => Style::new().fg(color),
            None => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// Important values.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// A word, tab or badge that stands out. Nothing that is drawn, such as a bar, looks so: reversed, a full one
    /// would look empty.
    #[must_use]
    pub fn badge(self) -> Style {
        match self.palette.colours().and_then(|colours| colours.selected) {
            Some((background, text)) => Style::new().bg(background).fg(text).add_modifier(Modifier::BOLD),
            None => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// What a search or filter found in a word.
    #[must_use]
    pub fn matched(self) -> Style {
        self.strong().add_modifier(Modifier::UNDERLINED)
    }

    /// Marks the row that keys act on: by weight, and by a background where there is one for it. Colours stay, and
    /// nothing is reversed.
    pub fn select(self, buf: &mut Buffer, area: ratatui::layout::Rect) {
        let colours = self.palette.colours().and_then(|colours| colours.selected);
        for position in area.intersection(buf.area).positions() {
            let cell = &mut buf[position];
            if let Some((background, text)) = colours {
                cell.bg = background;
                if cell.fg == Color::Reset {
                    cell.fg = text;
                }
            }
            cell.modifier.insert(Modifier::BOLD);
            cell.modifier.remove(Modifier::DIM);
        }
    }

    /// Bars, graphs, arrows.
    #[must_use]
    pub fn flow(self) -> Style {
        self.paint(|c| c.flow)
    }

    /// Nearly full, worth a look.
    #[must_use]
    pub fn warning(self) -> Style {
        self.paint(|c| c.warning)
    }

    /// Full, lost, refused.
    #[must_use]
    pub fn critical(self) -> Style {
        self.paint(|c| c.critical).add_modifier(Modifier::BOLD)
    }

    /// The style of a finding.
    #[must_use]
    pub fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => self.paint(|c| c.info),
            Severity::Warning => self.warning(),
            Severity::Critical => self.critical(),
        }
    }

    /// The style of a queue that is `fill` full: below a tenth it is as good as idle, and colours are for what matters.
    #[must_use]
    pub fn fill(self, fill: f64) -> Style {
        match fill {
            f if f >= 1.0 => self.critical(),
            f if f >= 0.5 => self.warning(),
            f if f >= 0.1 => self.flow(),
            _ => self.label(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Backgrounds of terminals: black, VS Code, Dracula, Solarized and the lightest that is still dark.
    const DARK_BACKGROUNDS: [u32; 5] = [0x00_0000, 0x1e_1e1e, 0x28_2a36, 0x00_2b36, 0x30_3030];
    const LIGHT_BACKGROUNDS: [u32; 3] = [0xff_ffff, 0xfd_f6e3, 0xee_e8d5];

    /// The colour of xterm's palette, from 16 on.
    fn rgb(color: Color) -> u32 {
        let Color::Indexed(index @ 16..) = color else { panic!("{color:?} is the terminal's own") };
        let level = |part: u32| if part == 0 { 0 } else { 55 + 40 * part };
        let part = match u32::from(index) {
            cube @ 16..232 => [(cube - 16) / 36, (cube - 16) / 6 % 6, (cube - 16) % 6].map(level),
            gray => [8 + 10 * (gray - 232); 3],
        };
        part[0] << 16 | part[1] << 8 | part[2]
    }

    /// As WCAG 2 defines it.
    fn luminance(rgb: u32) -> f64 {
        let part = |shift: u32| {
            let part = f64::from(rgb >> shift & 0xff) / 255.0;
            if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(16) + 0.7152 * part(8) + 0.0722 * part(0)
    }

    fn contrast(one: u32, other: u32) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_colour_is_readable_on_every_background() {
        assert!((contrast(0xff_ffff, 0) - 21.0).abs() < 0.01);
        for (colours, backgrounds) in [(&DARK, &DARK_BACKGROUNDS[..]), (&LIGHT, &LIGHT_BACKGROUNDS[..])] {
            let (selected, text) = colours.selected.expect("there is one");
            let label = colours.label.expect("there is one");
            let Colours { title, flow, info, warning, critical, .. } = *colours;
            for color in [title, label, flow, info, warning, critical, text] {
                for background in backgrounds.iter().copied().filter(|_| color != text).chain([rgb(selected)]) {
                    let contrast = contrast(rgb(color), background);
                    assert!(contrast >= 3.0, "{color:?} on {background:06x}: {contrast:.2}");
                }
            }
        }
    }

    #[test]
    fn sixteen_colours_are_the_terminals_own() {
        let Colours { title, label, flow, info, warning, critical, selected } = SIXTEEN;
        assert!([title, flow, info, warning, critical].iter().all(|color| !matches!(color, Color::Indexed(_))));
        assert!(label.is_none() && selected.is_none());
    }

    #[test]
    fn palettes_are_for_what_a_terminal_has() {
        let of = |term: &str, colorterm: Option<&str>, light| {
            Palette::of_terminal(Some(OsStr::new(term)), colorterm.map(OsStr::new), light)
        };
        for (term, colorterm, light, palette) in [
            ("xterm-256color", None, false, Palette::Dark),
            ("xterm-256color", None, true, Palette::Light),
            ("xterm", None, false, Palette::Sixteen),
            ("xterm", Some("truecolor"), true, Palette::Light),
            ("xterm", Some(""), true, Palette::Sixteen),
            ("xterm-kitty", None, false, Palette::Dark),
            ("linux", Some("truecolor"), false, Palette::Sixteen),
            ("vt100", None, true, Palette::Sixteen),
        ] {
            assert_eq!(of(term, colorterm, light), palette, "{term} {colorterm:?}");
        }
        assert_eq!(Palette::of_terminal(None, None, false), Palette::Sixteen);
    }

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
        Theme::new(Palette::Dark).settle(&mut unicode);
        assert_eq!(text(&unicode), "│日 éx?");
        let mut ascii = buffer();
        Theme::new(Palette::Dark).with_charset(Charset::Ascii).settle(&mut ascii);
        assert_eq!(text(&ascii), "|???x?");
    }

    /// A selected row keeps its colours; nothing in it is reversed, in any palette.
    #[test]
    fn the_selection_inverts_nothing() {
        for palette in [Palette::Dark, Palette::Light, Palette::Sixteen, Palette::None] {
            let theme = Theme::new(palette);
            let area = ratatui::layout::Rect::new(0, 0, 4, 1);
            let mut buffer = Buffer::empty(area);
            buffer.set_string(0, 0, "██··", theme.fill(1.0));
            let before: Vec<Color> = buffer.content.iter().map(|cell| cell.fg).collect();
            theme.select(&mut buffer, area);
            for (cell, before) in buffer.content.iter().zip(before) {
                assert!(!cell.modifier.contains(Modifier::REVERSED) && cell.modifier.contains(Modifier::BOLD));
                assert!(cell.fg == before || before == Color::Reset, "{palette:?}");
            }
        }
    }

    #[test]
    fn no_color_means_no_color() {
        assert!(Theme::color_allowed(None));
        assert!(Theme::color_allowed(Some(OsStr::new(""))));
        assert!(!Theme::color_allowed(Some(OsStr::new("1"))));
        let theme = Theme::new(Palette::None);
        for style in [theme.title(), theme.warning(), theme.critical(), theme.flow(), theme.fill(1.0), theme.badge()] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
