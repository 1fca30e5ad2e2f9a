//! Moments of a recording, as people name them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::values;

/// A moment of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A date and time, in milliseconds since the epoch.
    Date(u64),
    /// A time of day: the last such in the recording.
    Clock(Clock),
    /// So long after the recording's start.
    AfterStart(Duration),
    /// So long before its end.
    BeforeEnd(Duration),
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    hour: u8,
    minute: u8,
    second: Option<u8>,
    /// It is in UTC; otherwise in the zone of the machine (`TZ`).
    utc: bool,
}

/// Days that are searched for a time of day, back from a recording's end: more than a recording covers.
const MOST_DAYS: i32 = 366;

/// `03:12`, `03:12:30Z`, `2026-11-29T03:12:30Z`, `+10m`, `-5m`.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    let expected = || {
        "a moment is expected: 03:12 or 2026-11-29T03:12:30, in UTC with a Z at its end; +10m from the start, or -5m from \
         the end"
            .to_owned()
    };
    if let Some(after) = text.strip_prefix('+') {
        return length(after).map(Moment::AfterStart).ok_or_else(expected);
    }
    if let Some(before) = text.strip_prefix('-') {
        return length(before).map(Moment::BeforeEnd).ok_or_else(expected);
    }
    if text.contains(['T', ' ']) {
        return date(text).map(Moment::Date).ok_or_else(expected);
    }
    clock(text).map(Moment::Clock).ok_or_else(expected)
}

fn length(text: &str) -> Option<Duration> {
    if matches!(text, "0" | "0s") { Some(Duration::ZERO) } else { values::duration(text).ok() }
}

fn clock(text: &str) -> Option<Clock> {
    let (time, utc) = text.strip_suffix(['Z', 'z']).map_or((text, false), |time| (time, true));
    let mut parts = time.split(':').map(|part| {
        let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<u8>().ok()).flatten()
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        None => None,
        Some(second) => Some(second?),
    };
    let fits = hour < 24 && minute < 60 && second.is_none_or(|second| second < 60) && parts.next().is_none();
    fits.then_some(Clock { hour, minute, second, utc })
}

/// A date and time, with seconds or without.
fn date(text: &str) -> Option<u64> {
    let (time, utc) = text.strip_suffix(['Z', 'z']).map_or((text, false), |time| (time, true));
    let full = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_owned() };
    let at = humantime::parse_rfc3339_weak(&full).ok()?;
    let unix = at.duration_since(UNIX_EPOCH).ok()?;
    if utc {
        return u64::try_from(unix.as_millis()).ok();
    }
    let seconds = local_to_unix(&civil(i64::try_from(unix.as_secs()).ok()?, true)?)?;
    u64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(unix.subsec_millis().into())
}

/// The date and time of a second since the epoch.
fn civil(unix: i64, utc: bool) -> Option<libc::tm> {
    let mut civil = std::mem::MaybeUninit::<libc::tm>::zeroed();
    let (unix, place) = (&raw const unix, civil.as_mut_ptr());
    // SAFETY: both read the first and fill the second; all zeroes is a valid `tm`.
    unsafe {
        let filled = if utc { libc::gmtime_r(unix, place) } else { libc::localtime_r(unix, place) };
        (!filled.is_null()).then(|| civil.assume_init())
    }
}

/// The second since the epoch of a local date and time. Of one that daylight saving skips or repeats, one that is near.
fn local_to_unix(civil: &libc::tm) -> Option<i64> {
    let mut civil = *civil;
    civil.tm_isdst = -1;
    // SAFETY: it reads and corrects a `tm` of ours.
    let unix = unsafe { libc::mktime(&raw mut civil) };
    (unix != -1).then_some(unix)
}

