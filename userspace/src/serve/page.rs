//! What one scrape shows: the series of every listener, up to the most that are allowed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use listentop_model::{
    coverage::Coverage,
    episodes::{self, HOLD_MS},
    figures::{Kind, Value},
    model::{Finding, ListenerModel},
    sample::Losses,
};

use super::{
    histogram::{self, Exported},
    labels::{self, Labels},
    measuring::Latest,
    metrics::METRICS,
};

/// A value that is exported.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Exportable {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a distribution.
    Distribution(Box<Exported>),
}

impl Exportable {
    /// How many series it is.
    fn series(&self) -> usize {
        match self {
            Self::Count(_) | Self::Gauge(_) => 1,
            Self::Distribution(_) => histogram::SERIES,
        }
    }
}

/// A listener's series.
#[derive(Debug)]
pub(super) struct Row {
    /// The listener's id.
    #[cfg(feature = "otlp")]
    pub(super) id: u64,
    /// Whether it opened while it was measured.
    #[cfg(feature = "otlp")]
    pub(super) is_new: bool,
    pub(super) labels: Labels,
    /// One for each of [`METRICS`]; `None` if it is not known.
    pub(super) values: Vec<Option<Exportable>>,
    /// Its process and pattern, as labels.
    pub(super) info: Labels,
    /// What is wrong with it now: each with its labels.
    pub(super) findings: Vec<Labels>,
    /// When each finding last held, in milliseconds since the epoch: a scrape may come after it.
    pub(super) held: Vec<(Labels, u64)>,
    /// Those of the accepting process that is nearest to its limit: open ones, and the limit.
    pub(super) descriptors: Option<(u64, u64)>,
}

impl Row {
    fn series(&self) -> usize {
        let figures: usize = self.values.iter().flatten().map(Exportable::series).sum();
        let descriptors = self.descriptors.map_or(0, |_| 2);
        figures + descriptors + self.findings.len() + self.held.len() + 1
    }
}

/// One scrape, without what the exporter says about itself.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) latest: Arc<Latest>,
    pub(super) rows: Vec<Row>,
    /// Findings of groups.
    pub(super) of_groups: Vec<Labels>,
    /// When each of them last held.
    pub(super) held_by_groups: Vec<(Labels, u64)>,
    /// Series of all rows.
    pub(super) series: usize,
    /// Listeners that are left out, and their series.
    pub(super) cut: (usize, usize),
}

impl Page {
    pub(super) fn coverage(&self) -> &[Coverage] {
        &self.latest.model.coverage
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.latest.model.losses
    }
}

/// The largest value that each counter was exported with. An attempt whose cause is found later moves from one counter
/// to another, and a counter that goes back would count as one that began anew.
#[derive(Debug, Default)]
pub(super) struct Floors(Mutex<HashMap<u64, Vec<u64>>>);

impl Floors {
    /// The page of a model: the oldest listeners, as many as `most` series allow.
    pub(super) fn page(&self, latest: Arc<Latest>, most: usize) -> Page {
        let now_ms = episodes::now_ms(&latest.model);
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = labels::listeners(&latest.model);
        floors.retain(|id, _| listeners.binary_search_by_key(id, |(_, listener)| listener.id).is_ok());
        let (mut rows, mut series, mut cut) = (Vec::with_capacity(listeners.len()), 0, (0, 0));
        for (labels, listener) in listeners {
            let peaks = latest.peaks.get(&listener.id).copied().unwrap_or_default();
            let mut values = values(listener, latest.model.interval.seconds, &peaks);
            let floor = floors.entry(listener.id).or_insert_with(|| vec![0; METRICS.len()]);
            for (value, floor) in values.iter_mut().zip(floor) {
                if let Some(Exportable::Count(count)) = value {
                    *floor = (*floor).max(*count);
                    *count = *floor;
                }
            }
            let row = row(labels, listener, values, now_ms);
            let of_row = row.series();
            if series + of_row > most {
                cut = (cut.0 + 1, cut.1 + of_row);
            } else {
                series += of_row;
                rows.push(row);
            }
        }
        drop(floors);
        let (of_groups, held_by_groups) = of_groups(&latest);
        Page { latest, rows, of_groups, held_by_groups, series, cut }
    }
}

