use std::collections::HashMap;

use super::*;

fn config(settings: &Settings, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Config::new(settings, &|name| variables.get(name).map(|value| (*value).to_owned()))
        .map_err(|error| error.to_string())
}

fn at(url: &str) -> Settings {
    Settings { url: Some(url.to_owned()), ..Settings::default() }
}

/// Where a collector is, and how it is spoken to.
fn target(settings: &Settings, variables: &[(&str, &str)]) -> (String, &'static str) {
    let config = config(settings, variables).expect("it can be used");
    (config.target.uri.to_string(), config.target.protocol.name())
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

#[test]
fn the_port_names_the_protocol_unless_somebody_does() {
    let of = |url: &str| target(&at(url), &[]);
    assert_eq!(of("http://c:4317"), ("http://c:4317/".to_owned(), "grpc"));
    assert_eq!(of("http://c:4318"), ("http://c:4318/v1/metrics".to_owned(), "http/protobuf"));
    assert_eq!(of("http://c:9090/api/otlp/"), ("http://c:9090/api/otlp/v1/metrics".to_owned(), "http/protobuf"));
    assert_eq!(of("http://c/v1/metrics"), ("http://c/v1/metrics".to_owned(), "http/protobuf"));
    let http = Settings { protocol: Some(Protocol::Http), ..at("http://[::1]:4317") };
    assert_eq!(target(&http, &[]), ("http://[::1]:4317/v1/metrics".to_owned(), "http/protobuf"));
    assert_eq!(target(&at("http://c:1"), &[(PROTOCOL, "grpc")]).1, "grpc");
    assert_eq!(config(&http, &[]).expect("it can be used").target.host, "::1");
}

#[test]
fn without_an_address_the_environment_has_it() {
    let none = Settings::default();
    assert_eq!(target(&none, &[]), ("http://localhost:4318/v1/metrics".to_owned(), "http/protobuf"));
    assert_eq!(target(&none, &[(PROTOCOL, "grpc")]), ("http://localhost:4317/".to_owned(), "grpc"));
    assert_eq!(target(&none, &[(ENDPOINT, "http://a:4318/x")]).0, "http://a:4318/x/v1/metrics");
    let both = [(ENDPOINT, "http://a:4318"), (METRICS, "http://b:80/as/it/is")];
    assert_eq!(target(&none, &both).0, "http://b:80/as/it/is", "that of metrics is whole");
    assert_eq!(target(&at("http://c:4318"), &both).0, "http://c:4318/v1/metrics", "the command line wins");
    assert_eq!(target(&none, &[(ENDPOINT, "  ")]).0, "http://localhost:4318/v1/metrics", "an empty one is none");
}

#[test]
fn times_and_more_come_from_the_environment() {
    let given = config(
        &Settings::default(),
        &[
            ("OTEL_METRIC_EXPORT_INTERVAL", "2500"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "400"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s%20t"),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Cumulative"),
            ("OTEL_SERVICE_NAME", "edge"),
            ("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=n1,host.name=h"),
        ],
    );
    let given = given.expect("it can be used");
    assert_eq!((given.interval, given.target.timeout), (Duration::from_millis(2500), Duration::from_millis(400)));
    assert!(given.target.gzip && given.histograms == Histograms::Exponential);
    assert_eq!(given.target.headers.get("api-key").expect("it is there"), "s t");
    let attributes: Vec<String> = given.resource.attributes.iter().map(|pair| pair.key.clone()).collect();
    for key in ["service.name", "service.version", "service.instance.id", "host.name", "host.arch", "k8s.node.name"] {
        assert_eq!(attributes.iter().filter(|found| *found == key).count(), 1, "{key}: {attributes:?}");
    }
    let text = format!("{:?}", given.resource);
    assert!(text.contains("edge") && !format!("{:?}", given.target.headers).contains("s t"), "{text}");
    let usual = config(&Settings::default(), &[]).expect("it can be used");
    assert_eq!((usual.interval, usual.target.timeout), (INTERVAL, TIMEOUT));
}

#[test]
fn a_file_of_headers_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("headers");
    fs::write(&path, "Authorization: Bearer abc\n").expect("it can be written");
    let settings = Settings { headers: Some(path.clone()), ..at("http://c:4317") };
    let given = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=other,x=y")];
    let headers = config(&settings, &given).expect("it can be used").target.headers;
    assert_eq!(headers["authorization"], "Bearer abc");
    assert_eq!(headers["x"], "y");
    fs::write(&path, "secret\n").expect("it can be written");
    let error = config(&settings, &[]).expect_err("no header");
    assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
}

#[test]
fn mistakes_are_a_line() {
    for (url, variables, says) in [
        ("c:4317", &[][..], "http://HOST:PORT"),
        ("ftp://c:1", &[], "http://HOST:PORT"),
        ("http://", &[], "http://HOST:PORT"),
        ("http://fd00::1:4317", &[], "http://[ADDRESS]:PORT"),
        ("https://::1/v1/metrics", &[], "http://[ADDRESS]:PORT"),
        ("", &[], "http://HOST:PORT"),
        ("http://me:secret@c:4317", &[], "passwords go into headers"),
        ("http://c:4317/path", &[], "gRPC has no path"),
        ("http://c:1", &[(PROTOCOL, "http/json")], "OTEL_EXPORTER_OTLP_PROTOCOL: grpc or http/protobuf"),
        ("http://c:1", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "5s")], "OTEL_EXPORTER_OTLP_TIMEOUT: milliseconds"),
        ("http://c:1", &[("OTEL_METRIC_EXPORT_INTERVAL", "0")], "OTEL_METRIC_EXPORT_INTERVAL: milliseconds"),
        ("http://c:1", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "br")], "gzip or none"),
        ("http://c:1", &[("OTEL_EXPORTER_OTLP_HEADERS", "a b=c")], "no name of a header"),
        ("http://c:1", &[("OTEL_EXPORTER_OTLP_HEADERS", "a=%0a")], "is not possible"),
        ("http://c:1", &[("OTEL_RESOURCE_ATTRIBUTES", "x")], "OTEL_RESOURCE_ATTRIBUTES: NAME=VALUE"),
        ("http://c:1", &[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")], "cumulativetodelta"),
        ("https://c:1", &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent")], "/nonexistent"),
    ] {
        let error = config(&at(url), variables).expect_err(url);
        assert!(error.contains(says) && error.lines().count() == 1, "{url}: {error}");
    }
}
