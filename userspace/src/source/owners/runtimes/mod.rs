//! What runtimes call their containers, read from their files: no daemon is asked, and none need run.
//!
//! | runtime | file |
//! |---|---|
//! | Docker | DATA/containers/ID/config.v2.json |
//! | containerd, nerdctl | /run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID/config.json: annotations |
//! | CRI-O | /run/containers/storage/overlay-containers/ID/userdata/config.json: annotations |
//! | Podman | STORAGE/overlay-containers/containers.json |
//! | Kubernetes, any runtime | names in /var/log/containers and /var/log/pods |
//!
//! All of them are taken for hostile: see [`host`]. Without a file that names it a container is known by its id.

mod docker;
mod host;
mod kubelet;
mod naming;
mod oci;
mod storage;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, io};

use listentop_model::sample::Process;
use serde::de::DeserializeOwned;

use self::host::{Found, Host, Place, Stamp};
use super::cgroup::Key;

pub(super) use naming::Naming;

/// Names of a container and of its pod, as far as files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub container: Option<String>,
    pub pod: Option<String>,
    pub namespace: Option<String>,
}

impl Names {
    /// Writes them into a process of that container.
    pub(super) fn name(&self, key: &Key, process: &mut Process) {
        if !key.innermost {
            // The runtime of the inner one keeps its files where we do not look.
            if let Some(name) = &self.container
                && process.container_outer.as_deref() == Some(&key.id[..12])
            {
                process.container_outer = Some(name.clone());
            }
            return;
        }
        process.container_name.clone_from(&self.container);
        process.pod_name.clone_from(&self.pod);
        process.pod_namespace.clone_from(&self.namespace);
    }

    /// What is missing here is taken from `other`.
    fn or(self, other: Self) -> Self {
        let Self { container, pod, namespace } = self;
        Self {
            container: container.or(other.container),
            pod: pod.or(other.pod),
            namespace: namespace.or(other.namespace),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Bytes of a name: more than any runtime allows (a name in Kubernetes has 253).
const NAME: usize = 256;

/// A name, unless it is empty or too long for one.
fn name(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= NAME).then(|| text.to_owned())
}

/// A JSON file; `None` if it is damaged.
fn json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// Where a container was found.
struct Described {
    names: Names,
    stamp: Stamp,
}

/// Looks up names, and keeps them as long as their files do not change.
pub(super) struct Runtimes {
    host: Host,
    /// By id and user.
    described: HashMap<(String, Option<u32>), Described>,
    kubelet: kubelet::Kubelet,
    storages: HashMap<Option<u32>, storage::Storages>,
    passwords: storage::Homes,
}

impl Runtimes {
    fn new(host: Host) -> Self {
        Self {
            host,
            described: HashMap::new(),
            kubelet: kubelet::Kubelet::default(),
            storages: HashMap::new(),
            passwords: storage::Homes::default(),
        }
    }

    /// The names of these containers; of those without any there is no entry. What is not among them is forgotten.
    pub(super) fn look_up(&mut self, keys: &[Key]) -> HashMap<Key, Names> {
        self.kubelet.refresh(&self.host);
        self.passwords.refresh(&self.host);
        self.storages.retain(|user, _| keys.iter().any(|key| key.user == *user));
        let names = keys.iter().map(|key| (key.clone(), self.names(key)));
        let found = names.filter(|(_, names)| !names.is_empty()).collect();
        self.described.retain(|(id, user), _| keys.iter().any(|key| key.id == *id && key.user == *user));
        found
    }

    fn names(&mut self, key: &Key) -> Names {
        // A user's own runtime: what the system's would say of such an id is not about this container.
        let home = match key.user {
            None => None,
            Some(uid) => match self.passwords.home(uid).and_then(|home| self.host.home(home, uid).ok()) {
                Some(home) => Some(home),
                None => return Names::default(),
            },
        };
        let of_file = self.described(key, home.as_ref());
        let storages = self.storages.entry(key.user).or_default();
        let of_storage = storages.name(&self.host, home.as_ref(), &key.id);
        let of_kubelet = if key.user.is_none() { self.kubelet.names(key) } else { Names::default() };
        of_file.or(of_kubelet).or(Names { container: of_storage, ..Names::default() })
    }

    /// What the container's own file says.
    fn described(&mut self, key: &Key, home: Option<&Place>) -> Names {
        let Some((found, parse)) = find(&self.host, home, &key.id) else { return Names::default() };
        let place = (key.id.clone(), key.user);
        if let Some(known) = self.described.get(&place).filter(|known| known.stamp == found.stamp) {
            return known.names.clone();
        }
        let stamp = found.stamp;
        let names = found.read().ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        self.described.insert(place, Described { names: names.clone(), stamp });
        names
    }
}

/// How a runtime's file is read.
type Parse = fn(&[u8]) -> Option<Names>;

/// The file that describes a container, of the first runtime that has one.
fn find(host: &Host, home: Option<&Place>, id: &str) -> Option<(Found, Parse)> {
    let of_docker = docker::file(host, home, id).map(|found| (found, docker::parse as Parse));
    of_docker.or_else(|| Some((oci::file(host, home, id)?, oci::parse as Parse)))
}

/// The host's files; none where they cannot be read in a safe way (openat2 is refused).
pub(super) fn of_host() -> io::Result<Runtimes> {
    Host::open().map(Runtimes::new)
}
