//! Text on a screen: what it is wide, cutting it, breaking it.

use ratatui::text::Span;

/// `text` without control characters, which a process may put into its name.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Columns that `text` takes on the screen.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// `text` in at most `columns` columns, `…` for what was cut off at the end.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", take(text.chars(), columns.saturating_sub(1)))
}

/// `text` in at most `columns` columns, `…` for what was cut out of its middle: the ends of an address tell most.
#[must_use]
pub fn fit_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let keep = columns.saturating_sub(1);
    let tail: String = take(text.chars().rev(), keep - keep / 3).chars().rev().collect();
    format!("{}…{tail}", take(text.chars(), keep / 3))
}

/// As many of `chars` as fit `columns`.
fn take(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += width(c.encode_utf8(&mut [0; 4]));
            used <= columns
        })
        .collect()
}

/// `text` broken at spaces into lines of at most `columns`; a longer word is broken anywhere.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        let line = lines.last_mut().expect("there is always a last line");
        if line.is_empty() {
            *line = String::new();
        } else if width(line) + 1 + width(&word) <= columns {
            line.push(' ');
            line.push_str(&word);
            continue;
        } else {
            lines.push(String::new());
        }
        while width(&word) > columns {
            let head = take(word.chars(), columns);
            word = word[head.len()..].to_owned();
            *lines.last_mut().expect("there is always a last line") = head;
            lines.push(String::new());
        }
        *lines.last_mut().expect("there is always a last line") = word;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_and_wrapping() {
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit_middle("[2001:db8::1234]:8080", 12), "[20…34]:8080");
        assert_eq!(clean("a\x1b[2Jb"), "a?[2Jb");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("a", 4), ["a"]);
    }
}
