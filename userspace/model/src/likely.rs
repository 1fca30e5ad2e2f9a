//! Who probably accepts from a listener from which nobody was seen accepting.
//!
//! Whoever attaches during a stall has seen no accept: the thread that should accept has hung since before. What can be
//! read of the listener's processes tells in most cases which one that is. It is inferred, and never stands where
//! accepts were seen.

use serde::{Deserialize, Serialize};

use crate::{
    model::ThreadModel,
    names::names,
    sample::{ListenerSample, ThreadState},
};

names! {
    /// Why a thread counts as one that should accept.
    pub enum LikelyBy {
        /// It accepted before the interval: the recording has it from there.
        Accepted = "accepted_before",
        /// It waits for the listener's connections, or did a moment ago, or is the only thread of a process whose epoll
        /// polls the listener.
        Waits = "waits",
        /// It is the only thread of a process that holds the listener.
        OnlyThread = "only_thread",
        /// Of the threads of such a process it is the only one that is not parked on a futex.
        NotParked = "not_parked",
        /// It is one of several threads of such processes, and nothing tells which.
        OneOfSeveral = "one_of_several",
    }
}

impl LikelyBy {
    /// Whether it is more than a guess among the threads of a process.
    #[must_use]
    pub fn names_a_thread(self) -> bool {
        self != Self::OneOfSeveral
    }

    /// What it rests on, about one thread, or about several: `it holds the socket`.
    #[must_use]
    pub fn because(self, several: bool) -> &'static str {
        match (self, several) {
            (Self::Accepted, false) => "it accepted before this interval, and nothing in it",
            (Self::Accepted, true) => "they accepted before this interval, and nothing in it",
            (Self::Waits, false) => "it waits at the socket or polls it, and accepted nothing since the start",
            (Self::Waits, true) => "they wait at the socket or poll it, and accepted nothing since the start",
            (Self::OnlyThread, false) => {
                "it is the only thread of a process that holds the socket, and accepted nothing since the start"
            }
            (Self::OnlyThread, true) => "their processes hold the socket, and accepted nothing since the start",
            (Self::NotParked, false) => {
                "its process holds the socket, its other threads are parked on futexes, and it accepted nothing since the \
                 start"
            }
            (Self::NotParked, true) => {
                "their processes hold the socket, the other threads there are parked on futexes, and they accepted nothing \
                 since the start"
            }
            (Self::OneOfSeveral, false) => "it holds the socket, and accepted nothing since the start",
            (Self::OneOfSeveral, true) => {
                "they hold the socket, none accepted anything since the start, and nothing tells which should"
            }
        }
    }
}

/// A thread that should accept, as far as that can be inferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LikelyAcceptor {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Command name of the thread.
    pub comm: String,
    /// Why it is thought to accept.
    pub by: LikelyBy,
    /// What it does; `None` if that may not be read.
    pub state: Option<ThreadState>,
}

/// Who should accept from a listener, while connections wait and nobody was seen accepting in the interval; `None`
/// where that is not so, or nothing can be inferred.
pub(crate) fn acceptors(threads: &[ThreadModel], sample: &ListenerSample) -> Option<Vec<LikelyAcceptor>> {
    let measured = |t: &ThreadModel| t.summed.is_none() && t.accepts + t.would_block + t.accept_failed > 0;
    if sample.closed || sample.gauges.accept_depth == 0 || threads.iter().any(measured) {
        return None;
    }
    // What the source counted before the interval, as a part of a recording has it.
    let before = sample.threads.iter().filter(|t| !t.ended && t.summed.is_none() && t.tid != 0);
    let before: Vec<LikelyAcceptor> = before
        .filter(|t| t.accepts + t.would_block > 0)
        .map(|t| LikelyAcceptor {
            pid: t.pid,
            tid: t.tid,
            comm: t.comm.clone(),
            by: LikelyBy::Accepted,
            state: t.state.clone(),
        })
        .collect();
    if before.is_empty() { sample.likely_acceptors.clone().filter(|likely| !likely.is_empty()) } else { Some(before) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{Scene, listener, thread},
        tracker::Tracker,
    };

    fn inferred(tid: u32) -> LikelyAcceptor {
        LikelyAcceptor { pid: tid, tid, comm: "srv".to_owned(), by: LikelyBy::OnlyThread, state: None }
    }

    /// The model after a change of the second of two samples, between which nothing happens.
    fn after(
        first: impl FnOnce(&mut ListenerSample),
        change: impl FnOnce(&mut ListenerSample),
    ) -> Option<Vec<LikelyAcceptor>> {
        let mut l = listener(1, 4_026_531_840, "0.0.0.0:80", 16);
        l.gauges.accept_depth = 3;
        l.threads = vec![thread(7, 7, "srv")];
        l.likely_acceptors = Some(vec![inferred(9)]);
        first(&mut l);
        let mut scene = Scene::new(vec![l]);
        scene.tick(1_000);
        change(scene.listener(0));
        scene.tick(1_000);
        let samples = scene.samples();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        tracker.model().listeners[0].likely_acceptors.clone()
    }

    #[test]
    fn what_was_seen_takes_the_place_of_what_is_inferred() {
        assert_eq!(after(|_| {}, |_| {}), Some(vec![inferred(9)]));
        assert_eq!(after(|_| {}, |l| l.gauges.accept_depth = 0), None, "nothing waits");
        assert_eq!(after(|_| {}, |l| l.closed = true), None);
        assert_eq!(after(|_| {}, |l| l.threads[0].accepts = 1), None, "it was seen accepting");
        assert_eq!(after(|_| {}, |l| l.threads[0].would_block = 1), None, "it was seen trying");
        assert_eq!(after(|l| l.likely_acceptors = Some(Vec::new()), |_| {}), None, "an empty list says nothing");
    }

    #[test]
    fn who_accepted_before_the_interval_is_known() {
        let known = after(|l| l.threads[0].accepts = 5, |_| {}).expect("it accepted before");
        assert_eq!((known.len(), known[0].tid, known[0].by), (1, 7, LikelyBy::Accepted));
        let ended = after(|l| l.threads[0].accepts = 5, |l| l.threads[0].ended = true);
        assert_eq!(ended, Some(vec![inferred(9)]), "that one is gone");
        assert_eq!(after(|l| l.threads[0].accepts = 5, |l| l.threads[0].accepts = 6), None, "it accepts");
    }
}
