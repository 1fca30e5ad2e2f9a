//! Queue-wait blame: while connections wait in an accept queue, what do the threads do that should accept them?
//! `listentop_abi::blame` says how the wait is divided; here it is read.

mod apart;
mod attach;
#[cfg(feature = "blame")]
mod copies;
#[cfg(not(feature = "blame"))]
#[path = "no_copies.rs"]
mod copies;
mod maps;
mod parts;
mod reads;
mod sampling;
mod sums;
#[cfg(feature = "blame")]
mod unwind;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
};

use aya::{
    Ebpf,
    maps::MapError,
    programs::{Program, ProgramError},
};
use listentop_abi::{
    blame::{
        ASLEEP, BEFORE, BLAME_LOSSES, BlameLoss, ChargeKey, NO_STACK, QueueTime, RUNNABLE, RUNNING, SEATS, STATES,
        ThreadId, Wanted,
    },
    listener::ListenerRef,
    stack_copy::{FIRST_COPY, NOT_COPIED},
};

pub use apart::{Apart, Watch};
pub use attach::{Lack, Refused, SAMPLES_PER_SECOND};
pub(in crate::source::live) use attach::{all_hooks, descriptors, start_unwinder};

use super::visitor::{self, Visitor};
use crate::source::machine;
use copies::Copies;
use maps::Maps;
use parts::Part;
pub use parts::{Callers, Cut};
use reads::Reads;
use sampling::Drawn;

/// In the place of a thread's start: it is the only one that can be a reader.
const ONLY: u64 = u64::MAX;

/// What a thread did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It was on a CPU.
    Running,
    /// It waited for a CPU.
    Runnable,
    /// It slept.
    Asleep,
}

impl State {
    fn of(state: u32) -> Self {
        match state {
            ASLEEP => Self::Asleep,
            RUNNABLE => Self::Runnable,
            _ => Self::Running,
        }
    }
}

/// A stack of the kernel's or of a program: addresses, the innermost first; or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stack {
    /// It is known.
    Known(Vec<u64>),
    /// None belongs to it: it ran without a sample, or waited for a CPU.
    None,
    /// The thread slept already when the watch began.
    Before(Vec<u64>),
    /// The table of stacks had no room.
    Lost,
    /// The kernel has none.
    Missing,
}

/// An acceptor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Acceptor {
    /// Process id; 0 if listentop's PID namespace does not show it.
    pub pid: u32,
    /// Thread id; 0 likewise.
    pub tid: u32,
    /// Process id in the initial PID namespace.
    pub initial_pid: u32,
    /// Thread id there.
    pub initial_tid: u32,
    /// When the thread started.
    pub start_ns: u64,
    /// Its name when it became an acceptor.
    pub comm: String,
    /// It has ended.
    pub ended: bool,
}

/// A part of a listener's wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Charge {
    /// The listener's id.
    pub listener: u64,
    /// Who.
    pub acceptor: Acceptor,
    /// What it did.
    pub state: State,
    /// Where in the kernel.
    pub kernel: Stack,
    /// Where in the program.
    pub user: Stack,
    /// How its callers are known.
    pub callers: Callers,
    /// Why the callers in the program are not all known, if that is so.
    pub cut: Option<Cut>,
    /// How much, in nanoseconds.
    pub wait_ns: u64,
    /// The variance of `wait_ns` where stacks were drawn at random, in square nanoseconds; 0 if it is exact.
    pub variance: f64,
}

/// A listener's wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// Its id.
    pub listener: u64,
    /// Depth × time, in nanoseconds.
    pub total_ns: u64,
    /// Of that, while it had no acceptor.
    pub nobody_ns: u64,
    /// Of that, by [`State`], what is known without thread and stack: the table of charges was full.
    pub untold_ns: [u64; 3],
}

/// What could not be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Stacks that found no room.
    pub stacks: u64,
    /// Charges that found no room.
    pub charges: u64,
    /// Threads that found no room.
    pub threads: u64,
    /// Listeners of a thread beyond the number that it may have.
    pub seats: u64,
    /// Changes of state that were charged to the next state.
    pub late: u64,
    /// Stacks that could not be copied or unwound, because too many were.
    pub copies: u64,
    /// Connections whose unread bytes were left out.
    pub connections: u64,
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// How long, in nanoseconds.
    pub elapsed_ns: u64,
    /// The listeners.
    pub listeners: Vec<Waited>,
    /// The charges; of one listener they add up to its wait, with what nobody is charged for.
    pub charges: Vec<Charge>,
    /// What could not be done.
    pub losses: Losses,
    /// What could not be attached.
    pub lacks: Vec<Lack>,
    /// Bytes waited to be read, not connections to be accepted.
    pub of_reads: bool,
}

