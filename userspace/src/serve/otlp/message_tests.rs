use std::{collections::BTreeMap, sync::Arc};

use listentop_model::{figures::Value as Figured, fixtures, model::Model, tracker::Tracker};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value as Any},
    metrics::v1::{metric::Data, number_data_point::Value},
};

use super::*;
use crate::serve::{families, measuring::Latest, own::Counters, page::Floors};

/// What a point says.
#[derive(Debug, Clone, PartialEq)]
struct Said {
    number: Option<f64>,
    /// Of a distribution: how many values, and its buckets.
    buckets: Option<(u64, Vec<u64>)>,
    ended: bool,
    start: u64,
    time: u64,
}

type Series = (String, BTreeMap<String, String>);

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        other => panic!("{}: {other:?}", pair.key),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

/// All points of a push. No series may be there twice.
fn decoded(batches: &[Batch]) -> BTreeMap<Series, Said> {
    let mut all = BTreeMap::new();
    for batch in batches {
        let request = ExportMetricsServiceRequest::decode(batch.body.clone()).expect("a message");
        let before = all.len();
        for metric in request.resource_metrics.iter().flat_map(|all| &all.scope_metrics).flat_map(|all| &all.metrics) {
            let mut add = |pairs: &[KeyValue], said: Said| {
                let series = (metric.name.clone(), attributes(pairs));
                assert_eq!(all.insert(series, said), None, "{} twice: {pairs:?}", metric.name);
            };
            let numbers = match metric.data.as_ref().expect("data") {
                Data::Sum(sum) => {
                    assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{}", metric.name);
                    &sum.data_points
                }
                Data::Gauge(gauge) => &gauge.data_points,
                Data::Histogram(histogram) => {
                    assert_eq!(histogram.aggregation_temporality, 2, "cumulative");
                    for point in &histogram.data_points {
                        assert_eq!(point.count, point.bucket_counts.iter().sum::<u64>(), "{}", metric.name);
                        let said = Said {
                            number: point.sum,
                            buckets: Some((point.count, point.bucket_counts.clone())),
                            ended: point.flags == 1,
                            start: point.start_time_unix_nano,
                            time: point.time_unix_nano,
                        };
                        assert!(said.ended || point.bucket_counts.len() == point.explicit_bounds.len() + 1);
                        add(&point.attributes, said);
                    }
                    continue;
                }
                Data::ExponentialHistogram(histogram) => {
                    assert_eq!(histogram.aggregation_temporality, 2, "cumulative");
                    for point in &histogram.data_points {
                        let counts =
                            point.positive.as_ref().map_or(Vec::new(), |buckets| buckets.bucket_counts.clone());
                        assert_eq!(point.count, point.zero_count + counts.iter().sum::<u64>(), "{}", metric.name);
                        let said = Said {
                            number: point.sum,
                            buckets: Some((point.count, counts)),
                            ended: point.flags == 1,
                            start: point.start_time_unix_nano,
                            time: point.time_unix_nano,
                        };
                        add(&point.attributes, said);
                    }
                    continue;
                }
                Data::Summary(_) => panic!("{}: summaries are of the past", metric.name),
            };
            for point in numbers {
                let number = point.value.map(|value| match value {
                    Value::AsInt(number) => number as f64,
                    Value::AsDouble(number) => number,
                });
                let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                add(&point.attributes, Said { number, buckets: None, ended: point.flags == 1, start, time });
            }
        }
        assert_eq!((all.len() - before) as u64, batch.points, "a request says how many points it has");
    }
    all
}

struct Pushing {
    writer: Writer,
    floors: Floors,
    counters: Counters,
}

impl Pushing {
    fn new(histograms: Histograms) -> Self {
        let writer = Writer::new(Resource::default(), histograms);
        Self { writer, floors: Floors::default(), counters: Counters::default() }
    }

    fn batches(&mut self, model: &Model) -> Vec<Batch> {
        let latest: Arc<Latest> = Latest::of(model.clone());
        let page = self.floors.page(latest, 10_000_000);
        self.writer.write(&page, &families::of(&page, &self.counters))
    }

    fn push(&mut self, model: &Model) -> BTreeMap<Series, Said> {
        decoded(&self.batches(model))
    }
}

fn model(samples: &[listentop_model::sample::Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    tracker.model().clone()
}

/// The points of a metric at a port.
fn at<'a>(points: &'a BTreeMap<Series, Said>, name: &str, port: u16) -> Vec<&'a Said> {
    let of = points.iter().filter(|((of, labels), _)| of == name && labels.get("port") == Some(&port.to_string()));
    of.map(|(_, said)| said).collect()
}

