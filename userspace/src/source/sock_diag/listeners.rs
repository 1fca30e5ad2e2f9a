//! One namespace's listeners: what sock_diag says of them, made into samples.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use listentop_model::{
    connections::ConnectionLists,
    sample::{
        Counts, Device, Distributions, DropsSample, GaugeSample, ListenerSample, NamespaceCounters, NamespaceId,
        Protocol,
    },
};

use super::{
    connections,
    netlink::{Diag, Dump, Entry, Family, Wanted},
    refused::{Certain, Refused},
    requests::{self, SynQueue, SynQueues},
};
use crate::source::{
    owners::{Owner, Scan},
    waiting::{self, Subject, Surroundings},
};

/// Passes through a list that changes meanwhile, at most.
const PASSES: u32 = 3;

/// What is remembered of a listener between two samples.
pub(super) struct TrackedListener {
    entry: Entry,
    protocol: Protocol,
    /// The interface that it is bound to.
    device: Option<Device>,
    opened_ns: Option<u64>,
    pub(super) owner: Owner,
    /// Who waits for it, and the descriptors of its process.
    pub(super) surroundings: Arc<Surroundings>,
    /// `sk_drops` with its wraps taken out; `None` where the kernel does not say.
    drops: Option<u64>,
    /// By how much that grew in the step under way.
    grown: u64,
    /// The certain part of that; `None` while nothing is certain.
    certain: Option<Certain>,
    syn_queue: Option<SynQueue>,
    /// Another socket listens at its address: only SO_REUSEPORT allows that.
    shard: bool,
    /// The last sample, which is returned again while it stays the same.
    last: Option<Arc<ListenerSample>>,
}

impl TrackedListener {
    /// Whether its surroundings are to be looked at soon: it may be new, or connections wait.
    pub(super) fn is_of_interest(&self) -> bool {
        self.surroundings.waiters.is_none() || self.entry.depth > 0
    }

    /// What it takes to look at its surroundings.
    pub(super) fn subject(&self) -> Subject {
        Subject {
            id: self.entry.cookie,
            inode: self.inode(),
            holders: self.owner.holders.clone(),
            accepting: Vec::new(),
            // Without probes no thread is known.
            awaited: Vec::new(),
            urgent: self.entry.depth > 0,
            // Without probes it is not seen whether somebody accepts.
            orphaned: false,
        }
    }

    /// Takes in what was found out about its surroundings.
    pub(super) fn surround(&mut self, known: &waiting::Known) {
        if let Some(found) = known.listeners.get(&self.entry.cookie).filter(|found| self.surroundings != **found) {
            self.surroundings.clone_from(found);
            self.last = None;
        }
    }

    /// Inode of its socket, by which /proc shows who holds it.
    pub(super) fn inode(&self) -> u64 {
        self.entry.inode.into()
    }
}

/// The sockets of one network namespace, and what is remembered of them between two samples.
pub(super) struct NetnsSockets {
    diag: Diag,
    /// Its cookie.
    pub(super) cookie: Option<u64>,
    /// Its listeners in the order in which the kernel listed them last.
    pub(super) listeners: Vec<TrackedListener>,
    /// What its counters show of refused attempts; `None` until they have been read.
    pub(super) refused: Option<Refused>,
    /// Its net.core.somaxconn; `None` if it cannot be read.
    somaxconn: Option<u32>,
    /// Its counters before its present listeners opened, if they were read then.
    pub(super) before_listeners: Option<NamespaceCounters>,
    /// Its counters when it had no listener, if they were read then.
    vacant: Option<NamespaceCounters>,
    /// Its last listener has just gone.
    vacated: bool,
    /// Its listeners have been read before: one that turns up now has opened since.
    begun: bool,
    /// When each half-open connection that is listed was seen first, by its cookie.
    half_open_since: HashMap<u64, u64>,
}

impl NetnsSockets {
    /// Those that `diag` lists.
    pub(super) fn new(diag: Diag) -> Self {
        Self {
            cookie: diag.cookie(),
            diag,
            listeners: Vec::new(),
            refused: None,
            somaxconn: None,
            before_listeners: None,
            vacant: None,
            vacated: false,
            begun: false,
            half_open_since: HashMap::new(),
        }
    }

    /// Its counters, read before its listeners are for the first time.
    pub(super) fn begin_to_count(&mut self, counters: &NamespaceCounters) {
        self.refused = Some(Refused::new(counters));
        self.vacant = Some(*counters);
    }

    /// Whether its counters are those of listeners: it has some, or had until now.
    pub(super) fn is_inhabited(&self) -> bool {
        self.vacated || !self.listeners.is_empty()
    }

