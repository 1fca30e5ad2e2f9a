//! The live source: probes in the running kernel.

mod bpf;
mod cost;
mod coverage;
mod distributions;
mod events;
mod hooks;
mod kallsyms;
mod listeners;
mod loader;
mod log;
mod offsets;
mod shared;
mod signatures;
mod tables;
mod threads;
mod tracefs;

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf,
    maps::{HashMap as BpfHashMap, MapData, Queue},
    programs::Program,
};
use listentop_abi::{
    limits,
    listener::{HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerInfo, Peaks, WALKED},
    loss::{LOSSES, Loss},
    settings,
    thread::ThreadRecord,
};
use listentop_btf::{BtfError, KernelBtf};
use listentop_model::{
    coverage::Coverage,
    sample::{Cost, Host, Losses, Sample},
};

use super::{Source, machine, namespaces, owners};
use cost::ProbeCost;
pub use events::{Event, Kind};
pub use hooks::Trial;
use listeners::Listeners;
use loader::{iterator, load};
use log::Log;
use shared::{SharedArray, WindowedArray};
use tables::Tables;
use threads::Threads;

/// How the probes are to be set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Listeners that can be tracked; `None`: as many as are found, and room for as many again, 1,024 at least.
    pub max_listeners: Option<u32>,
    /// Connections that can be tracked at a time.
    pub max_connections: u32,
    /// (listener, thread) pairs that can be tracked at a time.
    pub max_threads: u32,
    /// Refused clients that are remembered, to count each once.
    pub max_dropped_clients: u32,
    /// Have the kernel time every run of the probes, which makes each a little slower; otherwise it times some.
    pub probe_stats: bool,
    /// Attach programs that return at once, to measure the floor under the probes' cost.
    pub empty: bool,
    /// Print the probes' log (aya-log), and what they lost, on stderr.
    pub log_probes: bool,
    /// Probes of one kind only; `None`: for each event the best that run here.
    pub kind: Option<Kind>,
    /// Hooks (`fexit/inet_csk_accept`) that are to be taken as refused by the kernel, to see what is lost with them.
    pub refuse: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_listeners: None,
            max_connections: limits::DEFAULT_CONNECTIONS,
            max_threads: limits::DEFAULT_THREADS,
            max_dropped_clients: limits::DROPPED_CLIENTS,
            probe_stats: false,
            empty: false,
            log_probes: false,
            kind: None,
            refuse: Vec::new(),
        }
    }
}

/// Why the probes cannot be attached at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No kernel BTF.
    #[error("this kernel's types cannot be read ({0}); {remedy}", remedy = .0.remedy())]
    Btf(#[from] BtfError),
    /// A structure is not what the probes expect.
    #[error("this kernel is not supported: {0}")]
    Unsupported(String),
    /// No bpf(2).
    #[error(
        "there is no bpf(2) here: this kernel was built without BPF (CONFIG_BPF_SYSCALL), or a seccomp filter refuses the call (a container's \
         profile: allow it there)"
    )]
    NoBpf,
    /// Rights are missing.
    #[error(
        "not permitted to load BPF programs ({0}); {remedy}",
        remedy = crate::rights::remedy_for_probes()
    )]
    NotPermitted(String),
    /// The kernel refuses something essential.
    #[error("the probes cannot be attached: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

/// Sizes that the maps were made with.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    slots: u32,
    shard_shift: u32,
    cpus: u32,
}

impl Geometry {
    fn new(slots: u32) -> Self {
        let cpus = aya::util::nr_cpus().map_or(1, u32::from);
        // Many listeners share the load; one record each is enough then, and memory matters more.
        let shards = if slots > 4096 { 1 } else { cpus.next_power_of_two().min(limits::MAX_SHARDS) };
        Self { slots, shard_shift: shards.ilog2(), cpus }
    }

    fn shards(self) -> u32 {
        1 << self.shard_shift
    }

    /// Whether each CPU has statistics records of its own, and programs at tracepoints are not preempted: on a
    /// real-time kernel they are.
    fn exclusive(self) -> bool {
        self.shards() >= self.cpus && !std::path::Path::new("/sys/kernel/realtime").exists()
    }
}

/// What the probes are fitted to.
struct Machine {
    kernel: KernelBtf,
    btf: Btf,
    /// Network namespaces, by a file that leads into each.
    namespaces: Vec<PathBuf>,
    /// Where the functions lie that discard packets.
    ranges: kallsyms::Ranges,
}

