//! Attributes: of the resource by the semantic conventions, and of points.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use crate::serve::labels::Labels;

/// An attribute that is a text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    }
}

/// The labels of a scrape as attributes of a point.
pub(super) fn of(labels: &Labels) -> Vec<KeyValue> {
    labels.pairs().iter().map(|(name, value)| text(name, value)).collect()
}

/// The machine and the program, and what the user says about them, which wins.
pub(super) fn resource(given: &[(String, String)]) -> Resource {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut all: Vec<(&str, &str)> = vec![
        ("service.name", env!("CARGO_PKG_NAME")),
        ("service.version", env!("CARGO_PKG_VERSION")),
        // One listentop measures a machine: its name tells instances apart, also after a restart.
        ("service.instance.id", &name),
        ("host.name", &name),
        ("host.arch", architecture),
        ("os.type", "linux"),
    ];
    all.retain(|(key, value)| !value.is_empty() && !given.iter().any(|(given, _)| given == key));
    let given = given.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    Resource {
        attributes: all.into_iter().chain(given).map(|(key, value)| text(key, value)).collect(),
        ..Resource::default()
    }
}
