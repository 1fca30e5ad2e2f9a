//! Numbers in sentences: whole words, plurals, units apart from their number.

use std::{cmp::Reverse, collections::BTreeMap};

use super::utc;
use crate::model::Finding;

/// A count with thousands separated: `12,345`.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 SYN`, `1,234 SYNs`, `2 processes`, `2 queries`.
#[must_use]
pub fn plural(count: u64, noun: &str) -> String {
    format!("{} {}", grouped(count), inflect(count, noun))
}

/// A noun in the number that `count` asks for: `thread`, `threads`; `process`, `processes`; `query`, `queries`.
#[must_use]
pub fn inflect(count: u64, noun: &str) -> String {
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    let before_y = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u']));
    match before_y {
        _ if count == 1 => noun.to_owned(),
        Some(stem) => format!("{stem}ies"),
        None if hisses => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// The form of a verb that agrees with `count`: `agree(1, "waits", "wait")` is `waits`.
#[must_use]
pub const fn agree<'a>(count: u64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// A duration: `340 µs`, `1.2 ms`, `12.0 s`.
#[must_use]
pub fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A share as whole percents: `87%`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// When a finding holds or held: ` since 17:03:12 UTC`, or `, 17:03:12 to 17:03:14 UTC` for one that has passed.
#[must_use]
pub fn finding_time(finding: &Finding) -> String {
    // 2026-11-28T17:03:12.345Z
    let time = |unix_ms| utc(unix_ms)[11..19].to_owned();
    let since = time(finding.since_unix_ms);
    match finding.until_unix_ms.map(time) {
        None => format!(" since {since} UTC"),
        Some(until) if until == since => format!(", at {since} UTC"),
        Some(until) => format!(", {since} to {until} UTC"),
    }
}

/// How often each of these comes: the most common one first, and of equal ones in their own order.
pub(crate) fn counted<T: Ord>(all: impl IntoIterator<Item = T>) -> Vec<(T, u64)> {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    all.into_iter().for_each(|one| *counts.entry(one).or_default() += 1);
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (count, text) in [
            (0, "0"),
            (12, "12"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (999_999, "999,999"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn nouns_agree_with_their_count() {
        for (count, noun, text) in [
            (0, "SYN", "0 SYNs"),
            (1, "SYN", "1 SYN"),
            (1_234, "SYN", "1,234 SYNs"),
            (1, "process", "1 process"),
            (2, "process", "2 processes"),
            (2, "box", "2 boxes"),
            (2, "fez", "2 fezes"),
            (2, "batch", "2 batches"),
            (2, "flush", "2 flushes"),
            (1, "retry", "1 retry"),
            (2, "retry", "2 retries"),
            (2, "delay", "2 delays"),
        ] {
            assert_eq!(plural(count, noun), text);
        }
        assert_eq!((inflect(1, "CPU"), inflect(2, "CPU")), ("CPU".to_owned(), "CPUs".to_owned()));
    }

    #[test]
    fn verbs_agree_with_their_count() {
        assert_eq!([0, 1, 2].map(|count| agree(count, "waits", "wait")), ["wait", "waits", "wait"]);
    }

    #[test]
    fn durations_have_one_decimal_beyond_microseconds() {
        for (us, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (1_234, "1.2 ms"),
            (999_900, "999.9 ms"),
            (1_000_000, "1.0 s"),
            (12_340_000, "12.3 s"),
        ] {
            assert_eq!(duration(us), text);
        }
    }

    #[test]
    fn a_finding_holds_since_a_time_or_held_until_one() {
        let finding = |until_unix_ms| Finding {
            id: "hung_acceptor",
            severity: crate::model::Severity::Warning,
            follows_from: None,
            since_unix_ms: 951_782_399_100,
            until_unix_ms,
            summary: String::new(),
            evidence: Vec::new(),
            advice: String::new(),
        };
        assert_eq!(finding_time(&finding(None)), " since 23:59:59 UTC");
        assert_eq!(finding_time(&finding(Some(951_782_399_999))), ", at 23:59:59 UTC");
        assert_eq!(finding_time(&finding(Some(951_782_401_000))), ", 23:59:59 to 00:00:01 UTC");
    }

    #[test]
    fn percents_are_whole() {
        for (share, text) in [(0.0, "0%"), (0.004, "0%"), (0.346, "35%"), (1.0, "100%")] {
            assert_eq!(percent(share), text);
        }
    }
}
