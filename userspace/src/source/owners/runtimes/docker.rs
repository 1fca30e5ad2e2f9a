//! Docker: DATA/containers/ID/config.v2.json.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Names,
    host::{Found, Host, Place},
    json, name,
};

/// Where its data is: as Debian and others have it, and as the snap has it.
const DATA: [&str; 2] = ["var/lib/docker", "var/snap/docker/common/var-lib-docker"];
/// Its settings, which may name another place.
const SETTINGS: &str = "docker/daemon.json";
/// Where a user's own Docker has its data.
const OF_USER: &str = ".local/share/docker";

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

/// The part of the file that is of use.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// `/web`.
    #[serde(default)]
    name: String,
    config: Option<Inner>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    labels: Option<BTreeMap<String, String>>,
}

/// The file of a container.
pub(super) fn file(host: &Host, home: Option<&Place>, id: &str) -> Option<Found> {
    let path = format!("containers/{id}/config.v2.json");
    if let Some(home) = home {
        return home.file(&format!("{OF_USER}/{path}")).ok();
    }
    let below = |data: &str| host.directory(data).ok()?.file(&path).ok();
    DATA.iter().find_map(|data| below(data)).or_else(|| below(&data_root(host)?))
}

/// The place that its settings name.
fn data_root(host: &Host) -> Option<String> {
    let settings = host.directory("etc").ok()?.file(SETTINGS).ok()?.read().ok()?;
    json::<Settings>(&settings)?.data_root
}

/// Reads it. A kubelet that uses Docker notes pod and container in labels.
pub(super) fn parse(bytes: &[u8]) -> Option<Names> {
    let config: Config = json(bytes)?;
    let labels = config.config.and_then(|inner| inner.labels).unwrap_or_default();
    let label = |key: &str| labels.get(key).and_then(|text| name(text));
    Some(Names {
        container: label("io.kubernetes.container.name").or_else(|| name(config.name.trim_start_matches('/'))),
        pod: label("io.kubernetes.pod.name"),
        namespace: label("io.kubernetes.pod.namespace"),
    })
}
