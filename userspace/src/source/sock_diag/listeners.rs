//! One namespace's listeners: what sock_diag says of them, made into samples.

use std::{collections::HashMap, io, sync::Arc};

use listentop_model::sample::{
    AcceptQueueSample, AcceptsSample, ConnectionsSample, DropsSample, ListenerSample, NamespaceCounters, Protocol,
    ReadsSample, SynQueueSample, WritesSample,
};

use super::{
    netlink::{Dump, Entry, Family, Wanted},
    places::Place,
    requests::{self, SynQueue, SynQueues},
};
use crate::source::owners::Owner;

/// Passes through a list that changes meanwhile, at most.
const PASSES: u32 = 3;

/// What is remembered of a listener between two samples.
pub(super) struct Known {
    entry: Entry,
    protocol: Protocol,
    opened_ns: Option<u64>,
    pub(super) owner: Owner,
    /// `sk_drops` with its wraps taken out; `None` where the kernel does not say.
    drops: Option<u64>,
    /// By how much that grew in the step under way.
    grown: u64,
    /// Refused final ACKs that are certain; `None` while they cannot be known.
    acks: Option<u64>,
    syn_queue: Option<SynQueue>,
    /// Another socket listens at its address: only SO_REUSEPORT allows that.
    shard: bool,
    /// The last sample, given out again for as long as it stays the same.
    last: Option<Arc<ListenerSample>>,
}

impl Known {
    /// Inode of its socket, by which /proc shows who holds it.
    pub(super) fn inode(&self) -> u64 {
        self.entry.inode.into()
    }
}

impl Place {
    /// Reads its listeners. `now_ns`: when this is, on the monotonic clock.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read_listeners(&mut self, now_ns: u64) -> io::Result<()> {
        let mut entries = HashMap::new();
        let mut order = Vec::new();
        for _ in 0..PASSES {
            (entries, order) = (HashMap::with_capacity(self.listeners.len()), Vec::with_capacity(self.listeners.len()));
            let dump = self.dump(Wanted::Listeners, |entry| {
                let cookie = entry.cookie;
                if entries.insert(cookie, entry).is_none() {
                    order.push(cookie);
                }
            })?;
            // When a socket before it goes, the next one may be skipped. One that has closed is missing again.
            let complete = dump.pieces < 2 || self.listeners.keys().all(|cookie| entries.contains_key(cookie));
            if complete && !dump.interrupted {
                break;
            }
        }
        let begun = std::mem::replace(&mut self.begun, true);
        self.listeners.retain(|cookie, _| entries.contains_key(cookie));
        let mut new = false;
        for (cookie, entry) in entries {
            if let Some(known) = self.listeners.get_mut(&cookie) {
                known.read(entry);
                continue;
            }
            new = true;
            self.listeners.insert(cookie, Known::new(entry, begun.then_some(now_ns)));
        }
        if new {
            self.tell_mptcp()?;
        }
        if new || order.len() != self.order.len() {
            self.tell_shards();
        }
        self.order = order;
        Ok(())
    }

    /// Reads the SYN queues of its listeners.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read_requests(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        self.dump(Wanted::Requests, |entry| found.push(entry))?;
        let queues: SynQueues = requests::assign(&found, self.listeners.values().map(|known| &known.entry));
        for (cookie, known) in &mut self.listeners {
            let queue = queues.get(cookie).copied().unwrap_or(Some(SynQueue::default()));
            if known.syn_queue != queue {
                known.syn_queue = queue;
                known.last = None;
            }
        }
        Ok(())
    }

    /// Takes the namespace's counters in, read after its listeners.
    pub(super) fn read_counters(&mut self, counters: Option<&NamespaceCounters>) {
        let (Some(acks), Some(counters)) = (&mut self.acks, counters) else { return };
        let grown: Vec<(u64, u64)> = self
            .listeners
            .iter()
            .filter(|(_, known)| known.grown > 0)
            .map(|(cookie, known)| (*cookie, known.grown))
            .collect();
        for (cookie, certain) in acks.step(counters, &grown) {
            if let Some(known) = self.listeners.get_mut(&cookie) {
                known.acks = Some(known.acks.unwrap_or(0) + certain);
                known.last = None;
            }
        }
    }

    /// Samples its listeners.
    pub(super) fn sample(&mut self, netns: u32) -> impl Iterator<Item = Arc<ListenerSample>> {
        let inferred = self.acks.is_some();
        let listeners = &mut self.listeners;
        self.order.iter().filter_map(move |cookie| {
            let known = listeners.get_mut(cookie)?;
            if inferred && known.acks.is_none() {
                known.acks = Some(0);
                known.last = None;
            }
            Some(known.sample(netns))
        })
    }

    fn dump(&mut self, wanted: Wanted, mut each: impl FnMut(Entry)) -> io::Result<Dump> {
        let first = self.diag.dump(wanted, Family::V4, &mut each)?;
        let second = match self.diag.dump(wanted, Family::V6, &mut each) {
            Ok(dump) => dump,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Dump::default(),
            Err(error) => return Err(error),
        };
        Ok(Dump { pieces: first.pieces.max(second.pieces), interrupted: first.interrupted || second.interrupted })
    }

    /// Tells which of its listeners belong to MPTCP sockets: those share their inode.
    fn tell_mptcp(&mut self) -> io::Result<()> {
        let mut inodes = Vec::new();
        match self.dump(Wanted::MptcpListeners, |entry| inodes.push(entry.inode)) {
            // Kernels without MPTCP, or without its list of sockets, say that there is no such file, or that the request is invalid.
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Err(error);
            }
            _ => {}
        }
        for known in self.listeners.values_mut() {
            if known.protocol == Protocol::Tcp && known.entry.inode != 0 && inodes.contains(&known.entry.inode) {
                known.protocol = Protocol::Mptcp;
                known.last = None;
            }
        }
        Ok(())
    }

    /// Tells which of its listeners share an address.
    fn tell_shards(&mut self) {
        let place = |entry: &Entry| (entry.address, entry.port, entry.interface);
        let mut sockets = HashMap::new();
        for known in self.listeners.values() {
            *sockets.entry(place(&known.entry)).or_insert(0) += 1;
        }
        for known in self.listeners.values_mut() {
            // One that was a shard is one still when the others have gone.
            if !known.shard && sockets[&place(&known.entry)] > 1 {
                known.shard = true;
                known.last = None;
            }
        }
    }
}

