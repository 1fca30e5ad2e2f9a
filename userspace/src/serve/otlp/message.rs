//! A push: everything that a scrape would show, in requests of a bounded size.

use std::{
    collections::{HashMap, HashSet},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use prost::Message as _;

use super::{
    config::Histograms,
    points::{Description, Point, Time},
    queue::Batch,
};
use crate::serve::{families::Family, labels::Labels, metrics::METRICS, page::Page};

/// How listentop introduces itself.
pub(super) const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// A request ends behind the listener with which it reaches this size. A gRPC server takes 4 MiB, unless told otherwise.
const SIZE: usize = 1 << 20;
/// What a point takes beside its own bytes: its tag and its length.
const FRAME: usize = 4;

/// Which of [`METRICS`] a listener has, a bit for each.
type Known = u128;
const _: () = assert!(listentop_model::figures::FIGURES.len() <= Known::BITS as usize, "a bit for each figure");

/// What the last push had, to say what ended.
#[derive(Debug, Default)]
struct Shown {
    /// Figures by labels, and since when they count.
    figures: HashMap<Labels, (Known, u64)>,
    /// Other families: which, and labels.
    families: HashSet<(usize, Labels)>,
}

/// Writes pushes.
#[derive(Debug)]
pub(super) struct Writer {
    resource: Resource,
    /// Those of [`METRICS`], and behind them other families as they appear.
    descriptions: Vec<Description>,
    /// Where the families are among them.
    families: HashMap<&'static str, usize>,
    /// Since when each listener counts.
    starts: HashMap<u64, u64>,
    /// When the last push was written.
    last: Option<u64>,
    shown: Shown,
}

/// The requests of a push.
struct Requests<'a> {
    resource: &'a Resource,
    at: Instant,
    batches: Vec<Batch>,
    /// Points of the request that is being made, one list for each description.
    points: Vec<Vec<Point>>,
    bytes: usize,
    count: u64,
}

impl Requests<'_> {
    fn add(&mut self, metric: usize, point: Point) {
        self.bytes += point.length() + FRAME;
        self.count += 1;
        if self.points.len() <= metric {
            self.points.resize_with(metric + 1, Vec::new);
        }
        self.points[metric].push(point);
    }

    /// Ends the request if it is large enough.
    fn end_if_large(&mut self, descriptions: &[Description]) {
        if self.bytes >= SIZE {
            self.end(descriptions);
        }
    }

    fn end(&mut self, descriptions: &[Description]) {
        let with_points = descriptions.iter().zip(&mut self.points).filter(|(_, points)| !points.is_empty());
        let metrics: Vec<_> =
            with_points.map(|(description, points)| description.metric(std::mem::take(points))).collect();
        if metrics.is_empty() {
            return;
        }
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scoped = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
        let of_resource = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scoped],
            ..ResourceMetrics::default()
        };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
        self.batches.push(Batch { body: request.encode_to_vec().into(), points: self.count, at: self.at });
        (self.bytes, self.count) = (0, 0);
    }
}

impl Writer {
    pub(super) fn new(resource: Resource, histograms: Histograms) -> Self {
        Self {
            resource,
            descriptions: METRICS.iter().map(|metric| Description::of_figure(metric, histograms)).collect(),
            families: HashMap::new(),
            starts: HashMap::new(),
            last: None,
            shown: Shown::default(),
        }
    }

    /// All points of a page and its families, now.
    pub(super) fn write(&mut self, page: &Page, families: &[Family<'_>]) -> Vec<Batch> {
        let began = page.latest.model.interval.start_unix_ms * 1_000_000;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        // Two points of a series have different times, also when the clock is set back.
        let now = self.last.map_or(wall, |last| wall.max(last + 1));
        let indices: Vec<usize> = families.iter().map(|family| self.index(family)).collect();
        let mut requests = Requests {
            resource: &self.resource,
            at: Instant::now(),
            batches: Vec::new(),
            points: Vec::new(),
            bytes: 0,
            count: 0,
        };
        let before = std::mem::take(&mut self.shown);
        // A series that goes on with another listener begins anew, later than the last point that it had before.
        let opened = self.last.unwrap_or(began);
        let listed: HashSet<u64> = page.rows.iter().map(|row| row.id).collect();
        self.starts.retain(|id, _| listed.contains(id));
        for row in &page.rows {
            let start = *self.starts.entry(row.id).or_insert(if row.is_new { opened } else { began });
            let mut known: Known = 0;
            for (metric, value) in row.values.iter().enumerate() {
                let Some(value) = value else { continue };
                known |= 1 << metric;
                requests.add(metric, self.descriptions[metric].point(&row.labels, value, Time { start, now }));
            }
            self.shown.figures.insert(row.labels.clone(), (known, start));
            requests.end_if_large(&self.descriptions);
        }
        for (metric, family) in indices.into_iter().zip(families) {
            let description = &self.descriptions[metric];
            for (labels, value) in &family.values {
                requests.add(metric, description.plain(labels, *value, Time { start: began, now }));
                self.shown.families.insert((metric, labels.clone().into_owned()));
                requests.end_if_large(&self.descriptions);
            }
        }
        ended(&before, &self.shown, &self.descriptions, &mut requests, Time { start: began, now });
        requests.end(&self.descriptions);
        self.last = Some(now);
        requests.batches
    }

    /// The place of a family among the descriptions.
    fn index(&mut self, family: &Family<'_>) -> usize {
        *self.families.entry(family.name).or_insert_with(|| {
            self.descriptions.push(Description::of_family(family));
            self.descriptions.len() - 1
        })
    }
}

/// Says of each series that was there and is not any more that it has ended: a finding that has passed, a listener that
/// has closed. Otherwise it would seem to hold until it is forgotten.
fn ended(before: &Shown, now: &Shown, descriptions: &[Description], requests: &mut Requests<'_>, time: Time) {
    for (labels, (known, start)) in &before.figures {
        let gone = known & !now.figures.get(labels).map_or(0, |(known, _)| *known);
        for metric in (0..METRICS.len()).filter(|metric| gone >> metric & 1 == 1) {
            requests.add(metric, descriptions[metric].end(labels, Time { start: *start, ..time }));
        }
        requests.end_if_large(descriptions);
    }
    for (metric, labels) in before.families.difference(&now.families) {
        requests.add(*metric, descriptions[*metric].end(labels, time));
        requests.end_if_large(descriptions);
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
