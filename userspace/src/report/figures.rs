//! The figures of a listener or group as JSON: nested objects, made from the table of figures by their paths.

use listentop_model::{
    figures::{FIGURES, Figure, Unit, Value},
    histogram::Histogram,
    model::{LimitSetBy, ListenerModel, Model},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// The figures of a listener, or of a group as one listener, in the order of [`FIGURES`]. It is written as an object
/// with an object for each part: `{"accept_queue": {"depth": 3, …}, …}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures(Vec<(&'static Figure, Json)>, Limit);

impl Figures {
    /// Reads them, of a listener of this model.
    #[must_use]
    pub fn of(listener: &ListenerModel, model: &Model) -> Self {
        let value = |figure: &'static Figure| figure.value(listener, model.seconds_of(figure.measure));
        let json = |figure: &'static Figure| (figure, Json::of(value(figure), figure.unit));
        Self(FIGURES.iter().map(json).collect(), Limit::of(listener))
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Part { figures: &self.0, depth: 0, limit: &self.1 }.serialize(serializer)
    }
}

/// What is known of an accept queue's limit besides its figures: it seldom changes, or is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    set_by: Option<LimitSetBy>,
    somaxconn: Option<u32>,
    wanted: Option<u32>,
    needed: Option<u32>,
}

impl Limit {
    /// The object that it is written into.
    const PART: &str = "accept_queue";

    fn of(listener: &ListenerModel) -> Self {
        Self {
            set_by: listener.limit_set_by,
            somaxconn: listener.somaxconn,
            wanted: listener.backlog_wanted,
            needed: listener.backlog_needed,
        }
    }

    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("limit_set_by", &self.set_by)?;
        map.serialize_entry("somaxconn", &self.somaxconn)?;
        map.serialize_entry("backlog_wanted", &self.wanted)?;
        map.serialize_entry("backlog_needed", &self.needed)
    }
}

/// Figures whose paths begin with the same `depth` names.
struct Part<'a> {
    figures: &'a [(&'static Figure, Json)],
    depth: usize,
    limit: &'a Limit,
}

impl Part<'_> {
    /// The name of a figure, or of the part that it is in.
    fn name(&self, entry: &(&'static Figure, Json)) -> &'static str {
        entry.0.path.split('.').nth(self.depth).unwrap_or_default()
    }

    /// Whether a figure's path ends here.
    fn is_figure(&self, entry: &(&'static Figure, Json)) -> bool {
        entry.0.path.split('.').count() == self.depth + 1
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for figures in self.figures.chunk_by(|a, b| self.name(a) == self.name(b)) {
            let name = self.name(&figures[0]);
            if self.is_figure(&figures[0]) {
                map.serialize_entry(name, &figures[0].1)?;
            } else {
                map.serialize_entry(name, &Part { figures, depth: self.depth + 1, limit: self.limit })?;
            }
        }
        if self.depth == 1 && self.figures.first().is_some_and(|(figure, _)| figure.place().0 == Limit::PART) {
            self.limit.write(&mut map)?;
        }
        map.end()
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
    mean: Option<u64>,
}

impl Distribution {
    fn of_durations(h: &Histogram) -> Self {
        Self::of(h, |p| h.quantile_us(p), h.max_us(), h.mean_us())
    }

    fn of_sizes(h: &Histogram) -> Self {
        Self::of(h, |p| h.quantile_units(p), h.max_units(), h.mean_units())
    }

    fn of(h: &Histogram, quantile: impl Fn(f64) -> Option<u64>, max: Option<u64>, mean: Option<u64>) -> Self {
        Self { count: h.count(), p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max, mean }
    }
}
