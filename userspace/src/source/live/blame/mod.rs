//! Queue-wait blame: while connections wait in an accept queue, what do the threads do that should accept them?
//! `listentop_abi::blame` says how the wait is divided; here it is read.

mod attach;
mod maps;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf,
    maps::MapError,
    programs::{Program, ProgramError},
};
use listentop_abi::{
    blame::{
        ASLEEP, BEFORE, BLAME_LOSSES, BlameLoss, ChargeKey, NO_STACK, QueueTime, RUNNABLE, RUNNING, SEATS, STATES,
        Seat, ThreadId, Wanted, WatchedThread,
    },
    listener::ListenerRef,
};

pub(in crate::source::live) use attach::descriptors;
pub use attach::{Lack, Refused, SAMPLES_PER_SECOND};

use super::bpf;
use crate::source::machine;
use maps::Maps;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// How much, in nanoseconds.
    pub wait_ns: u64,
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
}

/// All that was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
}

/// The hooks that watch acceptors. They go with the source.
pub struct Blame {
    maps: Maps,
    visit: Option<OwnedFd>,
    refresh: OwnedFd,
    lacks: Vec<Lack>,
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
    fn new(maps: Maps, visit: Option<OwnedFd>, refresh: OwnedFd, lacks: Vec<Lack>) -> Self {
        let (listeners, told, shown) = (BTreeMap::new(), HashMap::new(), HashSet::new());
        Self { maps, visit, refresh, lacks, began_ns: None, listeners, told, shown }
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
                    told.entry(*tid).or_default().insert((*start, listener.slot));
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
            // A full table: the thread is an acceptor from its first accept on.
            news |= self.maps.wanted.insert(tid, &value, 0).is_ok();
        }
        for gone in self.told.keys().filter(|tid| !wanted.contains_key(tid)) {
            let _ = self.maps.wanted.remove(gone);
        }
        self.told = told;
        if let Some(visit) = self.visit.as_ref().filter(|_| news) {
            bpf::run_iterator(visit.as_fd())?;
        }
        bpf::run_iterator(self.refresh.as_fd())
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
            self.listeners.insert(info.cookie, listener);
        }
        Ok(())
    }

    /// Process ids and user stacks that are new, so that functions can be named while the processes live.
    fn user_stacks(&mut self) -> Vec<(u32, u32)> {
        let keys = self.maps.charges.keys().flatten().filter(|key| key.user_stack >= 0);
        let threads: HashSet<(u64, u32, i32)> = keys.map(|key| (key.start_ns, key.tid, key.user_stack)).collect();
        let pid = |start_ns, tid| self.maps.acceptors.get(&ThreadId { start_ns, tid: u64::from(tid) }, 0).ok();
        let stacks =
            threads.into_iter().filter_map(|(start_ns, tid, stack)| Some((pid(start_ns, tid)?.pid, stack as u32)));
        let new: Vec<(u32, u32)> = stacks.filter(|(pid, _)| *pid != 0).collect();
        new.into_iter().filter(|stack| self.shown.insert(*stack)).collect()
    }

    fn stack(&self, number: i32, thread: ThreadId) -> Stack {
        match number {
            NO_STACK => Stack::None,
            BEFORE => {
                let frames = self.maps.before.get(&thread, 0).map(|stack| stack.frames.to_vec()).unwrap_or_default();
                Stack::Before(frames.into_iter().take_while(|address| *address != 0).collect())
            }
            0.. => match self.maps.stacks.get(&(number as u32), 0) {
                Ok(stack) => Stack::Known(stack.frames().iter().map(|frame| frame.ip).collect()),
                Err(_) => Stack::Lost,
            },
            _ if number == -libc::EFAULT => Stack::Missing,
            _ => Stack::Lost,
        }
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
        const _: () = assert!((BlameLoss::Late as u32) < BLAME_LOSSES);
        Losses {
            stacks: lost(BlameLoss::Stacks),
            charges: lost(BlameLoss::Charges),
            threads: lost(BlameLoss::Threads),
            seats: lost(BlameLoss::Seats),
            late: lost(BlameLoss::Late),
        }
    }

    /// Reads what was measured until `end_ns`. Nothing changes it any more.
    fn read(&self, end_ns: u64) -> Result<Measured, MapError> {
        let mut queues = HashMap::new();
        let mut measured = Measured { losses: self.losses(), lacks: self.lacks.clone(), ..Measured::default() };
        measured.elapsed_ns = self.began_ns.map_or(0, |began_ns| end_ns.saturating_sub(began_ns));
        for (id, listener) in &self.listeners {
            let queue = finished(self.maps.queues.get(&listener.slot, 0)?, end_ns);
            if queue.listener == *listener {
                queues.insert(*listener, (*id, queue));
            }
        }
        let mut charges: BTreeMap<(u64, Acceptor), HashMap<ChargeKey, u64>> = BTreeMap::new();
        let mut add = |key: ChargeKey, wait_ns: u64| {
            let listener = ListenerRef { slot: key.slot, generation: key.generation };
            if let Some((id, _)) = queues.get(&listener).filter(|_| wait_ns != 0) {
                let acceptor = self.acceptor(ThreadId { start_ns: key.start_ns, tid: key.tid.into() });
                *charges.entry((*id, acceptor)).or_default().entry(key).or_default() += wait_ns;
            }
        };
        for charge in &self.maps.charges {
            let (key, charge) = charge?;
            add(key, charge.wait_ns);
        }
        for thread in &self.maps.watched {
            let (tid, thread) = thread?;
            for seat in thread.seats.iter().take(thread.seated as usize) {
                let Some((_, queue)) = queues.get(&seat.listener) else { continue };
                open_charges(tid, &thread, seat, queue).into_iter().for_each(|(key, wait_ns)| add(key, wait_ns));
            }
        }
        for ((listener, acceptor), keys) in charges {
            let thread = ThreadId { start_ns: acceptor.start_ns, tid: acceptor.initial_tid.into() };
            for (key, wait_ns) in keys {
                measured.charges.push(Charge {
                    listener,
                    acceptor: acceptor.clone(),
                    state: State::of(key.state),
                    kernel: self.stack(key.kernel_stack, thread),
                    user: self.stack(key.user_stack, thread),
                    wait_ns,
                });
            }
        }
        const _: () = assert!(STATES == 4, "unknown, running, runnable, asleep");
        measured.listeners = queues
            .into_values()
            .map(|(listener, queue)| Waited {
                listener,
                total_ns: queue.total_ns,
                nobody_ns: queue.nobody_ns,
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

/// The sums until `end_ns`, with what has accrued since they were last made.
fn finished(mut queue: QueueTime, end_ns: u64) -> QueueTime {
    let wait = u64::from(queue.depth) * end_ns.saturating_sub(queue.until_ns);
    queue.total_ns += wait;
    match (wait + queue.rest).checked_div(queue.acceptors) {
        Some(share) => queue.share_ns += share,
        None => queue.nobody_ns += wait,
    }
    queue
}

/// What a thread has not been charged yet: since its last change of state, and what it ran since its last sample.
fn open_charges(tid: u32, thread: &WatchedThread, seat: &Seat, queue: &QueueTime) -> Vec<(ChargeKey, u64)> {
    let key = |state, kernel_stack, user_stack| ChargeKey {
        slot: seat.listener.slot,
        generation: seat.listener.generation,
        start_ns: thread.start_ns,
        tid,
        state,
        kernel_stack,
        user_stack,
    };
    let accrued = queue.share_ns.saturating_sub(seat.share_ns);
    let open = match thread.state {
        ASLEEP => key(ASLEEP, thread.kernel_stack, thread.user_stack),
        RUNNABLE => key(RUNNABLE, NO_STACK, NO_STACK),
        _ => key(RUNNING, NO_STACK, NO_STACK),
    };
    vec![(open, accrued), (key(RUNNING, NO_STACK, NO_STACK), seat.running_ns)]
}

/// The watch of a source.
#[derive(Debug)]
pub struct Watching<'a> {
    pub(super) blame: &'a mut Blame,
    pub(super) ebpf: &'a mut Ebpf,
}

impl Watching<'_> {
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

    /// Ends the watch, and reads what was measured.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> io::Result<Measured> {
        bpf::run_iterator(self.blame.refresh.as_fd())?;
        let end_ns = machine::monotonic_ns();
        for name in attach::PROGRAMS {
            let unloaded = match self.ebpf.program_mut(name) {
                Some(Program::BtfTracePoint(program)) => program.unload(),
                Some(Program::TracePoint(program)) => program.unload(),
                Some(Program::FEntry(program)) => program.unload(),
                Some(Program::FExit(program)) => program.unload(),
                Some(Program::PerfEvent(program)) => program.unload(),
                Some(Program::Iter(program)) => program.unload(),
                _ => Ok(()),
            };
            match unloaded {
                Ok(()) | Err(ProgramError::NotLoaded) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        self.blame.read(end_ns).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> QueueTime {
        QueueTime {
            depth: 3,
            until_ns: 1_000,
            acceptors: 2,
            share_ns: 500,
            rest: 1,
            total_ns: 1_001,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_open_is_divided_among_the_acceptors() {
        let done = finished(queue(), 1_101);
        assert_eq!((done.total_ns, done.share_ns, done.nobody_ns), (1_001 + 303, 500 + 152, 0));
        let done = finished(QueueTime { acceptors: 0, ..queue() }, 1_101);
        assert_eq!((done.share_ns, done.nobody_ns), (500, 303));
        assert_eq!(finished(queue(), 900).total_ns, 1_001, "it was summed later than that");
    }

    #[test]
    fn a_thread_is_charged_what_it_does_and_what_it_ran() {
        let thread = WatchedThread { state: ASLEEP, kernel_stack: 7, user_stack: 8, ..Default::default() };
        let seat = Seat { share_ns: 400, running_ns: 30, ..Default::default() };
        let charges = open_charges(5, &thread, &seat, &queue());
        let of = |state| charges.iter().filter(|(key, _)| key.state == state).map(|(_, ns)| ns).sum::<u64>();
        assert_eq!((of(ASLEEP), of(RUNNING)), (100, 30));
        assert_eq!((charges[0].0.kernel_stack, charges[0].0.user_stack, charges[0].0.tid), (7, 8, 5));
    }
}
