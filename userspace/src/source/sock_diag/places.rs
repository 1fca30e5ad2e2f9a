//! The network namespaces that can be asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
};

use caps::Capability;

use super::{listeners::Known, netlink::Diag, refused::Refused};
use crate::{
    rights,
    source::{namespaces, owners},
};

/// A network namespace, and what is remembered of it between two samples.
pub(super) struct Place {
    pub(super) diag: Diag,
    /// Its listeners in the order in which the kernel told them last.
    pub(super) listeners: Vec<Known>,
    /// What its counters tell of refused attempts; `None` until they have been read.
    pub(super) refused: Option<Refused>,
    /// Its listeners have been read before: one that turns up now has opened since.
    pub(super) begun: bool,
}

impl Place {
    pub(super) fn new(diag: Diag) -> Self {
        Self { diag, listeners: Vec::new(), refused: None, begun: false }
    }
}

/// Those namespaces, by inode.
pub(super) struct Places {
    pub(super) by_inode: BTreeMap<u32, Place>,
    /// Inode of our own.
    own: u32,
    /// Whether we may enter others at all.
    may_enter: bool,
    /// Those that are known and could not be entered.
    closed: BTreeSet<u32>,
}

impl Places {
    /// Opens our own; others come with [`Places::update`].
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(super) fn open() -> io::Result<Self> {
        let own = owners::our_namespace().unwrap_or(0);
        let diag = Diag::open()?;
        let may_enter = namespaces::may_enter();
        Ok(Self { by_inode: BTreeMap::from([(own, Place::new(diag))]), own, may_enter, closed: BTreeSet::new() })
    }

    /// Opens namespaces that are new among `found`, lets those go that are not in it: an open socket would keep them
    /// from ending.
    pub(super) fn update(&mut self, found: &HashMap<u32, PathBuf>) {
        self.by_inode.retain(|inode, _| *inode == self.own || found.contains_key(inode));
        self.closed.clear();
        for (inode, file) in found {
            if self.by_inode.contains_key(inode) {
                continue;
            }
            match namespaces::inside(file, Diag::open) {
                Ok(diag) => {
                    self.by_inode.insert(*inode, Place::new(diag));
                }
                // Its last process has ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    self.closed.insert(*inode);
                }
            }
        }
    }

    /// Which namespaces' listeners are not seen, and what would help; `None` if none are known of.
    pub(super) fn unseen(&self) -> Option<String> {
        if !self.may_enter {
            let remedy = rights::remedy(&[Capability::CAP_SYS_ADMIN]);
            return Some(format!("listeners in other network namespaces are not seen; {remedy}"));
        }
        let plural = if self.closed.len() == 1 { "" } else { "s" };
        (!self.closed.is_empty())
            .then(|| format!("{} network namespace{plural} could not be entered", self.closed.len()))
    }

    /// Inodes of those that hold a listener.
    pub(super) fn inhabited(&self) -> Vec<u32> {
        let inhabited = self.by_inode.iter().filter(|(_, place)| !place.listeners.is_empty());
        inhabited.map(|(inode, _)| *inode).collect()
    }
}
