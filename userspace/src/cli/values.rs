//! What the values of options may be.

use std::time::Duration;

use crate::dashboard::{MIN_COLUMNS, MIN_ROWS};

/// The longest time that is accepted: far longer than any measurement, and far from the end of the clock.
const LONGEST: Duration = Duration::from_hours(8760);

/// `500ms`, `10s`, `2m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) if seconds > LONGEST.as_secs_f64() => Some(Duration::MAX),
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match parsed {
        Some(Duration::ZERO) => Err("it must be longer than zero".to_owned()),
        Some(time) if time > LONGEST => Err("it must be at most a year (365d)".to_owned()),
        Some(time) => Ok(time),
        None => Err("a time is expected, such as 500ms, 10s or 2m; a bare number is seconds".to_owned()),
    }
}

/// A refresh interval. One that is faster than eyes can follow, or slower than once a minute, is a typing error.
pub(super) fn refresh(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if (Duration::from_millis(50)..=Duration::from_secs(60)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("it must be from 50ms to 60s".to_owned())
    }
}

/// Time between two pushes.
#[cfg(feature = "otlp")]
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if (Duration::from_millis(100)..=Duration::from_mins(60)).contains(&parsed) {
        Ok(parsed)
    } else {
        Err("it must be from 100ms to 60m".to_owned())
    }
}

/// The size of a screen, `120x40`: at least what the dashboard needs, at most what is still a picture.
pub(super) fn screen(text: &str) -> Result<(u16, u16), String> {
    let size = text.split_once(['x', 'X', '×']);
    let number = |text: &str| text.parse::<u16>().ok();
    let size = size.and_then(|(columns, rows)| Some((number(columns)?, number(rows)?)));
    match size {
        Some(size @ (MIN_COLUMNS..=400, MIN_ROWS..=200)) => Ok(size),
        Some(_) => Err(format!("it must be from {MIN_COLUMNS}x{MIN_ROWS} to 400x200")),
        None => Err("columns and rows are expected, such as 120x40".to_owned()),
    }
}

/// A speed: what is slower stands still, what is faster nobody sees.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches(['x', '×']).parse::<f64>() {
        Ok(speed) if (0.01..=1_000.0).contains(&speed) => Ok(speed),
        _ => Err("a number from 0.01 to 1000 is expected".to_owned()),
    }
}

/// The length of a ring: of a shorter one nothing would be left to look at.
pub(super) fn ring(text: &str) -> Result<Duration, String> {
    let parsed = duration(text)?;
    if parsed < Duration::from_secs(60) { Err("it must be at least a minute".to_owned()) } else { Ok(parsed) }
}

/// `500K`, `20MiB`, `2G`; a bare number is bytes. Units are powers of 1,024. At least what a recording begins with.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = || "a size is expected, such as 20M or 2G; a bare number is bytes".to_owned();
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| expected())?;
    let shift = match unit.trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(expected()),
    };
    let bytes = number * (1_u64 << shift) as f64;
    if (SMALLEST..LARGEST).contains(&bytes) { Ok(bytes as u64) } else { Err("it must be from 64K to 1024T".to_owned()) }
}

/// Less would hold no more than the beginning of a recording.
const SMALLEST: f64 = 65_536.0;
const LARGEST: f64 = (1_u64 << 50) as f64 + 1.0;

/// A whole number from 1 to `most`.
fn number(text: &str, what: &str, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{what} is expected, a whole number from 1 to {most}")),
    }
}

pub(super) fn listeners(text: &str) -> Result<u32, String> {
    number(text, "a number of listeners", 1 << 20)
}

pub(super) fn connections(text: &str) -> Result<u32, String> {
    number(text, "a number of connections", 1 << 23)
}

pub(super) fn threads(text: &str) -> Result<u32, String> {
    number(text, "a number of threads", 1 << 20)
}

pub(super) fn series(text: &str) -> Result<u32, String> {
    number(text, "a number of series", 100_000_000)
}

/// A port; 0 is none.
pub(super) fn port(text: &str) -> Result<u16, String> {
    number(text, "a port", u16::MAX.into()).and_then(|port| u16::try_from(port).map_err(|error| error.to_string()))
}

/// A process id, up to the kernel's PID_MAX_LIMIT.
pub(super) fn pid(text: &str) -> Result<u32, String> {
    number(text, "a process id", 1 << 22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("365d"), Ok(LONGEST));
        for (bad, words) in [
            ("", "a time is expected"),
            ("soon", "such as 500ms, 10s or 2m"),
            ("-1", "a time is expected"),
            ("nan", "a time is expected"),
            ("0", "longer than zero"),
            ("366d", "at most a year"),
            ("1e19", "at most a year"),
            ("1e30", "at most a year"),
            ("inf", "at most a year"),
            ("18446744073709551615s", "at most a year"),
        ] {
            let error = duration(bad).expect_err(bad);
            assert!(error.contains(words), "{bad}: {error}");
        }
        // Every accepted time ends before the clock does.
        assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
        for (text, accepted) in [("49ms", false), ("50ms", true), ("60s", true), ("61s", false)] {
            assert_eq!(refresh(text).is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn speeds_and_rings_have_bounds() {
        assert_eq!((speed("10"), speed("0.5x")), (Ok(10.0), Ok(0.5)));
        assert!(["0", "-1", "1001", "nan", "fast", ""].iter().all(|bad| speed(bad).is_err()));
        assert_eq!((ring("60s").is_ok(), ring("59s").is_ok(), ring("24h").is_ok()), (true, false, true));
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64K", 65_536),
            ("20MiB", 20 << 20),
            ("20m", 20 << 20),
            ("1.5G", 3 << 29),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (bad, words) in [
            ("", "a size is expected"),
            ("x", "20M or 2G"),
            ("5X", "20M or 2G"),
            ("1K", "from 64K"),
            ("9999T", "to 1024T"),
            ("-1M", "a size"),
        ] {
            let error = size(bad).expect_err(bad);
            assert!(error.contains(words), "{bad}: {error}");
        }
    }

    #[test]
    fn numbers_go_from_one_to_the_largest() {
        for (text, accepted) in
            [("0", false), ("1", true), ("65535", true), ("65536", false), ("-1", false), ("x", false)]
        {
            assert_eq!(port(text).is_ok(), accepted, "{text}");
        }
        for (text, accepted) in [("4194304", true), ("4194305", false)] {
            assert_eq!(pid(text).is_ok(), accepted, "{text}");
        }
        for (text, accepted) in [("1048576", true), ("1048577", false)] {
            assert_eq!((listeners(text).is_ok(), threads(text).is_ok()), (accepted, accepted), "{text}");
        }
        assert!(connections("8388608").is_ok() && connections("8388609").is_err());
    }
}