impl Machine {
    fn read() -> Result<Self, StartError> {
        thread::scope(|scope| {
            // Beside the rest: the kernel takes longer to write its 200,000 symbols than to write its types.
            let ranges = scope.spawn(kallsyms::discarding);
            let kernel = KernelBtf::from_kernel()?;
            let btf = Btf::from_sys_fs().map_err(|error| StartError::Unsupported(error.to_string()))?;
            let namespaces = namespaces::all().into_values().collect();
            // Unknown is what a thread that failed tells, too.
            Ok(Self { kernel, btf, namespaces, ranges: ranges.join().unwrap_or_default() })
        })
    }
}

/// Probes that are attached, and everything needed to read them. Dropping it detaches them.
pub struct LiveSource {
    // Programs stay attached for as long as this lives.
    ebpf: Ebpf,
    poll: OwnedFd,
    losses: SharedArray<u64>,
    listeners: Listeners,
    threads: Threads,
    owners: owners::Watch,
    host: Host,
    coverage: Vec<Coverage>,
    trials: Vec<Trial>,
    probe_cost: ProbeCost,
    /// Accept queues that could not be taken over to their end.
    unfinished_queues: u64,
    /// So many refused clients are remembered for certain.
    clients_remembered: u64,
    programs: Vec<String>,
    /// Goes on for as long as this lives.
    _log: Option<Log>,
}

impl std::fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSource").field("programs", &self.programs).finish_non_exhaustive()
    }
}

