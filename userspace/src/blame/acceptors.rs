//! Which threads are a listener's acceptors, or the readers of its connections, as far as user space knows.
//!
//! The kernel makes a thread an acceptor when it accepts. Who waits is seen here. And where nobody does either, because
//! whoever should accept has been stuck since before the start, it may still follow who that is.

use std::collections::{BTreeMap, BTreeSet};

use listentop_model::model::{LikelyBy, ListenerModel, Model, ThreadModel};

use super::{Blamed, Of};
use crate::source::live::blame::Subject;

/// Why a thread is charged that has done nothing since the start that makes it an acceptor or a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inference {
    /// No other thread can be it.
    OnlyThread,
    /// It probably is it, as `likely_acceptors` of a report says.
    Likely(LikelyBy),
    /// It did before.
    Before,
}

impl Inference {
    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::OnlyThread => "the only thread of the only process that holds the listener",
            Self::Likely(LikelyBy::NotParked) => {
                "probably: its process holds the listener, and its other threads are parked on futexes"
            }
            Self::Likely(_) => {
                "probably: the only thread of a process that holds the listener, and is no master of others that do"
            }
            Self::Before => "it did so before the measurement began",
        }
    }
}

/// A listener, and a thread's id.
type Key = (u64, u32);

/// The acceptors of all listeners, over the time of a measurement.
#[derive(Debug, Default)]
pub struct Acceptors {
    /// What they are charged with.
    of: Of,
    /// The measurement goes on.
    began: bool,
    /// What each thread had accepted when it began.
    before: BTreeMap<Key, u64>,
    /// Threads that were seen waiting.
    waited: BTreeSet<Key>,
    inferred: BTreeMap<Key, Inference>,
    /// Why it is not known who accepts from a listener.
    unknown: BTreeMap<u64, String>,
}

impl Acceptors {
    /// The acceptors, or the readers.
    #[must_use]
    pub fn new(of: Of) -> Self {
        Self { of, ..Self::default() }
    }

    /// Listeners whose only possible reader was inferred, with that thread.
    #[must_use]
    pub fn only(&self) -> Vec<(u64, u32)> {
        let only = |inference: &Inference| *inference == Inference::OnlyThread;
        self.inferred.iter().filter(|(_, inference)| only(inference)).map(|(key, _)| *key).collect()
    }

    /// What a thread has done that makes it one.
    fn done(&self, thread: &ThreadModel) -> u64 {
        match self.of {
            Of::Accepts => thread.accepts,
            Of::Reads => thread.accepts + thread.reads,
        }
    }

    /// The open ones of these listeners (`None`: all), each with the threads that accepted from it, or wait for its
    /// connections; or with the one of which that can be inferred.
    pub fn subjects(&mut self, model: &Model, wanted: Option<&[u64]>) -> Vec<Subject> {
        let is_wanted = |listener: &&ListenerModel| wanted.is_none_or(|wanted| wanted.contains(&listener.id));
        let open = model.listeners.iter().filter(|listener| !listener.closed).filter(is_wanted);
        let subjects = open.map(|listener| Subject { listener: listener.id, threads: self.of(listener) }).collect();
        self.began = true;
        subjects
    }

    fn of(&mut self, listener: &ListenerModel) -> Vec<(u32, u64)> {
        let id = listener.id;
        let accepted =
            listener.threads.iter().filter(|thread| self.done(thread) > 0 && !thread.ended && thread.tid != 0);
        let (mut threads, mut before) = (BTreeMap::new(), Vec::new());
        for thread in accepted {
            if !self.began {
                before.push((thread.tid, self.done(thread)));
            }
            threads.insert(thread.tid, thread.start_ns);
        }
        self.before.extend(before.into_iter().map(|(tid, done)| ((id, tid), done)));
        // Who waits for connections need not read from them.
        for waiter in listener.waiters.iter().flatten().filter(|_| self.of == Of::Accepts) {
            let tid = if waiter.tid == 0 { only_thread(waiter.pid) } else { Some(waiter.tid) };
            if let Some(tid) = tid {
                self.waited.insert((id, tid));
                threads.entry(tid).or_insert(0);
            }
        }
        if threads.is_empty() {
            match self.infer(listener) {
                Ok(inferred) => {
                    for (tid, inference) in inferred {
                        self.inferred.insert((id, tid), inference);
                        threads.insert(tid, 0);
                    }
                }
                Err(reason) => drop(self.unknown.insert(id, reason)),
            }
        }
        threads.into_iter().collect()
    }

