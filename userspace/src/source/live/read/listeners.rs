//! Listeners: samples of what the probes wrote about each slot. A slot that is no longer used is given back.

use std::{
    collections::{BTreeMap, HashSet},
    io, iter, ptr,
};

use aya::maps::{MapData, Queue};
use listentop_abi::listener::{ListenerInfo, Work};
use listentop_model::{
    coverage::Coverage,
    sample::{ListenerSample, NamespaceId},
    shared::Shared,
};

use super::{
    distributions,
    tables::Tables,
    threads::Threads,
    tracked::{Available, TrackedListener},
    unread::Walk,
};
use crate::source::{
    devices::Devices,
    live::attach::{events::Part, silence::Evidence},
    owners::Scan,
    waiting,
};

/// The listeners of a namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inhabitants {
    /// When the first of them opened; 0 if before the probes were attached.
    pub(crate) opened_ns: u64,
    /// One of them is open.
    pub(crate) open: bool,
}

/// The listeners, and what user space must remember of each.
pub(crate) struct Listeners {
    tables: Tables,
    /// Over the connections, for what waits unread; `None` where the kernel does not allow that.
    pub(crate) walk: Option<Walk>,
    /// Arrivals and reads are seen. Without them there is nothing to walk for.
    sees_reads: bool,
    free: Queue<MapData, u32>,
    /// Parts of measures that are known.
    parts: Vec<Part>,
    /// By slot.
    known: Vec<Option<Box<TrackedListener>>>,
    /// Slots of listeners that closed and whose connections live on.
    closed: Vec<u32>,
    /// Namespaces that hold a listener.
    namespaces: BTreeMap<NamespaceId, Inhabitants>,
    /// Interfaces that listeners are bound to, without a name yet.
    nameless: Vec<(NamespaceId, u32)>,
    /// Some listener has no known owner yet, and few scans have looked for it.
    ownerless: bool,
    /// Number of the scan that owners were taken from last.
    scanned: u64,
    /// Some listener is newer than that.
    discovered: bool,
    /// Accepted connections of listeners that are gone, which no probe saw enqueued.
    unseen_gone: u64,
    /// Clients that listeners had refused when they closed; and those of all listeners.
    clients_closed: u64,
    clients: u64,
    /// What their counters show of hooks that see nothing: of listeners that have closed, and of all.
    evidence_closed: Evidence,
    evidence: Evidence,
}

impl Listeners {
    /// `parts`: parts of measures that are known.
    pub(crate) fn new(tables: Tables, walk: Option<Walk>, free: Queue<MapData, u32>, parts: Vec<Part>) -> Self {
        let known = iter::repeat_with(|| None).take(tables.geometry.slots as usize).collect();
        Self {
            tables,
            walk,
            sees_reads: true,
            free,
            parts,
            known,
            closed: Vec::new(),
            namespaces: BTreeMap::new(),
            nameless: Vec::new(),
            ownerless: false,
            scanned: 0,
            discovered: false,
            unseen_gone: 0,
            clients_closed: 0,
            clients: 0,
            evidence_closed: Evidence::default(),
            evidence: Evidence::default(),
        }
    }

    /// Takes notice of listeners that are new in the tables.
    pub(crate) fn discover(&mut self) {
        for (slot, known) in (0..).zip(&mut self.known).filter(|(_, known)| known.is_none()) {
            // SAFETY: inside the mapping; a field of a record of integers, read as a whole.
            let cookie = unsafe { ptr::read_volatile(&raw const (*self.tables.info.pointer(slot)).cookie) };
            if cookie == 0 {
                continue;
            }
            let info = self.tables.info.read(slot);
            if info.polled_ns == 0 && info.closed_ns == 0 {
                // It opened since the poll and is not identified yet: next time.
                continue;
            }
            let tracked = TrackedListener::new(&info, &self.tables, slot);
            inhabit(&mut self.namespaces, &tracked);
            if tracked.device != 0 {
                self.nameless.push((tracked.namespace, tracked.device));
            }
            *known = Some(Box::new(tracked));
            self.ownerless = true;
            self.discovered = true;
        }
    }