impl LiveSource {
    /// Loads and attaches the probes, and takes over what exists already.
    ///
    /// # Errors
    /// [`StartError`]: only what makes measuring impossible; a hook that cannot attach shows in the coverage instead.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        Self::try_start(options, &mut Vec::new())
    }

    /// As [`LiveSource::start`]; `trials` tells every hook that was tried, also if it fails.
    ///
    /// # Errors
    /// As [`LiveSource::start`].
    pub fn try_start(options: &Options, trials: &mut Vec<Trial>) -> Result<Self, StartError> {
        let machine = Machine::read()?;
        let slots = options.max_listeners.unwrap_or(limits::DEFAULT_LISTENERS);
        let mut source = Self::attach(options, &machine, slots, trials)?;
        let overflow = source.losses.read(Loss::Listeners as u32);
        if overflow > 0 && options.max_listeners.is_none() {
            // More listeners than the default has room for: once more with room for twice as many as there are.
            let needed = (u64::from(slots) + overflow) * 2;
            drop(source);
            let slots = u32::try_from(needed).unwrap_or(u32::MAX / 2).next_power_of_two();
            source = Self::attach(options, &machine, slots, trials)?;
        }
        let wanted = source.listeners.inodes();
        source.owners.first(wanted, Duration::from_millis(200));
        Ok(source)
    }

    fn attach(options: &Options, machine: &Machine, slots: u32, trials: &mut Vec<Trial>) -> Result<Self, StartError> {
        let Machine { kernel, btf, namespaces, ranges } = machine;
        let geometry = Geometry::new(slots);
        let receive_ranges_known = kallsyms::known(ranges);
        let mut ebpf = load(options, kernel, btf, geometry, ranges)?;
        fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a MapData, StartError> {
            use aya::maps::Map;
            match ebpf.map(name) {
                Some(Map::Array(data) | Map::HashMap(data) | Map::Queue(data)) => Ok(data),
                _ => Err(StartError::Refused(format!("the object has no map {name}"))),
            }
        }
        let shared = |error| StartError::Io("a map cannot be mapped", error);
        let info = SharedArray::<ListenerInfo>::map(map(&mut ebpf, "INFO")?.fd().as_fd(), slots).map_err(shared)?;
        let records = slots << geometry.shard_shift;
        let counters = map(&mut ebpf, "COUNTERS")?.fd().as_fd();
        let counters = SharedArray::<ListenerCounters>::map(counters, records).map_err(shared)?;
        let handshakes = map(&mut ebpf, "HANDSHAKES")?.fd().as_fd();
        let handshakes = SharedArray::<HandshakeCounters>::map(handshakes, records).map_err(shared)?;
        let distributions = map(&mut ebpf, "DISTRIBUTIONS")?.fd().as_fd();
        let distributions = WindowedArray::<ListenerDistributions>::new(distributions, records).map_err(shared)?;
        let depth = slots * geometry.cpus;
        let peaks = SharedArray::<Peaks>::map(map(&mut ebpf, "PEAKS")?.fd().as_fd(), depth).map_err(shared)?;
        let map_losses =
            |ebpf: &mut Ebpf| SharedArray::<u64>::map(map(ebpf, "LOSSES")?.fd().as_fd(), LOSSES).map_err(shared);
        let losses = map_losses(&mut ebpf)?;
        let log = if options.log_probes {
            let losses = map_losses(&mut ebpf)?;
            Some(Log::start(&mut ebpf, losses).map_err(StartError::Refused)?)
        } else {
            None
        };
        let taken = |name: &'static str, ebpf: &mut Ebpf| {
            ebpf.take_map(name).ok_or_else(|| StartError::Refused(format!("the object has no map {name}")))
        };
        let refused = |error: aya::maps::MapError| StartError::Refused(error.to_string());
        let mut free = Queue::<MapData, u32>::try_from(taken("FREE_SLOTS", &mut ebpf)?).map_err(refused)?;
        for slot in 0..slots {
            free.push(&slot, 0).map_err(refused)?;
        }
        let opened = |error| StartError::Io("a map cannot be opened", error);
        let records = map(&mut ebpf, "THREADS")?.fd().as_fd();
        let records = SharedArray::<ThreadRecord>::map(records, options.max_threads).map_err(shared)?;
        let index = BpfHashMap::try_from(taken("THREAD_INDEX", &mut ebpf)?).map_err(refused)?;
        let free_threads = Queue::try_from(taken("FREE_THREADS", &mut ebpf)?).map_err(refused)?;
        let threads = Threads::new(records, options.max_threads, index, free_threads).map_err(refused)?;

        // The iterators are loaded before anything is attached, so that the time between attaching and their work is
        // short.
        let tables = map(&mut ebpf, "LISTENERS")?.fd().as_fd().try_clone_to_owned().map_err(opened)?;
        let poll = iterator(&mut ebpf, "poll", "bpf_map_elem", btf, Some(&tables))?;
        let walk = iterator(&mut ebpf, "walk_queues", "bpf_map_elem", btf, Some(&tables))?;
        let listening = iterator(&mut ebpf, "find_listeners", "tcp", btf, None)?;
        let connected = iterator(&mut ebpf, "find_connections", "tcp", btf, None)?;

        // On a thread of its own, because it may need a mount namespace of its own.
        let attach = || hooks::attach(&mut ebpf, btf, kernel, options.kind, &options.refuse);
        let attached = thread::scope(|scope| scope.spawn(attach).join())
            .map_err(|_| StartError::Refused("the attaching thread failed".to_owned()))?
            .map_err(|(error, tried)| {
                *trials = tried;
                error
            })?;
        trials.clone_from(&attached.trials);
        let unseen = namespaces::unseen();
        // Until here, and where it cannot be, counters are added to atomically.
        let exclusive = if geometry.exclusive() && !attached.uses_functions() { settings::EXCLUSIVE } else { 0 };
        let settings = exclusive | attached.uring_settings();
        change_settings(&mut ebpf, settings)?;
        // Programs that return at once take nothing over.
        let visited: &[_] = if options.empty { &[] } else { namespaces };
        let visit = |sockets: &OwnedFd| {
            for namespace in visited {
                // One that has gone meanwhile has nothing to take over; coverage tells of those that may not be
                // entered.
                let _ = namespaces::inside(namespace, || bpf::run_iterator(sockets.as_fd()));
            }
        };
        visit(&listening);
        let unfinished_queues = take_over_queues(&walk, &info, geometry)
            .map_err(|error| StartError::Io("the accept queues cannot be read", error))?;
        // After the queues: what leaves one before it has been walked is open by now.
        visit(&connected);
        change_settings(&mut ebpf, settings | settings::STARTED)?;
        // An accept that ended between the two without a record has made none.
        visit(&connected);
        drop((listening, walk, connected));
        for name in ["find_listeners", "walk_queues", "find_connections"] {
            if let Some(Program::Iter(program)) = ebpf.program_mut(name) {
                // They have done their work; what is left in the kernel should be what still works.
                let _ = program.unload();
            }
        }

        let probe_cost = ProbeCost::start(options.probe_stats)
            .map_err(|error| StartError::Io("the probes cannot be timed", error))?;
        let mut source = Self {
            poll,
            losses,
            listeners: Listeners::new(
                Tables { info, counters, handshakes, distributions, peaks, geometry },
                free,
                !attached.accepts_in_vain().is_empty(),
            ),
            threads,
            owners: owners::Watch::start().map_err(|error| StartError::Io("no thread can be started", error))?,
            host: machine::host(),
            coverage: coverage::of(&attached, probe_cost.timing(), receive_ranges_known, unseen.as_deref()),
            trials: attached.trials,
            probe_cost,
            unfinished_queues,
            clients_remembered: options.max_dropped_clients.saturating_sub(limits::READY_PLACES * geometry.cpus).into(),
            programs: ebpf
                .programs()
                .filter(|(_, program)| program.fd().is_ok())
                .map(|(name, _)| name.to_owned())
                .collect(),
            ebpf,
            _log: log,
        };
        source.run_poll().map_err(|error| StartError::Io("the listeners cannot be read", error))?;
        source.listeners.discover();
        Ok(source)
    }

    fn read_all(&mut self) -> io::Result<Sample> {
        // First, because timing the probes may take a moment, and the rest is to be of one instant.
        let (missed_runs, cost) = self.cost();
        let scan = {
            let listeners = &self.listeners;
            self.owners.latest(|| listeners.inodes(), listeners.has_ownerless())
        };
        let names = namespaces::names();
        bpf::run_iterator(self.poll.as_fd())?;
        let monotonic_ns = machine::monotonic_ns();
        self.listeners.discover();
        // Right behind the sockets' own drop counters: what is dropped in between looks unexplained for a moment.
        let namespaces = namespaces::sample(&self.listeners.namespaces(), &scan.namespaces, &names);
        self.threads.refresh(Instant::now())?;
        self.listeners.assign_owners(scan);
        let hidden = scan.hidden;
        let listeners = self.listeners.sample(monotonic_ns, &self.threads, &self.coverage)?;
        self.listeners.recycle(&mut self.threads)?;
        coverage::note_hidden_owners(&mut self.coverage, hidden);
        if self.listeners.clients() > self.clients_remembered {
            coverage::note_forgotten_clients(&mut self.coverage);
        }
        Ok(Sample {
            monotonic_ns,
            unix_ms: machine::unix_ms(),
            host: self.host.clone(),
            coverage: self.coverage.clone(),
            cost,
            losses: self.losses(missed_runs),
            namespaces,
            listeners,
        })
    }

    /// Every hook that was tried at the start, and what came of it.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    fn run_poll(&self) -> io::Result<()> {
        bpf::run_iterator(self.poll.as_fd())
    }

    fn losses(&self, missed_runs: u64) -> Losses {
        let counted = counted_losses(&self.losses);
        Losses {
            missed_runs,
            unseen: self.listeners.unseen() + counted.unseen,
            other: self.unfinished_queues + counted.other,
            ..counted
        }
    }

    fn cost(&mut self) -> (u64, Cost) {
        let (ebpf, programs) = (&self.ebpf, &self.programs);
        let statistics = || {
            let mut total = bpf::ProgramRuns::default();
            for name in programs {
                let Some(Ok(fd)) = ebpf.program(name).map(Program::fd) else { continue };
                if let Ok(runs) = bpf::program_runs(fd.as_fd()) {
                    total.runs += runs.runs;
                    total.ns += runs.ns;
                    total.missed += runs.missed;
                }
            }
            total
        };
        let timed = self.probe_cost.read(statistics);
        let missed = statistics().missed;
        let cost = Cost {
            probe_runs: timed.map(|(runs, _)| runs),
            probe_ns: timed.map(|(_, ns)| ns),
            cpu_ns: machine::cpu_ns(),
            rss_bytes: machine::resident_bytes(),
        };
        (missed, cost)
    }
}

