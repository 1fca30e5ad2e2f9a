//! What a figure is: its kind, its unit, how it adds up, and the value that it has.

use crate::{coverage::Measure, histogram::Histogram, model::ListenerModel, names::names};

names! {
    /// What kind of figure it is.
    pub enum Kind {
        /// It counts events of the interval.
        Counter = "counter",
        /// A counter divided by the length of the interval.
        Rate = "rate",
        /// A part of a counter, from 0 to 1.
        Share = "share",
        /// A value at the last sample.
        Gauge = "gauge",
        /// The largest value within the interval.
        Peak = "peak",
        /// A distribution of the interval's values.
        Distribution = "distribution",
    }
}

names! {
    /// How the figure of a group follows from the figures of its shards.
    pub enum Sum {
        /// They are added up; a shard of which it is unknown adds nothing.
        Add = "sum",
        /// They are added up, if they are known of every shard.
        AddKnown = "sum if all are known",
        /// It is worked out from the sums.
        OfSums = "of the sums",
        /// The largest counts.
        Largest = "largest",
        /// It is set if it is set for any shard.
        Any = "any",
        /// The distributions are merged.
        Merged = "merged",
    }
}

names! {
    /// What a figure counts or measures.
    pub enum Unit {
        /// Connections.
        Connections = "connections",
        /// Request sockets.
        Requests = "requests",
        /// SYN-ACKs.
        SynAcks = "SYN-ACKs",
        /// SYN cookies.
        Cookies = "cookies",
        /// Attempts to connect.
        Attempts = "attempts",
        /// Pairs of a remote address and a port.
        Clients = "clients",
        /// System calls, or what stands for them.
        Calls = "calls",
        /// Bytes.
        Bytes = "bytes",
        /// Microseconds.
        Microseconds = "µs",
        /// Events per second.
        PerSecond = "per second",
        /// A part, from 0 to 1.
        Share = "share",
        /// Yes or no.
        Flag = "flag",
    }
}

/// A figure, as it is declared.
#[derive(Debug)]
pub struct Figure {
    /// Its stable name.
    pub id: &'static str,
    /// Where it is in the JSON of a listener or group: `part.field`.
    pub path: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// What it counts or measures.
    pub unit: Unit,
    /// The measure whose coverage says how well it is known.
    pub measure: Measure,
    /// How a group's follows from its shards'.
    pub sum: Sum,
    /// When it is `null`; "never" if it is never `null`.
    pub null: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Reads it: see [`Figure::value`].
    pub(super) read: fn(&ListenerModel, f64) -> Value<'_>,
}

impl Figure {
    /// Its value for a listener, or for a group as one listener. `seconds` is the length of the interval.
    #[must_use]
    pub fn value<'a>(&self, listener: &'a ListenerModel, seconds: f64) -> Value<'a> {
        (self.read)(listener, seconds)
    }

    /// The part of the JSON object that it is in, and its name there.
    #[must_use]
    pub fn place(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }
}

/// Each figure is declared once, so its name identifies it.
impl PartialEq for Figure {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Figure {}

/// A figure's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// It is not known here. This is never 0.
    Unknown,
    /// An integer.
    Number(u64),
    /// A rate per second, or a share.
    Rate(f64),
    /// Yes or no.
    Flag(bool),
    /// A distribution.
    Distribution(&'a Histogram),
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for Value<'_> {
    fn from(rate: f64) -> Self {
        Self::Rate(rate)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<'a> From<&'a Histogram> for Value<'a> {
    fn from(distribution: &'a Histogram) -> Self {
        Self::Distribution(distribution)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value<'_> {
    fn from(known: Option<T>) -> Self {
        known.map_or(Self::Unknown, Into::into)
    }
}

/// Values that the figures of shards are put together from. What is unknown of one shard adds nothing.
pub(crate) trait Combine: Sized {
    /// Both together.
    fn add(self, other: Self) -> Self;
    /// Both together, if both are known.
    fn add_known(self, other: Self) -> Self;
    /// The larger one; of two flags, whether any is set.
    fn largest(self, other: Self) -> Self;
    /// The value where its measure is available, otherwise unknown, if its type has that.
    fn where_available(self, available: bool) -> Self;
}

/// Gauges that a fixture can fill without knowing them.
#[cfg(any(test, feature = "fixtures"))]
pub(crate) trait FromNumber {
    /// A known value, made from a number.
    fn from_number(number: u16) -> Self;
}

#[cfg(any(test, feature = "fixtures"))]
impl FromNumber for bool {
    fn from_number(number: u16) -> Self {
        number > 0
    }
}

#[cfg(any(test, feature = "fixtures"))]
impl FromNumber for u32 {
    fn from_number(number: u16) -> Self {
        number.into()
    }
}

#[cfg(any(test, feature = "fixtures"))]
impl FromNumber for u64 {
    fn from_number(number: u16) -> Self {
        number.into()
    }
}

#[cfg(any(test, feature = "fixtures"))]
impl<T: FromNumber> FromNumber for Option<T> {
    fn from_number(number: u16) -> Self {
        Some(T::from_number(number))
    }
}

macro_rules! combine {
    ($($type:ty: $add:expr;)*) => {
        $(
            impl Combine for $type {
                fn add(self, other: Self) -> Self {
                    $add(self, other)
                }

                fn add_known(self, other: Self) -> Self {
                    self.add(other)
                }

                fn largest(self, other: Self) -> Self {
                    if self < other { other } else { self }
                }

                fn where_available(self, _: bool) -> Self {
                    self
                }
            }
        )*
    };
}

combine! {
    u32: u32::saturating_add;
    u64: u64::saturating_add;
    f64: |a, b| a + b;
    bool: |a, b| a || b;
}

impl<T: Combine> Combine for Option<T> {
    fn add(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.add(b)),
            (a, b) => a.or(b),
        }
    }

    fn add_known(self, other: Self) -> Self {
        self.zip(other).map(|(a, b)| a.add_known(b))
    }

    fn largest(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.largest(b)),
            (a, b) => a.or(b),
        }
    }

    fn where_available(self, available: bool) -> Self {
        self.filter(|_| available)
    }
}

#[cfg(test)]
mod tests {
    use super::FromNumber;
    use crate::figures::FIGURES;

    #[test]
    fn a_figure_is_itself_only() {
        for (n, figure) in FIGURES.iter().enumerate() {
            let equal: Vec<usize> = (0..FIGURES.len()).filter(|&other| &FIGURES[other] == figure).collect();
            assert_eq!(equal, [n], "{}", figure.id);
        }
    }

    #[test]
    fn its_path_is_a_part_and_a_name() {
        let depth = FIGURES.iter().find(|figure| figure.id == "accept_depth").unwrap();
        assert_eq!(depth.place(), ("accept_queue", "depth"));
        let path = |place: (&str, &str)| [place.0, place.1].join(".");
        assert!(FIGURES.iter().all(|figure| path(figure.place()) == figure.path));
    }

    #[test]
    fn a_gauge_of_any_type_is_made_from_a_number() {
        assert_eq!([0, 1, 2].map(bool::from_number), [false, true, true]);
        assert_eq!((u32::from_number(7), u64::from_number(8)), (7, 8));
        assert_eq!(Option::<u32>::from_number(9), Some(9));
    }
}
