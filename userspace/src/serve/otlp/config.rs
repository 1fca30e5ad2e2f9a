//! Where to push, and how: options of the command line, and the variables that OpenTelemetry has for them.

use std::{fmt, fs, net::Ipv6Addr, path::PathBuf, sync::Arc, time::Duration};

use hyper::{
    Uri,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use rustls::ClientConfig;

use super::{
    attributes, lists,
    surroundings::{Lookup, Surroundings, milliseconds},
    tls,
};

/// A protocol of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf by HTTP/1.1.
    Http,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// The name that OpenTelemetry has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }

    /// The port that IANA has for it.
    fn port(self) -> u16 {
        match self {
            Self::Grpc => 4317,
            Self::Http => 4318,
        }
    }
}

/// How distributions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Histograms {
    /// With bounds: the exporter's classic buckets.
    Explicit,
    /// With buckets that grow by a factor: one for each that the probes have.
    Exponential,
}

/// What the command line says. What it leaves out, the environment may say.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The collector.
    pub url: Option<String>,
    /// The protocol; without it, the port says.
    pub protocol: Option<Protocol>,
    /// Time between two pushes.
    pub interval: Option<Duration>,
    /// A file with headers.
    pub headers: Option<PathBuf>,
    /// A file with the certificates of authorities.
    pub authorities: Option<PathBuf>,
    /// How distributions are written.
    pub histograms: Option<Histograms>,
}

/// Why nothing can be pushed.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The address.
    #[error("--otlp {0}: {1}")]
    Url(String, &'static str),
    /// A variable of the environment.
    #[error("{0}: {1}")]
    Variable(String, String),
    /// A file.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, String),
    /// The TLS library refuses it.
    #[error("--otlp: TLS: {0}")]
    Tls(String),
}

impl OtlpError {
    pub(super) fn variable(name: String, why: impl Into<String>) -> Self {
        Self::Variable(name, why.into())
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    /// Scheme, host, port, and for HTTP the path.
    pub(super) uri: Uri,
    pub(super) host: String,
    pub(super) port: u16,
    /// Of `https`.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) headers: HeaderMap,
    pub(super) gzip: bool,
    /// How long a request may take, from connecting to its answer.
    pub(super) timeout: Duration,
}

/// Everything that pushing needs.
#[derive(Debug)]
pub(in crate::serve) struct Config {
    pub(super) target: Target,
    pub(super) interval: Duration,
    pub(super) histograms: Histograms,
    pub(super) resource: Resource,
}

/// As often as most scrape. OpenTelemetry's programs push each minute; peaks are those of 30 to 60 seconds.
const INTERVAL: Duration = Duration::from_secs(15);
/// That of the specification.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Config {
    /// Reads the files that the command line and the environment name.
    pub(in crate::serve) fn new(settings: &Settings, lookup: Lookup<'_>) -> Result<Self, OtlpError> {
        let around = Surroundings(lookup);
        around.check_temporality()?;
        let interval = around.plain("OTEL_METRIC_EXPORT_INTERVAL");
        let interval = interval.map(|value| ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), value));
        Ok(Self {
            target: Target::new(settings, around)?,
            interval: settings.interval.or(milliseconds(interval)?).unwrap_or(INTERVAL),
            histograms: settings.histograms.or(around.histograms()?).unwrap_or(Histograms::Explicit),
            resource: attributes::resource(&resource(around)?),
        })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = humantime::format_duration(self.interval);
        write!(f, "pushing to {} by {} every {every}", self.target.uri, self.target.protocol.name())
    }
}

/// What the user says about the resource.
fn resource(around: Surroundings<'_>) -> Result<Vec<(String, String)>, OtlpError> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let given = around.plain(NAME).unwrap_or_default();
    let mut given = lists::pairs(&given).map_err(|why| OtlpError::variable(NAME.to_owned(), why))?;
    if let Some(name) = around.plain("OTEL_SERVICE_NAME") {
        given.retain(|(key, _)| key != "service.name");
        given.push(("service.name".to_owned(), name));
    }
    Ok(given)
}