impl Moment {
    /// In milliseconds since the epoch, in a recording from `start_ms` to `end_ms`; `None` if it has no such time.
    pub(super) fn within(self, start_ms: u64, end_ms: u64) -> Option<u64> {
        match self {
            Self::Date(unix_ms) => Some(unix_ms),
            Self::AfterStart(after) => Some(start_ms.saturating_add(milliseconds(after))),
            Self::BeforeEnd(before) => Some(end_ms.saturating_sub(milliseconds(before)).max(start_ms)),
            Self::Clock(clock) => clock.last_within(start_ms, end_ms),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Clock {
    /// The last time that a clock showed this. Of a minute that is named without seconds, its first second; if the
    /// recording begins within it, the recording's start.
    fn last_within(self, start_ms: u64, end_ms: u64) -> Option<u64> {
        let length_ms = if self.second.is_none() { 60_000 } else { 1_000 };
        let end = civil(i64::try_from(end_ms / 1000).ok()?, self.utc)?;
        for days_back in 0..MOST_DAYS {
            let mut day = end;
            (day.tm_hour, day.tm_min, day.tm_sec) =
                (self.hour.into(), self.minute.into(), self.second.unwrap_or(0).into());
            day.tm_mday -= days_back;
            let unix = if self.utc { utc_to_unix(&end, &day, days_back) } else { local_to_unix(&day) }?;
            let at = u64::try_from(unix).ok()?.saturating_mul(1000);
            if at + length_ms <= start_ms {
                return None;
            }
            if at <= end_ms {
                return Some(at.max(start_ms));
            }
        }
        None
    }
}

/// The second since the epoch of a time of day in UTC, so many days before `end`.
fn utc_to_unix(end: &libc::tm, wanted: &libc::tm, days_back: i32) -> Option<i64> {
    let mut end = *end;
    // SAFETY: it reads and corrects a `tm` of ours.
    let unix = unsafe { libc::timegm(&raw mut end) };
    let of_day = |tm: &libc::tm| i64::from(tm.tm_hour) * 3600 + i64::from(tm.tm_min) * 60 + i64::from(tm.tm_sec);
    (unix != -1).then(|| unix - of_day(&end) + of_day(wanted) - i64::from(days_back) * 86_400)
}

/// The time now, in milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

/// A moment as a local time of day with the date, for messages: `2026-11-29 03:12:30`.
pub(super) fn local(unix_ms: u64) -> String {
    let unix = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    civil(unix, false).map_or_else(
        || format!("{unix} s"),
        |c| {
            let (year, month) = (c.tm_year + 1900, c.tm_mon + 1);
            format!("{year:04}-{month:02}-{:02} {:02}:{:02}:{:02}", c.tm_mday, c.tm_hour, c.tm_min, c.tm_sec)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-29T00:00:00Z.
    const DAY: u64 = 1_795_910_400_000;

    fn at(text: &str, start_ms: u64, end_ms: u64) -> Option<u64> {
        parse(text).expect(text).within(start_ms, end_ms)
    }

    #[test]
    fn a_time_of_day_is_the_last_such() {
        let hours = |hours: u64| DAY + hours * 3_600_000;
        let minute = 3 * 3_600_000 + 12 * 60_000;
        assert_eq!(at("03:12Z", hours(1), hours(5)), Some(DAY + minute));
        assert_eq!(at("03:12:30Z", hours(1), hours(5)), Some(DAY + minute + 30_000));
        assert_eq!(at("03:12Z", hours(1), hours(25)), Some(DAY + minute), "before midnight and after");
        assert_eq!(at("03:12Z", hours(1), hours(28)), Some(DAY + 86_400_000 + minute), "the last of two");
        assert_eq!(at("03:12Z", hours(4), hours(5)), None);
        assert_eq!(at("03:12Z", DAY + minute + 20_000, hours(5)), Some(DAY + minute + 20_000), "within the minute");
        assert_eq!(at("03:12:00Z", DAY + minute + 20_000, hours(5)), None);
    }

    #[test]
    fn dates_and_lengths() {
        assert_eq!(at("2026-11-29T00:00:00Z", 0, 1), Some(DAY));
        assert_eq!(at("2026-11-29T00:01Z", 0, 1), Some(DAY + 60_000));
        assert_eq!(at("2026-11-29 00:00:00.250Z", 0, 1), Some(DAY + 250));
        assert_eq!(at("+10m", DAY, DAY * 2), Some(DAY + 600_000));
        assert_eq!(at("+0", DAY, DAY * 2), Some(DAY));
        assert_eq!(at("-5s", DAY, DAY + 60_000), Some(DAY + 55_000));
        assert_eq!(at("-1h", DAY, DAY + 60_000), Some(DAY), "not before its start");
    }

    #[test]
    fn local_times_agree_with_the_zone() {
        // Whatever the zone is.
        let text = local(DAY + 12 * 3_600_000 + 34 * 60_000 + 56_000);
        let (date, clock) = text.split_once(' ').expect("date and time");
        assert_eq!(at(&format!("{date}T{clock}"), 0, 1), Some(DAY + 12 * 3_600_000 + 34 * 60_000 + 56_000));
        let found = at(clock, DAY, DAY + 86_400_000).expect("every day has it");
        assert_eq!(local(found).split_once(' ').map(|(_, clock)| clock), Some(clock));
    }

    #[test]
    fn mistakes_are_answered_with_what_is_expected() {
        for bad in
            ["", "3:12", "24:00", "03:60", "03:12:60", "03:12:00:00", "noon", "+", "-x", "2026-13-01T00:00Z", "Z"]
        {
            let error = parse(bad).expect_err(bad);
            assert!(error.contains("a moment is expected"), "{bad}: {error}");
        }
    }
}
