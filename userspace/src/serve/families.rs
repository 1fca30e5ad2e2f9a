//! Families beside the figures: a listener's process and findings, and what the exporter says about itself. Declared
//! once, for whoever scrapes and for whom it pushes to.

use std::{borrow::Cow, sync::atomic::Ordering};

use listentop_model::coverage::Coverage;
use prometheus_client::{metrics::MetricType, registry::Unit};

use crate::rights::sandbox::{PARTS, Sandbox};

use super::{
    labels::Labels,
    own::{self, Counters},
    page::Page,
};

/// A family, with its values.
#[derive(Debug)]
pub(super) struct Family<'a> {
    /// Without prefix, unit, and `_total`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
    /// A counter or a gauge.
    pub(super) kind: MetricType,
    /// One at least.
    pub(super) values: Vec<(Cow<'a, Labels>, f64)>,
}

/// All that have values.
pub(super) fn of<'a>(page: &'a Page, counters: &Counters) -> Vec<Family<'a>> {
    let mut all = Vec::new();
    listeners(page, &mut all);
    cost(page, &mut all);
    requests(page, counters, &mut all);
    #[cfg(feature = "otlp")]
    pushed(counters, &mut all);
    all.retain(|family| !family.values.is_empty());
    all
}

impl<'a> Family<'a> {
    fn gauge(name: &'static str, help: &'static str, values: impl IntoIterator<Item = (Cow<'a, Labels>, f64)>) -> Self {
        Self { name, help, unit: None, kind: MetricType::Gauge, values: values.into_iter().collect() }
    }

    fn counter(
        name: &'static str,
        help: &'static str,
        values: impl IntoIterator<Item = (Cow<'a, Labels>, f64)>,
    ) -> Self {
        Self { kind: MetricType::Counter, ..Self::gauge(name, help, values) }
    }

    fn in_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }
}

/// A value without labels, if it is known.
fn one<'a>(value: impl Into<Option<f64>>) -> impl Iterator<Item = (Cow<'a, Labels>, f64)> {
    value.into().map(|value| (Cow::Owned(Labels::default()), value)).into_iter()
}

/// Values that one label tells apart.
fn by<'a, const N: usize>(
    label: &'static str,
    values: [(&'static str, u64); N],
) -> impl Iterator<Item = (Cow<'a, Labels>, f64)> {
    values.into_iter().map(move |(name, count)| (Cow::Owned(Labels::default().with(label, Some(name))), count as f64))
}

/// Of listeners, and in no table of figures: texts, and what belongs to the process.
fn listeners<'a>(page: &'a Page, all: &mut Vec<Family<'a>>) {
    let rows = || page.rows.iter();
    all.push(Family::gauge(
        "listener_info",
        "A listener: its process by name, and how it serves.",
        rows().map(|row| (Cow::Borrowed(&row.info), 1.0)),
    ));
    let known = || rows().filter_map(|row| Some((Cow::Borrowed(&row.labels), row.descriptors?)));
    all.push(Family::gauge(
        "process_descriptors",
        "Open descriptors of the accepting process; of several, of the one that is nearest to its limit.",
        known().map(|(labels, (open, _))| (labels, open as f64)),
    ));
    all.push(Family::gauge(
        "process_descriptors_limit",
        "Its soft limit of descriptors: beyond it accept fails (EMFILE).",
        known().map(|(labels, (_, limit))| (labels, limit as f64)),
    ));
    let findings = rows().flat_map(|row| &row.findings).chain(&page.of_groups);
    all.push(Family::gauge(
        "finding",
        "1 while a finding holds, and 5 s longer. The ones with root_cause=\"true\" explain the others of their listener.",
        findings.map(|labels| (Cow::Borrowed(labels), 1.0)),
    ));
    let held = rows().flat_map(|row| &row.held).chain(&page.held_by_groups);
    all.push(
        Family::gauge(
            "finding_last_held_timestamp",
            "When a finding last held, in seconds since the epoch: of one that came and went between two scrapes, too.",
            held.map(|(labels, ms)| (Cow::Borrowed(labels), *ms as f64 / 1e3)),
        )
        .in_unit(Unit::Seconds),
    );
    let coverage = |entry: &Coverage| {
        let labels = Labels::default();
        labels.with("measure", Some(entry.measure.name())).with("status", Some(entry.status.name()))
    };
    all.push(Family::gauge(
        "coverage",
        "How well a measure is known here: measured, sampled or unavailable.",
        page.coverage().iter().map(|entry| (Cow::Owned(coverage(entry)), 1.0)),
    ));
}

