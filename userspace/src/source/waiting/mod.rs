//! Who waits for a listener's connections, what the threads do that should accept them, and how many descriptors are
//! left to accept into: read from /proc, on a thread of its own, because that may take long.

mod calls;
mod likely;
mod polls;
mod process;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use listentop_model::sample::{Descriptors, LikelyAcceptor, ThreadState, Waiter};

use super::machine;
use crate::rights;

/// A listener to be looked at.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Its cookie.
    pub id: u64,
    /// Inode of its socket.
    pub inode: u64,
    /// The processes that hold it.
    pub holders: Vec<u32>,
    /// The threads that were seen accepting from it and live: process, thread, start.
    pub accepting: Vec<(u32, u32, u64)>,
    /// The threads whose state is of interest now: connections wait for them, or unread bytes do. Likewise.
    pub awaited: Vec<(u32, u32, u64)>,
    /// Something about it is of interest now: it is new, connections wait, or accepts find nothing.
    pub urgent: bool,
    /// Connections wait, accepts are seen, and nobody was seen accepting: who should is to be inferred.
    pub orphaned: bool,
}

/// What was found out about a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// `None` if not every process that holds it could be looked at.
    pub waiters: Option<Vec<Waiter>>,
    /// Who probably should accept, if that was asked and can be inferred.
    pub likely_acceptors: Option<Vec<LikelyAcceptor>>,
    /// Of the accepting process that is nearest to its limit.
    pub descriptors: Option<Descriptors>,
}

/// What the passes so far have found out.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By the listener's cookie.
    pub listeners: HashMap<u64, Arc<Surroundings>>,
    /// By thread id and start: the threads that something waits for.
    pub states: HashMap<(u32, u64), ThreadState>,
}

/// Processes per listener that are looked at: a listener of more is not known.
const MOST_PROCESSES: usize = 256;
/// Threads per listener whose state is read.
const MOST_STATES: usize = 64;
/// A listener in which nothing is of interest is looked at again after so long: a little less than 10 s, because the
/// next pass may come 2 s later.
const CALM: Duration = Duration::from_millis(9_900);
/// While nothing is of interest at any listener, a pass is made after so long: a little less than 2 s, because the next
/// sample may come a second later.
const QUIET: Duration = Duration::from_millis(1_900);
/// One of which it is not known who waits, after so long: its owner may have been found meanwhile.
const UNKNOWN: Duration = QUIET;
/// A thread that waited counts as one that will wait again, for so long.
const REMEMBERED: Duration = Duration::from_secs(10);
/// A pass ends after this much CPU time; the next one goes on with the others.
const LONGEST: Duration = Duration::from_millis(50);
/// Shortest time between two passes.
const SHORTEST: Duration = Duration::from_millis(500);
/// A pass is repeated after this many times its own CPU time at the earliest: 2 % of a core at most.
const THRIFT: u32 = 50;

/// Looks in the background, as often as it costs little.
pub(super) struct Watch {
    requests: Option<mpsc::Sender<Vec<Subject>>>,
    results: mpsc::Receiver<(Known, Duration)>,
    known: Known,
    busy: bool,
    due: Instant,
    /// When the next pass is due even if nothing is of interest.
    due_at_last: Instant,
    /// Counts the passes.
    number: u64,
}

impl Watch {
    /// Starts the thread; it ends with the watch.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start() -> std::io::Result<Self> {
        let (requests, wanted) = mpsc::channel::<Vec<Subject>>();
        let (sender, results) = mpsc::channel();
        std::thread::Builder::new().name("waiters".to_owned()).spawn(move || {
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_owners();
            let mut worker = Worker::default();
            while let Ok(subjects) = wanted.recv() {
                let before = machine::thread_cpu();
                let known = worker.pass(&subjects);
                if sender.send((known, machine::thread_cpu().saturating_sub(before))).is_err() {
                    return;
                }
            }
        })?;
        let (known, now) = (Known::default(), Instant::now());
        Ok(Self { requests: Some(requests), results, known, busy: false, due: now, due_at_last: now, number: 0 })
    }

    /// Takes in what was found, and asks for another pass when one is due. Returns whether something was.
    ///
    /// `is_of_interest`: whether a pass is to come as early as it may, because of some listener.
    pub(super) fn update(
        &mut self,
        is_of_interest: impl FnOnce() -> bool,
        subjects: impl FnOnce() -> Vec<Subject>,
    ) -> bool {
        let (found, now) = (self.collect(Duration::ZERO), Instant::now());
        // States of threads are not kept for longer than something waits for them.
        let hurries = || !self.known.states.is_empty() || is_of_interest();
        if !self.busy && now >= self.due && (now >= self.due_at_last || hurries()) {
            self.due_at_last = now + QUIET;
            let subjects = subjects();
            self.busy = self.requests.as_ref().is_some_and(|requests| requests.send(subjects).is_ok());
        }
        found
    }

    /// What is known.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    fn collect(&mut self, patience: Duration) -> bool {
        let Ok((known, took)) = self.results.recv_timeout(patience) else { return false };
        self.known = known;
        self.number += 1;
        self.busy = false;
        self.due = Instant::now() + SHORTEST.max(took * THRIFT);
        true
    }
}

