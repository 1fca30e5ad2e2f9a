//! The source without probes: the kernel's list of sockets (sock_diag), its counters in /proc, and owners. It needs no
//! rights, sees depths and drops only, and only at the time of reading.

mod connections;
mod coverage;
mod listeners;
mod netlink;
mod reachable;
mod refused;
mod requests;

use std::{
    collections::{HashMap, HashSet},
    io,
    time::{Duration, Instant},
};

use listentop_model::{
    connections::{ConnectionLists, IN_ALL, Listing, PER_LISTENER},
    coverage::Coverage,
    sample::{Cost, Host, Losses, NamespaceSample, Sample},
    shared::Shared,
};

use crate::errors::Shortage;

use super::{
    Source,
    coverage::{Entry, WithoutProbes, in_words},
    heap::Heap,
    lists::add_to_samples,
    machine, namespaces, owners,
    pace::Pace,
    waiting,
};
use coverage::Circumstances;
use listeners::NetnsSockets;
use reachable::ReachableNamespaces;

/// How often net.core.somaxconn is read: it seldom changes, and a namespace has to be entered for it.
const LIMITS_EVERY: Duration = Duration::from_secs(5);
/// Listeners and request sockets may each take a 25th of a core: 4 %.
const THRIFT: u32 = 25;

/// Why sock_diag cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel does not list TCP sockets.
    #[error("this kernel does not list its TCP sockets; 'modprobe tcp_diag' as root would help")]
    NoList,
    /// Anything else.
    #[error("the kernel's list of sockets cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl StartError {
    /// What there is too little of, if that is the reason.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        match self {
            Self::NoList => None,
            Self::Io(error) => Shortage::behind(error),
        }
    }
}

/// The kernel's list of sockets, read again and again.
pub struct SockDiagSource {
    namespaces: ReachableNamespaces,
    listeners_pace: Pace,
    requests_pace: Pace,
    lists_pace: Pace,
    /// So many connections of each listener are listed; 0: nobody asks.
    listed: u32,
    /// The last lists, by the listener's cookie.
    lists: HashMap<u64, ConnectionLists>,
    /// Inodes of the sockets that are listed, for the search for their holders.
    listed_inodes: HashSet<u64>,
    counters: Vec<NamespaceSample>,
    owners: owners::Watch,
    waiting: waiting::Watch,
    /// When net.core.somaxconn is read again.
    limits_due: Instant,
    /// Number of the scan that owners and namespaces were taken from last.
    scanned: u64,
    host: Host,
    heap: Heap,
    circumstances: Circumstances,
    /// Those that `entries` were made for.
    covered: Circumstances,
    entries: Vec<Entry>,
    /// The same in words.
    coverage: Vec<Coverage>,
}

impl std::fmt::Debug for SockDiagSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SockDiagSource").field("circumstances", &self.circumstances).finish_non_exhaustive()
    }
}

