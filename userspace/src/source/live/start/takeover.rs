//! Taking over what exists already: listeners, connections that wait, connections that are open.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use aya::Ebpf;
use listentop_abi::{
    limits,
    listener::{ListenerInfo, WALKED},
    settings,
};

use super::{loader::visitor, machine::Geometry, maps::change_settings};
use crate::source::live::error::StartError;
use crate::source::{
    live::{
        read::shared::SharedArray,
        visitor::{self, Visitor, Visitors},
    },
    namespaces,
};

/// The programs that have worked when the start has ended.
const PROGRAMS: [&str; 6] =
    ["find_listeners", "walk_queues", "find_connections", "find_holders", "find_strangers", "let_go"];

/// The iterators that find what exists. They are loaded before anything is attached, so that the time between attaching
/// and their work is short.
pub(super) struct Takeover {
    listening: Visitor,
    walk: Visitor,
    connected: Visitor,
    /// `None` where the kernel does not take one of them: then nobody knows who holds a connection.
    holders: Option<Holders>,
}

/// The iterators that find out who holds what.
struct Holders {
    find: Visitor,
    strangers: Visitor,
    let_go: Visitor,
}

impl Takeover {
    /// Loads them. `table`: the map of listeners.
    pub(super) fn load(ebpf: &mut Ebpf, visitors: Visitors<'_>, table: &OwnedFd) -> Result<Self, StartError> {
        Ok(Self {
            listening: visitor(ebpf, "find_listeners", visitors, None)?,
            walk: visitor(ebpf, "walk_queues", visitors, Some(table))?,
            connected: visitor(ebpf, "find_connections", visitors, None)?,
            holders: Holders::load(ebpf, visitors).ok(),
        })
    }

    /// Takes over what exists in these namespaces, and has the probes start. Returns how many accept queues could not
    /// be taken over to their end.
    pub(super) fn run(
        self,
        ebpf: &mut Ebpf,
        namespaces: &[&PathBuf],
        settings: u64,
        info: &SharedArray<ListenerInfo>,
        geometry: Geometry,
    ) -> Result<u64, StartError> {
        visit(&self.listening, namespaces);
        let unfinished_queues = take_over_queues(&self.walk, info, geometry)
            .map_err(|error| StartError::Io("the accept queues cannot be read", error))?;
        // After the queues: a connection that leaves one before it has been walked is open by now.
        visit(&self.connected, namespaces);
        change_settings(ebpf, settings | settings::STARTED)?;
        // An accept that ended between the two has made no record, so the pass is repeated.
        visit(&self.connected, namespaces);
        if let Some(holders) = &self.holders {
            holders.run(namespaces);
        }
        drop(self);
        for name in PROGRAMS {
            // Their work is done. Only programs that still work should stay in the kernel.
            visitor::unload(ebpf, name);
        }
        Ok(unfinished_queues)
    }
}

impl Holders {
    fn load(ebpf: &mut Ebpf, visitors: Visitors<'_>) -> Result<Self, StartError> {
        Ok(Self {
            find: visitor(ebpf, "find_holders", visitors, None)?,
            strangers: visitor(ebpf, "find_strangers", visitors, None)?,
            let_go: visitor(ebpf, "let_go", visitors, None)?,
        })
    }

    /// Takes connections away from listeners that only strangers hold. If that fails they stay where their addresses
    /// say.
    fn run(&self, namespaces: &[&PathBuf]) {
        if self.find.run().is_ok() && self.strangers.run().is_ok() {
            visit(&self.let_go, namespaces);
        }
    }
}

/// Runs an iterator over the sockets of each namespace.
pub(in crate::source::live) fn visit(sockets: &Visitor, namespaces: &[&PathBuf]) {
    for namespace in namespaces {
        // One that has gone meanwhile has nothing to take over. Coverage names those that may not be entered.
        let _ = namespaces::inside(namespace, || sockets.run());
    }
}

/// Takes over the connections that wait already, stretch by stretch until every queue is done. Returns how many queues
/// are not, after as many passes as are reasonable. The connections behind count when they are accepted, without a
/// wait.
fn take_over_queues(walk: &Visitor, info: &SharedArray<ListenerInfo>, geometry: Geometry) -> io::Result<u64> {
    let unfinished = |slot: &u32| {
        let info = info.read(*slot);
        info.cookie != 0 && info.closed_ns == 0 && info.opened_ns == 0 && info.cursor != WALKED
    };
    for _ in 0..limits::QUEUE_PASSES {
        walk.run()?;
        if !(0..geometry.slots).any(|slot| unfinished(&slot)) {
            return Ok(0);
        }
    }
    Ok((0..geometry.slots).filter(unfinished).count() as u64)
}