    /// Who must be the acceptors of a listener from which nobody accepts, or probably are; or why nobody knows. They
    /// are charged in equal parts, so each must be an acceptor: one of several threads of a process is not charged.
    fn infer(&self, listener: &ListenerModel) -> Result<Vec<(u32, Inference)>, String> {
        let certain = infer(&listener.holders, threads_of);
        let likely = listener.likely_acceptors.as_deref().filter(|_| self.of == Of::Accepts).unwrap_or_default();
        match certain {
            Ok(tid) => Ok(vec![(tid, Inference::OnlyThread)]),
            Err(reason) if likely.is_empty() => Err(reason),
            Err(_) => match likely.iter().find(|one| !one.by.names_a_thread()) {
                Some(one) if likely.iter().all(|other| other.pid == one.pid) => {
                    Err(format!("any of the {} threads of process {} may be it", likely.len(), one.pid))
                }
                Some(_) => Err(format!("any of the {} threads of several processes may be it", likely.len())),
                None => Ok(likely.iter().map(|one| (one.tid, Inference::Likely(one.by))).collect()),
            },
        }
    }

    /// Why this thread counts as an acceptor, if it has neither accepted since the start nor waited.
    fn inference(&self, listener: &ListenerModel, tid: u32) -> Option<Inference> {
        let key = (listener.id, tid);
        let done = listener.threads.iter().find(|thread| thread.tid == tid).map_or(0, |thread| self.done(thread));
        let before = self.before.get(&key);
        if self.waited.contains(&key) || done > before.copied().unwrap_or(0) {
            return None;
        }
        self.inferred.get(&key).copied().or_else(|| before.map(|_| Inference::Before))
    }

    /// Notes in what was measured which acceptors were inferred, and why nobody was found where none was.
    pub fn note(&self, blamed: &mut Blamed, model: &Model) {
        let of = blamed.of;
        for listener in &mut blamed.listeners {
            let Some(known) = model.listeners.iter().find(|known| known.id == listener.id) else { continue };
            let threads: Vec<u32> = listener.threads.iter().map(|(acceptor, _)| acceptor.tid).collect();
            let inferred = threads.into_iter().filter_map(|tid| Some((tid, self.inference(known, tid)?)));
            listener.inferred = inferred.collect();
            if let Some(reason) = self.unknown.get(&listener.id) {
                listener.explain_nobody(reason, of);
            }
        }
    }
}

/// The ids of a process' threads; `None` if it is gone.
fn threads_of(pid: u32) -> Option<Vec<u32>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect())
}

/// The only thread of a process that polls a listener, though none of its threads was seen waiting.
fn only_thread(pid: u32) -> Option<u32> {
    threads_of(pid).filter(|threads| threads.len() == 1)?.pop()
}

