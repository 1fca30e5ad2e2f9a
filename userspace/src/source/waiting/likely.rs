//! Who probably should accept from a listener, where nobody was seen accepting: whoever was stuck before the probes
//! came.
//!
//! It goes from the best sign to the weakest. Threads that wait for its connections; else the processes that hold it,
//! but not one whose children run the same program and hold it too, because that is a master; and in a process of
//! several threads the one that is not parked on a futex.

use std::{collections::BTreeSet, fs, path::PathBuf};

use listentop_model::sample::{LikelyAcceptor, LikelyBy, Waiter};

use super::{MOST_PROCESSES, MOST_STATES, process};
use crate::source::proc::{self, Stat};

/// Threads of a process that are looked at: one with more is not known.
const MOST_THREADS: usize = 256;
/// Parents of a process that are asked for, one after the other.
const MOST_PARENTS: usize = 8;

/// What is read of the processes; a machine of their own in tests.
trait Machine {
    /// A process' parent.
    fn parent(&self, pid: u32) -> Option<u32>;
    /// Whether it keeps sockets for others, which it starts when somebody connects.
    fn activates(&self, pid: u32) -> bool;
    /// Whether two processes run the same program; `None` if that may not be read.
    fn are_alike(&self, one: u32, other: u32) -> Option<bool>;
    /// Its threads, and whether each is parked on a futex; `None` if that may not be read, or they are too many.
    fn threads(&self, pid: u32) -> Option<Vec<(u32, bool)>>;
}

