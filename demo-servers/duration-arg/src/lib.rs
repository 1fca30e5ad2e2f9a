//! Durations on the command line. xtask uses this too: it refuses a bad one before it builds the programs.

use std::time::Duration;

/// Parses a time such as `500ms`, `1.5s`, `2m` or `1h 30m`. A number without a unit is in seconds. The shortest is a
/// millisecond; the longest fits a timer.
///
/// # Errors
/// For text that is no such time; the message says what is accepted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let is_number = text.parse::<f64>().is_ok();
    let time = if is_number { humantime::parse_duration(&format!("{text}s")) } else { humantime::parse_duration(text) };
    let time = time.map_err(|_| "must be a time, such as 10, 10s, 500ms or 2m")?;
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
    fn times_may_have_units() {
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
