//! The live source: attached probes, and how they are read.

use std::{collections::HashMap, io, os::fd::AsFd as _, path::PathBuf, time::Instant};

use aya::{Ebpf, programs::Program};
use listentop_model::{
    coverage::{Coverage, Measure},
    sample::{Cost, Host, Losses, NamespaceId, NamespaceSample, Sample},
};

use super::{
    Level,
    adjust::{Adjusting, Levels},
    attach::{
        Attached, Trial,
        coverage::{self, Circumstances},
        events::{Event, Method, Target},
        silence,
    },
    blame::{Apart, Blame, Refused, Watching},
    bpf,
    read::{
        cost::ProbeCost,
        listeners::{Inhabitants, Listeners},
        lists::Lists,
        log::Log,
        losses,
        shared::SharedArray,
        threads::Threads,
        unread::Walk,
    },
    visitor::Visitor,
};
use crate::source::{
    Source,
    coverage::{Entry, in_words},
    devices::Devices,
    heap::Heap,
    machine, namespaces, owners,
    uninhabited::Uninhabited,
    waiting,
};

/// Probes that are attached, and everything needed to read them. Dropping it detaches them.
pub struct LiveSource {
    // Programs stay attached for as long as this lives.
    pub(super) ebpf: Ebpf,
    pub(super) poll: Visitor,
    pub(super) losses: SharedArray<u64>,
    pub(super) listeners: Listeners,
    /// Connections one by one; `None` where the kernel does not allow that.
    pub(super) lists: Option<Lists>,
    pub(super) threads: Threads,
    pub(super) uninhabited: Uninhabited,
    pub(super) devices: Devices,
    /// A file that leads into each namespace, by inode.
    pub(super) files: HashMap<u32, PathBuf>,
    pub(super) names: namespaces::Names,
    pub(super) owners: owners::Watch,
    pub(super) sight: owners::Sight,
    pub(super) waiting: waiting::Watch,
    pub(super) host: Host,
    pub(super) heap: Heap,
    pub(super) entries: Vec<Entry>,
    /// What they depend on in addition to the hooks.
    pub(super) circumstances: Circumstances,
    /// The same in words.
    pub(super) coverage: Vec<Coverage>,
    pub(super) attached: Attached,
    pub(super) probe_cost: ProbeCost,
    /// Accept queues that could not be taken over to their end.
    pub(super) unfinished_queues: u64,
    /// So many refused clients are remembered for certain.
    pub(super) clients_remembered: u64,
    /// Names of the programs that are loaded.
    pub(super) programs: Vec<String>,
    /// What it is, in a word or two.
    pub(super) name: &'static str,
    /// What acceptors do while connections wait, if that is wanted, or why that cannot be known.
    pub(super) blame: Option<Result<Blame, Refused>>,
    /// What attaching blame later takes.
    pub(super) apart: Option<Apart>,
    /// What it takes to change the level; `None` where it stays.
    pub(super) adjusting: Option<Adjusting>,
    /// Prints for as long as this lives.
    pub(super) _log: Option<Log>,
}

impl std::fmt::Debug for LiveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSource").field("programs", &self.programs).finish_non_exhaustive()
    }
}

