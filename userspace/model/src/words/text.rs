//! Text on a screen: its width, shortening it, wrapping it.

use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_truncate::UnicodeTruncateStr as _;
use unicode_width::UnicodeWidthStr as _;

/// `text` with `?` for every control character: a process may put some into its name.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Columns that `text` takes on the screen.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
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
    textwrap::wrap(&text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_not_written() {
        assert_eq!(clean("a\x1b[2Jb\n"), "a?[2Jb?");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!([width(""), width("abc"), width("µs"), width("日本")], [0, 3, 2, 4]);
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
