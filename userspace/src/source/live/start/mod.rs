//! Starting: the object is loaded, its maps are mapped, its programs attached, and what exists is taken over.

pub(crate) mod kallsyms;
pub(in crate::source::live) mod loader;
pub(crate) mod machine;
pub(in crate::source::live) mod maps;
pub(in crate::source::live) mod takeover;

use std::{os::fd::OwnedFd, thread, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, Queue},
};
use listentop_abi::{limits, loss::Loss, settings};
use nix::sys::resource::{Resource, getrlimit};

use loader::{ITERATORS, Need, load, visitor};
use machine::{Geometry, Machine};
use takeover::Takeover;

use super::{
    Level, LiveSource, Options, Trial,
    adjust::{Adjusting, Resume},
    attach::{
        self, Attached, Wanted,
        coverage::{self, Circumstances},
        links::Links,
        preload::{Refused, preload},
        programs::KernelPrograms,
    },
    blame::{self, Apart, Blame},
    read::{cost::ProbeCost, listeners::Listeners, lists::Lists, log::Log, threads::Threads, unread::Walk},
    visitor::{Visitor, Visitors},
};
use crate::source::live::error::{NO_THREAD, StartError};
use crate::{
    errors::Shortage,
    source::{
        coverage::Reason, devices::Devices, heap::Heap, machine as host, namespaces, owners, uninhabited::Uninhabited,
        waiting,
    },
};

/// How long the start waits for the owners of listeners.
const OWNERS_PATIENCE: Duration = Duration::from_millis(200);

impl LiveSource {
    /// Loads and attaches the probes, and takes over what exists already.
    ///
    /// # Errors
    /// [`StartError`]: only what makes measuring impossible. Coverage shows the hooks that cannot be attached.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        Self::try_start(options, &mut Vec::new())
    }

    /// As [`LiveSource::start`]; `trials` gets every hook that was tried, also if the start fails.
    ///
    /// # Errors
    /// As [`LiveSource::start`].
    pub fn try_start(options: &Options, trials: &mut Vec<Trial>) -> Result<Self, StartError> {
        check_descriptors(options)?;
        let machine = Machine::read()?;
        let slots = options.max_listeners.unwrap_or(limits::DEFAULT_LISTENERS);
        let mut source = Self::with_slots(options, &machine, slots, trials)?;
        let overflow = source.losses.read(Loss::Listeners as u32);
        if overflow > 0 && options.max_listeners.is_none() {
            // More listeners than the default has room for: once more with room for twice as many as there are.
            let needed = (u64::from(slots) + overflow) * 2;
            drop(source);
            let slots = u32::try_from(needed).unwrap_or(u32::MAX / 2).next_power_of_two();
            source = Self::with_slots(options, &machine, slots, trials)?;
        }
        let wanted = source.listeners.inodes();
        source.owners.first(wanted, OWNERS_PATIENCE);
        Ok(source)
    }

    fn with_slots(
        options: &Options,
        machine: &Machine,
        slots: u32,
        trials: &mut Vec<Trial>,
    ) -> Result<Self, StartError> {
        let geometry = Geometry::new(slots, &machine.kernel);
        let mut ebpf = load(options, machine, geometry)?;
        let apart = options.blame_later.then(|| Apart::of(&ebpf, options, geometry)).transpose()?;
        let tables = maps::tables(&ebpf, geometry)?;
        if !options.blame {
            Blame::discard(&mut ebpf);
        }
        let losses = maps::losses(&ebpf)?;
        let log = options.log_probes.then(|| start_log(&mut ebpf)).transpose()?;
        let (free, threads, refused) = prepare(&mut ebpf, options, machine, geometry)?;

        let visitors = Visitors { btf: &machine.btf, refuse: &options.refuse };
        let table = maps::descriptor(&ebpf, "LISTENERS")?.try_clone_to_owned();
        let table = table.map_err(|error| StartError::Io("a map cannot be opened", error))?;
        let poll = visitor(&mut ebpf, "poll", visitors, Some(&table))?.by(limits::POLLED_AT_ONCE);
        // What waits unread is of the highest level.
        let reads = options.adjustable || options.level == Level::All;
        let walk = reads.then(|| walk(&mut ebpf, visitors)).transpose();
        let half_open = visitor(&mut ebpf, "list_half_open", visitors, None);
        let no_half_open = half_open.as_ref().err().map(|error| Reason::NotListed(error.to_string()));
        let lists = lists(&mut ebpf, reads, visitors, (&table, half_open.ok()), geometry);
        let resume = options.adjustable.then(|| Resume::load(&mut ebpf, visitors));
        let takeover = Takeover::load(&mut ebpf, visitors, &table)?;

        let mut links = options.adjustable.then(Links::default);
        let attached = attach_hooks(&mut ebpf, options, machine, (links.as_mut(), refused), trials)?;
        let unseen = namespaces::unseen();
        // Where the level may change, no program may count on being alone that would not be at every level.
        let exclusive = geometry.exclusive && !attached.may_use_functions();
        let settings = settings_for(&attached, exclusive);
        maps::change_settings(&mut ebpf, settings)?;
        // Programs that return at once take nothing over.
        let visited: Vec<_> = if options.empty { Vec::new() } else { machine.namespaces.values().collect() };
        let unfinished_queues = takeover.run(&mut ebpf, &visited, settings, &tables.info, geometry)?;

        let blame =
            options.blame.then(|| Blame::attach(&mut ebpf, options, machine, geometry.slots, &blame::start_unwinder()));
        let probe_cost = ProbeCost::start(options.probe_stats)
            .map_err(|error| StartError::Io("the probes cannot be timed", error))?;
        let circumstances = Circumstances {
            timing: probe_cost.timing().clone(),
            addresses_known: kallsyms::known(&machine.ranges),
            unseen,
            not_walked: walk.as_ref().err().map(|error| Reason::NotWalked(error.to_string())),
            not_listed: lists.as_ref().err().map(|error| Reason::NotListed(error.to_string())),
            no_half_open,
            walks_by_test_runs: poll.is_by_test_runs(),
        };
        let entries = coverage::of(&attached, &circumstances);
        let mut listeners = Listeners::new(tables, walk.ok().flatten(), free, attached.parts());
        let mut lists = lists.ok();
        listeners.see_reads(options.level == Level::All);
        lists.iter_mut().for_each(|lists| lists.see_reads(options.level == Level::All));
        let adjusting =
            links.zip(resume).map(|(links, resume)| Adjusting::new(options.level, links, resume, exclusive));
        let mut source = Self {
            poll,
            losses,
            listeners,
            lists,
            adjusting,
            threads,
            uninhabited: Uninhabited::default(),
            names: namespaces::Names::default(),
            devices: Devices::default(),
            files: machine.namespaces.clone(),
            owners: owners::Watch::start().map_err(|error| StartError::Io(NO_THREAD, error))?,
            sight: owners::Sight::of_machine(),
            waiting: waiting::Watch::start().map_err(|error| StartError::Io(NO_THREAD, error))?,
            host: host::host(),
            heap: Heap::new(),
            coverage: crate::source::coverage::in_words(&entries),
            entries,
            circumstances,
            attached,
            probe_cost,
            unfinished_queues,
            clients_remembered: options.max_dropped_clients.saturating_sub(limits::READY_PLACES * geometry.cpus).into(),
            programs: loaded_programs(&ebpf),
            blame,
            apart,
            name: name(options.level),
            ebpf,
            _log: log,
        };
        source.run_poll().map_err(|error| StartError::Io("the listeners cannot be read", error))?;
        source.listeners.discover();
        source.uninhabited.read(&machine.namespaces, &source.listeners.inhabited());
        Ok(source)
    }
}

