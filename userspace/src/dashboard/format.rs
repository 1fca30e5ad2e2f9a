//! Numbers as people read them. Unknown is `-` (nothing seen yet) or `n/a` (cannot be measured here), never 0.

mod names;
mod text;

use listentop_model::{
    coverage::{Measure, Status},
    model::Model,
};

pub use self::{
    names::{endpoint, endpoint_width, family, listener_endpoint, netns, process, process_within, severity_mark},
    text::{clean, fit, fit_middle, width, wrap},
};
pub use listentop_model::words::grouped;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (count, text) in
            [(0, "0"), (9_999, "9999"), (10_000, "10k"), (999_499, "999k"), (999_600, "1.0M"), (12_345_678, "12M")]
        {
            assert_eq!(short(count), text, "{count}");
        }
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
}