impl SockDiagSource {
    /// Begins to read. `without_probes`: why there are none, for the coverage.
    ///
    /// # Errors
    /// [`StartError`]: if the kernel cannot be asked for its listeners at all.
    pub fn start(without_probes: WithoutProbes) -> Result<Self, StartError> {
        let now = Instant::now();
        let mut reachable = ReachableNamespaces::open()?;
        match reachable.update(&namespaces::all()) {
            Some(error) if Shortage::behind(&error).is_some() => return Err(error.into()),
            _ => {}
        }
        let circumstances = Circumstances {
            without_probes,
            unseen: reachable.unseen(),
            sight: owners::Sight::of_machine(),
            listeners_every: None,
            requests_every: None,
            lists_every: None,
            no_counters: false,
        };
        let entries = coverage::of(&circumstances);
        let mut source = Self {
            namespaces: reachable,
            listeners_pace: Pace::new(now, THRIFT),
            requests_pace: Pace::new(now, THRIFT),
            lists_pace: Pace::new(now, THRIFT),
            listed: 0,
            lists: HashMap::new(),
            listed_inodes: HashSet::new(),
            counters: Vec::new(),
            owners: owners::Watch::start()?,
            waiting: waiting::Watch::start()?,
            limits_due: now,
            scanned: 0,
            host: machine::host(),
            heap: Heap::new(),
            coverage: in_words(&entries),
            entries,
            covered: circumstances.clone(),
            circumstances,
        };
        source.read(machine::monotonic_ns()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StartError::NoList,
            _ => error.into(),
        })?;
        let wanted = source.inodes();
        source.owners.first(wanted, Duration::from_millis(200));
        Ok(source)
    }

    /// Reads at every sample from now on, regardless of the cost: for tests that compare counts.
    #[must_use]
    pub fn at_every_sample(mut self) -> Self {
        self.listeners_pace.be_lavish();
        self.requests_pace.be_lavish();
        self.lists_pace.be_lavish();
        self
    }

    /// Coverage with its reasons as types.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn inodes(&self) -> HashSet<u64> {
        let namespaces = self.namespaces.by_inode.values();
        namespaces.flat_map(|sockets| &sockets.listeners).map(listeners::TrackedListener::inode).collect()
    }

    /// Takes in what the search for owners has found: owners and namespaces.
    fn take_scan(&mut self) {
        let listeners = || self.namespaces.by_inode.values().flat_map(|sockets| &sockets.listeners);
        let sought = listeners().any(|known| known.owner.is_sought());
        let wanted = || {
            let listeners = listeners().map(listeners::TrackedListener::inode);
            listeners.chain(self.listed_inodes.iter().copied()).collect()
        };
        let scan = self.owners.latest(wanted, sought);
        let again = std::mem::replace(&mut self.scanned, scan.number) == scan.number;
        if again {
            return;
        }
        // Coverage counts those that could not be opened.
        let _ = self.namespaces.update(&namespaces::scanned(scan));
        self.circumstances.sight.hidden = scan.hidden;
        self.circumstances.unseen = self.namespaces.unseen();
        for known in self.namespaces.by_inode.values_mut().flat_map(|sockets| &mut sockets.listeners) {
            let inode = known.inode();
            known.owner.update(inode, scan, false);
        }
    }

    /// Takes in who waits, and has it looked for again.
    fn take_surroundings(&mut self) {
        let namespaces = &self.namespaces;
        let listeners = || namespaces.by_inode.values().flat_map(|sockets| &sockets.listeners);
        let are_of_interest = || listeners().any(listeners::TrackedListener::is_of_interest);
        if self.waiting.update(are_of_interest, || listeners().map(listeners::TrackedListener::subject).collect()) {
            for known in self.namespaces.by_inode.values_mut().flat_map(|sockets| &mut sockets.listeners) {
                known.surround(self.waiting.known());
            }
        }
    }

    /// Reads net.core.somaxconn of each namespace that holds a listener, now and then.
    fn take_limits(&mut self, now: Instant) {
        if now < self.limits_due {
            return;
        }
        self.limits_due = now + LIMITS_EVERY;
        for (inode, sockets) in self.namespaces.by_inode.iter_mut().filter(|(_, it)| !it.listeners.is_empty()) {
            let file = self.namespaces.files.get(inode);
            sockets.limit(file.and_then(|file| namespaces::somaxconn(file, *inode)));
        }
    }

    /// Lists connections, as often as that costs little; otherwise the last lists stay.
    fn read_connections(&mut self, now_ns: u64) -> io::Result<()> {
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if self.listed == 0 || !self.lists_pace.is_due(begin) {
            return Ok(());
        }
        self.lists.clear();
        self.listed_inodes.clear();
        let scan = self.owners.current();
        for sockets in self.namespaces.by_inode.values_mut().filter(|sockets| !sockets.listeners.is_empty()) {
            self.lists.extend(sockets.connections(scan, now_ns, &mut self.listed_inodes)?);
        }
        for lists in self.lists.values_mut() {
            lists.waiting.connections.truncate(self.listed as usize);
            lists.unread.connections.truncate(self.listed as usize);
            lists.half_open.connections.truncate(self.listed as usize);
        }
        self.lists_pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        Ok(())
    }

    /// Reads listeners, and behind them the counters of their namespaces.
    fn read(&mut self, now_ns: u64) -> io::Result<()> {
        let (names, scan) = (namespaces::names(), self.owners.current());
        let unread = self.namespaces.pick(|sockets| sockets.refused.is_none());
        for sample in namespaces::sample(&unread, &scan.namespaces, &names) {
            if let (Some(sockets), Some(counters)) =
                (self.namespaces.by_inode.get_mut(&sample.id.inode), sample.counters)
            {
                sockets.begin_to_count(&counters);
            }
        }
        for sockets in self.namespaces.by_inode.values_mut() {
            sockets.read_listeners(now_ns)?;
        }
        let wanted = self.namespaces.pick(NetnsSockets::is_inhabited);
        self.counters = namespaces::sample(&wanted, &scan.namespaces, &names);
        for namespace in &self.counters {
            if let Some(sockets) = self.namespaces.by_inode.get_mut(&namespace.id.inode) {
                sockets.read_counters(namespace.counters.as_ref());
            }
        }
        self.circumstances.no_counters =
            !self.counters.is_empty() && self.counters.iter().all(|namespace| namespace.counters.is_none());
        Ok(())
    }
}