/// The threads that probably should accept, with what they do; `None` if that cannot be inferred.
pub(super) fn acceptors(holders: &[u32], waiters: Option<&[Waiter]>) -> Option<Vec<LikelyAcceptor>> {
    let found = threads(&Proc, holders, waiters.unwrap_or_default())?;
    let described = found.into_iter().take(MOST_STATES).filter_map(|(pid, tid, by)| {
        let line = proc::text(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
        let stat = Stat::parse(&line)?;
        let state = Some(process::state_of(pid, tid, stat.state));
        Some(LikelyAcceptor { pid, tid, comm: stat.comm.to_owned(), by, state })
    });
    let described: Vec<LikelyAcceptor> = described.collect();
    (!described.is_empty()).then_some(described)
}

/// Process, thread and reason of each.
fn threads(machine: &impl Machine, holders: &[u32], waiters: &[Waiter]) -> Option<Vec<(u32, u32, LikelyBy)>> {
    let of_waiters: BTreeSet<(u32, u32)> =
        waiters.iter().filter(|waiter| waiter.tid != 0).map(|waiter| (waiter.pid, waiter.tid)).collect();
    if !of_waiters.is_empty() {
        return Some(of_waiters.into_iter().map(|(pid, tid)| (pid, tid, LikelyBy::Waits)).collect());
    }
    if holders.is_empty() || holders.len() > MOST_PROCESSES {
        return None;
    }
    // A process that polls the listener, though none of its threads was seen waiting.
    let polling: BTreeSet<u32> = waiters.iter().map(|waiter| waiter.pid).collect();
    let (processes, unclear) = if polling.is_empty() { without_masters(machine, holders) } else { (polling, false) };
    let mut found = Vec::new();
    for pid in processes {
        let threads = machine.threads(pid)?;
        let awake: Vec<u32> = threads.iter().filter(|(_, parked)| !parked).map(|(tid, _)| *tid).collect();
        match (&threads[..], &awake[..]) {
            ([], _) => {}
            ([(tid, _)], _) => found.push((pid, *tid, LikelyBy::OnlyThread)),
            (_, [tid]) => found.push((pid, *tid, LikelyBy::NotParked)),
            (_, []) => found.extend(threads.iter().map(|(tid, _)| (pid, *tid, LikelyBy::OneOfSeveral))),
            (_, several) => found.extend(several.iter().map(|tid| (pid, *tid, LikelyBy::OneOfSeveral))),
        }
    }
    if unclear {
        found.iter_mut().for_each(|(.., by)| *by = LikelyBy::OneOfSeveral);
    }
    Some(found)
}

/// These processes without those of which another one descends. Whether it is not clear which of the others it is: one
/// may have inherited the listener by mistake, which runs another program than its parent.
fn without_masters(machine: &impl Machine, holders: &[u32]) -> (BTreeSet<u32>, bool) {
    let (mut masters, mut unclear) = (BTreeSet::new(), false);
    for holder in holders {
        let mut pid = *holder;
        for _ in 0..MOST_PARENTS {
            match machine.parent(pid) {
                Some(parent) if parent != 0 && parent != *holder => pid = parent,
                _ => break,
            }
            if !holders.contains(&pid) {
                continue;
            }
            if machine.activates(pid) || machine.are_alike(pid, *holder) != Some(false) {
                masters.insert(pid);
            } else {
                unclear = true;
            }
        }
    }
    (holders.iter().copied().filter(|pid| !masters.contains(pid)).collect(), unclear)
}

/// This machine.
struct Proc;

impl Machine for Proc {
    fn parent(&self, pid: u32) -> Option<u32> {
        let text = proc::text(format!("/proc/{pid}/stat")).ok()?;
        Stat::parse(&text).map(|stat| stat.parent)
    }

    fn activates(&self, pid: u32) -> bool {
        pid == 1 || program(pid).is_some_and(|program| program.ends_with("systemd"))
    }

    fn are_alike(&self, one: u32, other: u32) -> Option<bool> {
        Some(program(one)? == program(other)?)
    }

    fn threads(&self, pid: u32) -> Option<Vec<(u32, bool)>> {
        let tids: Vec<u32> = proc::tasks(pid).take(MOST_THREADS + 1).collect();
        if tids.len() > MOST_THREADS {
            return None;
        }
        if let [tid] = tids[..] {
            return Some(vec![(tid, false)]);
        }
        let living = |tid: &u32| {
            let line = proc::text(format!("/proc/{pid}/task/{tid}/stat")).ok();
            line.as_deref().and_then(Stat::parse).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
        };
        Some(tids.into_iter().filter(living).map(|tid| (tid, process::is_parked(pid, tid))).collect())
    }
}

/// The file that a process runs.
fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use listentop_model::sample::WaitKind;

    use super::*;

    /// By process: its parent, and for each thread whether it is parked. Tens run the same program: 10 and 11 do.
    struct Made(BTreeMap<u32, (u32, Vec<bool>)>);

    impl Made {
        fn new(processes: &[(u32, u32, &[bool])]) -> Self {
            Self(processes.iter().map(|(pid, parent, threads)| (*pid, (*parent, threads.to_vec()))).collect())
        }
    }

    impl Machine for Made {
        fn parent(&self, pid: u32) -> Option<u32> {
            Some(self.0.get(&pid)?.0)
        }

        fn activates(&self, pid: u32) -> bool {
            pid == 1
        }

        fn are_alike(&self, one: u32, other: u32) -> Option<bool> {
            (one < 100).then_some(one / 10 == other / 10)
        }

        fn threads(&self, pid: u32) -> Option<Vec<(u32, bool)>> {
            Some((pid..).zip(self.0.get(&pid)?.1.iter().copied()).collect())
        }
    }

    fn waiter(pid: u32, tid: u32) -> Waiter {
        let comm = "srv".to_owned();
        Waiter { pid, tid, comm, how: WaitKind::Epoll, exclusive: None, edge: None, waits: false, polls: None }
    }

    use LikelyBy::{NotParked, OneOfSeveral, OnlyThread, Waits};

    #[test]
    fn who_waits_comes_first_and_a_master_does_not_count() {
        let machine = Made::new(&[(10, 1, &[false]), (12, 10, &[false]), (13, 10, &[false])]);
        let holders = [10, 12, 13];
        let found = threads(&machine, &holders, &[waiter(12, 12), waiter(12, 12)]);
        assert_eq!(found, Some(vec![(12, 12, Waits)]));
        let found = threads(&machine, &holders, &[]);
        assert_eq!(found, Some(vec![(12, 12, OnlyThread), (13, 13, OnlyThread)]));
        assert_eq!(threads(&machine, &[10], &[]), Some(vec![(10, 10, OnlyThread)]), "it is nobody's master here");
        assert_eq!(threads(&machine, &[], &[]), None, "nobody is known to hold it");
    }

    #[test]
    fn a_master_is_one_over_generations_too() {
        // A manager, its helper that does not hold the listener, and a worker of that.
        let machine = Made::new(&[(1, 0, &[false]), (10, 1, &[false]), (15, 10, &[false]), (19, 15, &[false])]);
        assert_eq!(threads(&machine, &[1, 10, 19], &[]), Some(vec![(19, 19, OnlyThread)]));
        // Ids may have been used again meanwhile: a circle does not last for ever.
        let machine = Made::new(&[(10, 11, &[false]), (11, 10, &[false])]);
        assert_eq!(threads(&machine, &[10, 11], &[]), Some(vec![]));
    }

    #[test]
    fn a_child_of_another_program_may_have_inherited_it_by_mistake() {
        let machine = Made::new(&[(10, 1, &[false]), (20, 10, &[false]), (100, 1, &[false]), (110, 100, &[false])]);
        let both = vec![(10, 10, OneOfSeveral), (20, 20, OneOfSeveral)];
        assert_eq!(threads(&machine, &[10, 20], &[]), Some(both));
        assert_eq!(threads(&machine, &[100, 110], &[]), Some(vec![(110, 110, OnlyThread)]), "that may not be read");
        // Whoever keeps sockets for others starts other programs.
        let machine = Made::new(&[(1, 0, &[false]), (20, 1, &[false])]);
        assert_eq!(threads(&machine, &[1, 20], &[]), Some(vec![(20, 20, OnlyThread)]));
    }

    #[test]
    fn of_several_threads_it_is_the_one_that_is_not_parked() {
        let machine = Made::new(&[
            (10, 1, &[false, true, true]),
            (20, 1, &[true, false, false]),
            (30, 1, &[true, true]),
            (40, 1, &[]),
        ]);
        assert_eq!(threads(&machine, &[10], &[]), Some(vec![(10, 10, NotParked)]));
        assert_eq!(threads(&machine, &[20], &[]), Some(vec![(20, 21, OneOfSeveral), (20, 22, OneOfSeveral)]));
        assert_eq!(threads(&machine, &[30], &[]), Some(vec![(30, 30, OneOfSeveral), (30, 31, OneOfSeveral)]));
        assert_eq!(threads(&machine, &[40], &[]), Some(vec![]), "it has just ended");
        assert_eq!(threads(&machine, &[10, 50], &[]), None, "one of them cannot be read");
        // An epoll that polls the listener says which process it is.
        assert_eq!(threads(&machine, &[10, 20], &[waiter(10, 0)]), Some(vec![(10, 10, NotParked)]));
    }

    #[test]
    fn our_own_parked_threads_are_seen() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw() as u32).expect("awaited");
            std::thread::park();
        });
        let (own, tid) = (std::process::id(), receiver.recv().expect("it runs"));
        let began = std::time::Instant::now();
        while !Proc.threads(own).expect("it is ours").contains(&(tid, true)) {
            assert!(began.elapsed() < std::time::Duration::from_secs(10), "it never parks");
        }
        let this = nix::unistd::gettid().as_raw() as u32;
        assert!(Proc.threads(own).expect("it is ours").contains(&(this, false)), "this one runs");
        assert_eq!(Proc.parent(own), Some(nix::unistd::getppid().as_raw() as u32));
        thread.thread().unpark();
        thread.join().expect("it ends");
    }
}