    /// Those that listen now, or have closed since the last sample.
    fn open(&self) -> impl Iterator<Item = &TrackedListener> {
        self.open_slots().map(|(_, known)| known)
    }

    /// What is known of the listener of this slot, if it is that of this generation.
    pub(crate) fn info(&self, slot: u32, generation: u32) -> Option<ListenerInfo> {
        self.known.get(slot as usize)?.as_ref()?;
        Some(self.tables.info.read(slot)).filter(|info| info.generation == generation)
    }

    /// Inodes of the sockets that listen now.
    pub(crate) fn inodes(&self) -> HashSet<u64> {
        self.open().map(|known| known.inode).collect()
    }

    /// Connections so far that were accepted, though no probe saw them enqueued.
    pub(crate) fn unseen(&self) -> u64 {
        self.unseen_gone + self.known.iter().flatten().map(|known| known.unseen).sum::<u64>()
    }

    /// Refused clients that were counted, of all listeners that there were.
    pub(crate) fn clients(&self) -> u64 {
        self.clients
    }

    /// What the counters of all listeners that there were show of hooks that see nothing.
    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Other parts of measures are known from now on.
    pub(crate) fn set_parts(&mut self, parts: Vec<Part>) {
        self.parts = parts;
    }

    /// Whether arrivals and reads are seen from now on.
    pub(crate) fn see_reads(&mut self, seen: bool) {
        self.sees_reads = seen;
    }

    /// Whether a scan out of turn may find the owner of some listener.
    pub(crate) fn has_ownerless(&self) -> bool {
        self.ownerless
    }