#[test]
fn every_figure_has_the_value_of_the_model() {
    let model = fixtures::distinct_model();
    for histograms in [Histograms::Explicit, Histograms::Exponential] {
        let points = Pushing::new(histograms).push(&model);
        let mut compared = 0;
        for listener in &model.listeners {
            for metric in METRICS.iter().filter(|metric| metric.figure.kind != listentop_model::figures::Kind::Peak) {
                let name = super::super::names::figure(metric.figure);
                let said = at(&points, &name, listener.port);
                let number = said.first().and_then(|said| said.number);
                match metric.figure.value(listener, model.interval.seconds) {
                    Figured::Unknown => assert!(said.is_empty(), "{name}: unknown is not 0"),
                    Figured::Number(value) if metric.in_microseconds => {
                        assert_eq!(number, Some(value as f64 / 1e6), "{name}");
                    }
                    Figured::Number(value) => assert_eq!(number, Some(value as f64), "{name}"),
                    Figured::Flag(flag) => assert_eq!(number, Some(f64::from(u8::from(flag))), "{name}"),
                    Figured::Distribution(values) => {
                        let count = said[0].buckets.as_ref().map(|(count, _)| *count);
                        assert_eq!(count, Some(values.count()), "{name}");
                    }
                    Figured::Rate(_) => panic!("{name}: rates are for queries"),
                }
                compared += 1;
            }
        }
        assert!(compared > 40, "{compared}");
        assert!(points.values().all(|said| !said.ended && said.start <= said.time));
    }
}

#[test]
fn it_is_what_a_scrape_shows() {
    let model = fixtures::distinct_model();
    let points = Pushing::new(Histograms::Explicit).push(&model);
    let page = Floors::default().page(Latest::of(model), 10_000_000);
    let values: usize = page.rows.iter().map(|row| row.values.iter().flatten().count()).sum();
    let counters = Counters::default();
    let of_families: usize = families::of(&page, &counters).iter().map(|family| family.values.len()).sum();
    assert_eq!(points.len(), values + of_families);
    for name in ["listentop.finding", "listentop.coverage", "listentop.cpu", "listentop.lost", "listentop.scrapes"] {
        assert!(points.keys().any(|(of, _)| of == name), "{name}");
    }
    assert!(
        points.keys().all(|(_, labels)| !["pid", "tid", "client", "thread"].iter().any(|no| labels.contains_key(*no)))
    );
}

#[test]
fn requests_have_a_bounded_size_and_all_points() {
    let model = model(&fixtures::many(2_000));
    let batches = Pushing::new(Histograms::Explicit).batches(&model);
    assert!(batches.len() > 2, "{}", batches.len());
    for batch in &batches {
        assert!(batch.body.len() < SIZE + (64 << 10), "{}", batch.body.len());
    }
    let depths = decoded(&batches).keys().filter(|(name, _)| name == "listentop.accept_queue.depth").count();
    assert_eq!(depths, model.listeners.len());
}

#[test]
fn what_ends_is_said_to_end_once() {
    let mut model = model(&fixtures::overflow());
    let mut pushing = Pushing::new(Histograms::Explicit);
    let first = pushing.push(&model);
    assert!(first.keys().any(|(name, _)| name == "listentop.finding"), "the fixture has one");
    let port = model.listeners[0].port;
    for finding in &mut model.listeners[0].findings {
        finding.until_unix_ms = Some(1);
    }
    let second = pushing.push(&model);
    let found = at(&second, "listentop.finding", port);
    assert!(!found.is_empty() && found.iter().all(|said| said.ended && said.number.is_none()), "{found:?}");
    assert!(at(&second, "listentop.accepts", port).iter().all(|said| !said.ended));
    // The listener closes, and is forgotten.
    model.interval.seconds = 100.0;
    model.listeners[0].closed = true;
    model.listeners[0].closed_us = Some(1_000_000);
    let third = pushing.push(&model);
    for name in
        ["listentop.accepts", "listentop.accept_queue.wait", "listentop.accept_queue.depth", "listentop.listener_info"]
    {
        let found = at(&third, name, port);
        assert!(!found.is_empty() && found.iter().all(|said| said.ended), "{name}: {found:?}");
    }
    assert!(at(&third, "listentop.finding", port).is_empty(), "that was said");
    assert_eq!(at(&pushing.push(&model), "listentop.accepts", port).len(), 0);
}

#[test]
fn counts_have_a_beginning_and_times_go_on() {
    let mut model = model(&fixtures::overflow());
    let began = model.interval.start_unix_ms * 1_000_000;
    model.listeners[0].opened_in_interval = false;
    let port = model.listeners[0].port;
    let mut pushing = Pushing::new(Histograms::Explicit);
    let first = at(&pushing.push(&model), "listentop.accepts", port)[0].clone();
    assert_eq!(first.start, began);
    // Its address is taken over by another listener, which counts from 0.
    let mut later = model.listeners[0].clone();
    model.interval.seconds = 100.0;
    model.listeners[0].closed = true;
    model.listeners[0].closed_us = Some(99_000_000);
    later.id += 1_000;
    later.opened_in_interval = true;
    later.total.accepts = Some(7);
    model.listeners.push(later);
    let second = at(&pushing.push(&model), "listentop.accepts", port)[0].clone();
    assert_eq!((second.number, second.start), (Some(7.0), first.time), "it begins anew");
    assert!(second.time > first.time);
    let third = at(&pushing.push(&model), "listentop.accepts", port)[0].clone();
    assert_eq!(third.start, second.start, "and keeps its beginning");
    assert_eq!(at(&pushing.push(&model), "listentop.accept_queue.depth", port)[0].start, 0, "a gauge has none");
}
