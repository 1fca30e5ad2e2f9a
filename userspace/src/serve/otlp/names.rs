//! What metrics are called in OpenTelemetry: from the same table as Prometheus' names, with dots and units of UCUM. A
//! collector that translates them for Prometheus gets the exporter's own names.

use listentop_model::figures::{Figure, Unit};
use prometheus_client::registry;

use crate::serve::metrics::PREFIX;

/// The name of a figure. Units and `total` are no part of it: but bytes, which would have the name of what they are of.
pub(super) fn figure(figure: &Figure) -> String {
    let ending = ["_us", ".total", ".count"].into_iter().find_map(|ending| figure.path.strip_suffix(ending));
    format!("{PREFIX}.{}", ending.unwrap_or(figure.path))
}

/// The unit of a figure.
pub(super) fn unit(figure: &Figure) -> &'static str {
    match figure.unit {
        Unit::Connections => "{connection}",
        Unit::Requests => "{request}",
        Unit::SynAcks => "{packet}",
        Unit::Cookies => "{cookie}",
        Unit::Attempts => "{attempt}",
        Unit::Clients => "{client}",
        Unit::Calls => "{call}",
        Unit::Bytes => "By",
        Unit::Microseconds => "s",
        // 1 would be taken for a ratio.
        Unit::Flag | Unit::Share | Unit::PerSecond => "",
    }
}

/// The unit of another family.
pub(super) fn family_unit(unit: Option<&registry::Unit>) -> &'static str {
    match unit {
        Some(registry::Unit::Seconds) => "s",
        Some(registry::Unit::Bytes) => "By",
        _ => "",
    }
}

/// The name of another family.
pub(super) fn family(name: &str) -> String {
    format!("{PREFIX}.{name}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use listentop_model::figures::Kind;

    use super::*;
    use crate::serve::metrics::METRICS;

    /// Prometheus' name, by the rules of "Prometheus and OpenMetrics Compatibility" in OpenTelemetry's specification.
    fn translated(name: &str, unit: &str, is_counter: bool) -> String {
        let mut words: Vec<&str> = name.split(['.', '_']).collect();
        let unit = match unit {
            "s" => "seconds",
            "By" => "bytes",
            other => {
                assert!(other.is_empty() || other.starts_with('{'), "{other}: another suffix");
                ""
            }
        };
        if !unit.is_empty() && !words.contains(&unit) {
            words.push(unit);
        }
        words.retain(|word| *word != "total");
        if is_counter {
            words.push("total");
        }
        words.join("_")
    }

    #[test]
    fn a_collector_makes_the_exporters_names_of_them() {
        for metric in METRICS.iter() {
            let is_counter = metric.figure.kind == Kind::Counter;
            let (name, unit) = (figure(metric.figure), unit(metric.figure));
            assert_eq!(translated(&name, unit, is_counter), metric.full_name(), "{name}");
        }
        let names: BTreeSet<String> = METRICS.iter().map(|metric| figure(metric.figure)).collect();
        assert_eq!(names.len(), METRICS.len(), "two figures have one name");
        for name in ["listentop.accepts", "listentop.accept_queue.wait", "listentop.reads.bytes", "listentop.reads"] {
            assert!(names.contains(name), "{name}: {names:#?}");
        }
    }
}