impl Target {
    fn new(settings: &Settings, around: Surroundings<'_>) -> Result<Self, OtlpError> {
        let exact = around.plain("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        let general = around.plain("OTEL_EXPORTER_OTLP_ENDPOINT");
        // The variable of metrics alone is the whole address; the others are the beginning of one.
        let is_whole = settings.url.is_none() && exact.is_some();
        let protocol = settings.protocol.or(around.protocol()?);
        let url = settings.url.clone().or(exact).or(general);
        let url = url.unwrap_or_else(|| format!("http://localhost:{}", protocol.unwrap_or(Protocol::Http).port()));
        let (uri, protocol) = address(&url, protocol, is_whole).map_err(|why| OtlpError::Url(url.clone(), why))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_secure = uri.scheme_str() == Some("https");
        let tls = is_secure.then(|| tls::config(settings.authorities.as_deref(), around, protocol)).transpose()?;
        Ok(Self {
            protocol,
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { protocol.port() }),
            host,
            uri,
            tls,
            headers: headers(settings, around)?,
            gzip: around.compression()?,
            timeout: milliseconds(around.of("TIMEOUT"))?.unwrap_or(TIMEOUT),
        })
    }
}

/// The address to send to, and the protocol if that is still open.
fn address(url: &str, protocol: Option<Protocol>, is_whole: bool) -> Result<(Uri, Protocol), &'static str> {
    const FORM: &str = "http://HOST:PORT or https://HOST:PORT is expected";
    const METRICS: &str = "v1/metrics";
    // Without them nobody can tell the port from the address.
    const BRACKETS: &str = "an IPv6 address stands in brackets: http://[ADDRESS]:PORT";
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = after_scheme.split(['/', '?']).next().unwrap_or_default();
    if host.parse::<Ipv6Addr>().is_ok()
        || host.rsplit_once(':').is_some_and(|(host, _)| host.parse::<Ipv6Addr>().is_ok())
    {
        return Err(BRACKETS);
    }
    let uri: Uri = url.parse().map_err(|_| FORM)?;
    let mut parts = uri.into_parts();
    let scheme = parts.scheme.as_ref().map_or("", |scheme| scheme.as_str());
    let Some(authority) =
        parts.authority.as_ref().filter(|at| ["http", "https"].contains(&scheme) && !at.host().is_empty())
    else {
        return Err(FORM);
    };
    if authority.as_str().contains('@') {
        return Err("passwords go into headers: --otlp-headers-file");
    }
    let by_port = match authority.port_u16() {
        Some(4317) => Protocol::Grpc,
        _ => Protocol::Http,
    };
    let protocol = protocol.unwrap_or(by_port);
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    let path = match protocol {
        Protocol::Grpc if path != "/" => return Err("gRPC has no path: --otlp-protocol http/protobuf has"),
        Protocol::Grpc => "/".to_owned(),
        Protocol::Http if is_whole || path.ends_with(&format!("/{METRICS}")) => path.to_owned(),
        Protocol::Http => format!("{}/{METRICS}", path.trim_end_matches('/')),
    };
    parts.path_and_query = Some(path.parse().map_err(|_| FORM)?);
    Ok((Uri::from_parts(parts).map_err(|_| FORM)?, protocol))
}

/// Those of the environment, and those of the file, which win.
fn headers(settings: &Settings, around: Surroundings<'_>) -> Result<HeaderMap, OtlpError> {
    let mut all = HeaderMap::new();
    if let Some((variable, value)) = around.of("HEADERS") {
        let wrong = |why| OtlpError::variable(variable.clone(), why);
        add(&mut all, lists::pairs(&value).map_err(wrong)?).map_err(wrong)?;
    }
    if let Some(path) = &settings.headers {
        let wrong = |why| OtlpError::File(path.clone(), why);
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        add(&mut all, lists::lines(&text).map_err(wrong)?).map_err(wrong)?;
    }
    Ok(all)
}

/// Adds headers. What goes wrong is said without their values.
fn add(all: &mut HeaderMap, pairs: Vec<(String, String)>) -> Result<(), String> {
    for (name, value) in pairs {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' is no name of a header"))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| format!("the value of '{name}' is not possible"))?;
        value.set_sensitive(true);
        all.insert(header, value);
    }
    Ok(())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
