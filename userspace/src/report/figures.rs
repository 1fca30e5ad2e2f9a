//! The figures of a listener or group as JSON: nested objects, made from the table of figures.

use listentop_model::{
    figures::{FIGURES, Figure, Unit, Value},
    histogram::Histogram,
    model::ListenerModel,
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// The figures of a listener, or of a group as one listener, in the order of [`FIGURES`]. It is written as an object
/// with an object for each part: `{"accept_queue": {"depth": 3, …}, …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures(Vec<(&'static Figure, Json)>);

impl Figures {
    /// Reads them. `seconds` is the length of the interval.
    #[must_use]
    pub fn of(listener: &ListenerModel, seconds: f64) -> Self {
        let json = |figure: &'static Figure| (figure, Json::of(figure.value(listener, seconds), figure.unit));
        Self(FIGURES.iter().map(json).collect())
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = |entry: &(&'static Figure, Json)| entry.0.place().0;
        let mut map = serializer.serialize_map(None)?;
        for entries in self.0.chunk_by(|a, b| part(a) == part(b)) {
            map.serialize_entry(part(&entries[0]), &Part(entries))?;
        }
        map.end()
    }
}

/// The figures of one part.
struct Part<'a>(&'a [(&'static Figure, Json)]);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(figure, value)| (figure.place().1, value)))
    }
}

/// A figure's value as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
enum Json {
    /// `null`.
    Unknown,
    Number(u64),
    Rate(f64),
    Flag(bool),
    Distribution(Distribution),
}

impl Json {
    fn of(value: Value<'_>, unit: Unit) -> Self {
        match value {
            Value::Unknown => Self::Unknown,
            Value::Number(number) => Self::Number(number),
            Value::Rate(rate) => Self::Rate(rate),
            Value::Flag(flag) => Self::Flag(flag),
            Value::Distribution(h) if unit == Unit::Microseconds => Self::Distribution(Distribution::of_durations(h)),
            Value::Distribution(h) => Self::Distribution(Distribution::of_sizes(h)),
        }
    }
}

/// A distribution; without values it has no percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Distribution {
    count: u64,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

impl Distribution {
    fn of_durations(h: &Histogram) -> Self {
        Self::of(h, |p| h.quantile_us(p), h.max_us())
    }

    fn of_sizes(h: &Histogram) -> Self {
        Self::of(h, |p| h.quantile_units(p), h.max_units())
    }

    fn of(h: &Histogram, quantile: impl Fn(f64) -> Option<u64>, max: Option<u64>) -> Self {
        Self { count: h.count(), p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max }
    }
}
