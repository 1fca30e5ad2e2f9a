//! Which characters a terminal can show. What is written for people is Unicode; on its way to a terminal of the C
//! locale each character becomes an ASCII one of the same width, so that columns stay where they are.

use std::{borrow::Cow, ffi::OsString};

use unicode_width::UnicodeWidthChar as _;

use super::text::is_safe;

/// Which characters may be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    /// All of Unicode, as UTF-8.
    #[default]
    Unicode,
    /// Only ASCII.
    Ascii,
}

impl Charset {
    /// The one of the locale that these environment variables name: the first of LC_ALL, LC_CTYPE and LANG that is set
    /// and not empty (POSIX). A locale that names no UTF-8 is ASCII: its other characters differ from one to the next.
    #[must_use]
    pub fn of_locale(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
        let codeset = locale.map(|locale| locale.to_string_lossy().to_lowercase());
        match codeset {
            Some(codeset) if codeset.contains("utf-8") || codeset.contains("utf8") => Self::Unicode,
            _ => Self::Ascii,
        }
    }

    /// `text` in these characters, as wide as before.
    #[must_use]
    pub fn of_text(self, text: &str) -> Cow<'_, str> {
        if self == Self::Unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut ascii = String::with_capacity(text.len());
        for c in text.chars() {
            match (c.is_ascii(), equivalent(c), c.width()) {
                (true, _, _) => ascii.push(c),
                (false, Some(other), _) => ascii.push(other),
                (false, None, columns) => (0..columns.unwrap_or(1)).for_each(|_| ascii.push('?')),
            }
        }
        Cow::Owned(ascii)
    }

    /// What a cell of a screen shows instead of `symbol`; `None` if it shows that. No character of the result controls
    /// a terminal.
    #[must_use]
    pub fn of_cell(self, symbol: &str) -> Option<String> {
        if symbol.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control()) {
            return None;
        }
        let safe: String = symbol.chars().filter(|&c| is_safe(c)).collect();
        let shown = if safe.is_empty() { Cow::Borrowed("?") } else { self.of_text(&safe) };
        (shown != symbol).then(|| shown.into_owned())
    }
}

/// The ASCII character for one that is not. Each takes one column.
const fn equivalent(c: char) -> Option<char> {
    Some(match c {
        'µ' | 'μ' => 'u',
        '×' => 'x',
        '÷' => '/',
        '·' | '•' => '.',
        // What is cut off, and where the selection or an arrow points.
        '…' | '→' | '▶' | '›' => '>',
        '←' | '◀' => '<',
        '↑' | '▲' => '^',
        '↓' | '▼' => 'v',
        // A folded and an unfolded group, as trees are drawn in ASCII.
        '▸' | '✓' => '+',
        '▾' | '–' | '—' | '─' | '╌' => '-',
        '✗' => 'x',
        '│' | '┊' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => '+',
        // A mark beside fills and frames: it looks like neither.
        '┃' => 'I',
        // A fill in eighths, from the left.
        '▏' => '|',
        '▎' | '▍' => '-',
        '▌' | '▋' | '▊' | '▉' => '=',
        // And from below, the more ink the higher.
        '▁' => '_',
        '▂' => ',',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '█' => '#',
        // Shades, the more ink the darker.
        '░' => ':',
        '▒' => '+',
        '▓' => '*',
        '●' => '@',
        '≥' => '>',
        // A peak above a fill.
        '▔' => '^',
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '\u{a0}' => ' ',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::width;

    fn locale(set: &[(&str, &str)]) -> Charset {
        Charset::of_locale(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        for (set, charset) in [
            (&[][..], Charset::Ascii),
            (&[("LANG", "en_GB.UTF-8")], Charset::Unicode),
            (&[("LANG", "C.utf8")], Charset::Unicode),
            (&[("LANG", "C")], Charset::Ascii),
            (&[("LANG", "POSIX")], Charset::Ascii),
            (&[("LANG", "de_DE@euro")], Charset::Ascii),
            (&[("LANG", "ja_JP.eucJP")], Charset::Ascii),
            (&[("LANG", "C"), ("LC_CTYPE", "en_US.UTF-8")], Charset::Unicode),
            (&[("LANG", "en_US.UTF-8"), ("LC_CTYPE", "C")], Charset::Ascii),
            (&[("LANG", "en_US.UTF-8"), ("LC_CTYPE", "en_US.UTF-8"), ("LC_ALL", "C")], Charset::Ascii),
            // Empty is as if it were not set.
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "")], Charset::Unicode),
            (&[("LANG", "")], Charset::Ascii),
        ] {
            assert_eq!(locale(set), charset, "{set:?}");
        }
    }

    #[test]
    fn ascii_is_as_wide_as_what_it_stands_for() {
        for (text, ascii) in [
            ("12µs → 3ms", "12us > 3ms"),
            ("── *:80 ×4 ─", "-- *:80 x4 -"),
            ("日本[7]", "????[7]"),
            ("e\u{301}t\u{e9}", "et?"),
            ("·▁▂▃▄▅▆▇█", "._,-=+*%#"),
            ("░▒▓█▔≥", ":+*#^>"),
            ("plain", "plain"),
        ] {
            assert_eq!(Charset::Ascii.of_text(text), ascii);
            assert_eq!(width(text), width(ascii), "{text}");
            assert_eq!(Charset::Unicode.of_text(text), text);
        }
    }

    #[test]
    fn cells_hold_nothing_that_controls_a_terminal() {
        for (symbol, unicode, ascii) in [
            ("a", None, None),
            ("│", None, Some("|")),
            ("日", None, Some("??")),
            ("e\u{301}", None, Some("e")),
            ("e\u{200d}", Some("e"), Some("e")),
            ("\u{202e}", Some("?"), Some("?")),
            ("\u{1b}", Some("?"), Some("?")),
            ("\u{9b}", Some("?"), Some("?")),
        ] {
            assert_eq!(Charset::Unicode.of_cell(symbol).as_deref(), unicode, "{symbol:?}");
            assert_eq!(Charset::Ascii.of_cell(symbol).as_deref(), ascii, "{symbol:?}");
        }
    }
}