    /// Namespaces that hold a listener, or did in the last sample, in order.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (NamespaceId, Inhabitants)> {
        self.namespaces.iter().map(|(id, inhabitants)| (*id, *inhabitants))
    }

    /// Inodes of the namespaces that hold a listener.
    pub(crate) fn inhabited(&self) -> HashSet<u32> {
        self.namespaces.keys().map(|id| id.inode).collect()
    }

    /// Whether a namespace holds a listener.
    pub(crate) fn has_namespace(&self, id: NamespaceId) -> bool {
        self.namespaces.contains_key(&id)
    }

    /// Interfaces that listeners are bound to, without a name yet.
    pub(crate) fn nameless(&self) -> &[(NamespaceId, u32)] {
        &self.nameless
    }

    /// Their names are known now, or some are.
    pub(crate) fn have_names(&mut self) {
        for known in self.known.iter_mut().flatten().filter(|known| known.device != 0) {
            known.last = None;
        }
    }

    /// Gives each listener its owner, if the scan or some listener is new.
    pub(crate) fn assign_owners(&mut self, scan: &Scan, threads: &Threads) {
        let again = std::mem::replace(&mut self.scanned, scan.number) == scan.number;
        let discovered = std::mem::take(&mut self.discovered);
        if again && !discovered {
            return;
        }
        for (slot, known) in (0..).zip(&mut self.known) {
            let Some(known) = known.as_mut().filter(|known| !known.reported_closed) else { continue };
            known.owner.update(known.inode, scan, again);
            known.owner.suppose(|| threads.of(slot).accepting());
            if known.owner.take_changed() {
                known.last = None;
            }
        }
    }

    /// Gives each listener what was found out about its surroundings.
    pub(crate) fn assign_surroundings(&mut self, known: &waiting::Known) {
        for listener in self.known.iter_mut().flatten().filter(|known| !known.reported_closed) {
            let Some(found) = listener.cookie.and_then(|id| known.listeners.get(&id)) else { continue };
            if listener.surroundings != *found {
                listener.surroundings.clone_from(found);
                listener.last = None;
            }
        }
    }

    /// Whether the surroundings of some listener are to be looked at soon.
    pub(crate) fn are_of_interest(&self, threads: &Threads) -> bool {
        self.open_slots().any(|(slot, known)| known.is_of_interest(&threads.of(slot)))
    }

    /// The listeners whose surroundings are to be looked at.
    pub(crate) fn subjects(&self, threads: &Threads) -> Vec<waiting::Subject> {
        self.open_slots().filter_map(|(slot, known)| known.subject(&threads.of(slot))).collect()
    }

    /// The same as [`open`](Self::open), each with its slot.
    fn open_slots(&self) -> impl Iterator<Item = (u32, &TrackedListener)> {
        let known = (0..).zip(&self.known).filter_map(|(slot, known)| Some((slot, known.as_deref()?)));
        known.filter(|(_, known)| !known.reported_closed)
    }

    /// Samples every listener that is open or has closed since the last time. A listener without changes is shared with
    /// the sample before.
    ///
    /// # Errors
    /// If a part of a table cannot be mapped.
    pub(crate) fn sample(
        &mut self,
        now_ns: u64,
        threads: &Threads,
        coverage: &[Coverage],
        devices: &Devices,
    ) -> io::Result<Shared<ListenerSample>> {
        let available = Available::of(coverage, &self.parts);
        let mut samples = Shared::default();
        self.namespaces.clear();
        self.nameless.clear();
        self.ownerless = false;
        self.clients = self.clients_closed;
        self.evidence = self.evidence_closed;
        if let Some(walk) = &mut self.walk {
            walk.begin();
        }
        for (slot, known) in (0..).zip(&mut self.known) {
            let Some(known) = known.as_deref_mut().filter(|known| !known.reported_closed) else { continue };
            samples.push(known.sample(
                &mut self.tables,
                slot,
                now_ns,
                &threads.of(slot),
                (available, devices),
                self.walk.as_mut().filter(|_| self.sees_reads),
            )?);
            let clients = known.last.as_ref().map_or(0, |(_, last)| last.counters.listener.clients);
            let evidence =
                known.last.as_ref().map_or_else(Evidence::default, |(_, last)| last.counters.evidence(known.unseen));
            self.clients += clients;
            self.evidence.add(evidence);
            if known.reported_closed {
                self.closed.push(slot);
                self.clients_closed += clients;
                self.evidence_closed.add(evidence);
            }
            inhabit(&mut self.namespaces, known);
            if known.device != 0 {
                self.nameless.push((known.namespace, known.device));
            }
            self.ownerless |= known.owner.is_sought();
        }
        self.tables.distributions.unmap_unused();
        Ok(samples)
    }

    /// Gives back the slots of listeners that closed and whose connections are all gone.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub(crate) fn recycle(&mut self, threads: &mut Threads) -> io::Result<()> {
        let (tables, known) = (&mut self.tables, &mut self.known);
        let (done, closed): (Vec<u32>, Vec<u32>) =
            self.closed.iter().partition(|slot| tables.counters(**slot, Work::default()).tracked() == 0);
        self.closed = closed;
        for slot in done {
            let Some(gone) = known[slot as usize].take() else { continue };
            self.unseen_gone += gone.unseen;
            threads.forget(slot)?;
            if tables.counters(slot, Work::default()).used() {
                let records = tables.records(slot);
                distributions::clear(&mut tables.distributions, records)?;
            }
            tables.clear(slot);
            let generation = gone.generation.wrapping_add(1);
            tables.info.write(slot, ListenerInfo { generation, ..ListenerInfo::default() });
            self.free.push(&slot, 0).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Counts a listener among those of its namespace.
fn inhabit(namespaces: &mut BTreeMap<NamespaceId, Inhabitants>, known: &TrackedListener) {
    let opened_ns = known.opened_ns;
    let inhabitants = namespaces.entry(known.namespace).or_insert(Inhabitants { opened_ns, open: false });
    inhabitants.opened_ns = inhabitants.opened_ns.min(opened_ns);
    inhabitants.open |= !known.reported_closed;
}