    /// Reads its listeners. `now_ns`: when this is, on the monotonic clock.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read_listeners(&mut self, now_ns: u64) -> io::Result<()> {
        let mut entries = Vec::with_capacity(self.listeners.len());
        for _ in 0..PASSES {
            entries.clear();
            let dump = self.dump(Wanted::Listeners, |entry| entries.push(entry))?;
            // If a socket goes during a dump, the dump may skip the next one. A closed listener is missing in the
            // repetition too.
            if !dump.interrupted && (dump.pieces < 2 || self.knows_no_others(&entries)) {
                break;
            }
        }
        let opened_ns = std::mem::replace(&mut self.begun, true).then_some(now_ns);
        // The kernel keeps its order, so mostly nothing has to be looked up.
        if self.is_in_order(&entries) {
            for (known, entry) in self.listeners.iter_mut().zip(entries) {
                known.read(entry);
            }
            self.name_devices();
            return Ok(());
        }
        let were_none = self.listeners.is_empty();
        let mut before: HashMap<u64, TrackedListener> =
            self.listeners.drain(..).map(|known| (known.entry.cookie, known)).collect();
        let mut seen = HashSet::with_capacity(entries.len());
        // While others come and go, one may be listed twice.
        entries.retain(|entry| seen.insert(entry.cookie));
        let mut new = false;
        for entry in entries {
            let known = if let Some(mut known) = before.remove(&entry.cookie) {
                known.read(entry);
                known
            } else {
                new = true;
                TrackedListener::new(entry, opened_ns)
            };
            self.listeners.push(known);
        }
        match (were_none, self.listeners.is_empty()) {
            // What was there at the first reading may have been there before the counters were read.
            (true, false) => self.before_listeners = self.vacant.filter(|_| opened_ns.is_some()),
            (false, true) => self.vacated = true,
            _ => {}
        }
        self.name_devices();
        if new {
            self.mark_mptcp()?;
            self.mark_shards();
        }
        Ok(())
    }

    fn is_in_order(&self, entries: &[Entry]) -> bool {
        self.listeners.len() == entries.len()
            && self.listeners.iter().zip(entries).all(|(known, entry)| known.entry.cookie == entry.cookie)
    }

    /// Whether all the listeners that are known are among these.
    fn knows_no_others(&self, entries: &[Entry]) -> bool {
        self.is_in_order(entries) || {
            let seen: HashSet<u64> = entries.iter().map(|entry| entry.cookie).collect();
            self.listeners.iter().all(|known| seen.contains(&known.entry.cookie))
        }
    }

    /// Takes in its net.core.somaxconn.
    pub(super) fn limit(&mut self, somaxconn: Option<u32>) {
        if self.somaxconn != somaxconn {
            self.somaxconn = somaxconn;
            self.listeners.iter_mut().for_each(|known| known.last = None);
        }
    }

    /// Reads the SYN queues of its listeners.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn read_requests(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        // A request has its listener's family, also where a client of the other comes to a dual-stack listener.
        for family in self.families() {
            self.diag.dump(Wanted::Requests, family, |entry| found.push(entry))?;
        }
        let queues: SynQueues = requests::assign(&found, self.listeners.iter().map(|known| &known.entry));
        for known in &mut self.listeners {
            let queue = queues.get(&known.entry.cookie).copied().unwrap_or(Some(SynQueue::default()));
            if known.syn_queue != queue {
                known.syn_queue = queue;
                known.last = None;
            }
        }
        Ok(())
    }

    /// Lists the connections of its listeners, by the listener's cookie. `now_ns`: when this is. `inodes` gets those of
    /// the sockets that processes hold.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn connections(
        &mut self,
        scan: &Scan,
        now_ns: u64,
        inodes: &mut HashSet<u64>,
    ) -> io::Result<HashMap<u64, ConnectionLists>> {
        let mut found = Vec::new();
        for family in self.families() {
            self.diag.dump(Wanted::Connections, family, |entry| found.push(entry))?;
        }
        // While others come and go, one may be listed twice.
        let mut seen = HashSet::with_capacity(found.len());
        found.retain(|entry| seen.insert(entry.cookie));
        let mut requests = Vec::new();
        for family in self.families() {
            self.diag.dump(Wanted::Requests, family, |entry| requests.push(entry))?;
        }
        seen.clear();
        requests.retain(|entry| seen.insert(entry.cookie));
        let listeners = || self.listeners.iter().map(|known| &known.entry);
        let mut lists = connections::assign(&found, listeners(), (scan, now_ns), inodes);
        connections::add_half_open(&requests, listeners(), now_ns, &mut self.half_open_since, &mut lists);
        Ok(lists)
    }

    /// The families that its listeners have. Each costs a walk over all connections.
    fn families(&self) -> Vec<Family> {
        let families = [(Family::V4, true), (Family::V6, false)].into_iter();
        let has = |v4| self.listeners.iter().any(|known| known.entry.address.is_ipv4() == v4);
        families.filter(|(_, v4)| has(*v4)).map(|(family, _)| family).collect()
    }

    /// Takes the namespace's counters in, read after its listeners.
    pub(super) fn read_counters(&mut self, counters: Option<&NamespaceCounters>) {
        if std::mem::take(&mut self.vacated) {
            (self.vacant, self.before_listeners) = (counters.copied(), None);
        }
        let (Some(refused), Some(counters)) = (&mut self.refused, counters) else { return };
        let grown: Vec<(u64, u64)> = self
            .listeners
            .iter()
            .filter(|known| known.grown > 0)
            .map(|known| (known.entry.cookie, known.grown))
            .collect();
        let found = refused.step(counters, &grown);
        for known in &mut self.listeners {
            let more = match found.get(&known.entry.cookie) {
                Some(more) => *more,
                None if known.certain.is_none() => Certain::default(),
                None => continue,
            };
            let certain = known.certain.get_or_insert_default();
            certain.acks += more.acks;
            certain.ignored += more.ignored;
            known.last = None;
        }
    }

    /// Samples its listeners. `inode`: that of the namespace.
    pub(super) fn sample(&mut self, inode: u32) -> impl Iterator<Item = Arc<ListenerSample>> {
        let somaxconn = self.somaxconn;
        let id = NamespaceId { inode, cookie: self.cookie };
        self.listeners.iter_mut().map(move |known| known.sample(id, somaxconn))
    }

    /// Names the interfaces that listeners are bound to.
    fn name_devices(&mut self) {
        for known in &mut self.listeners {
            let index = known.entry.interface;
            if known.device.map_or(0, |device| device.index()) != index {
                known.device = (index != 0).then(|| self.diag.device(index));
                known.last = None;
            }
        }
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

    /// Marks its listeners that belong to MPTCP sockets: those share their inode.
    fn mark_mptcp(&mut self) -> io::Result<()> {
        let mut inodes = Vec::new();
        match self.dump(Wanted::MptcpListeners, |entry| inodes.push(entry.inode)) {
            // Kernels without MPTCP, or without its list of sockets, say that there is no such file, or that the
            // request is invalid.
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Err(error);
            }
            _ => {}
        }
        for known in &mut self.listeners {
            if known.protocol == Protocol::Tcp && known.entry.inode != 0 && inodes.contains(&known.entry.inode) {
                known.protocol = Protocol::Mptcp;
                known.last = None;
            }
        }
        Ok(())
    }

    /// Marks its listeners that share an address.
    fn mark_shards(&mut self) {
        let address = |entry: &Entry| (entry.address, entry.port, entry.interface);
        let mut sockets = HashMap::new();
        for known in &self.listeners {
            *sockets.entry(address(&known.entry)).or_insert(0) += 1;
        }
        for known in &mut self.listeners {
            // One that was a shard is one still when the others have gone.
            if !known.shard && sockets[&address(&known.entry)] > 1 {
                known.shard = true;
                known.last = None;
            }
        }
    }
}