/// Programs that user space runs.
struct Walks {
    /// Over all threads.
    visit: Option<Visitor>,
    /// Over the connections that are there already.
    take_over: Vec<Visitor>,
    /// Over what is watched.
    refresh: Visitor,
}

/// The hooks that watch acceptors. They go with the source.
pub struct Blame {
    maps: Maps,
    walks: Walks,
    copies: Option<Copies>,
    lacks: Vec<Lack>,
    /// Of readers; `None`: acceptors are watched.
    reads: Option<Reads>,
    began_ns: Option<u64>,
    listeners: BTreeMap<u64, ListenerRef>,
    /// Threads that the kernel was told of, by id and start, with the number of their listeners.
    told: HashMap<u32, HashSet<(u64, u32)>>,
    /// Processes and their stacks that were shown.
    shown: HashSet<(u32, u32)>,
}

impl std::fmt::Debug for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blame").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// A listener to be watched, and its acceptors as far as user space knows them: thread ids, with something that
/// distinguishes a thread from a later one of the same id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The listener's id.
    pub listener: u64,
    /// The threads.
    pub threads: Vec<(u32, u64)>,
}

impl Blame {
    fn new(maps: Maps, walks: Walks, copies: Option<Copies>, lacks: Vec<Lack>, reads: bool) -> Self {
        let (listeners, told, shown) = (BTreeMap::new(), HashMap::new(), HashSet::new());
        let reads = reads.then(Reads::default);
        Self { maps, walks, copies, lacks, reads, began_ns: None, listeners, told, shown }
    }

    /// Watches these listeners from now on, if they are not watched yet, with these acceptors.
    fn watch(&mut self, subjects: &[Subject]) -> io::Result<()> {
        self.began_ns.get_or_insert_with(machine::monotonic_ns);
        let ids = subjects.iter().map(|subject| subject.listener);
        let new: HashSet<u64> = ids.filter(|id| !self.listeners.contains_key(id)).collect();
        if !new.is_empty() {
            self.begin(&new)?;
        }
        let mut wanted: HashMap<u32, Vec<ListenerRef>> = HashMap::new();
        let mut told: HashMap<u32, HashSet<(u64, u32)>> = HashMap::new();
        for subject in subjects {
            let Some(listener) = self.listeners.get(&subject.listener) else { continue };
            for (tid, start) in subject.threads.iter().filter(|(tid, _)| *tid != 0) {
                let listeners = wanted.entry(*tid).or_default();
                if listeners.len() < SEATS && !listeners.contains(listener) {
                    listeners.push(*listener);
                    let told = told.entry(*tid).or_default();
                    told.insert((*start, listener.slot));
                    if self.reads.as_ref().is_some_and(|reads| reads.is_only(subject.listener, *tid)) {
                        told.insert((ONLY, listener.slot));
                    }
                }
            }
        }
        let mut news = false;
        for (tid, listeners) in &wanted {
            if self.told.get(tid) == told.get(tid) {
                continue;
            }
            let mut value = Wanted { count: listeners.len() as u64, ..Wanted::default() };
            value.listeners[..listeners.len()].copy_from_slice(listeners);
            let is_only =
                |listener: &ListenerRef| told.get(tid).is_some_and(|told| told.contains(&(ONLY, listener.slot)));
            value.only = listeners.iter().rev().fold(0, |bits, listener| bits << 1 | u64::from(is_only(listener)));
            // A full table: the thread is an acceptor from its first accept on.
            news |= self.maps.wanted.insert(tid, &value, 0).is_ok();
        }
        for gone in self.told.keys().filter(|tid| !wanted.contains_key(tid)) {
            let _ = self.maps.wanted.remove(gone);
        }
        self.told = told;
        if let Some(visit) = self.walks.visit.as_ref().filter(|_| news) {
            visit.run()?;
        }
        if !new.is_empty() {
            self.walks.take_over.iter().try_for_each(Visitor::run)?;
        }
        self.walks.refresh.run()?;
        if let Some(reads) = &mut self.reads {
            reads.sum(&self.maps, &self.listeners, machine::monotonic_ns()).map_err(io::Error::other)?;
        }
        self.collect().map_err(io::Error::other)
    }

