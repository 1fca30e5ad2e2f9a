//! containerd, nerdctl and CRI-O: annotations in the config.json of the container's bundle.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Names,
    host::{Found, Host, Place},
    json, name,
};

/// Where containerd has its state: by itself, in k3s and RKE2, MicroK8s, k0s.
const CONTAINERD: [&str; 4] =
    ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd", "run/k0s/containerd"];
/// Below that: a folder for each namespace, and in it one for each container.
const TASKS: [&str; 2] = ["io.containerd.runtime.v2.task", "io.containerd.runtime.v1.linux"];
/// Namespaces of a containerd that are looked at: there are one or two (k8s.io, default, moby).
const NAMESPACES: usize = 32;
/// Where CRI-O and Podman have theirs: while it runs, and beyond.
const STORAGES: [&str; 2] = ["run/containers/storage", "var/lib/containers/storage"];

/// The part of the file that is of use.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The file of a container. Those of a user's own containerd are in a mount namespace of its own.
pub(super) fn file(host: &Host, home: Option<&Place>, id: &str) -> Option<Found> {
    if home.is_some() {
        return None;
    }
    let of_containerd = CONTAINERD.iter().find_map(|state| {
        let state = host.directory(state).ok()?;
        TASKS.iter().find_map(|tasks| {
            let namespaces = state.names(tasks).ok()?;
            let paths = namespaces.iter().take(NAMESPACES).map(|space| format!("{tasks}/{space}/{id}/config.json"));
            paths.filter_map(|path| state.file(&path).ok()).next()
        })
    });
    of_containerd.or_else(|| {
        let path = format!("overlay-containers/{id}/userdata/config.json");
        STORAGES.iter().find_map(|storage| host.directory(storage).ok()?.file(&path).ok())
    })
}

/// Reads it: the keys of containerd's CRI plug-in, of CRI-O, of nerdctl.
pub(super) fn parse(bytes: &[u8]) -> Option<Names> {
    let Bundle { annotations } = json(bytes)?;
    let first = |keys: &[&str]| keys.iter().find_map(|key| name(annotations.get(*key)?));
    Some(Names {
        container: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
        pod: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name", "io.kubernetes.cri-o.KubeName"]),
        namespace: first(&[
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
            "io.kubernetes.cri-o.Namespace",
        ]),
    })
}
