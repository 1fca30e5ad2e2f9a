//! What the figures are called: names, units and kinds by Prometheus' conventions, made from the table of figures.

use std::sync::LazyLock;

use listentop_model::{
    coverage::Measure,
    figures::{FIGURES, Figure, Kind, Unit},
};
use prometheus_client::{metrics::MetricType, registry};

/// What every name begins with.
pub(super) const PREFIX: &str = "listentop";

/// Distributions that are histograms: each costs more series than all other figures of a listener.
const HISTOGRAMS: [Measure; 4] = [Measure::AcceptWait, Measure::Handshake, Measure::Residency, Measure::Answer];

/// A figure, as it is exported.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) figure: &'static Figure,
    /// Without its unit, and without `_total`.
    pub(super) name: String,
    pub(super) unit: Option<registry::Unit>,
    pub(super) help: String,
    pub(super) kind: MetricType,
    /// Microseconds are exported as seconds.
    pub(super) in_microseconds: bool,
}

/// Every figure that is exported, in the order of the table.
pub(super) static METRICS: LazyLock<Vec<Metric>> = LazyLock::new(|| FIGURES.iter().filter_map(Metric::of).collect());

impl Metric {
    /// `None` for what a query works out from the others, and for the distributions that are left out.
    fn of(figure: &'static Figure) -> Option<Self> {
        let kind = match figure.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge | Kind::Peak => MetricType::Gauge,
            Kind::Distribution if HISTOGRAMS.contains(&figure.measure) => MetricType::Histogram,
            Kind::Distribution | Kind::Rate | Kind::Share => return None,
        };
        let in_microseconds = figure.unit == Unit::Microseconds;
        let unit = match figure.unit {
            Unit::Microseconds => Some(registry::Unit::Seconds),
            Unit::Bytes => Some(registry::Unit::Bytes),
            _ => None,
        };
        let path = figure.path.replace('.', "_");
        // The suffix that the unit, or the kind, brings back.
        let ending = ["_us", "_bytes", "_total", "_count"].into_iter().find_map(|ending| path.strip_suffix(ending));
        let name = format!("{PREFIX}_{}", ending.unwrap_or(&path));
        let help = match figure.kind {
            Kind::Peak => format!("{}, of the last 30 to 60 seconds", figure.help),
            Kind::Distribution => format!("{}; the sum is within 1/16", figure.help),
            _ => figure.help.to_owned(),
        };
        Some(Self { figure, name, unit, help: sentence(&help), kind, in_microseconds })
    }

    /// Its whole name, as queries have it.
    #[cfg(test)]
    pub(super) fn full_name(&self) -> String {
        let unit = self.unit.as_ref().map_or_else(String::new, |unit| format!("_{}", unit.as_str()));
        let total = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{}{unit}{total}", self.name)
    }
}

/// A text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with('.') || text.ends_with(')') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _};

    use super::*;

    #[test]
    fn names_follow_the_conventions_and_differ() {
        let names: BTreeSet<String> = METRICS.iter().map(Metric::full_name).collect();
        assert_eq!(names.len(), METRICS.len(), "two figures have one name");
        for metric in METRICS.iter() {
            let name = metric.full_name();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(!name.contains("_us_") && !name.ends_with("_us") && !name.contains("__"), "{name}");
            assert!(!name.ends_with("_count") && !name.contains("total_total"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.figure.kind == Kind::Counter, "{name}");
            let in_bytes = metric.figure.unit == Unit::Bytes;
            assert_eq!(name.trim_end_matches("_total").ends_with("_bytes"), in_bytes, "{name}");
            assert!(metric.help.ends_with(['.', ')']) && !metric.help.contains('\n'), "{name}: {}", metric.help);
        }
        for name in [
            "listentop_accept_queue_depth",
            "listentop_accept_queue_peak",
            "listentop_accept_queue_enqueued_total",
            "listentop_accept_queue_oldest_waiting_seconds",
            "listentop_accept_queue_wait_seconds",
            "listentop_syn_queue_handshake_seconds",
            "listentop_drops_total",
            "listentop_drops_accept_queue_full_on_ack_total",
            "listentop_accepts_total",
            "listentop_accepts_client_gone_closed_total",
            "listentop_connections_open",
            "listentop_connections_answer_seconds",
            "listentop_reads_total",
            "listentop_reads_bytes_total",
            "listentop_reads_residency_seconds",
            "listentop_reads_queued_bytes",
        ] {
            assert!(names.contains(name), "{name} is not among {names:#?}");
        }
    }

    /// The rows of docs/production.md.
    fn table() -> String {
        let mut text = "| metric | type | in JSON | meaning |\n|---|---|---|---|\n".to_owned();
        for metric in METRICS.iter() {
            let (name, path, kind) = (metric.full_name(), metric.figure.path, metric.kind.as_str());
            writeln!(text, "| `{name}` | {kind} | `{path}` | {} |", metric.help).expect("a string");
        }
        text
    }

    /// `UPDATE_DOCS=1 cargo test -p listentop --lib serve` writes it anew.
    #[test]
    fn the_table_of_metrics_is_up_to_date() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/production.md");
        let text = std::fs::read_to_string(PATH).expect("docs/production.md is there");
        let (before, rest) = text.split_once("<!-- metrics -->\n").expect("the table begins");
        let (_, after) = rest.split_once("<!-- end of metrics -->").expect("it ends");
        let written = format!("{before}<!-- metrics -->\n{}<!-- end of metrics -->{after}", table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PATH, written).expect("docs/production.md can be written");
        } else {
            assert!(text == written, "docs/production.md is out of date: set UPDATE_DOCS=1 and run this test again");
        }
    }

    #[test]
    fn every_counter_and_gauge_of_the_table_is_there() {
        let exported = |figure: &Figure| METRICS.iter().any(|metric| metric.figure == figure);
        for figure in FIGURES {
            let expected = match figure.kind {
                Kind::Counter | Kind::Gauge | Kind::Peak => true,
                Kind::Distribution => HISTOGRAMS.contains(&figure.measure),
                Kind::Rate | Kind::Share => false,
            };
            assert_eq!(exported(figure), expected, "{}", figure.id);
        }
        let histograms = METRICS.iter().filter(|metric| metric.figure.kind == Kind::Distribution).count();
        assert_eq!(histograms, HISTOGRAMS.len(), "each of these measures has one distribution");
    }
}
