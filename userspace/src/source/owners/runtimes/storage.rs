//! Podman: the list of containers in its storage, the system's or a user's.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    host::{Host, MANY, Place, Stamp},
    json, name,
};

/// Where the storage is: of the system, and below the home of a user.
const OF_SYSTEM: &str = "var/lib/containers/storage";
const OF_USER: &str = ".local/share/containers/storage";
/// A list for each driver; those of containers that do not outlive a boot have a list of their own.
const LISTS: [&str; 5] = [
    "overlay-containers/containers.json",
    "overlay-containers/volatile-containers.json",
    "vfs-containers/containers.json",
    "btrfs-containers/containers.json",
    "zfs-containers/containers.json",
];

/// An entry of a list.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

/// The lists of one storage, as they were read last.
#[derive(Debug, Default)]
pub(super) struct Storages([List; LISTS.len()]);

#[derive(Debug, Default)]
struct List {
    stamp: Option<Stamp>,
    names: HashMap<String, String>,
}

impl Storages {
    /// The name of a container in the storage of the system, or below this home.
    pub(super) fn name(&mut self, host: &Host, home: Option<&Place>, id: &str) -> Option<String> {
        let of_system = if home.is_none() { Some(host.directory(OF_SYSTEM).ok()?) } else { None };
        for (list, path) in self.0.iter_mut().zip(LISTS) {
            let file = match (home, &of_system) {
                (Some(home), _) => home.file(&format!("{OF_USER}/{path}")),
                (None, Some(storage)) => storage.file(path),
                (None, None) => continue,
            };
            let stamp = file.as_ref().ok().map(|file| file.stamp);
            if list.stamp != stamp {
                let bytes = file.ok().and_then(|file| file.read_up_to(MANY).ok());
                *list = List { stamp, names: bytes.as_deref().and_then(parse).unwrap_or_default() };
            }
            if let Some(name) = list.names.get(id) {
                return Some(name.clone());
            }
        }
        None
    }
}

fn parse(bytes: &[u8]) -> Option<HashMap<String, String>> {
    let entries: Vec<Entry> = json(bytes)?;
    let named = |entry: Entry| Some((entry.id, name(entry.names?.first()?)?));
    Some(entries.into_iter().filter_map(named).collect())
}

/// Homes of users, from the host's /etc/passwd.
#[derive(Debug, Default)]
pub(super) struct Homes {
    stamp: Option<Stamp>,
    homes: HashMap<u32, String>,
}

impl Homes {
    /// Reads the file again if it has changed.
    pub(super) fn refresh(&mut self, host: &Host) {
        let file = host.directory("etc").and_then(|etc| etc.file("passwd"));
        let stamp = file.as_ref().ok().map(|file| file.stamp);
        if self.stamp != stamp {
            let bytes = file.ok().and_then(|file| file.read_up_to(MANY).ok()).unwrap_or_default();
            *self = Self { stamp, homes: homes(&String::from_utf8_lossy(&bytes)) };
        }
    }

    /// The home of a user.
    pub(super) fn home(&self, uid: u32) -> Option<&str> {
        self.homes.get(&uid).map(String::as_str)
    }
}

/// `name:password:uid:gid:gecos:home:shell`. Of several lines for one user the first counts.
fn homes(passwd: &str) -> HashMap<u32, String> {
    let mut homes = HashMap::new();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, uid, _, _, home, ..] = fields[..]
            && let Ok(uid) = uid.parse()
            && !home.is_empty()
        {
            homes.entry(uid).or_insert_with(|| home.to_owned());
        }
    }
    homes
}