    /// Takes what was copied, and the charges for it that are complete.
    fn collect(&mut self) -> Result<(), MapError> {
        let Self { maps, copies: Some(copies), .. } = self else { return Ok(()) };
        let pid = |thread| maps.acceptors.get(&thread, 0).ok().map(|name| name.pid);
        copies.collect(pid, |number| maps.stack(number));
        let mut current = HashSet::new();
        for thread in &maps.watched {
            let (tid, thread) = thread?;
            current.insert((ThreadId { start_ns: thread.start_ns, tid: tid.into() }, thread.user_stack));
        }
        copies.take(&mut maps.charges, &current)
    }

    fn begin(&mut self, new: &HashSet<u64>) -> io::Result<()> {
        let sockets = self.maps.sockets();
        for slot in 0..self.maps.info.length() {
            let info = self.maps.info.read(slot);
            if info.closed_ns != 0 || !new.contains(&info.cookie) {
                continue;
            }
            let listener = ListenerRef { slot, generation: info.generation };
            let Some(socket) = sockets.get(&listener).copied() else { continue };
            let queue = QueueTime {
                listener,
                socket,
                watched: 1,
                depth: info.depth,
                until_ns: machine::monotonic_ns(),
                ..QueueTime::default()
            };
            self.maps.queues.set(slot, &queue, 0).map_err(io::Error::other)?;
            if self.reads.is_some() {
                reads::begin(&mut self.maps, listener).map_err(io::Error::other)?;
            }
            self.listeners.insert(info.cookie, listener);
        }
        Ok(())
    }

    /// Process ids and user stacks that are new, so that functions can be named while the processes live.
    fn user_stacks(&mut self) -> Vec<(u32, u32)> {
        let keys = self.maps.charges.keys().flatten().filter(|key| (0..FIRST_COPY).contains(&key.user_stack));
        let threads: HashSet<(u64, u32, i32)> = keys.map(|key| (key.start_ns, key.tid, key.user_stack)).collect();
        let pid = |start_ns, tid| self.maps.acceptors.get(&ThreadId { start_ns, tid: u64::from(tid) }, 0).ok();
        let stacks =
            threads.into_iter().filter_map(|(start_ns, tid, stack)| Some((pid(start_ns, tid)?.pid, stack as u32)));
        let new: Vec<(u32, u32)> = stacks.filter(|(pid, _)| *pid != 0).collect();
        let new = new.into_iter().filter(|stack| self.shown.insert(*stack));
        let unwound = self.copies.as_mut().map(Copies::new_stacks).unwrap_or_default();
        new.chain(unwound).collect()
    }

    fn stack(&self, number: i32, thread: ThreadId) -> Stack {
        match number {
            NO_STACK => Stack::None,
            BEFORE => {
                let frames = self.maps.before.get(&thread, 0).map(|stack| stack.frames.to_vec()).unwrap_or_default();
                Stack::Before(frames.into_iter().take_while(|address| *address != 0).collect())
            }
            0.. => match self.maps.stack(number) {
                Some(addresses) => Stack::Known(parts::for_lookup(addresses)),
                None => Stack::Lost,
            },
            NOT_COPIED => Stack::Missing,
            _ if number == -libc::EFAULT => Stack::Missing,
            _ => Stack::Lost,
        }
    }

    /// The program's part of a stack.
    fn user_stack(&self, part: &Part, thread: ThreadId) -> (Stack, Option<Cut>) {
        let unwound = part.stack.and_then(|index| self.copies.as_ref()?.stack(index));
        match unwound {
            Some((addresses, cut)) => (Stack::Known(addresses), cut),
            None => {
                (self.stack(part.key.user_stack, thread), (part.key.user_stack == NOT_COPIED).then_some(Cut::NotCopied))
            }
        }
    }

    /// Divides what one thread is charged with among stacks.
    fn divide(&self, acceptor: &Acceptor, charges: HashMap<ChargeKey, Drawn>) -> Vec<Part> {
        let mut parts = match &self.copies {
            Some(copies) => copies.divide(acceptor.initial_pid, charges),
            None => charges.into_iter().map(|(key, drawn)| Part::whole(key, drawn)).collect(),
        };
        parts::estimate_running(&mut parts);
        parts
    }

