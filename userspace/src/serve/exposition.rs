//! A scrape as bytes, in the format that the scraper prefers.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_protobuf, prometheus_text, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    families::{self, Family},
    metrics::{METRICS, PREFIX},
    own::Counters,
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

/// Writes a page, into this memory where it can.
///
/// # Errors
/// None in practice: it writes into memory.
pub(super) fn write(
    page: Page,
    counters: Arc<Counters>,
    format: Format,
    mut memory: Vec<u8>,
) -> Result<Vec<u8>, fmt::Error> {
    memory.clear();
    let mut text = String::from_utf8(memory).unwrap_or_default();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { page, counters }));
    match format {
        Format::Text => {
            prometheus_text::encode(&mut text, &registry)?;
            Ok(text.into_bytes())
        }
        Format::OpenMetrics => {
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

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.figures(&mut encoder)?;
        families::of(&self.page, &self.counters).iter().try_for_each(|family| write_family(&mut encoder, family))
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
        Ok(())
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

fn write_family(encoder: &mut DescriptorEncoder<'_>, family: &Family<'_>) -> fmt::Result {
    let name = format!("{PREFIX}_{}", family.name);
    let is_counter = matches!(family.kind, MetricType::Counter);
    let mut written = encoder.encode_descriptor(&name, family.help, family.unit.as_ref(), family.kind)?;
    for (labels, value) in &family.values {
        let mut encoder = written.encode_family(&**labels)?;
        if is_counter {
            encoder.encode_counter::<NoLabelSet, f64, f64>(value, None)?;
        } else {
            encoder.encode_gauge(value)?;
        }
    }
    Ok(())
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
