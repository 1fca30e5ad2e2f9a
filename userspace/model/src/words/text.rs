//! Text on a screen: its width, shortening it, wrapping it.

use std::{borrow::Cow, fmt::Write as _};

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthChar as _;

/// Characters that are not written although they are no control characters (those are Unicode's category Cc): they
/// reorder or hide what stands beside them, or terminals do not agree on how many columns they take.
///
/// Format characters (Cf), separators of lines (Zl, Zp), everything that may be ignored (Default_Ignorable_Code_Point),
/// and what changes the width of the character before it: halves of flags, shades of skin.
const UNSAFE: [(char, char); 36] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    // Zero-width spaces and joiners, and the marks of direction.
    ('\u{200b}', '\u{200f}'),
    // Embeddings and overrides of direction.
    ('\u{2028}', '\u{202e}'),
    // The word joiner, and isolates of direction.
    ('\u{2060}', '\u{206f}'),
    ('\u{20e3}', '\u{20e3}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1345f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{1f1e6}', '\u{1f1ff}'),
    ('\u{1f3fb}', '\u{1f3ff}'),
    // Private use: the width is the font's.
    ('\u{e000}', '\u{f8ff}'),
    ('\u{e0000}', '\u{e0fff}'),
    ('\u{f0000}', '\u{10ffff}'),
    // Conjoining vowels and finals of Hangul.
    ('\u{1161}', '\u{11ff}'),
    ('\u{d7b0}', '\u{d7fb}'),
    // Signs that stack or join letters, about which terminals differ.
    ('\u{1039}', '\u{1039}'),
    ('\u{17d2}', '\u{17d2}'),
    ('\u{1a60}', '\u{1a60}'),
    ('\u{2d7f}', '\u{2d7f}'),
];

/// Whether a terminal shows `c` as a character of its own or above the one before, and does nothing else.
#[must_use]
pub fn is_safe(c: char) -> bool {
    c.is_ascii_graphic()
        || c == ' '
        || !(c.is_control() || UNSAFE.iter().any(|&(first, last)| (first..=last).contains(&c)))
}

/// `text` with `?` for every character that is not [safe](is_safe): a process may put some into its name. A combining
/// character at the beginning has nothing to combine with but what stands before the text, so it is one of them.
#[must_use]
pub fn clean(text: &str) -> String {
    let lone = |(at, c): (usize, char)| at == 0 && c.width() == Some(0);
    text.char_indices().map(|(at, c)| if is_safe(c) && !lone((at, c)) { c } else { '?' }).collect()
}

/// JSON in which every character that is not [safe](is_safe) is escaped: it means the same, and may be shown on a
/// terminal. Line breaks stay.
#[must_use]
pub fn clean_json(json: &str) -> Cow<'_, str> {
    if json.chars().all(|c| is_safe(c) || c == '\n') {
        return Cow::Borrowed(json);
    }
    let mut clean = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_safe(c) || c == '\n' {
            clean.push(c);
        } else {
            // Outside of strings JSON holds ASCII alone, and serde_json has escaped the controls among it.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(clean)
}

/// Columns that `text` takes on the screen: the sum of its characters', as terminals count.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(|c| c.width().unwrap_or(0)).sum() }
}

/// `text` in at most `columns` columns; `…` replaces what is cut off at the end.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", text.unicode_truncate(columns.saturating_sub(1)).0)
}

/// `text` in at most `columns` columns; `…` replaces what is cut out of its middle: of an address the ends matter most.
#[must_use]
pub fn fit_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let keep = columns.saturating_sub(1);
    let head = text.unicode_truncate(keep / 3).0;
    let tail = text.unicode_truncate_start(keep - keep / 3).0;
    format!("{head}…{tail}")
}

/// `text` in lines of at most `columns`, broken at spaces; a longer word is broken anywhere.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let options = Options::new(columns.max(1))
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    textwrap::wrap(&text, options).into_iter().map(Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_not_written() {
        for (text, cleaned) in [
            ("a\x1b[2Jb\n", "a?[2Jb?"),
            ("\u{7f}\u{9b}31m", "??31m"),
            ("nginx\u{202e}xnign", "nginx?xnign"),
            ("a\u{200b}b\u{feff}c\u{2066}d\u{2028}", "a?b?c?d?"),
            ("\u{1f468}\u{200d}\u{1f469}", "\u{1f468}?\u{1f469}"),
            ("\u{2764}\u{fe0f}", "\u{2764}?"),
            ("\u{1f1e9}\u{1f1ea}", "??"),
            // Combining characters stay where they have something to combine with.
            ("e\u{301}", "e\u{301}"),
            ("\u{301}e", "?e"),
            ("日本 שלום µs", "日本 שלום µs"),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn json_means_the_same_without_control_characters() {
        let value = serde_json::json!({ "comm": "a\u{9b}b\u{202e}c\u{7f}\u{1b}\u{e0001}\"日" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        let cleaned = clean_json(&json);
        assert!(cleaned.chars().all(|c| is_safe(c) || c == '\n'), "{cleaned:?}");
        assert!(cleaned.contains("\\u009bb\\u202ec\\u007f\\u001b\\udb40\\udc01\\\"日"), "{cleaned}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cleaned).unwrap(), value);
        assert!(matches!(clean_json("{}\n"), Cow::Borrowed("{}\n")));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!([width(""), width("abc"), width("µs"), width("日本"), width("e\u{301}")], [0, 3, 2, 4, 1]);
    }

    #[test]
    fn what_does_not_fit_is_cut_off() {
        for (text, columns, cut) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("abcdef", 1, "…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
        ] {
            assert_eq!(fit(text, columns), cut, "{columns}");
        }
        assert_eq!(fit_middle("[2001:db8::1234]:8080", 12), "[20…34]:8080");
        assert_eq!(fit_middle("[2001:db8::1234]:8080", 21), "[2001:db8::1234]:8080");
        assert_eq!(fit_middle("日本語日本語", 8), "日…本語");
    }

    #[test]
    fn lines_break_at_spaces_and_in_long_words() {
        for (text, columns, lines) in [
            ("one two three", 7, &["one two", "three"][..]),
            ("one  two\nthree ", 7, &["one two", "three"]),
            ("accept-queue-depth at 1/16", 13, &["accept-queue-", "depth at 1/16"]),
            ("well-known words", 6, &["well-k", "nown", "words"]),
            ("abcdefghij kl", 4, &["abcd", "efgh", "ij", "kl"]),
            ("ab abcdef", 4, &["ab", "abcd", "ef"]),
            ("a", 4, &["a"]),
            ("", 4, &[""]),
            ("ab", 0, &["a", "b"]),
        ] {
            assert_eq!(wrap(text, columns), lines, "{text:?}");
        }
    }
}
