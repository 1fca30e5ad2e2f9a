//! The network namespaces whose sockets can be listed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
};

use listentop_model::sample::NamespaceId;

use super::{listeners::NetnsSockets, netlink::Diag};
use crate::source::{
    coverage::Reason,
    namespaces::{self, Wanted},
    proc,
};

/// Those namespaces, by inode.
pub(super) struct ReachableNamespaces {
    pub(super) by_inode: BTreeMap<u32, NetnsSockets>,
    /// Files by which they can be entered.
    pub(super) files: HashMap<u32, PathBuf>,
    /// Inode of our own.
    own: u32,
    /// Whether we may enter others at all.
    may_enter: bool,
    /// Those that are known and could not be entered.
    closed: BTreeSet<u32>,
}

impl ReachableNamespaces {
    /// Opens our own; others come with [`ReachableNamespaces::update`].
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(super) fn open() -> io::Result<Self> {
        let own = proc::our_namespace().unwrap_or(0);
        let diag = Diag::open()?;
        let may_enter = namespaces::may_enter();
        let files = HashMap::from([(own, PathBuf::from("/proc/thread-self/ns/net"))]);
        Ok(Self {
            by_inode: BTreeMap::from([(own, NetnsSockets::new(diag))]),
            files,
            own,
            may_enter,
            closed: BTreeSet::new(),
        })
    }

    /// Opens namespaces that are new among `found`, and closes those that are not in it. An open socket would keep them
    /// alive. Returns why the last one that could not be opened could not.
    pub(super) fn update(&mut self, found: &HashMap<u32, PathBuf>) -> Option<io::Error> {
        let mut refusal = None;
        self.by_inode.retain(|inode, _| *inode == self.own || found.contains_key(inode));
        self.closed.clear();
        self.files.retain(|inode, _| *inode == self.own);
        for (inode, file) in found {
            self.files.entry(*inode).or_insert_with(|| file.clone());
        }
        for (inode, file) in found {
            if self.by_inode.contains_key(inode) {
                continue;
            }
            match namespaces::inside(file, Diag::open) {
                Ok(diag) => {
                    self.by_inode.insert(*inode, NetnsSockets::new(diag));
                }
                // Its last process has ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.closed.insert(*inode);
                    refusal = Some(error);
                }
            }
        }
        refusal
    }

    /// Which namespaces' listeners are not seen; `None` if none are known of.
    pub(super) fn unseen(&self) -> Option<Reason> {
        if !self.may_enter {
            return Some(Reason::ForeignNamespaces);
        }
        (!self.closed.is_empty()).then_some(Reason::ClosedNamespaces(self.closed.len()))
    }

    /// Those that `wanted` picks, to be sampled.
    pub(super) fn pick(&self, wanted: impl Fn(&NetnsSockets) -> bool) -> Vec<Wanted> {
        let picked = self.by_inode.iter().filter(|(_, sockets)| wanted(sockets));
        // Our socket keeps a namespace, so no other one has its inode.
        picked
            .map(|(inode, sockets)| Wanted {
                id: NamespaceId { inode: *inode, cookie: sockets.cookie },
                exists: true,
                before: sockets.before_listeners,
                file: self.files.get(inode).cloned(),
            })
            .collect()
    }
}