    fn acceptor(&self, thread: ThreadId) -> Acceptor {
        let name = self.maps.acceptors.get(&thread, 0).unwrap_or_default();
        let comm: Vec<u8> =
            name.comm.iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).collect();
        Acceptor {
            pid: name.pid,
            tid: name.tid,
            initial_pid: name.initial_pid,
            initial_tid: thread.tid as u32,
            start_ns: thread.start_ns,
            comm: String::from_utf8_lossy(&comm).into_owned(),
            ended: name.ended != 0,
        }
    }

    fn losses(&self) -> Losses {
        let lost = |loss: BlameLoss| self.maps.lost.get(&(loss as u32), 0).unwrap_or_default();
        const _: () = assert!((BlameLoss::Copies as u32) < BLAME_LOSSES);
        Losses {
            stacks: lost(BlameLoss::Stacks),
            charges: lost(BlameLoss::Charges),
            threads: lost(BlameLoss::Threads),
            seats: lost(BlameLoss::Seats),
            late: lost(BlameLoss::Late),
            copies: lost(BlameLoss::Copies) + self.copies.as_ref().map_or(0, Copies::dropped),
            connections: lost(BlameLoss::Connections),
        }
    }

    /// Reads what was measured until `end_ns`. Nothing changes it any more.
    fn read(&self, end_ns: u64) -> Result<Measured, MapError> {
        let mut queues = HashMap::new();
        let mut measured = Measured { losses: self.losses(), lacks: self.lacks.clone(), ..Measured::default() };
        measured.of_reads = self.reads.is_some();
        measured.elapsed_ns = self.began_ns.map_or(0, |began_ns| end_ns.saturating_sub(began_ns));
        for (id, listener) in &self.listeners {
            let queue = self.maps.queues.get(&listener.slot, 0)?;
            let queue = match &self.reads {
                Some(reads) => reads.finished(queue),
                None => sums::finished(queue, end_ns),
            };
            if queue.listener == *listener {
                queues.insert(*listener, (*id, queue));
            }
        }
        let mut charges: BTreeMap<(u64, Acceptor), HashMap<ChargeKey, Drawn>> = BTreeMap::new();
        let mut add = |key: ChargeKey, drawn: Drawn| {
            let listener = ListenerRef { slot: key.slot, generation: key.generation };
            if let Some((id, _)) = queues.get(&listener).filter(|_| drawn.wait_ns != 0) {
                let acceptor = self.acceptor(ThreadId { start_ns: key.start_ns, tid: key.tid.into() });
                charges.entry((*id, acceptor)).or_default().entry(key).or_default().add(drawn);
            }
        };
        for charge in &self.maps.charges {
            let (key, charge) = charge?;
            add(key, Drawn::equal(charge.wait_ns, if key.user_stack >= FIRST_COPY { 1 } else { charge.count }));
        }
        self.copies.iter().flat_map(Copies::taken).for_each(|(key, drawn)| add(key, drawn));
        for thread in &self.maps.watched {
            let (tid, thread) = thread?;
            if self.reads.is_some() {
                continue;
            }
            let queue = |listener| queues.get(&listener).map(|(_, queue)| queue);
            for seat in sums::seats(&thread, queue) {
                let Some(queue) = queue(seat.listener) else { continue };
                let charges = sums::open_charges(tid, &thread, &seat, queue);
                charges.into_iter().for_each(|(key, wait_ns)| add(key, Drawn::one(wait_ns)));
            }
        }
        for (_, queue) in queues.values() {
            sums::last_charges(queue).for_each(|(key, wait_ns)| add(key, Drawn::one(wait_ns)));
        }
        let mut unread_by_nobody = HashMap::new();
        if self.reads.is_some() {
            let open = reads::open(&self.maps, end_ns)?;
            open.charges.into_iter().for_each(|(key, wait_ns)| add(key, Drawn::one(wait_ns)));
            unread_by_nobody = open.nobody;
        }
        for ((listener, acceptor), keys) in charges {
            let thread = ThreadId { start_ns: acceptor.start_ns, tid: acceptor.initial_tid.into() };
            for part in self.divide(&acceptor, keys) {
                let (user, cut) = self.user_stack(&part, thread);
                measured.charges.push(Charge {
                    listener,
                    acceptor: acceptor.clone(),
                    state: State::of(part.key.state),
                    kernel: self.stack(part.key.kernel_stack, thread),
                    user,
                    callers: part.callers,
                    cut,
                    wait_ns: part.wait_ns,
                    variance: part.variance,
                });
            }
        }
        const _: () = assert!(STATES == 4, "unknown, running, runnable, asleep");
        measured.listeners = queues
            .into_values()
            .map(|(listener, queue)| Waited {
                listener,
                total_ns: queue.total_ns,
                nobody_ns: queue.nobody_ns + unread_by_nobody.get(&queue.listener).copied().unwrap_or(0),
                untold_ns: [
                    queue.untold_ns[RUNNING as usize] + queue.untold_ns[0],
                    queue.untold_ns[RUNNABLE as usize],
                    queue.untold_ns[ASLEEP as usize],
                ],
            })
            .collect();
        measured.listeners.sort_by_key(|waited| waited.listener);
        Ok(measured)
    }
}