impl LiveSource {
    fn read_all(&mut self) -> io::Result<Sample> {
        // First, because timing the probes may take a moment. The rest must be of one instant.
        let (missed_runs, cost) = self.cost();
        let scan = {
            let (listeners, lists) = (&self.listeners, self.lists.as_ref());
            let wanted = || {
                let listed = lists.into_iter().flat_map(Lists::inodes);
                listeners.inodes().into_iter().chain(listed).collect()
            };
            self.owners.latest(wanted, listeners.has_ownerless())
        };
        self.names.refresh(Instant::now());
        self.poll.run()?;
        let monotonic_ns = machine::monotonic_ns();
        self.listeners.discover();
        // Right behind the sockets' own drop counters: what is dropped in between looks unexplained for a moment.
        let wanted: Vec<_> = self
            .listeners
            .namespaces()
            .map(|(id, Inhabitants { opened_ns, open })| namespaces::Wanted {
                id,
                exists: open,
                before: if open { self.uninhabited.before(id, opened_ns) } else { None },
                file: self.files.get(&id.inode).cloned(),
            })
            .collect();
        let names = self.names.of(wanted.iter().map(|wanted| wanted.id.inode), Instant::now());
        let mut namespaces = namespaces::sample(&wanted, &scan.namespaces, names);
        if self.devices.look_up(self.listeners.nameless(), scan) {
            self.listeners.have_names();
        }
        self.threads.refresh(Instant::now())?;
        let (listeners, threads) = (&self.listeners, &self.threads);
        if self.waiting.update(|| listeners.are_of_interest(threads), || listeners.subjects(threads)) {
            self.threads.describe(&self.waiting.known().states);
            self.listeners.assign_surroundings(self.waiting.known());
        }
        self.listeners.assign_owners(scan, &self.threads);
        self.sight.hidden = scan.hidden;
        let mut listeners = self.listeners.sample(monotonic_ns, &self.threads, &self.coverage, &self.devices)?;
        let listing = match &mut self.lists {
            Some(lists) => {
                let around = (self.owners.current(), &self.files);
                lists.read(&self.listeners, &self.threads, around, &mut listeners)?
            }
            None => None,
        };
        self.note_vacated(&mut namespaces);
        self.listeners.recycle(&mut self.threads)?;
        self.note_losses(missed_runs);
        Ok(Sample {
            monotonic_ns,
            unix_ms: machine::unix_ms(),
            host: self.host.clone(),
            coverage: self.coverage.clone(),
            cost,
            losses: self.losses(missed_runs),
            namespaces,
            listeners,
            listing,
            blame: None,
            marks: self.adjusting.as_mut().map(Adjusting::take_marks).unwrap_or_default(),
        })
    }

    /// The last listener of some namespaces has closed: their counters are read once more, for what comes after. The
    /// namespace may be gone with it.
    fn note_vacated(&mut self, namespaces: &mut [NamespaceSample]) {
        let names = self.names.known();
        let scan = self.owners.current();
        let vacated: Vec<NamespaceId> =
            self.listeners.namespaces().filter(|(_, inhabitants)| !inhabitants.open).map(|(id, _)| id).collect();
        for sample in namespaces.iter_mut().filter(|sample| vacated.contains(&sample.id)) {
            let wanted = namespaces::Wanted {
                id: sample.id,
                exists: false,
                before: sample.before_listeners,
                file: self.files.get(&sample.id.inode).cloned(),
            };
            sample.counters =
                namespaces::sample(&[wanted], &scan.namespaces, names).pop().and_then(|sample| sample.counters);
            self.uninhabited.vacated(sample.id, sample.counters);
        }
        if self.uninhabited.is_news(scan.number) {
            self.files = namespaces::scanned(scan);
            self.uninhabited.read(&self.files, &self.listeners.inhabited());
            self.devices.retain(|id| self.listeners.has_namespace(id));
        }
    }

    /// Reads everything at every sample from now on, regardless of the cost: for tests, which sample often.
    #[must_use]
    pub fn at_every_sample(mut self) -> Self {
        if let Some(walk) = &mut self.listeners.walk {
            walk.be_lavish();
        }
        if let Some(lists) = &mut self.lists {
            lists.be_lavish();
        }
        self.owners.be_lavish();
        self.names.be_lavish();
        self
    }

