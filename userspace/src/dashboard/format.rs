//! Numbers as people read them. Unknown is `-` (nothing seen yet) or `n/a` (cannot be measured here), never 0.

use std::net::IpAddr;

use listentop_model::{
    coverage::{Measure, Status},
    model::{ListenerModel, Model, PatternName, Severity},
};
use ratatui::text::Span;

/// Shown where a measure is not to be had on this machine.
pub const UNAVAILABLE: &str = "n/a";
/// Shown where nothing was seen yet from which to tell.
pub const NOTHING: &str = "-";
/// Stands before a number that is sampled, inferred or a bound.
pub const SAMPLED: char = '~';

/// How well `measure` is covered; measures that the source does not mention count as unavailable.
#[must_use]
pub fn status(model: &Model, measure: Measure) -> Status {
    model.coverage.iter().find(|c| c.measure == measure).map_or(Status::Unavailable, |c| c.status)
}

/// A value with its honesty mark: `~` before a sampled one, `n/a` or `-` for none.
#[must_use]
pub fn marked(value: Option<String>, status: Status) -> String {
    match (value, status) {
        (Some(value), Status::Sampled) => format!("{SAMPLED}{value}"),
        (Some(value), _) => value,
        (None, Status::Unavailable) => UNAVAILABLE.to_owned(),
        (None, _) => NOTHING.to_owned(),
    }
}

/// A count in at most five characters: exact below 10,000, then two or three digits with k, M, G or T.
#[must_use]
pub fn short(count: u64) -> String {
    if count < 10_000 { count.to_string() } else { scaled(count as f64, 1000.0, &["k", "M", "G", "T"]) }
}

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

/// A rate per second in at most four characters.
#[must_use]
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if !r.is_finite() || r < 0.0 => NOTHING.to_owned(),
        0.0 => "0".to_owned(),
        r if r < 0.05 => "<0.1".to_owned(),
        r if r < 9.95 => format!("{r:.1}"),
        r if r < 999.5 => format!("{r:.0}"),
        r => scaled(r, 1000.0, &["k", "M", "G", "T"]),
    }
}

/// Divides by `step` until the value fits three digits; one decimal below 10.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value / step;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1}{}", units[unit]) } else { format!("{value:.0}{}", units[unit]) }
}

/// A duration in at most five characters: `<1µs`, `340µs`, `1.2ms`, `12s`, `2m03s`.
#[must_use]
pub fn duration(us: u64) -> String {
    match us {
        0 => "<1µs".to_owned(),
        1..1_000 => format!("{us}µs"),
        1_000..9_950 => format!("{:.1}ms", us as f64 / 1e3),
        9_950..999_500 => format!("{:.0}ms", us as f64 / 1e3),
        999_500..9_950_000 => format!("{:.1}s", us as f64 / 1e6),
        9_950_000..59_500_000 => format!("{:.0}s", us as f64 / 1e6),
        _ => minutes((us + 500_000) / 1_000_000),
    }
}

fn minutes(seconds: u64) -> String {
    match seconds {
        0..6_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        6_000..360_000 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        360_000..8_640_000 => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration with three digits: `1.23ms`.
#[must_use]
pub fn precise_duration(us: u64) -> String {
    let three = |value: f64, unit: &str| {
        if value < 9.995 {
            format!("{value:.2}{unit}")
        } else if value < 99.95 {
            format!("{value:.1}{unit}")
        } else {
            format!("{value:.0}{unit}")
        }
    };
    match us {
        0 => "<1µs".to_owned(),
        1..1_000 => format!("{us}µs"),
        1_000..999_500 => three(us as f64 / 1e3, "ms"),
        999_500..59_950_000 => three(us as f64 / 1e6, "s"),
        _ => minutes((us + 500_000) / 1_000_000),
    }
}

/// A clock of elapsed seconds: `00:01:23`.
#[must_use]
pub fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// A size: `12B`, `1.2KiB`, `340MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    if count < 1000 { format!("{count}B") } else { scaled(count as f64, 1024.0, &["KiB", "MiB", "GiB", "TiB"]) }
}

/// A size in at most four characters, binary units: `12B`, `1.2K`, `340M`.
#[must_use]
pub fn short_bytes(count: u64) -> String {
    if count < 1000 { format!("{count}B") } else { scaled(count as f64, 1024.0, &["K", "M", "G", "T"]) }
}

/// A share in percent: `0.31%`, `5.2%`, `87%`.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if !p.is_finite() => NOTHING.to_owned(),
        0.0 => "0%".to_owned(),
        p if p < 0.005 => "<0.01%".to_owned(),
        p if p < 0.995 => format!("{p:.2}%"),
        p if p < 9.95 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

/// A share as whole percents, in at most four characters.
#[must_use]
pub fn whole_percent(share: f64) -> String {
    match share {
        s if !s.is_finite() => NOTHING.to_owned(),
        s if s > 0.0 && s < 0.005 => "<1%".to_owned(),
        s => format!("{:.0}%", s * 100.0),
    }
}

/// A refresh interval: `250ms`, `2s`.
#[must_use]
pub fn interval(duration: std::time::Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// Address and port as they are written everywhere: `[::]:80`; a dual-stack or all-addresses socket is `*:80`.
///
/// `0.0.0.0` stays as it is: it takes IPv4 only, which `*` would hide.
#[must_use]
pub fn endpoint(address: IpAddr, port: u16, v6only: bool) -> String {
    match address {
        IpAddr::V4(a) => format!("{a}:{port}"),
        IpAddr::V6(a) if a.is_unspecified() && !v6only => format!("*:{port}"),
        IpAddr::V6(a) => format!("[{a}]:{port}"),
    }
}

/// [`endpoint`] of a listener.
#[must_use]
pub fn listener_endpoint(listener: &ListenerModel) -> String {
    endpoint(listener.address, listener.port, listener.v6only)
}

/// IPv4, IPv6 or both.
#[must_use]
pub fn family(listener: &ListenerModel) -> &'static str {
    match listener.address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(a) if a.is_unspecified() && !listener.v6only => "IPv4 and IPv6",
        IpAddr::V6(_) => "IPv6",
    }
}