/// What measuring costs and loses.
fn cost(page: &Page, all: &mut Vec<Family<'_>>) {
    let (latest, cost) = (&page.latest, &page.latest.model.cost);
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let build = Labels::default().with("version", Some(env!("CARGO_PKG_VERSION")));
    all.extend([
        Family::counter("cpu", "CPU time of listentop's process, while it measured.", one(cost.cpu_seconds))
            .in_unit(Unit::Seconds),
        Family::counter(
            "probe",
            "Time in the probes, of all CPUs. Timed for a moment each second and interpolated.",
            one(cost.probe_ns.map(seconds)),
        )
        .in_unit(Unit::Seconds),
        Family::counter("probe_runs", "Runs of the probes.", one(cost.probe_runs.map(|runs| runs as f64))),
        Family::gauge("resident_memory", "Resident memory of listentop's process.", one(cost.rss_bytes as f64))
            .in_unit(Unit::Bytes),
        Family::counter("lost", "What the probes could not track, by kind.", by("kind", own::losses(page.losses()))),
        Family::counter("samples", "Samples taken.", one(latest.samples as f64)),
        Family::gauge("sample_age", "Time since the last sample was taken.", one(latest.at.elapsed().as_secs_f64()))
            .in_unit(Unit::Seconds),
        Family::gauge("sandbox", "Whether a part of the sandbox is on (1) or not (0).", sandbox()),
        Family::gauge("build_info", "The program.", [(Cow::Owned(build), 1.0)]),
    ]);
}

/// Whether each part of the sandbox is on.
fn sandbox() -> impl Iterator<Item = (Cow<'static, Labels>, f64)> {
    let on = |part: &str| Sandbox::current()?.parts().find(|(name, why)| *name == part && why.is_none());
    let labels = |part| Labels::default().with("part", Some(part));
    PARTS.into_iter().map(move |part| (Cow::Owned(labels(part)), f64::from(on(part).is_some())))
}

/// What was scraped, and what was left out.
fn requests(page: &Page, counters: &Counters, all: &mut Vec<Family<'_>>) {
    let (listeners, series) = page.cut;
    all.extend([
        Family::gauge("series", "Series of listeners in this scrape.", one(page.series as f64)),
        Family::gauge("series_cut", "Series left out because of --max-series.", one(series as f64)),
        Family::gauge("listeners_cut", "Listeners left out because of --max-series.", one(listeners as f64)),
        Family::counter(
            "scrapes",
            "Scrapes answered before this one.",
            one(counters.scrapes.load(Ordering::Relaxed) as f64),
        ),
        Family::counter(
            "requests_refused",
            "Requests that brought nothing, by reason.",
            by("reason", counters.refused()),
        ),
    ]);
}

/// What became of the points that were pushed; nothing where none are.
#[cfg(feature = "otlp")]
fn pushed(counters: &Counters, all: &mut Vec<Family<'_>>) {
    let Some(pushed) = counters.pushed.get() else { return };
    let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    all.extend([
        Family::counter("otlp_points_sent", "Data points that the collector took.", one(value(&pushed.sent))),
        Family::counter(
            "otlp_points_lost",
            "Data points that no collector took, by reason. Later points have the counts, as all are cumulative.",
            by("reason", pushed.lost()),
        ),
        Family::gauge("otlp_points_queued", "Data points that wait to be sent.", one(value(&pushed.queued))),
        Family::counter(
            "otlp_requests_failed",
            "Requests to the collector that failed, by reason. Those that may be tried again are.",
            by("reason", pushed.failed()),
        ),
    ]);
}
