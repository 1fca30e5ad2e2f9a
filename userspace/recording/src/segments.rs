//! The segments of a ring: their names, and which of them go.

use std::ffi::{OsStr, OsString};

use crate::frame::Stamp;

/// The end of their names.
const ENDING: &str = ".rec";
/// The end of the names of those that stay when the ring goes round.
const KEPT: &str = ".kept.rec";

/// A segment that is written to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of its first sample: its name.
    pub(crate) serial: u64,
    /// Wall clock of its first and of its last sample, in milliseconds since the epoch.
    pub(crate) span: (u64, u64),
    pub(crate) size: u64,
    /// It stays when the ring goes round.
    pub(crate) kept: bool,
}

impl Segment {
    /// One that begins with this sample.
    pub(crate) fn new(first: Stamp) -> Self {
        Self { serial: first.serial, span: (first.unix_ms, first.unix_ms), size: 0, kept: false }
    }

    /// Its name. Names sort by time.
    pub(crate) fn name(&self) -> OsString {
        format!("{:016}{}", self.serial, if self.kept { KEPT } else { ENDING }).into()
    }

    /// Whether any of it is within this time.
    pub(crate) fn touches(&self, from_ms: u64, until_ms: u64) -> bool {
        self.span.0 <= until_ms && from_ms <= self.span.1
    }
}

/// Whether a file of a folder is a segment.
pub(crate) fn is_segment(name: &OsStr) -> bool {
    number(name).is_some()
}

/// The number that its name has, and whether it is kept.
pub(crate) fn number(name: &OsStr) -> Option<(u64, bool)> {
    let name = name.to_str()?;
    let kept = name.ends_with(KEPT);
    let digits = name.strip_suffix(if kept { KEPT } else { ENDING })?;
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().map(|number| (number, kept))
}

/// What a ring may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How long, in milliseconds.
    pub(crate) span_ms: u64,
    /// How much, in bytes.
    pub(crate) size: Option<u64>,
}

/// The segment to delete next, if there is too much: the oldest of those that are not kept, and if only kept ones are
/// left, the oldest of these. Of kept ones there is at most as much time as of the others. `now_ms` is the wall clock,
/// `size` that of the segment being written.
pub(crate) fn surplus(segments: &[Segment], bounds: Bounds, now_ms: u64, size: u64) -> Option<usize> {
    let passing = segments.iter().position(|segment| !segment.kept);
    if let Some(place) = passing
        && segments[place].span.1.saturating_add(bounds.span_ms) < now_ms
    {
        return Some(place);
    }
    let kept = || segments.iter().filter(|segment| segment.kept);
    let kept_ms = kept().fold(0_u64, |sum, segment| sum.saturating_add(segment.span.1 - segment.span.0));
    if kept_ms > bounds.span_ms {
        return segments.iter().position(|segment| segment.kept);
    }
    let all = segments.iter().fold(size, |all, segment| all.saturating_add(segment.size));
    if bounds.size.is_some_and(|most| all > most) { oldest(segments) } else { None }
}

/// The segment that is missed least.
pub(crate) fn oldest(segments: &[Segment]) -> Option<usize> {
    let passing = segments.iter().position(|segment| !segment.kept);
    passing.or(if segments.is_empty() { None } else { Some(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(serial: u64, from: u64, until: u64, kept: bool) -> Segment {
        Segment { serial, span: (from, until), size: 100, kept }
    }

    #[test]
    fn a_name_says_number_and_whether_it_stays() {
        for kept in [false, true] {
            let name = segment(1_234, 0, 0, kept).name();
            assert_eq!(number(&name), Some((1_234, kept)));
        }
        for other in ["x.rec", "12.rec", "0000000000001234.txt", "+000000000001234.rec", ".rec", ""] {
            assert!(!is_segment(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn what_is_too_old_goes_and_what_is_kept_stays() {
        let segments = [segment(0, 0, 99, true), segment(10, 100, 199, false), segment(20, 200, 299, false)];
        let bounds = Bounds { span_ms: 100, size: None };
        assert_eq!(surplus(&segments, bounds, 299, 0), None, "exactly as old as it may be");
        assert_eq!(surplus(&segments, bounds, 300, 0), Some(1));
        assert_eq!(surplus(&segments[..1], bounds, 10_000, 0), None);
        assert_eq!(surplus(&[], bounds, 10_000, 0), None);
    }

    #[test]
    fn too_much_takes_kept_ones_last() {
        let segments = [segment(0, 0, 99, true), segment(10, 100, 199, false), segment(20, 200, 299, true)];
        let bounds = |size| Bounds { span_ms: 1_000, size: Some(size) };
        assert_eq!(surplus(&segments, bounds(350), 300, 50), None);
        assert_eq!(surplus(&segments, bounds(349), 300, 50), Some(1));
        let kept = [segments[0].clone(), segments[2].clone()];
        assert_eq!(surplus(&kept, bounds(100), 300, 0), Some(0));
    }

    #[test]
    fn what_is_kept_does_not_grow_without_end() {
        let segments = [segment(0, 0, 90, true), segment(10, 100, 160, true), segment(20, 200, 260, false)];
        let bounds = |span_ms| Bounds { span_ms, size: None };
        assert_eq!(surplus(&segments, bounds(150), 300, 0), None);
        assert_eq!(surplus(&segments, bounds(149), 300, 0), Some(0));
    }

    #[test]
    fn it_touches_what_is_within() {
        let one = segment(0, 100, 200, false);
        for (from, until, expected) in [(0, 99, false), (0, 100, true), (200, 300, true), (201, 300, false)] {
            assert_eq!(one.touches(from, until), expected, "{from} to {until}");
        }
    }
}
