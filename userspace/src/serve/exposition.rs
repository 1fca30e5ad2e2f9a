//! A scrape as bytes, in the format that the scraper prefers.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_protobuf, prometheus_text, text,
    },
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::rights::sandbox::{PARTS, Sandbox};

use super::{
    labels::Labels,
    metrics::{METRICS, PREFIX},
    own::{self, Counters},
    page::{Exportable, Page},
};

/// A format of scrapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text, for whoever asks for nothing else.
    Text,
    /// OpenMetrics text.
    OpenMetrics,
    /// Prometheus' messages, the only format with native histograms.
    Protobuf,
}

impl Format {
    pub(super) const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format that an `Accept` header prefers; of equal ones the first.
    pub(super) fn preferred(accept: &str) -> Self {
        let mut best = (Self::Text, 0.0);
        for choice in accept.split(',') {
            let mut parts = choice.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut weight, mut right) = (1.0, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim() {
                    "q" => weight = value.parse().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0),
                    "proto" => right &= value == "io.prometheus.client.MetricFamily",
                    "encoding" => right &= value == "delimited",
                    "version" => right &= ["0.0.1", "0.0.4", "1.0.0"].contains(&value),
                    _ => {}
                }
            }
            let format = match kind {
                "application/vnd.google.protobuf" => Self::Protobuf,
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            if right && weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }
}

/// Writes a page.
///
/// # Errors
/// None in practice: it writes into memory.
pub(super) fn write(page: Page, counters: Arc<Counters>, format: Format) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { page, counters }));
    match format {
        Format::Text => {
            let mut text = String::new();
            prometheus_text::encode(&mut text, &registry)?;
            Ok(text.into_bytes())
        }
        Format::OpenMetrics => {
            let mut text = String::new();
            text::encode(&mut text, &registry)?;
            Ok(text.into_bytes())
        }
        Format::Protobuf => prometheus_protobuf::encode_to_vec(&registry).map_err(|_| fmt::Error),
    }
}

/// A page, and what the exporter says about itself.
#[derive(Debug)]
struct Scrape {
    page: Page,
    counters: Arc<Counters>,
}

/// One of listentop's own families.
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: Option<Unit>,
    kind: MetricType,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.figures(&mut encoder)?;
        self.descriptors(&mut encoder)?;
        self.findings(&mut encoder)?;
        self.coverage(&mut encoder)?;
        self.cost(&mut encoder)?;
        self.requests(&mut encoder)
    }
}

impl Scrape {
    fn figures(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (at, metric) in METRICS.iter().enumerate() {
            let known = || self.page.rows.iter().filter_map(|row| Some((&row.labels, row.values[at].as_ref()?)));
            if known().next().is_none() {
                continue;
            }
            let mut family =
                encoder.encode_descriptor(&metric.name, &metric.help, metric.unit.as_ref(), metric.kind)?;
            for (labels, value) in known() {
                write_value(&mut family.encode_family(labels)?, value)?;
            }
        }
        let family = Family::gauge("listener_info", "A listener: its process by name, and how it serves.");
        family.write(encoder, self.page.rows.iter().map(|row| (&row.info, 1.0)))
    }

