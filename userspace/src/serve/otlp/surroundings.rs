//! The variables of the environment that every program with OTLP has.

use std::{path::PathBuf, time::Duration};

use super::config::{Histograms, OtlpError, Protocol};

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables. An empty one is as good as none, says the specification.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a>(pub(super) Lookup<'a>);

/// The most milliseconds that are accepted: an hour.
const LONGEST_MS: u64 = 3_600_000;

impl Surroundings<'_> {
    /// A variable, by its whole name.
    pub(super) fn plain(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// A variable of OTLP, with its name: that of metrics, or that of everything.
    pub(super) fn of(&self, name: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_METRICS_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
        names.into_iter().find_map(|name| self.plain(&name).map(|value| (name, value)))
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.of(name).map(|(_, value)| value.into())
    }

    pub(super) fn protocol(&self) -> Result<Option<Protocol>, OtlpError> {
        let Some((name, value)) = self.of("PROTOCOL") else { return Ok(None) };
        let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == value);
        known.map(Some).ok_or_else(|| OtlpError::variable(name, "grpc or http/protobuf is expected"))
    }

    pub(super) fn histograms(&self) -> Result<Option<Histograms>, OtlpError> {
        match self.of("DEFAULT_HISTOGRAM_AGGREGATION") {
            None => Ok(None),
            Some((_, value)) if value == "explicit_bucket_histogram" => Ok(Some(Histograms::Explicit)),
            Some((_, value)) if value == "base2_exponential_bucket_histogram" => Ok(Some(Histograms::Exponential)),
            Some((name, _)) => Err(OtlpError::variable(
                name,
                "explicit_bucket_histogram or base2_exponential_bucket_histogram is expected",
            )),
        }
    }

    /// Whether requests are compressed.
    pub(super) fn compression(&self) -> Result<bool, OtlpError> {
        match self.of("COMPRESSION") {
            None => Ok(false),
            Some((_, value)) if value == "none" => Ok(false),
            Some((_, value)) if value == "gzip" => Ok(true),
            Some((name, _)) => Err(OtlpError::variable(name, "gzip or none is expected")),
        }
    }

    /// All that is pushed is cumulative: whoever asks for something else must know.
    pub(super) fn check_temporality(&self) -> Result<(), OtlpError> {
        match self.of("TEMPORALITY_PREFERENCE") {
            Some((name, value)) if !value.eq_ignore_ascii_case("cumulative") => {
                let why = "listentop's counts are cumulative; the collector's processor cumulativetodelta makes deltas";
                Err(OtlpError::variable(name, why))
            }
            _ => Ok(()),
        }
    }
}

/// A time in milliseconds, of a variable and its name.
pub(super) fn milliseconds(found: Option<(String, String)>) -> Result<Option<Duration>, OtlpError> {
    let Some((name, value)) = found else { return Ok(None) };
    match value.parse() {
        Ok(ms @ 1..=LONGEST_MS) => Ok(Some(Duration::from_millis(ms))),
        _ => Err(OtlpError::variable(name, "milliseconds are expected, from 1 to 3600000")),
    }
}
