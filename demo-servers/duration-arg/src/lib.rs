//! Lengths of time on a command line.
//!
//! The demo servers use it, and xtask too: it refuses wrong options before it builds the programs.

use std::time::Duration;

/// Parses `500ms`, `1.5s`, `2m` or `1h 30m`; a bare number is seconds.
///
/// # Errors
/// When it is no such time, shorter than a millisecond, or longer than a timer can be.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(milliseconds), _) => (milliseconds, 1e-3),
        (None, Some(seconds)) => (seconds, 1.0),
        (None, None) => (text, 1.0),
    };
    let time = match number.parse::<f64>() {
        Ok(number) => Duration::try_from_secs_f64(number * unit).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    let time = time.ok_or("must be a time, such as 10, 10s, 500ms or 2m")?;
    if (Duration::from_millis(1)..=Duration::from_secs(1_000_000_000)).contains(&time) {
        Ok(time)
    } else {
        Err("must be at least 1 ms and at most 1000000000 s".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("0.5", 500),
            ("1.5s", 1500),
            ("500ms", 500),
            ("1ms", 1),
            ("2m", 120_000),
            ("1h 30m", 5_400_000),
        ] {
            assert_eq!(parse(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        for text in ["", "s", "ms", "0", "0s", "-1", "inf", "nan", "1e10", "0.1ms", "s5", "abc", "5 parsecs"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