/// Who must be the acceptor of a listener that these processes hold, or why that is not known.
fn infer(holders: &[u32], threads_of: impl Fn(u32) -> Option<Vec<u32>>) -> Result<u32, String> {
    let [pid] = *holders else {
        return Err(match holders.len() {
            0 => "which process holds the listener is not known".to_owned(),
            count => format!("any of the {count} processes that hold the listener may be it"),
        });
    };
    match threads_of(pid).as_deref() {
        Some([tid]) => Ok(*tid),
        None | Some([]) => Err(format!("process {pid}, which holds the listener, cannot be read")),
        Some(threads) => Err(format!("any of the {} threads of process {pid} may be it", threads.len())),
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{
        fixtures,
        model::{LikelyAcceptor, WaitKind, Waiter},
        tracker::Tracker,
    };

    use super::*;

    #[test]
    fn only_a_single_thread_of_a_single_holder_is_inferred() {
        let threads = |pid| match pid {
            10 => Some(vec![10]),
            20 => Some(vec![20, 21, 22]),
            _ => None,
        };
        assert_eq!(infer(&[10], threads), Ok(10));
        for (holders, reason) in [
            (&[20][..], "any of the 3 threads of process 20"),
            (&[10, 20], "any of the 2 processes"),
            (&[], "not known"),
            (&[30], "process 30, which holds the listener, cannot be read"),
        ] {
            let error = infer(holders, threads).expect_err("nobody knows");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn workers_of_a_master_are_charged_and_one_of_several_threads_is_not() {
        let mut listener = Tracker::new(&fixtures::quiet()[0]).model().listeners[0].clone();
        // Two processes hold it, of which none can be read.
        let gone = [u32::MAX - 1, u32::MAX];
        (listener.threads, listener.waiters, listener.holders) = (Vec::new(), Some(Vec::new()), gone.to_vec());
        let one = |pid, tid, by| LikelyAcceptor { pid, tid, comm: "worker".to_owned(), by, state: None };
        let id = listener.id;
        let charged = |listener: &ListenerModel, of| {
            let mut acceptors = Acceptors::new(of);
            let threads: Vec<u32> = acceptors.of(listener).into_iter().map(|(tid, _)| tid).collect();
            let inferred = threads.iter().filter_map(|tid| acceptors.inference(listener, *tid)).collect::<Vec<_>>();
            (threads, inferred, acceptors.unknown.get(&id).cloned())
        };
        let (threads, _, why) = charged(&listener, Of::Accepts);
        assert!(threads.is_empty() && why.is_some_and(|why| why.contains("any of the 2 processes")));

        listener.likely_acceptors = Some(vec![one(7, 7, LikelyBy::OnlyThread), one(8, 9, LikelyBy::NotParked)]);
        let both = vec![Inference::Likely(LikelyBy::OnlyThread), Inference::Likely(LikelyBy::NotParked)];
        assert_eq!(charged(&listener, Of::Accepts), (vec![7, 9], both.clone(), None));
        assert!(both.iter().all(|inference| inference.text().starts_with("probably: ")));
        let (threads, ..) = charged(&listener, Of::Reads);
        assert!(threads.is_empty(), "who accepts need not read");

        let several = [7, 8].map(|tid| one(7, tid, LikelyBy::OneOfSeveral));
        listener.likely_acceptors = Some(several.to_vec());
        let (threads, _, why) = charged(&listener, Of::Accepts);
        assert_eq!(threads, [] as [u32; 0]);
        assert_eq!(why.as_deref(), Some("any of the 2 threads of process 7 may be it"));
        listener.likely_acceptors = Some(vec![one(7, 7, LikelyBy::OnlyThread)]);
        let waiting = [waiter(5)];
        listener.waiters = Some(waiting.to_vec());
        assert_eq!(charged(&listener, Of::Accepts), (vec![5], vec![], None), "who waits is seen");
    }

    fn waiter(tid: u32) -> Waiter {
        let comm = "worker".to_owned();
        Waiter { pid: tid, tid, comm, how: WaitKind::Epoll, exclusive: None, edge: None, waits: true, polls: None }
    }

    #[test]
    fn who_accepts_or_waits_is_not_inferred() {
        let mut model = Tracker::new(&fixtures::quiet()[0]).model().clone();
        let own = std::process::id();
        let mut acceptors = Acceptors::default();
        let listener = &mut model.listeners[0];
        (listener.threads, listener.waiters, listener.holders) = (Vec::new(), Some(Vec::new()), vec![own]);
        // This process has more than one thread.
        let id = listener.id;
        assert!(acceptors.of(listener).is_empty() && acceptors.unknown[&id].contains("threads of process"));
        // One that was inferred, and is seen waiting later; and one that had accepted already.
        acceptors.inferred.insert((id, 7), Inference::OnlyThread);
        assert_eq!(acceptors.inference(listener, 7), Some(Inference::OnlyThread));
        acceptors.waited.insert((id, 7));
        assert_eq!(acceptors.inference(listener, 7), None);
        acceptors.before.insert((id, 8), 3);
        assert_eq!(acceptors.inference(listener, 8), Some(Inference::Before));
    }

    #[test]
    fn open_listeners_are_watched_with_those_that_accept_or_wait() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let mut model = tracker.model().clone();
        let threads = vec![(2201, model.listeners[0].threads[0].start_ns)];
        let subjects = |model: &Model, wanted| Acceptors::default().subjects(model, wanted);
        assert_eq!(subjects(&model, None), [Subject { listener: 21, threads: threads.clone() }]);
        assert_eq!(subjects(&model, Some(&[21])), [Subject { listener: 21, threads }]);
        assert_eq!(subjects(&model, Some(&[22])), []);
        model.listeners[0].closed = true;
        assert_eq!(subjects(&model, None), []);
    }
}