fn row(labels: Labels, listener: &ListenerModel, values: Vec<Option<Exportable>>, now_ms: u64) -> Row {
    let process = listener.process.as_ref().map(|process| process.comm.as_str());
    let info = labels
        .clone()
        .with("protocol", Some(listener.protocol.name()))
        .with("process", process)
        .with("pattern", Some(listener.pattern.name.name()));
    let findings = listener.findings.iter().filter_map(|found| finding(&labels, found, now_ms)).collect();
    let held = listener.findings.iter().map(|found| last_held(&labels, found, now_ms)).collect();
    let descriptors = listener.descriptors.map(|descriptors| (descriptors.open, descriptors.soft_limit));
    Row {
        #[cfg(feature = "otlp")]
        id: listener.id,
        #[cfg(feature = "otlp")]
        is_new: listener.opened_in_interval,
        labels,
        values,
        info,
        findings,
        held,
        descriptors,
    }
}

/// The labels of a finding that holds, or held until a moment ago: one that goes away and is back within [`HOLD_MS`]
/// has not ended, and a gap would begin an alert's wait anew.
fn finding(labels: &Labels, found: &Finding, now_ms: u64) -> Option<Labels> {
    let root = if found.follows_from.is_none() { "true" } else { "false" };
    found.until_unix_ms.is_none_or(|until| now_ms.saturating_sub(until) <= HOLD_MS).then(|| {
        labels
            .clone()
            .with("finding", Some(found.id))
            .with("severity", Some(found.severity.name()))
            .with("root_cause", Some(root))
    })
}

/// Which finding, and when it last held.
fn last_held(labels: &Labels, found: &Finding, now_ms: u64) -> (Labels, u64) {
    (labels.clone().with("finding", Some(found.id)), found.until_unix_ms.unwrap_or(now_ms))
}

/// Findings of groups, by the labels of their first shard without `shard`.
/// And when each last held.
fn of_groups(latest: &Latest) -> (Vec<Labels>, Vec<(Labels, u64)>) {
    let (model, now_ms) = (&latest.model, episodes::now_ms(&latest.model));
    let (mut holding, mut held) = (Vec::new(), Vec::new());
    for group in &model.groups {
        let full = group.full(model);
        let labels = Labels::of(&full);
        holding.extend(full.findings.iter().filter_map(|found| finding(&labels, found, now_ms)));
        held.extend(full.findings.iter().map(|found| last_held(&labels, found, now_ms)));
    }
    (holding, held)
}

/// The values of every metric, in their order.
fn values(listener: &ListenerModel, seconds: f64, peaks: &[Option<u64>]) -> Vec<Option<Exportable>> {
    let mut peaks = peaks.iter().copied();
    let one = |metric: &super::metrics::Metric| {
        let value = match metric.figure.kind {
            // The model's peak is that of the whole interval, which would never go down.
            Kind::Peak => peaks.next().flatten().map_or(Value::Unknown, Value::Number),
            _ => metric.figure.value(listener, seconds),
        };
        match (value, metric.figure.kind) {
            (Value::Unknown, _) => None,
            (Value::Number(number), Kind::Counter) => Some(Exportable::Count(number)),
            (Value::Number(number), _) if metric.in_microseconds => Some(Exportable::Gauge(number as f64 / 1e6)),
            (Value::Number(number), _) => Some(Exportable::Gauge(number as f64)),
            (Value::Rate(rate), _) => Some(Exportable::Gauge(rate)),
            (Value::Flag(flag), _) => Some(Exportable::Gauge(f64::from(u8::from(flag)))),
            (Value::Distribution(histogram), _) => Some(Exportable::Distribution(Box::new(Exported::of(histogram)))),
        }
    };
    METRICS.iter().map(one).collect()
}