impl TrackedListener {
    fn new(entry: Entry, opened_ns: Option<u64>) -> Self {
        // One that opened since the last sample began with 0.
        let drops = entry.drops.map(u64::from);
        Self {
            grown: drops.filter(|_| opened_ns.is_some()).unwrap_or(0),
            drops,
            entry,
            protocol: Protocol::Tcp,
            device: None,
            opened_ns,
            owner: Owner::default(),
            surroundings: Arc::default(),
            certain: None,
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

    fn sample(&mut self, namespace: NamespaceId, somaxconn: Option<u32>) -> Arc<ListenerSample> {
        let changed = self.owner.take_changed();
        if let Some(last) = self.last.as_ref().filter(|_| !changed) {
            return last.clone();
        }
        let sample = Arc::new(self.describe(namespace, somaxconn));
        self.last = Some(sample.clone());
        sample
    }

    fn describe(&self, namespace: NamespaceId, somaxconn: Option<u32>) -> ListenerSample {
        let Entry { depth, backlog, .. } = self.entry;
        ListenerSample {
            id: self.entry.cookie,
            netns: namespace.inode,
            net_cookie: namespace.cookie,
            protocol: self.protocol,
            address: self.entry.address,
            port: self.entry.port,
            device: self.device,
            v6only: self.entry.v6only,
            reuseport: self.shard,
            process: self.owner.process.clone(),
            holders: self.owner.holders.clone(),
            opened_ns: self.opened_ns,
            closed: false,
            gauges: GaugeSample {
                accept_depth: depth,
                backlog,
                syn_depth: self.syn_queue.map(|queue| queue.depth),
                syn_young: self.syn_queue.map(|queue| queue.young),
                ..GaugeSample::default()
            },
            counts: Counts::default(),
            distributions: Distributions::default(),
            drops: DropsSample {
                socket_drops: self.drops,
                ack_overflow: self.certain.map(|certain| certain.acks),
                not_attempts: self.certain.map(|certain| certain.ignored),
                ..DropsSample::default()
            },
            threads: Vec::new(),
            waiters: self.surroundings.waiters.clone(),
            // Whether somebody accepts is not seen without probes.
            likely_acceptors: None,
            descriptors: self.surroundings.descriptors,
            somaxconn,
            backlog_wanted: None,
            connections: None,
        }
    }
}
