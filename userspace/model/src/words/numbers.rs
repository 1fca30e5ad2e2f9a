//! Numbers in tables, where columns are few. An unknown number is `-` or `n/a`, never 0.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{
    coverage::{Measure, Status},
    model::{Gauges, Model},
};

/// Stands for a value that cannot be measured on this machine.
pub const UNAVAILABLE: &str = "n/a";
/// Stands for a value that is not known yet.
pub const NOTHING: &str = "-";
/// Stands before a number that is sampled, inferred or a bound.
pub const SAMPLED: char = '~';

/// How well `measure` is covered; measures that the source does not mention count as unavailable.
#[must_use]
pub fn status(model: &Model, measure: Measure) -> Status {
    model.coverage.iter().find(|c| c.measure == measure).map_or(Status::Unavailable, |c| c.status)
}

/// A value with the mark of its status: `~` before a sampled one, `n/a` or `-` for none.
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

/// What a K of a size is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Units {
    /// 1,024 bytes: KiB, MiB (IEC).
    #[default]
    Binary,
    /// 1,000 bytes: kB, MB (SI).
    Decimal,
}

/// How sizes are written in this process. It is set once, before anything is written.
static DECIMAL: AtomicBool = AtomicBool::new(false);

/// Writes sizes in these units from now on.
pub fn write_sizes_in(units: Units) {
    DECIMAL.store(units == Units::Decimal, Ordering::Relaxed);
}

fn units() -> Units {
    if DECIMAL.load(Ordering::Relaxed) { Units::Decimal } else { Units::Binary }
}

/// A size: `12B`, `1.2KiB`, `340MiB`; with decimal units `1.2kB`, `340MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    bytes_in(count, units())
}

fn bytes_in(count: u64, units: Units) -> String {
    match units {
        _ if count < 1000 => format!("{count}B"),
        Units::Binary => scaled(count as f64, 1024.0, &["KiB", "MiB", "GiB", "TiB"]),
        Units::Decimal => scaled(count as f64, 1000.0, &["kB", "MB", "GB", "TB"]),
    }
}

/// A size in at most four characters: `12B`, `1.2K`, `340M`.
#[must_use]
pub fn short_bytes(count: u64) -> String {
    short_bytes_in(count, units())
}

