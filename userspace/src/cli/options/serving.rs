//! Options of the exporter.

use std::{path::PathBuf, time::Duration};

use clap::Args;
#[cfg(feature = "otlp")]
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::cli::values;
#[cfg(feature = "otlp")]
use crate::serve::otlp::{Histograms, Protocol, Settings};

/// Options of the exporter.
#[derive(Debug, Clone, Args)]
#[cfg_attr(not(feature = "serve"), expect(dead_code, reason = "this build only says what it lacks"))]
pub(in crate::cli) struct Serve {
    /// Where to listen; ':9753' is every address
    #[arg(long = "web.listen-address", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9753")]
    pub(in crate::cli) address: String,
    /// The path of the figures
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub(in crate::cli) path: String,
    /// TLS, and users with their passwords: a web configuration as the exporters of Prometheus have it
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
    /// The most series of listeners in a scrape. Listeners with the highest socket cookies, mostly those that
    /// opened last, are left out, and counted
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = values::series)]
    pub(in crate::cli) max_series: u32,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::refresh)]
    pub(in crate::cli) every: Duration,
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    pub(in crate::cli) otlp: Otlp,
}

/// Options of pushing.
#[cfg(feature = "otlp")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "OTLP")]
pub(in crate::cli) struct Otlp {
    /// Push the same figures to this collector [default: that of the environment, or http://localhost:4318]
    #[arg(long = "otlp", value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    url: Option<String>,
    /// How to speak to it [default: grpc at port 4317, http/protobuf at others]
    #[arg(long = "otlp-protocol", value_name = "PROTOCOL", requires = "url", value_parser = otlp_protocol())]
    protocol: Option<Protocol>,
    /// Time between two pushes [default: 15s]
    #[arg(long = "otlp-interval", value_name = "TIME", requires = "url", value_parser = values::interval)]
    interval: Option<Duration>,
    /// Headers of the requests, such as a password: a line 'NAME: VALUE' each
    #[arg(long = "otlp-headers-file", value_name = "FILE", requires = "url")]
    headers: Option<PathBuf>,
    /// The authorities that may have signed the collector's certificate [default: those of the machine]
    #[arg(long = "otlp-ca-file", value_name = "FILE", requires = "url")]
    authorities: Option<PathBuf>,
    /// Distributions with bounds that every backend knows, or with the probes' own resolution [default: explicit]
    #[arg(long = "otlp-histograms", value_name = "KIND", requires = "url", value_parser = otlp_histograms())]
    histograms: Option<Histograms>,
}

#[cfg(feature = "otlp")]
impl Otlp {
    /// How to push, if that is asked for.
    pub(in crate::cli) fn settings(&self) -> Option<Settings> {
        let url = self.url.as_ref()?;
        Some(Settings {
            url: Some(url.clone()).filter(|url| !url.is_empty()),
            protocol: self.protocol,
            interval: self.interval,
            headers: self.headers.clone(),
            authorities: self.authorities.clone(),
            histograms: self.histograms,
        })
    }
}

/// The protocols of OTLP.
#[cfg(feature = "otlp")]
fn otlp_protocol() -> impl TypedValueParser<Value = Protocol> {
    let names = Protocol::ALL.map(|protocol| PossibleValue::new(protocol.name()));
    PossibleValuesParser::new(names).map(
        |name| {
            if name == Protocol::Grpc.name() { Protocol::Grpc } else { Protocol::Http }
        },
    )
}

/// The kinds of distributions.
#[cfg(feature = "otlp")]
fn otlp_histograms() -> impl TypedValueParser<Value = Histograms> {
    PossibleValuesParser::new(["explicit", "exponential"])
        .map(|name| if name == "explicit" { Histograms::Explicit } else { Histograms::Exponential })
}