/// The source's name. A level below the highest is part of it: what is missing is missing on purpose.
pub(super) fn name(level: Level) -> &'static str {
    match level {
        Level::All => "live",
        Level::Accepts => "live, accepts",
        Level::Queues => "live, queues",
    }
}

/// The iterators over the connections. All else works without them.
fn walk(ebpf: &mut Ebpf, visitors: Visitors<'_>) -> Result<Walk, StartError> {
    let mut over = |map, program| {
        let map = maps::descriptor(ebpf, map)?.try_clone_to_owned();
        let map = map.map_err(|error| StartError::Io("a map cannot be opened", error))?;
        visitor(ebpf, program, visitors, Some(&map))
    };
    Ok(Walk::new([over("USED_SETS", "unread")?, over("SPILLED", "unread_spilled")?]))
}

/// What lists connections one by one. All else works without it.
fn lists(
    ebpf: &mut Ebpf,
    reads: bool,
    visitors: Visitors<'_>,
    (table, half_open): (&OwnedFd, Option<Visitor>),
    geometry: Geometry,
) -> Result<Lists, StartError> {
    let waiting = visitor(ebpf, "list_waiting", visitors, Some(table))?;
    let mut over = |map, program| {
        let map = maps::descriptor(ebpf, map)?.try_clone_to_owned();
        let map = map.map_err(|error| StartError::Io("a map cannot be opened", error))?;
        visitor(ebpf, program, visitors, Some(&map))
    };
    // Below the highest level neither arrivals nor reads are seen.
    let unread =
        if reads { Some([over("CONNECTIONS", "list_unread")?, over("SPILLED", "list_unread_spilled")?]) } else { None };
    Ok(Lists::new(waiting, unread, half_open, maps::lists(ebpf, geometry)?))
}