/// What the thread remembers.
#[derive(Default)]
struct Worker {
    listeners: HashMap<u64, Remembered>,
    epolls: process::Cache,
}

/// What was found out about processes in one pass. A process may hold thousands of listeners.
#[derive(Default)]
struct Looks {
    processes: HashMap<u32, Option<process::Look>>,
    descriptors: HashMap<u32, Option<Descriptors>>,
}

impl Looks {
    /// Whether every process that holds the listener was looked at.
    fn suffice(&self, subject: &Subject) -> bool {
        let mut holders = subject.holders.iter().take(MOST_PROCESSES);
        !subject.holders.is_empty() && holders.all(|pid| self.processes.contains_key(pid))
    }

    fn descriptors(&mut self, pid: u32) -> Option<Descriptors> {
        *self.descriptors.entry(pid).or_insert_with(|| process::descriptors(pid))
    }
}

#[derive(Default)]
struct Remembered {
    looked_at: Option<Instant>,
    found: Arc<Surroundings>,
    /// When each thread was last seen waiting.
    waited: HashMap<(u32, u32), (Waiter, Instant)>,
}

impl Worker {
    fn pass(&mut self, subjects: &[Subject]) -> Known {
        let (now, cpu) = (Instant::now(), machine::thread_cpu());
        let ids: HashSet<u64> = subjects.iter().map(|subject| subject.id).collect();
        self.listeners.retain(|id, _| ids.contains(id));
        self.epolls.expire(now);
        let inodes = by_process(subjects);
        let mut looks = Looks::default();
        let mut due: Vec<&Subject> = subjects.iter().filter(|subject| self.is_due(subject, now)).collect();
        // What is of interest first; of these, and of the others, what was not looked at for longest.
        due.sort_by_cached_key(|subject| {
            (!subject.urgent, self.listeners.get(&subject.id).and_then(|known| known.looked_at))
        });
        let in_time = || machine::thread_cpu().saturating_sub(cpu) <= LONGEST;
        for subject in due {
            // A process that was read serves all its listeners: reading one that holds thousands may take all the time.
            if looks.suffice(subject) || in_time() {
                self.look(subject, &inodes, &mut looks, now);
            }
        }
        let mut states = HashMap::new();
        for subject in subjects.iter().filter(|subject| !subject.awaited.is_empty() && in_time()) {
            for &(pid, tid, start_ns) in subject.awaited.iter().take(MOST_STATES) {
                states.extend(process::state(pid, tid, start_ns).map(|state| ((tid, start_ns), state)));
            }
        }
        let listeners: HashMap<u64, Arc<Surroundings>> = self
            .listeners
            .iter()
            .filter(|(_, known)| known.looked_at.is_some())
            .map(|(id, known)| (*id, known.found.clone()))
            .collect();
        Known { listeners, states }
    }

    fn is_due(&self, subject: &Subject, now: Instant) -> bool {
        let Some(known) = self.listeners.get(&subject.id) else { return true };
        let pause = if known.found.waiters.is_some() { CALM } else { UNKNOWN };
        subject.urgent || known.looked_at.is_none_or(|then| now.duration_since(then) >= pause)
    }

    /// Looks at one listener. `looks`: what was found out in this pass.
    fn look(&mut self, subject: &Subject, inodes: &HashMap<u32, Vec<u64>>, looks: &mut Looks, now: Instant) {
        let known = self.listeners.entry(subject.id).or_default();
        known.looked_at = Some(now);
        let mut complete = !subject.holders.is_empty() && subject.holders.len() <= MOST_PROCESSES;
        let mut waiters = Vec::new();
        for pid in subject.holders.iter().take(MOST_PROCESSES) {
            let Some(inodes) = inodes.get(pid) else { continue };
            let look =
                looks.processes.entry(*pid).or_insert_with(|| process::look(*pid, inodes, &mut self.epolls).ok());
            let Some(look) = look else {
                // A process that has ended holds nothing any more.
                complete &= super::proc::start_ticks(*pid).is_none();
                continue;
            };
            complete &= !look.ambiguous;
            waiters.extend(look.waiters.iter().filter(|(inode, _)| *inode == subject.inode).map(|(_, w)| w.clone()));
        }
        let accepting = subject.accepting.iter().map(|(pid, ..)| *pid);
        let mut processes: Vec<u32> = accepting.collect();
        if processes.is_empty() {
            processes.extend(subject.holders.iter().take(MOST_PROCESSES));
        }
        processes.sort_unstable();
        processes.dedup();
        let descriptors = processes.into_iter().take(MOST_PROCESSES).filter_map(|pid| looks.descriptors(pid));
        let waiters = complete.then(|| known.remember(waiters, now));
        let likely = subject.orphaned.then(|| likely::acceptors(&subject.holders, waiters.as_deref()));
        let found = Surroundings {
            waiters,
            likely_acceptors: likely.flatten(),
            descriptors: descriptors.max_by(Descriptors::by_use),
        };
        if *known.found != found {
            known.found = Arc::new(found);
        }
    }
}