impl Known {
    fn new(entry: Entry, opened_ns: Option<u64>) -> Self {
        // One that opened since the last sample began with 0.
        let drops = entry.drops.map(u64::from);
        Self {
            grown: drops.filter(|_| opened_ns.is_some()).unwrap_or(0),
            drops,
            entry,
            protocol: Protocol::Tcp,
            opened_ns,
            owner: Owner::default(),
            acks: None,
            syn_queue: None,
            shard: false,
            last: None,
        }
    }

    fn read(&mut self, entry: Entry) {
        self.grown = 0;
        if self.entry == entry {
            return;
        }
        if let (Some(total), Some(last), Some(now)) = (&mut self.drops, self.entry.drops, entry.drops) {
            // 32 bits that wrap.
            self.grown = now.wrapping_sub(last).into();
            *total += self.grown;
        }
        self.entry = entry;
        self.last = None;
    }

    fn sample(&mut self, netns: u32) -> Arc<ListenerSample> {
        let changed = self.owner.take_changed();
        if let Some(last) = self.last.as_ref().filter(|_| !changed) {
            return last.clone();
        }
        let sample = Arc::new(self.describe(netns));
        self.last = Some(sample.clone());
        sample
    }

    fn describe(&self, netns: u32) -> ListenerSample {
        let Entry { depth, backlog, .. } = self.entry;
        ListenerSample {
            id: self.entry.cookie,
            netns,
            protocol: self.protocol,
            address: self.entry.address,
            port: self.entry.port,
            v6only: self.entry.v6only,
            reuseport: self.shard,
            process: self.owner.process.clone(),
            holders: self.owner.holders,
            opened_ns: self.opened_ns,
            closed: false,
            accept_queue: AcceptQueueSample {
                depth,
                backlog,
                peak: None,
                enqueued: None,
                aborted: None,
                migrated: None,
                oldest_waiting_ns: None,
                wait: None,
            },
            syn_queue: SynQueueSample {
                depth: self.syn_queue.map(|queue| queue.depth),
                young: self.syn_queue.map(|queue| queue.young),
                ..SynQueueSample::default()
            },
            drops: DropsSample { socket_drops: self.drops, ack_overflow: self.acks, ..DropsSample::default() },
            accepts: AcceptsSample::default(),
            connections: ConnectionsSample::default(),
            reads: ReadsSample::default(),
            writes: WritesSample::default(),
            threads: Vec::new(),
        }
    }
}