impl Source for LiveSource {
    fn sample(&mut self) -> io::Result<Sample> {
        self.read_all()
    }

    fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    fn name(&self) -> &'static str {
        "live"
    }
}

/// Tells the probes what has changed ([`settings`]).
fn change_settings(ebpf: &mut Ebpf, value: u64) -> Result<(), StartError> {
    let map = ebpf.map_mut(".bss").ok_or_else(|| StartError::Refused("the object has no settings".to_owned()))?;
    let map = aya::maps::Array::<_, u64>::try_from(map);
    map.and_then(|mut map| map.set(0, &value, 0)).map_err(|error| StartError::Refused(error.to_string()))
}

/// What the probes themselves count as lost.
fn counted_losses(losses: &SharedArray<u64>) -> Losses {
    let loss = |loss: Loss| losses.read(loss as u32);
    Losses {
        listeners: loss(Loss::Listeners),
        connections: loss(Loss::Connections),
        threads: loss(Loss::Threads),
        missed_runs: 0,
        unseen: loss(Loss::UnseenEnd),
        ambiguous: loss(Loss::AmbiguousShard),
        other: loss(Loss::UnknownChild),
    }
}

/// Takes over the connections that wait already, stretch by stretch until every queue is done. Returns how many queues
/// are not, after as many passes as are reasonable: the connections behind are counted when they are accepted, without
/// a wait.
fn take_over_queues(walk: &OwnedFd, info: &SharedArray<ListenerInfo>, geometry: Geometry) -> io::Result<u64> {
    let unfinished = |slot: &u32| {
        let info = info.read(*slot);
        info.cookie != 0 && info.closed_ns == 0 && info.opened_ns == 0 && info.cursor != WALKED
    };
    for _ in 0..limits::QUEUE_PASSES {
        bpf::run_iterator(walk.as_fd())?;
        if !(0..geometry.slots).any(|slot| unfinished(&slot)) {
            return Ok(0);
        }
    }
    Ok((0..geometry.slots).filter(unfinished).count() as u64)
}

/// Socket inodes, for the search of owners.
type Inodes = HashSet<u64>;
