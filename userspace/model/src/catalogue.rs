//! What patterns and findings declare in addition to their code. The documentation's tables are made from it.

use std::fmt;

/// A bound on which a pattern or finding depends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Name of the constant. Texts refer to its value as `{NAME}`.
    pub name: &'static str,
    /// Its value.
    pub value: Quantity,
    /// Why it is this much.
    pub why: &'static str,
}

/// A value with its unit, displayed in full precision: `20 ms`, `25 %`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// A number of things.
    Count(u64),
    /// A multiple of something else.
    Times(f64),
    /// A part of a whole, 0 to 1.
    Share(f64),
    /// Events per second.
    PerSecond(f64),
    /// A duration in microseconds.
    Micros(u64),
    /// A size in bytes.
    Bytes(u64),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Times(n) => write!(f, "{n}"),
            // A product such as 0.07 × 100 is a hair off.
            Self::Share(n) => write!(f, "{} %", (n * 1e6).round() / 1e4),
            Self::PerSecond(n) => write!(f, "{n} per second"),
            Self::Micros(us) if us < 1_000_000 => write!(f, "{} ms", us as f64 / 1e3),
            Self::Micros(us) => write!(f, "{} s", us as f64 / 1e6),
            Self::Bytes(n) if n < 1 << 20 => write!(f, "{} KiB", n as f64 / f64::from(1 << 10)),
            Self::Bytes(n) => write!(f, "{} MiB", n as f64 / f64::from(1 << 20)),
        }
    }
}

/// Puts the thresholds' values in the place of their names.
#[must_use]
pub fn fill(text: &str, thresholds: &[Threshold]) -> String {
    thresholds.iter().fold(text.to_owned(), |text, t| text.replace(&format!("{{{}}}", t.name), &t.value.to_string()))
}

/// Declares constants with their units, and the list `THRESHOLDS` of them. The comment of each is its reason, which the
/// documentation shows.
macro_rules! thresholds {
    ($($(#[doc = $why:literal])+ $name:ident: $type:ty = $value:expr, $unit:ident;)*) => {
        $($(#[doc = $why])+ const $name: $type = $value;)*

        /// The constants above, for the documentation.
        pub(super) const THRESHOLDS: &[$crate::catalogue::Threshold] = &[$(
            $crate::catalogue::Threshold {
                name: stringify!($name),
                value: $crate::catalogue::Quantity::$unit($name),
                why: concat!($($why),+),
            },
        )*];
    };
}
pub(crate) use thresholds;

#[cfg(test)]
mod documentation;
#[cfg(test)]
mod tests;