/// Descriptors that the probes take: one per map, program and hook, and a few for what is read at the start. More than
/// they take on any kernel.
pub(crate) const DESCRIPTORS: u64 = 128;

/// Those that it takes in addition to change the level: iterators and their programs.
const OF_LEVELS: u64 = 8;

/// Checks that there are enough. The hooks that come after the last one would be refused otherwise, as if this kernel
/// did not have them.
fn check_descriptors(options: &Options) -> Result<(), StartError> {
    let of_levels = if options.adjustable { OF_LEVELS } else { 0 };
    let needed = DESCRIPTORS + of_levels + if options.blame { blame::descriptors() } else { 0 };
    let short = |text| StartError::Short(Shortage::Descriptors, text);
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    // Reading the directory takes one itself.
    let open = match std::fs::read_dir("/proc/self/fd") {
        Ok(open) => open.count() as u64,
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => limit,
        // Without /proc nobody knows.
        Err(_) => 0,
    };
    let free = limit.saturating_sub(open);
    if free < needed { Err(short(format!("they take {needed} descriptors, and {free} are free"))) } else { Ok(()) }
}

fn start_log(ebpf: &mut Ebpf) -> Result<Log, StartError> {
    let losses = maps::losses(ebpf)?;
    Log::start(ebpf, losses)
}

/// What of the probes is wanted.
fn wanted(options: &Options) -> Wanted<'_> {
    let Options { kind, refuse, level, adjustable, .. } = options;
    Wanted { kind: *kind, refuse, level: *level, adjustable: *adjustable }
}

/// Has the kernel verify the programs, which takes most of the start, and meanwhile fills the queues of free places,
/// with a call for each. Returns these, and what was refused.
fn prepare(
    ebpf: &mut Ebpf,
    options: &Options,
    machine: &Machine,
    geometry: Geometry,
) -> Result<(Queue<MapData, u32>, Threads, Refused), StartError> {
    let mut free = maps::free_slots(ebpf)?;
    let mut threads = maps::threads(ebpf, options)?;
    let needed = |need| match need {
        Need::Always => true,
        // What waits unread is of the highest level.
        Need::Reads => options.adjustable || options.level == Level::All,
        Need::Levels => options.adjustable,
        Need::Blame => false,
    };
    let visitors = Visitors { btf: &machine.btf, refuse: &options.refuse };
    let iterators = ITERATORS.iter().filter(|(.., need)| needed(*need)).map(|(program, visits, _)| (*program, *visits));
    thread::scope(|scope| {
        let fill = move || -> Result<_, StartError> {
            maps::fill(&mut free, geometry.slots)?;
            maps::fill(threads.free(), options.max_threads)?;
            Ok((free, threads))
        };
        let filling = thread::Builder::new().spawn_scoped(scope, fill);
        let filling = filling.map_err(|error| StartError::Io(NO_THREAD, error))?;
        let refused = preload(ebpf, (visitors, &machine.kernel), wanted(options), iterators);
        let filled =
            filling.join().map_err(|_| StartError::Object("the thread that fills tables failed".to_owned()))?;
        filled.map(|(free, threads)| (free, threads, refused))
    })
}

/// Attaches the hooks on a separate thread, because that may need a private mount namespace. `refused`: the kernel did
/// that already.
fn attach_hooks(
    ebpf: &mut Ebpf,
    options: &Options,
    machine: &Machine,
    (links, refused): (Option<&mut Links>, Refused),
    trials: &mut Vec<Trial>,
) -> Result<Attached, StartError> {
    let attach = || {
        let programs = KernelPrograms::new(ebpf, &machine.btf, &machine.kernel);
        attach::attach(&mut programs.with_links(links).without(refused), wanted(options))
    };
    let attached = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, attach);
        let thread = thread.map_err(|error| StartError::Io(NO_THREAD, error))?;
        thread.join().map_err(|_| StartError::Object("the attaching thread failed".to_owned()))
    })?;
    match attached {
        Ok(attached) => {
            trials.clone_from(&attached.trials);
            Ok(attached)
        }
        Err((error, tried)) => {
            *trials = tried;
            Err(error)
        }
    }
}

/// What the probes are to do. Before this is set, and where another program may interrupt them, they add to counters
/// atomically.
pub(super) fn settings_for(attached: &Attached, exclusive: bool) -> u64 {
    attached.settings() | if exclusive { settings::EXCLUSIVE } else { 0 }
}

/// Names of the programs that are loaded.
fn loaded_programs(ebpf: &Ebpf) -> Vec<String> {
    let loaded = ebpf.programs().filter(|(_, program)| program.fd().is_ok());
    loaded.map(|(name, _)| name.to_owned()).collect()
}