    /// Every hook that was tried at the start, with its outcome.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        &self.attached.trials
    }

    /// Whether a hook is attached there.
    #[must_use]
    pub fn is_attached(&self, target: Target) -> bool {
        self.attached.has(target)
    }

    /// How many links to hooks there are, where the level may change.
    #[must_use]
    pub fn links(&self) -> Option<usize> {
        self.adjusting.as_ref().map(Adjusting::links)
    }

    /// Whether something brings an event: its own method, or another event's.
    #[must_use]
    pub fn brings(&self, event: Event) -> bool {
        self.attached.source(event).is_some()
    }

    /// The method in use for an event; `None` if none works, or another event's hooks bring it.
    #[must_use]
    pub fn method(&self, event: Event) -> Option<&'static Method> {
        self.attached.method(event)
    }

    /// Coverage with its reasons as types.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether walks over the probes' tables are made of test runs, because the kernel refuses iterators over their
    /// elements.
    #[must_use]
    pub fn walks_by_test_runs(&self) -> bool {
        self.poll.is_by_test_runs()
    }

    /// Notes what coverage has lost since the last sample.
    fn note_losses(&mut self, missed_runs: u64) {
        let silent = silence::note(&mut self.attached, self.listeners.evidence(), missed_runs);
        if silent {
            self.entries = coverage::of(&self.attached, &self.circumstances);
            for entry in &mut self.entries {
                entry.since_ns = self.adjusting.as_ref().and_then(|adjusting| adjusting.since(entry.measure));
            }
            self.listeners.set_parts(self.attached.parts());
        }
        let owners = coverage::note_sight(&mut self.entries, self.sight);
        let forgotten = self.listeners.clients() > self.clients_remembered;
        let every = self.listeners.walk.as_ref().and_then(Walk::every);
        let listed = self.lists.as_ref().and_then(Lists::every);
        let half_open = self.lists.as_ref().and_then(Lists::half_open_every);
        let walks = coverage::note_walks(&mut self.entries, Measure::OldestUnread, every)
            | coverage::note_walks(&mut self.entries, Measure::UnreadConnections, listed)
            | coverage::note_walks(&mut self.entries, Measure::HalfOpenConnections, half_open);
        if silent | owners | walks | (forgotten && coverage::note_forgotten_clients(&mut self.entries)) {
            self.coverage = in_words(&self.entries);
        }
    }

    pub(super) fn run_poll(&self) -> io::Result<()> {
        self.poll.run()
    }

    fn losses(&self, missed_runs: u64) -> Losses {
        let counted = losses::counted(&self.losses);
        Losses {
            missed_runs,
            unseen: self.listeners.unseen() + counted.unseen,
            other: self.unfinished_queues + counted.other,
            ..counted
        }
    }

    fn cost(&mut self) -> (u64, Cost) {
        let (ebpf, programs) = (&self.ebpf, &self.programs);
        let statistics = || all_runs(ebpf, programs);
        let timed = self.probe_cost.read(statistics);
        let missed = statistics().missed;
        let cost = Cost {
            probe_runs: timed.map(|(runs, _)| runs),
            probe_ns: timed.map(|(_, ns)| ns),
            cpu_ns: machine::cpu_ns(),
            rss_bytes: self.heap.resident(),
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

    fn list_connections(&mut self, per_listener: u32) {
        if let Some(lists) = &mut self.lists {
            lists.want(per_listener);
        }
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn blame_apart(&mut self) -> Result<Apart, String> {
        self.apart.take().ok_or_else(|| "it was not asked for".to_owned())
    }

    fn levels(&mut self) -> Option<Levels> {
        self.find_levels()
    }

    fn set_level(&mut self, level: Level) -> Result<(), String> {
        Self::set_level(self, level)
    }

    fn blame(&mut self) -> Result<Watching<'_>, String> {
        match &mut self.blame {
            Some(Ok(blame)) => Ok(Watching { blame, ebpf: &mut self.ebpf }),
            Some(Err(refused)) => Err(refused.to_string()),
            None => Err("it was not asked for".to_owned()),
        }
    }
}

/// What the kernel counted for these programs.
fn all_runs(ebpf: &Ebpf, programs: &[String]) -> bpf::ProgramRuns {
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
}
