//! Data points, made from what a scrape shows.

use listentop_model::figures::Kind;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
};
use prometheus_client::{metrics::MetricType, registry};
use prost::Message as _;

use super::{attributes, config::Histograms, names};
use crate::serve::{
    families::Family,
    histogram::{CLASSIC, Exported, SCALE, ZERO},
    labels::Labels,
    metrics,
    page::Exportable,
};

/// The flag of a point that says: this series has ended.
const NO_RECORDED_VALUE: u32 = 1;

/// What a metric is, without its points.
#[derive(Debug, Clone)]
pub(super) struct Description {
    name: String,
    help: String,
    unit: &'static str,
    shape: Shape,
    /// Values are seconds; others are whole numbers.
    is_fractional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Counter,
    Gauge,
    Distribution(Histograms),
}

/// When, and since when what it counts is counted. Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// A data point of any kind.
#[derive(Debug)]
pub(super) enum Point {
    Number(NumberDataPoint),
    Explicit(HistogramDataPoint),
    Exponential(ExponentialHistogramDataPoint),
}

impl Point {
    /// Its length as bytes.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Number(point) => point.encoded_len(),
            Self::Explicit(point) => point.encoded_len(),
            Self::Exponential(point) => point.encoded_len(),
        }
    }
}

impl Description {
    /// Of a figure.
    pub(super) fn of_figure(metric: &metrics::Metric, histograms: Histograms) -> Self {
        let shape = match metric.figure.kind {
            Kind::Counter => Shape::Counter,
            Kind::Distribution => Shape::Distribution(histograms),
            _ => Shape::Gauge,
        };
        Self {
            name: names::figure(metric.figure),
            help: metric.help.clone(),
            unit: names::unit(metric.figure),
            shape,
            is_fractional: metric.in_microseconds,
        }
    }

    /// Of another family.
    pub(super) fn of_family(family: &Family<'_>) -> Self {
        let is_counter = matches!(family.kind, MetricType::Counter);
        Self {
            name: names::family(family.name),
            help: family.help.to_owned(),
            unit: names::family_unit(family.unit.as_ref()),
            shape: if is_counter { Shape::Counter } else { Shape::Gauge },
            is_fractional: family.unit == Some(registry::Unit::Seconds),
        }
    }

    /// A value.
    pub(super) fn point(&self, labels: &Labels, value: &Exportable, time: Time) -> Point {
        match value {
            Exportable::Count(count) => self.number(labels, Value::AsInt(*count as i64), time),
            Exportable::Gauge(value) => self.plain(labels, *value, time),
            Exportable::Distribution(found) => self.distribution(labels, Some(found), time),
        }
    }

    /// A value of a family.
    pub(super) fn plain(&self, labels: &Labels, value: f64, time: Time) -> Point {
        let value = if self.is_fractional { Value::AsDouble(value) } else { Value::AsInt(value as i64) };
        self.number(labels, value, time)
    }

    /// The end of a series.
    pub(super) fn end(&self, labels: &Labels, time: Time) -> Point {
        let flags = NO_RECORDED_VALUE;
        match (self.shape, self.distribution(labels, None, time)) {
            (Shape::Distribution(_), Point::Explicit(point)) => Point::Explicit(HistogramDataPoint { flags, ..point }),
            (Shape::Distribution(_), Point::Exponential(point)) => {
                Point::Exponential(ExponentialHistogramDataPoint { flags, ..point })
            }
            _ => Point::Number(NumberDataPoint {
                attributes: attributes::of(labels),
                start_time_unix_nano: self.start(time),
                time_unix_nano: time.now,
                flags,
                ..NumberDataPoint::default()
            }),
        }
    }

    /// A gauge counts nothing, so it began at no time.
    fn start(&self, time: Time) -> u64 {
        if self.shape == Shape::Gauge { 0 } else { time.start.min(time.now) }
    }

    fn number(&self, labels: &Labels, value: Value, time: Time) -> Point {
        Point::Number(NumberDataPoint {
            attributes: attributes::of(labels),
            start_time_unix_nano: self.start(time),
            time_unix_nano: time.now,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    fn distribution(&self, labels: &Labels, found: Option<&Exported>, time: Time) -> Point {
        let attributes = attributes::of(labels);
        let (start_time_unix_nano, time_unix_nano) = (self.start(time), time.now);
        let (count, sum) = (found.map_or(0, |found| found.count), found.map(|found| found.sum));
        if self.shape == Shape::Distribution(Histograms::Exponential) {
            let exponential = found.map(Exported::exponential);
            let zero_count = exponential.as_ref().map_or(0, |found| found.zero);
            let positive = exponential.map(|found| Buckets { offset: found.offset, bucket_counts: found.counts });
            return Point::Exponential(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count,
                sum,
                scale: SCALE,
                zero_count,
                zero_threshold: ZERO,
                positive,
                ..ExponentialHistogramDataPoint::default()
            });
        }
        let classic = found.map(|found| &found.classic);
        Point::Explicit(HistogramDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            count,
            sum,
            bucket_counts: classic.map_or_else(Vec::new, |buckets| buckets.iter().map(|(_, held)| *held).collect()),
            // The last one has no bound.
            explicit_bounds: classic
                .map_or_else(Vec::new, |all| all[..CLASSIC - 1].iter().map(|(bound, _)| *bound).collect()),
            ..HistogramDataPoint::default()
        })
    }

    /// The metric with its points, which this description made.
    pub(super) fn metric(&self, points: Vec<Point>) -> Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative as i32;
        let (mut numbers, mut explicit, mut exponential) = (Vec::new(), Vec::new(), Vec::new());
        for point in points {
            match point {
                Point::Number(point) => numbers.push(point),
                Point::Explicit(point) => explicit.push(point),
                Point::Exponential(point) => exponential.push(point),
            }
        }
        let data = match self.shape {
            Shape::Counter => Data::Sum(Sum { data_points: numbers, aggregation_temporality, is_monotonic: true }),
            Shape::Gauge => Data::Gauge(Gauge { data_points: numbers }),
            Shape::Distribution(Histograms::Explicit) => {
                Data::Histogram(Histogram { data_points: explicit, aggregation_temporality })
            }
            Shape::Distribution(Histograms::Exponential) => {
                Data::ExponentialHistogram(ExponentialHistogram { data_points: exponential, aggregation_temporality })
            }
        };
        Metric {
            name: self.name.clone(),
            description: self.help.clone(),
            unit: self.unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}