fn short_bytes_in(count: u64, units: Units) -> String {
    match units {
        _ if count < 1000 => format!("{count}B"),
        Units::Binary => scaled(count as f64, 1024.0, &["K", "M", "G", "T"]),
        Units::Decimal => scaled(count as f64, 1000.0, &["k", "M", "G", "T"]),
    }
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

/// Unread bytes, with the measure that they are of: those of accepted connections, or where these are not told apart,
/// those of connections that wait to be accepted, too.
#[must_use]
pub fn unread(now: &Gauges) -> (Option<u64>, Measure) {
    match now.accepted_unread_bytes {
        Some(bytes) => (Some(bytes), Measure::OldestUnread),
        None => (now.queued_bytes, Measure::QueuedBytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::width;

    #[test]
    fn sizes_have_the_units_that_are_asked_for() {
        for (count, binary, decimal) in [
            (999, ["999B", "999B"], ["999B", "999B"]),
            (1_024, ["1.0KiB", "1.0K"], ["1.0kB", "1.0k"]),
            (1_500_000, ["1.4MiB", "1.4M"], ["1.5MB", "1.5M"]),
        ] {
            let of = |units| [bytes_in(count, units), short_bytes_in(count, units)];
            assert_eq!(of(Units::Binary), binary);
            assert_eq!(of(Units::Decimal), decimal);
        }
    }

    #[test]
    fn counts_are_exact_below_ten_thousand() {
        for (count, text) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10k"),
            (999_499, "999k"),
            (999_600, "1.0M"),
            (9_949_999, "9.9M"),
            (9_950_000, "10M"),
            (12_345_678, "12M"),
            (1_500_000_000, "1.5G"),
            (2_000_000_000_000, "2.0T"),
            (5_000_000_000_000_000, "5000T"),
        ] {
            assert_eq!(short(count), text, "{count}");
        }
    }

    #[test]
    fn rates_take_four_characters_and_never_round_to_zero() {
        for (value, text) in [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.049, "<0.1"),
            (0.05, "0.1"),
            (9.94, "9.9"),
            (9.95, "10"),
            (9.96, "10"),
            (999.4, "999"),
            (999.5, "1.0k"),
            (999.6, "1.0k"),
            (9_949.0, "9.9k"),
            (9_950.0, "10k"),
            (12_345.0, "12k"),
            (999_499.0, "999k"),
            (999_500.0, "1.0M"),
            (-1.0, "-"),
            (f64::INFINITY, "-"),
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
    fn durations_take_six_characters() {
        for (us, text) in [
            (0, "<1µs"),
            (1, "1µs"),
            (999, "999µs"),
            (1_000, "1.0ms"),
            (9_949, "9.9ms"),
            (9_950, "10ms"),
            (999_499, "999ms"),
            (999_500, "1.0s"),
            (9_949_999, "9.9s"),
            (9_950_000, "10s"),
            (59_400_000, "59s"),
            (59_499_999, "59s"),
            (59_500_000, "1m00s"),
            (123_000_000, "2m03s"),
            (123_499_999, "2m03s"),
            (123_500_000, "2m04s"),
            (5_999_000_000, "99m59s"),
            (6_000_000_000, "1h40m"),
            (7_300_000_000, "2h01m"),
            (359_999_000_000, "99h59m"),
            (360_000_000_000, "4d04h"),
            (8_639_999_000_000, "99d23h"),
            (8_640_000_000_000, "100d"),
        ] {
            assert_eq!(duration(us), text, "{us}");
        }
        let mut us = 1_u64;
        while us < 1 << 45 {
            assert!(width(&duration(us)) <= 6, "{us}: {}", duration(us));
            us = us * 11 / 10 + 1;
        }
    }

    #[test]
    fn precise_durations_have_three_digits() {
        for (us, text) in [
            (0, "<1µs"),
            (1, "1µs"),
            (999, "999µs"),
            (1_000, "1.00ms"),
            (1_234, "1.23ms"),
            (9_994, "9.99ms"),
            (9_995, "10.0ms"),
            (9_996, "10.0ms"),
            (12_345, "12.3ms"),
            (99_940, "99.9ms"),
            (99_950, "100ms"),
            (99_960, "100ms"),
            (123_456, "123ms"),
            (999_499, "999ms"),
            (999_500, "1.00s"),
            (1_234_567, "1.23s"),
            (59_949_999, "59.9s"),
            (59_950_000, "1m00s"),
            (123_000_000, "2m03s"),
        ] {
            assert_eq!(precise_duration(us), text, "{us}");
        }
    }

    #[test]
    fn clocks() {
        for (seconds, text) in [
            (-1.0, "00:00:00"),
            (59.9, "00:00:59"),
            (83.0, "00:01:23"),
            (3_600.0, "01:00:00"),
            (362_439.0, "100:40:39"),
        ] {
            assert_eq!(clock(seconds), text);
        }
    }

    #[test]
    fn sizes_go_by_1024() {
        for (count, long, brief) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1_000, "1.0KiB", "1.0K"),
            (1_500, "1.5KiB", "1.5K"),
            (340 << 10, "340KiB", "340K"),
            (24 << 20, "24MiB", "24M"),
            (3 << 30, "3.0GiB", "3.0G"),
            (5 << 40, "5.0TiB", "5.0T"),
        ] {
            assert_eq!((bytes(count), short_bytes(count)), (long.to_owned(), brief.to_owned()));
        }
    }

    #[test]
    fn shares() {
        for (share, text) in [
            (0.0, "0%"),
            (0.000_01, "<0.01%"),
            (0.000_049, "<0.01%"),
            (0.000_05, "0.01%"),
            (0.003_1, "0.31%"),
            (0.009_94, "0.99%"),
            (0.009_96, "1.0%"),
            (0.099_4, "9.9%"),
            (0.099_499_999_999_999_99, "10%"),
            (0.099_6, "10%"),
            (1.0, "100%"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
        for (share, text) in [
            (0.0, "0%"),
            (0.001, "<1%"),
            (0.004_9, "<1%"),
            (0.005_1, "1%"),
            (0.876, "88%"),
            (1.0, "100%"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(whole_percent(share), text, "{share}");
        }
        assert_eq!(whole_percent(0.005), "0%", "from half a percent on it is rounded");
    }

    #[test]
    fn intervals_are_whole_seconds_where_they_can_be() {
        for (ms, text) in [(250, "250ms"), (1_000, "1s"), (1_500, "1500ms"), (10_000, "10s")] {
            assert_eq!(interval(std::time::Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn unknown_is_never_zero() {
        let three = || Some("3".to_owned());
        assert_eq!(marked(None, Status::Unavailable), "n/a");
        assert_eq!(marked(None, Status::Measured), "-");
        assert_eq!(marked(None, Status::Sampled), "-");
        assert_eq!(marked(three(), Status::Sampled), "~3");
        assert_eq!(marked(three(), Status::Measured), "3");
        assert_eq!(marked(three(), Status::Unavailable), "3");
    }

    #[test]
    fn a_measure_without_coverage_is_unavailable() {
        let samples = crate::fixtures::quiet();
        let mut model = crate::tracker::Tracker::new(&samples[0]).model().clone();
        assert_eq!(status(&model, Measure::Accepts), Status::Measured);
        model.coverage.retain(|coverage| coverage.measure != Measure::Accepts);
        assert_eq!(status(&model, Measure::Accepts), Status::Unavailable);
        assert_eq!(status(&model, Measure::Reads), Status::Measured);
    }

    #[test]
    fn unread_bytes_are_those_of_accepted_connections_where_they_are_known() {
        let now = |accepted_unread_bytes| Gauges {
            queued_bytes: Some(270),
            accepted_unread_bytes,
            ..crate::fixtures::distinct_model().listeners[0].now
        };
        assert_eq!(unread(&now(Some(0))), (Some(0), Measure::OldestUnread));
        assert_eq!(unread(&now(None)), (Some(270), Measure::QueuedBytes));
    }
}