    /// Of the process that accepts: not of the listener alone, so it is in no table of figures.
    fn descriptors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let known = || self.page.rows.iter().filter_map(|row| Some((&row.labels, row.descriptors?)));
        Family::gauge(
            "process_descriptors",
            "Open descriptors of the accepting process; of several, of the one that is nearest to its limit.",
        )
        .write(encoder, known().map(|(labels, (open, _))| (labels, open as f64)))?;
        Family::gauge("process_descriptors_limit", "Its soft limit of descriptors: beyond it accept fails (EMFILE).")
            .write(encoder, known().map(|(labels, (_, limit))| (labels, limit as f64)))
    }

    fn findings(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let family = Family::gauge(
            "finding",
            "1 while a finding holds. The ones with root_cause=\"true\" explain the others of their listener.",
        );
        let of_listeners = self.page.rows.iter().flat_map(|row| &row.findings);
        family.write(encoder, of_listeners.chain(&self.page.of_groups).map(|labels| (labels, 1.0)))
    }

    fn coverage(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let family = Family::gauge("coverage", "How well a measure is known here: measured, sampled or unavailable.");
        let one = |entry: &listentop_model::coverage::Coverage| {
            Labels::default().with("measure", Some(entry.measure.name())).with("status", Some(entry.status.name()))
        };
        let entries: Vec<Labels> = self.page.coverage().iter().map(one).collect();
        family.write(encoder, entries.iter().map(|labels| (labels, 1.0)))
    }

    /// What measuring costs and loses.
    fn cost(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (latest, none) = (&self.page.latest, Labels::default());
        let cost = &latest.model.cost;
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let one = |value: Option<f64>| value.map(|value| (&none, value)).into_iter();
        Family::counter("cpu", "CPU time of listentop's process, while it measured.")
            .in_unit(Unit::Seconds)
            .write(encoder, one(Some(cost.cpu_seconds)))?;
        Family::counter("probe", "Time in the probes, of all CPUs. Timed for a moment each second and interpolated.")
            .in_unit(Unit::Seconds)
            .write(encoder, one(cost.probe_ns.map(seconds)))?;
        Family::counter("probe_runs", "Runs of the probes.").write(encoder, one(cost.probe_runs.map(|n| n as f64)))?;
        Family::gauge("resident_memory", "Resident memory of listentop's process.")
            .in_unit(Unit::Bytes)
            .write(encoder, one(Some(cost.rss_bytes as f64)))?;
        let lost: Vec<(Labels, f64)> = own::losses(self.page.losses())
            .map(|(kind, count)| (Labels::default().with("kind", Some(kind)), count as f64))
            .into();
        Family::counter("lost", "What the probes could not track, by kind.")
            .write(encoder, lost.iter().map(|(labels, count)| (labels, *count)))?;
        Family::counter("samples", "Samples taken.").write(encoder, one(Some(latest.samples as f64)))?;
        Family::gauge("sample_age", "Time since the last sample was taken.")
            .in_unit(Unit::Seconds)
            .write(encoder, one(Some(latest.at.elapsed().as_secs_f64())))?;
        let on = |part: &str| Sandbox::current()?.parts().find(|(name, why)| *name == part && why.is_none());
        let parts = PARTS.map(|part| (Labels::default().with("part", Some(part)), f64::from(on(part).is_some())));
        Family::gauge("sandbox", "Whether a part of the sandbox is on (1) or not (0).")
            .write(encoder, parts.iter().map(|(labels, on)| (labels, *on)))?;
        let build = Labels::default().with("version", Some(env!("CARGO_PKG_VERSION")));
        Family::gauge("build_info", "The program.").write(encoder, [(&build, 1.0)].into_iter())
    }

    /// What was scraped, and what was left out.
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let none = Labels::default();
        let one = |value: usize| [(&none, value as f64)].into_iter();
        let (listeners, series) = self.page.cut;
        Family::gauge("series", "Series of listeners in this scrape.").write(encoder, one(self.page.series))?;
        Family::gauge("series_cut", "Series left out because of --max-series.").write(encoder, one(series))?;
        Family::gauge("listeners_cut", "Listeners left out because of --max-series.").write(encoder, one(listeners))?;
        let scrapes = self.counters.scrapes.load(std::sync::atomic::Ordering::Relaxed);
        Family::counter("scrapes", "Scrapes answered before this one.")
            .write(encoder, [(&none, scrapes as f64)].into_iter())?;
        let refused: Vec<(Labels, f64)> = self
            .counters
            .refused()
            .map(|(reason, count)| (Labels::default().with("reason", Some(reason)), count as f64))
            .into();
        Family::counter("requests_refused", "Requests that brought nothing, by reason.")
            .write(encoder, refused.iter().map(|(labels, count)| (labels, *count)))
    }
}

fn write_value(encoder: &mut MetricEncoder<'_>, value: &Exportable) -> fmt::Result {
    match value {
        Exportable::Count(count) => encoder.encode_counter::<NoLabelSet, u64, f64>(count, None),
        Exportable::Gauge(value) => encoder.encode_gauge(value),
        Exportable::Distribution(found) => encoder.encode_histogram_with_native::<NoLabelSet>(
            found.sum,
            found.count,
            &found.classic,
            None,
            found.native(),
        ),
    }
}

impl<'a> Family<'a> {
    fn gauge(name: &'a str, help: &'a str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Gauge }
    }

    fn counter(name: &'a str, help: &'a str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Counter }
    }

    fn in_unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    /// Writes its values; nothing if there is none.
    fn write<'l, L: EncodeLabelSet + 'l>(
        self,
        encoder: &mut DescriptorEncoder<'_>,
        values: impl Iterator<Item = (&'l L, f64)>,
    ) -> fmt::Result {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let name = format!("{PREFIX}_{}", self.name);
        let is_counter = matches!(self.kind, MetricType::Counter);
        let mut family = encoder.encode_descriptor(&name, self.help, self.unit.as_ref(), self.kind)?;
        for (labels, value) in values {
            let mut encoder = family.encode_family(labels)?;
            if is_counter {
                encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None)?;
            } else {
                encoder.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        // What Prometheus 2.42 sends with native histograms, and without.
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let classic = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                       text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (native, Format::Protobuf),
            (classic, Format::OpenMetrics),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/vnd.google.protobuf;proto=another;encoding=delimited,text/plain;q=0.1", Format::Text),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Format::Text),
            ("application/openmetrics-text;version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=0,text/plain;q=0.2", Format::Text),
            ("application/openmetrics-text;q=9", Format::Text),
            (";;;=,,q=q", Format::Text),
        ] {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }
}