impl Remembered {
    /// Adds the threads that waited a moment ago and live.
    fn remember(&mut self, mut waiters: Vec<Waiter>, now: Instant) -> Vec<Waiter> {
        for waiter in waiters.iter().filter(|waiter| waiter.waits) {
            self.waited.insert((waiter.pid, waiter.tid), (waiter.clone(), now));
        }
        let mut polled = HashSet::new();
        for (waiter, then) in self.waited.values_mut() {
            // An epoll that still polls the listener, without a thread that waits: it is that thread's.
            let of_it = |other: &Waiter| !other.waits && other.pid == waiter.pid && other.how == waiter.how;
            if waiters.iter().any(of_it) {
                *then = now;
                polled.insert((waiter.pid, waiter.tid));
            }
        }
        self.waited.retain(|(pid, tid), (_, then)| {
            now.duration_since(*then) < REMEMBERED && std::path::Path::new(&format!("/proc/{pid}/task/{tid}")).exists()
        });
        let known: HashSet<u32> = self.waited.keys().map(|(pid, _)| *pid).collect();
        waiters.retain(|waiter| waiter.waits || !known.contains(&waiter.pid));
        let waiting: HashSet<(u32, u32)> = waiters.iter().map(|waiter| (waiter.pid, waiter.tid)).collect();
        let earlier = self.waited.iter().filter(|(thread, _)| !waiting.contains(*thread));
        waiters.extend(earlier.map(|(thread, (waiter, _))| Waiter {
            waits: false,
            polls: Some(polled.contains(thread)),
            ..waiter.clone()
        }));
        waiters.sort_by_key(|waiter| (waiter.pid, waiter.tid, waiter.how));
        waiters.dedup_by_key(|waiter| (waiter.pid, waiter.tid, waiter.how));
        waiters
    }
}

/// The listeners that each process holds.
fn by_process(subjects: &[Subject]) -> HashMap<u32, Vec<u64>> {
    let mut processes: HashMap<u32, Vec<u64>> = HashMap::new();
    for subject in subjects {
        for pid in &subject.holders {
            processes.entry(*pid).or_default().push(subject.inode);
        }
    }
    processes
}

#[cfg(test)]
mod tests {
    use super::*;
    use listentop_model::sample::WaitKind;

    #[test]
    fn passes_are_rare_while_nothing_is_of_interest() {
        let mut watch = Watch::start().expect("a thread can be started");
        let (requests, asked) = mpsc::channel();
        watch.requests = Some(requests);
        let is_asked = |watch: &mut Watch, is_of_interest| {
            watch.update(|| is_of_interest, Vec::new);
            watch.busy = false;
            asked.try_recv().is_ok()
        };
        assert!(is_asked(&mut watch, false), "it is the first");
        assert!(!is_asked(&mut watch, false), "nothing is of interest");
        assert!(is_asked(&mut watch, true));
        let state = ThreadState { letter: 'S', wchan: None, syscall: None, kernel_stack: Vec::new() };
        watch.known.states.insert((1, 1), state);
        assert!(is_asked(&mut watch, false), "nothing waits for the thread any more");
        watch.known.states.clear();
        watch.due_at_last = Instant::now();
        assert!(is_asked(&mut watch, false), "it was quiet for long");
        watch.due = Instant::now() + SHORTEST;
        assert!(!is_asked(&mut watch, true), "there was a pass a moment ago");
    }

    /// A thread that waited a moment ago is there still; whether its epoll polls the listener is told beside it.
    #[test]
    fn what_a_thread_that_waited_has_in_its_epoll() {
        let pid = std::process::id();
        let waiter = |tid, waits| Waiter {
            pid,
            tid,
            comm: "srv".to_owned(),
            how: WaitKind::Epoll,
            exclusive: Some(false),
            edge: Some(false),
            waits,
            polls: Some(true),
        };
        let mut known = Remembered::default();
        let mut look = |waiters: Vec<Waiter>| {
            let found = known.remember(waiters, Instant::now());
            found.iter().map(|waiter| (waiter.tid, waiter.waits, waiter.polls)).collect::<Vec<_>>()
        };
        assert_eq!(look(vec![waiter(pid, true)]), [(pid, true, Some(true))]);
        assert_eq!(look(vec![waiter(0, false)]), [(pid, false, Some(true))], "it is elsewhere");
        assert_eq!(look(Vec::new()), [(pid, false, Some(false))], "the listener is in no epoll any more");
    }
}