/// `comm[pid]`, with the number of further processes that hold the listener; `?` where no holder may be seen.
#[must_use]
pub fn process(listener: &ListenerModel) -> String {
    match &listener.process {
        None => "?".to_owned(),
        Some(p) if listener.holders > 1 => format!("{}[{}]+{}", clean(&p.comm), p.pid, listener.holders - 1),
        Some(p) => format!("{}[{}]", clean(&p.comm), p.pid),
    }
}

/// [`process`] in at most `columns`: the name is cut before the id.
#[must_use]
pub fn process_within(listener: &ListenerModel, columns: usize) -> String {
    let whole = process(listener);
    let comm = listener.process.as_ref().map_or(String::new(), |p| clean(&p.comm));
    let id = whole.strip_prefix(comm.as_str()).unwrap_or_default();
    match columns.checked_sub(width(id)) {
        Some(room) if room > 1 => fit(&comm, room) + id,
        _ => fit(&whole, columns),
    }
}

/// Name of a listener's namespace, or its inode.
#[must_use]
pub fn netns(listener: &ListenerModel) -> String {
    listener.netns_name.as_deref().map_or_else(|| listener.netns.to_string(), clean)
}

/// A pattern's name, as JSON and documentation have it.
#[must_use]
pub const fn pattern(name: PatternName) -> &'static str {
    match name {
        PatternName::SingleThread => "single_thread",
        PatternName::AcceptorReaders => "acceptor_readers",
        PatternName::MessageBalancing => "message_balancing",
        PatternName::MultiAcceptor => "multi_acceptor",
        PatternName::Sharded => "sharded",
        PatternName::ThreadPerConnection => "thread_per_connection",
        PatternName::ProcessPerConnection => "process_per_connection",
        PatternName::Unknown => "unknown",
    }
}

/// The sign of a finding: a symbol, so that it is told without colour.
#[must_use]
pub const fn severity_mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "i",
        Severity::Warning => "*",
        Severity::Critical => "!",
    }
}

/// The word for a finding.
#[must_use]
pub const fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

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
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn counts() {
        for (count, text) in
            [(0, "0"), (9_999, "9999"), (10_000, "10k"), (999_499, "999k"), (999_600, "1.0M"), (12_345_678, "12M")]
        {
            assert_eq!(short(count), text, "{count}");
        }
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn rates_take_four_characters_and_never_round_to_zero() {
        for (value, text) in [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.05, "0.1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12k"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(rate(value), text, "{value}");
        }
        let mut value = 0.001;
        while value < 1e14 {
            assert!(width(&rate(value)) <= 4, "{value}: {}", rate(value));
            value *= 1.07;
        }
    }

    #[test]
    fn durations() {
        for (us, text) in [
            (0, "<1µs"),
            (999, "999µs"),
            (1_000, "1.0ms"),
            (9_949, "9.9ms"),
            (9_950, "10ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (59_400_000, "59s"),
            (59_600_000, "1m00s"),
            (123_000_000, "2m03s"),
            (7_300_000_000, "2h01m"),
        ] {
            assert_eq!(duration(us), text, "{us}");
        }
        assert_eq!(precise_duration(1_234), "1.23ms");
        assert_eq!(precise_duration(12_345), "12.3ms");
        assert_eq!(precise_duration(123_456), "123ms");
        assert_eq!(precise_duration(1_234_567), "1.23s");
        let mut us = 1_u64;
        while us < 1 << 45 {
            assert!(width(&duration(us)) <= 6, "{us}: {}", duration(us));
            us = us * 11 / 10 + 1;
        }
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(bytes(999), "999B");
        assert_eq!(bytes(1_000), "1.0KiB");
        assert_eq!(bytes(24 << 20), "24MiB");
        assert_eq!(short_bytes(1_500), "1.5K");
        assert_eq!(percent(0.0031), "0.31%");
        assert_eq!(percent(0.00001), "<0.01%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(whole_percent(0.001), "<1%");
        assert_eq!(whole_percent(1.0), "100%");
    }

    #[test]
    fn unknown_is_never_zero() {
        assert_eq!(marked(None, Status::Unavailable), "n/a");
        assert_eq!(marked(None, Status::Measured), "-");
        assert_eq!(marked(Some("3".into()), Status::Sampled), "~3");
        assert_eq!(marked(Some("3".into()), Status::Measured), "3");
    }

    #[test]
    fn endpoints() {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(endpoint("0.0.0.0".parse().unwrap(), 80, false), "0.0.0.0:80");
        assert_eq!(endpoint(any, 80, false), "*:80");
        assert_eq!(endpoint(any, 80, true), "[::]:80");
        assert_eq!(endpoint("fe80::1".parse().unwrap(), 80, false), "[fe80::1]:80");
    }

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
