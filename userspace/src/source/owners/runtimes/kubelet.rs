//! The kubelet's logs: the names of the files alone say which container, pod and namespace they are of. Everybody may
//! read them, and every runtime has them.

use std::collections::HashMap;

use super::{
    Key, Names,
    host::{Host, Stamp},
    name,
};

/// `POD_NAMESPACE_CONTAINER-ID.log`.
const CONTAINERS: &str = "var/log/containers";
/// `NAMESPACE_POD_UID`.
const PODS: &str = "var/log/pods";

/// What the names say.
#[derive(Debug, Default)]
pub(super) struct Kubelet {
    stamps: [Option<Stamp>; 2],
    by_container: HashMap<String, Names>,
    by_pod: HashMap<String, Names>,
}

impl Kubelet {
    /// Reads the directories again if names came or went.
    pub(super) fn refresh(&mut self, host: &Host) {
        let read = |directory: &str, last: &mut Option<Stamp>| {
            let place = host.directory(directory).ok();
            let stamp = place.as_ref().and_then(|place| place.stamp(".").ok());
            let is_new = *last != stamp;
            *last = stamp;
            is_new.then(|| place.and_then(|place| place.names(".").ok()).unwrap_or_default())
        };
        let [containers, pods] = &mut self.stamps;
        if let Some(names) = read(CONTAINERS, containers) {
            self.by_container = names.iter().filter_map(|name| of_container(name)).collect();
        }
        if let Some(names) = read(PODS, pods) {
            self.by_pod = names.iter().filter_map(|name| of_pod(name)).collect();
        }
    }

    /// Names of a container and its pod.
    pub(super) fn names(&self, key: &Key) -> Names {
        let of_pod = key.pod.as_ref().and_then(|pod| self.by_pod.get(pod));
        let of_container = self.by_container.get(&key.id).cloned().unwrap_or_default();
        of_container.or(of_pod.cloned().unwrap_or_default())
    }
}

/// Digits of an id.
const ID: usize = 64;

fn of_container(file: &str) -> Option<(String, Names)> {
    let (rest, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
    let [pod, namespace, container] = rest.split('_').collect::<Vec<_>>()[..] else { return None };
    let names = Names { container: name(container), pod: name(pod), namespace: name(namespace) };
    (id.len() == ID).then(|| (id.to_owned(), names))
}

fn of_pod(directory: &str) -> Option<(String, Names)> {
    let [namespace, pod, uid] = directory.split('_').collect::<Vec<_>>()[..] else { return None };
    Some((uid.to_owned(), Names { container: None, pod: name(pod), namespace: name(namespace) }))
}
