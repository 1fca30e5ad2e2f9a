//! Counters of namespaces that hold no listener: what they count later, their listeners have refused.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use listentop_model::sample::{NamespaceCounters, NamespaceId};

use super::{machine, namespaces};

/// Namespaces without listeners, and those that had none before. Only those with a cookie: without one, another
/// namespace may have got the inode since its counters were read.
#[derive(Debug, Default)]
pub(super) struct Uninhabited {
    /// Their counters, and when these had been read.
    read: HashMap<NamespaceId, (u64, NamespaceCounters)>,
    /// Of namespaces that hold listeners by now: their counters before.
    before: HashMap<NamespaceId, Option<NamespaceCounters>>,
    /// Number of the scan that namespaces were taken from last.
    scanned: u64,
}

impl Uninhabited {
    /// Whether a scan with this number is new.
    pub(super) fn is_news(&mut self, scan: u64) -> bool {
        std::mem::replace(&mut self.scanned, scan) != scan
    }

    /// Reads the counters of namespaces that are new among `found`, by inode, and not `inhabited`.
    pub(super) fn read(&mut self, found: &HashMap<u32, PathBuf>, inhabited: &HashSet<u32>) {
        self.read.retain(|id, _| found.contains_key(&id.inode));
        let known: HashSet<u32> = self.read.keys().map(|id| id.inode).collect();
        for (inode, file) in found.iter().filter(|(inode, _)| !inhabited.contains(inode) && !known.contains(inode)) {
            // One that may not be entered stays without.
            if let Ok((cookie @ Some(_), counters)) = namespaces::inside(file, namespaces::look_around) {
                let id = NamespaceId { inode: *inode, cookie };
                self.read.insert(id, (machine::monotonic_ns(), counters));
            }
        }
    }

    /// What the counters of a namespace were before its listeners opened, the first of them at `opened_ns`.
    pub(super) fn before(&mut self, id: NamespaceId, opened_ns: u64) -> Option<NamespaceCounters> {
        let read = &mut self.read;
        *self.before.entry(id).or_insert_with(|| {
            let (read_ns, counters) = read.remove(&id)?;
            (opened_ns > read_ns).then_some(counters)
        })
    }

    /// The last listener of a namespace has closed, and its counters have been read since.
    pub(super) fn vacated(&mut self, id: NamespaceId, counters: Option<NamespaceCounters>) {
        self.before.remove(&id);
        if let Some(counters) = counters.filter(|_| id.cookie.is_some()) {
            self.read.insert(id, (machine::monotonic_ns(), counters));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NamespaceId = NamespaceId { inode: 7, cookie: Some(70) };

    fn counters(listen_drops: u64) -> NamespaceCounters {
        NamespaceCounters { listen_drops, ..NamespaceCounters::default() }
    }

    #[test]
    fn only_counters_from_before_the_first_listener_are_its_baseline() {
        let mut uninhabited = Uninhabited::default();
        uninhabited.vacated(ID, Some(counters(5)));
        let now = machine::monotonic_ns();
        let another = NamespaceId { cookie: Some(71), ..ID };
        assert_eq!(uninhabited.before(another, now), None, "another one, with the same inode");
        assert_eq!(uninhabited.before(ID, now), Some(counters(5)));
        assert_eq!(uninhabited.before(ID, 1), Some(counters(5)), "it stays while there are listeners");
        uninhabited.vacated(ID, Some(counters(9)));
        assert_eq!(uninhabited.before(ID, 1), None, "that one opened before the counters were read");
        uninhabited.vacated(ID, None);
        assert_eq!(uninhabited.before(ID, machine::monotonic_ns()), None);
        let nameless = NamespaceId { cookie: None, ..ID };
        uninhabited.vacated(nameless, Some(counters(5)));
        let later = machine::monotonic_ns() + 1;
        assert_eq!(uninhabited.before(nameless, later), None, "it may be another one by now");
    }

    #[test]
    fn namespaces_are_read_once_and_forgotten_when_they_are_gone() {
        let inode = crate::source::proc::our_namespace().expect("we run");
        let id = NamespaceId { inode, cookie: namespaces::our_cookie() };
        let found = HashMap::from([(inode, PathBuf::from("/proc/self/ns/net"))]);
        let mut uninhabited = Uninhabited::default();
        uninhabited.read(&found, &HashSet::from([inode]));
        assert!(uninhabited.read.is_empty(), "it has listeners");
        uninhabited.read(&found, &HashSet::new());
        let (first, _) = uninhabited.read[&id];
        uninhabited.read(&found, &HashSet::new());
        assert_eq!(uninhabited.read[&id].0, first);
        uninhabited.read(&HashMap::new(), &HashSet::new());
        assert!(uninhabited.read.is_empty());
        assert!(uninhabited.is_news(1) && !uninhabited.is_news(1) && uninhabited.is_news(2));
    }
}