impl Source for SockDiagSource {
    fn sample(&mut self) -> io::Result<Sample> {
        self.take_scan();
        self.take_surroundings();
        self.take_limits(Instant::now());
        let monotonic_ns = machine::monotonic_ns();
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if self.listeners_pace.is_due(begin) {
            self.read(monotonic_ns)?;
            self.listeners_pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        }
        let (begin, cpu) = (Instant::now(), machine::thread_cpu());
        if self.requests_pace.is_due(begin) {
            for sockets in self.namespaces.by_inode.values_mut() {
                sockets.read_requests()?;
            }
            self.requests_pace.has_read(begin, machine::thread_cpu().saturating_sub(cpu));
        }
        self.read_connections(monotonic_ns)?;
        self.circumstances.lists_every = self.lists_pace.every().filter(|_| self.listed > 0);
        self.circumstances.listeners_every = self.listeners_pace.every();
        self.circumstances.requests_every = self.requests_pace.every();
        if self.covered != self.circumstances {
            self.covered.clone_from(&self.circumstances);
            self.entries = coverage::of(&self.circumstances);
            self.coverage = in_words(&self.entries);
        }
        let mut listeners = Shared::default();
        for (inode, sockets) in &mut self.namespaces.by_inode {
            listeners.extend(sockets.sample(*inode));
        }
        let listing = (self.listed > 0).then_some(Listing { per_listener: self.listed, in_all: IN_ALL, unlisted: 0 });
        if listing.is_some() {
            add_to_samples(self.lists.clone(), &mut listeners);
        }
        Ok(Sample {
            monotonic_ns,
            unix_ms: machine::unix_ms(),
            host: self.host.clone(),
            coverage: self.coverage.clone(),
            cost: Cost { probe_runs: None, probe_ns: None, cpu_ns: machine::cpu_ns(), rss_bytes: self.heap.resident() },
            losses: Losses::default(),
            namespaces: self.counters.clone(),
            listeners,
            listing,
            blame: None,
            marks: Vec::new(),
        })
    }

    fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    fn list_connections(&mut self, per_listener: u32) {
        self.listed = per_listener.min(PER_LISTENER);
        self.lists.clear();
        self.listed_inodes.clear();
    }

    fn name(&self) -> &'static str {
        "sock_diag, sampled"
    }
}