/// The watch of a source.
#[derive(Debug)]
pub struct Watching<'a> {
    pub(super) blame: &'a mut Blame,
    pub(super) ebpf: &'a mut Ebpf,
}

impl Watching<'_> {
    /// What is charged: the waiting of bytes to be read, or of connections to be accepted.
    #[must_use]
    pub fn of_reads(&self) -> bool {
        self.blame.reads.is_some()
    }

    /// Of these listeners no other thread can be a reader, from the next [`Self::watch`] on.
    pub fn only(&mut self, threads: &[(u64, u32)]) {
        if let Some(reads) = &mut self.blame.reads {
            reads.only = threads.iter().copied().collect();
        }
    }

    /// Watches these listeners from now on, with these acceptors. To be called again and again, with all of them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch(&mut self, subjects: &[Subject]) -> io::Result<()> {
        self.blame.watch(subjects)
    }

    /// Process ids, and numbers of the stacks that were seen in them since this was last called. A process' functions
    /// can be named while it lives.
    pub fn user_stacks(&mut self) -> Vec<(u32, u32)> {
        self.blame.user_stacks()
    }

    /// The addresses of a stack, the innermost first.
    #[must_use]
    pub fn addresses(&self, stack: u32) -> Vec<u64> {
        if let Some(addresses) = self.blame.copies.as_ref().and_then(|copies| copies.of_number(stack)) {
            return addresses;
        }
        match self.blame.stack(stack as i32, ThreadId::default()) {
            Stack::Known(frames) => frames,
            _ => Vec::new(),
        }
    }

    /// What could not be attached.
    #[must_use]
    pub fn lacks(&self) -> &[Lack] {
        &self.blame.lacks
    }

    /// Reads what was measured so far. It goes on meanwhile, so parts may differ from the sum by what is charged in
    /// this moment: the next time has it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn so_far(&self) -> io::Result<Measured> {
        self.blame.walks.refresh.run()?;
        self.blame.read(machine::monotonic_ns()).map_err(io::Error::other)
    }

    /// Ends the watch, and reads what was measured.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> io::Result<Measured> {
        self.blame.walks.refresh.run()?;
        let end_ns = machine::monotonic_ns();
        for name in attach::PROGRAMS {
            let unloaded = match self.ebpf.program_mut(name) {
                Some(Program::BtfTracePoint(program)) => program.unload(),
                Some(Program::TracePoint(program)) => program.unload(),
                Some(Program::FEntry(program)) => program.unload(),
                Some(Program::FExit(program)) => program.unload(),
                Some(Program::PerfEvent(program)) => program.unload(),
                Some(Program::Iter(_)) => {
                    visitor::unload(self.ebpf, name);
                    Ok(())
                }
                _ => Ok(()),
            };
            match unloaded {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        self.blame.collect().map_err(io::Error::other)?;
        if let Some(copies) = &mut self.blame.copies {
            copies.settle();
        }
        let mut end_ns = end_ns;
        if let Some(reads) = &mut self.blame.reads {
            // Threads were charged until now.
            end_ns = machine::monotonic_ns();
            reads.sum(&self.blame.maps, &self.blame.listeners, end_ns).map_err(io::Error::other)?;
        }
        self.blame.read(end_ns).map_err(io::Error::other)
    }
}
