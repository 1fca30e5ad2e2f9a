//! Dates.

use std::time::{Duration, UNIX_EPOCH};

/// The last millisecond of the year 9999: RFC 3339 has four digits for the year.
const LAST_MS: u64 = 253_402_300_799_999;

/// A point in time as RFC 3339 writes it: UTC, with milliseconds. Later than the year 9999 is written as its end.
#[must_use]
pub fn utc(unix_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms.min(LAST_MS))).to_string()
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_utc_with_milliseconds() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (999, "1970-01-01T00:00:00.999Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc(unix_ms), text);
        }
    }
}
