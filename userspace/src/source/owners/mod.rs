//! Who holds a socket: found in /proc/PID/fd, on a thread of its own, because a machine may have many processes.

mod cgroup;
mod runtimes;
mod scan;

use std::{
    collections::HashSet,
    sync::mpsc,
    time::{Duration, Instant},
};

use listentop_model::sample::Process;

pub(super) use scan::{Scan, describe, is_socket};

use super::{machine, proc};
use crate::rights;

/// What listentop can see of the processes of its machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Processes whose descriptors may not be read (without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH).
    pub hidden: u32,
    /// /proc does not show processes of other users, so nobody can say how many there are.
    pub hidepid: bool,
    /// It runs in a PID namespace of its own: processes outside have no id in it.
    pub confined: bool,
}

impl Sight {
    /// What does not change while listentop runs. `hidden` is for each scan to say.
    pub(super) fn of_machine() -> Self {
        // The right to trace processes is also that to see them.
        let hidepid = proc::hides_processes() && !rights::has(caps::Capability::CAP_SYS_PTRACE);
        Self { hidden: 0, hidepid, confined: proc::our_pid_namespace() != 0 }
    }
}

/// A listener without an owner causes extra scans until this many found none. Some have no visible owner: the kernel's
/// own, and those of processes outside our PID namespace.
const SCANS: u32 = 4;

/// After so many scans that did not find a holder, the process that accepts is taken for it.
const SUPPOSE_AFTER: u32 = 1;

/// Who holds a socket, as far as scans have shown.
#[derive(Debug, Default)]
pub(super) struct Owner {
    /// The one that started first, if there are several.
    pub process: Option<Process>,
    /// All that hold it, in that order; empty while that is unknown.
    pub holders: Vec<u32>,
    /// Scans that did not find it.
    scans: u32,
    changed: bool,
}

impl Owner {
    /// Updates it from a scan. `again`: that scan was used before, for other sockets.
    pub(super) fn update(&mut self, inode: u64, scan: &Scan, again: bool) {
        let Some(holders) = scan.holders.get(&inode) else {
            self.scans = self.scans.saturating_add(u32::from(!again));
            return;
        };
        if self.holders != *holders {
            self.holders.clone_from(holders);
            self.changed = true;
        }
        let process = holders.iter().find_map(|pid| scan.processes.get(pid));
        if process.is_some() && self.process.as_ref() != process {
            self.process = process.cloned();
            self.changed = true;
        }
    }

    /// Takes a process that was seen accepting from the socket for its owner, as long as no scan shows one.
    pub(super) fn suppose(&mut self, accepting: impl FnOnce() -> Option<u32>) {
        if self.process.is_none()
            && self.scans >= SUPPOSE_AFTER
            && let Some(process) = accepting().and_then(describe)
        {
            self.holders = vec![process.pid];
            self.process = Some(process);
            self.changed = true;
        }
    }

    /// Whether an extra scan may find it.
    pub(super) fn is_sought(&self) -> bool {
        self.process.is_none() && self.scans < SCANS
    }

    /// Whether it has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// What a scan is to find.
struct Wanted {
    /// Inodes of sockets.
    sockets: HashSet<u64>,
    /// Look also where sockets seldom are: see [`scan::scan`].
    thorough: bool,
}

/// Scans in the background, as often as it costs little.
pub(super) struct Watch {
    requests: Option<mpsc::Sender<Wanted>>,
    results: mpsc::Receiver<(Scan, Duration)>,
    latest: Scan,
    /// The sockets that it was to find.
    sought: HashSet<u64>,
    busy: bool,
    /// When the next is due if other sockets are to be found, and when it is in any case.
    due: [Instant; 2],
    every: Duration,
    /// A scan is due after the shortest time, regardless of its cost.
    lavish: bool,
}

/// Shortest time between two scans.
const SHORTEST: Duration = Duration::from_secs(2);
/// Longest time, while scans find the same: a process may get another name, and a socket may pass to another one.
const LONGEST: Duration = Duration::from_secs(10);
/// A scan is repeated after this many times its CPU time at the earliest: 2 % of a core at most. On a busy machine,
/// where owners matter most, it takes much longer than that.
const THRIFT: u32 = 50;
/// A listener without an owner asks for a scan at most this often.
const IMPATIENT: Duration = Duration::from_millis(500);

impl Watch {
    /// Starts the thread; it ends with the watch.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start() -> std::io::Result<Self> {
        let (requests, wanted) = mpsc::channel::<Wanted>();
        let (sender, results) = mpsc::channel();
        let mut naming = runtimes::Naming::start();
        std::thread::Builder::new().name("owners".to_owned()).spawn(move || {
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_owners();
            while let Ok(Wanted { sockets, thorough }) = wanted.recv() {
                let before = machine::thread_cpu();
                let mut found = scan::scan(&sockets, thorough);
                if let Some(naming) = &mut naming {
                    naming.name(&mut found);
                }
                if sender.send((found, machine::thread_cpu().saturating_sub(before))).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            requests: Some(requests),
            results,
            latest: Scan::default(),
            sought: HashSet::new(),
            busy: false,
            due: [Instant::now(); 2],
            every: SHORTEST,
            lavish: false,
        })
    }

    /// From now on scans are due soon after one another.
    pub(super) fn be_lavish(&mut self) {
        self.lavish = true;
        self.due = [Instant::now(); 2];
    }

    /// The latest scan; asks for another when one is due. `wanted`: inodes of the sockets that listen now.
    pub(super) fn latest(&mut self, wanted: impl Fn() -> HashSet<u64>, unknown: bool) -> &Scan {
        self.collect(Duration::ZERO);
        let (now, [soon, at_last]) = (Instant::now(), self.due);
        if !self.busy {
            if now >= at_last || (unknown && now + SHORTEST >= soon + IMPATIENT) {
                self.request(wanted(), unknown);
            } else if now >= soon {
                let wanted = wanted();
                if !wanted.is_subset(&self.sought) {
                    self.request(wanted, unknown);
                }
            }
        }
        &self.latest
    }

    /// The latest scan, whether or not another is due.
    pub(super) fn current(&self) -> &Scan {
        &self.latest
    }

    /// Scans now and waits for it, but not longer than `patience`.
    pub(super) fn first(&mut self, wanted: HashSet<u64>, patience: Duration) {
        self.request(wanted, true);
        self.collect(patience);
    }

    fn request(&mut self, sockets: HashSet<u64>, thorough: bool) {
        self.sought.clone_from(&sockets);
        let wanted = Wanted { sockets, thorough };
        self.busy = self.requests.as_ref().is_some_and(|requests| requests.send(wanted).is_ok());
    }

    fn collect(&mut self, patience: Duration) {
        if let Ok((scan, took)) = self.results.recv_timeout(patience) {
            self.every = if scan.is_like(&self.latest) { (self.every * 2).min(LONGEST) } else { SHORTEST };
            self.latest = Scan { number: self.latest.number + 1, ..scan };
            self.busy = false;
            let now = Instant::now();
            self.due = if self.lavish {
                [now + SHORTEST; 2]
            } else {
                [SHORTEST, self.every].map(|every| now + every.max(took * THRIFT))
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    };

    use super::*;

    #[test]
    fn who_accepts_is_taken_for_the_owner_until_one_is_found() {
        let own = std::process::id();
        let mut owner = Owner::default();
        owner.suppose(|| Some(own));
        assert_eq!(owner.process, None, "no scan has looked for it");
        owner.update(1, &Scan::default(), false);
        owner.suppose(|| None);
        assert_eq!(owner.process, None, "nobody was seen");
        owner.suppose(|| Some(own));
        assert_eq!(owner.process.as_ref().map(|process| process.pid), Some(own));
        assert!(owner.take_changed());
        owner.suppose(|| panic!("it has one"));
    }

    #[test]
    fn scans_become_rarer_while_they_find_the_same() {
        let (socket, other) = UnixDatagram::pair().expect("sockets can be made");
        let inode = |socket: &UnixDatagram| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            is_socket(std::fs::read_link(path).expect("open").to_str().expect("text")).expect("a socket")
        };
        let (first, second) = (HashSet::from([inode(&socket)]), HashSet::from([inode(&socket), inode(&other)]));
        let mut watch = Watch::start().expect("a thread can be started");
        let patience = Duration::from_secs(10);
        let same = Scan { number: 1, ..scan::scan(&first, false) };
        watch.first(first.clone(), patience);
        assert!(watch.latest.holders.contains_key(&inode(&socket)) && watch.every == SHORTEST);
        // Other processes come and go meanwhile: whatever was found, it is as before.
        let ((sender, results), (requests, asked)) = (mpsc::channel(), mpsc::channel());
        (watch.results, watch.requests) = (results, Some(requests));
        for every in [4, 8, 10, 10] {
            watch.latest = same.clone();
            sender.send((same.clone(), Duration::ZERO)).expect("it is heard");
            watch.collect(patience);
            assert_eq!(watch.every, Duration::from_secs(every));
        }
        let is_asked = |watch: &mut Watch, wanted: &HashSet<u64>, unknown| {
            let _ = watch.latest(|| wanted.clone(), unknown);
            watch.busy = false;
            asked.try_recv().is_ok()
        };
        watch.due[0] = Instant::now();
        assert!(!is_asked(&mut watch, &first, false), "nothing is new");
        assert!(is_asked(&mut watch, &second, false), "a socket is");
        watch.due[0] = Instant::now() + Duration::from_millis(1_500);
        assert!(!is_asked(&mut watch, &first, false) && is_asked(&mut watch, &first, true), "an owner is unknown");
        sender.send((Scan { hidden: same.hidden + 1, ..same.clone() }, Duration::ZERO)).expect("it is heard");
        watch.collect(patience);
        assert_eq!(watch.every, SHORTEST, "something has changed");
    }

    #[test]
    fn a_process_that_has_changed_is_shown_anew() {
        let process = |pid, comm: &str| Process { pid, comm: comm.to_owned(), ..Process::default() };
        let scan = |processes: &[Process]| Scan {
            holders: HashMap::from([(1, vec![7, 8])]),
            processes: processes.iter().map(|process| (process.pid, process.clone())).collect(),
            ..Scan::default()
        };
        let mut owner = Owner::default();
        for (processes, shown, changed) in [
            (vec![process(7, "sh")], process(7, "sh"), true),
            (vec![process(7, "sh")], process(7, "sh"), false),
            // It has another name: exec, prctl, or another process with its id.
            (vec![process(7, "server")], process(7, "server"), true),
            // The first that still lives.
            (vec![process(8, "worker")], process(8, "worker"), true),
            // No holder is alive: the last known one stays.
            (vec![], process(8, "worker"), false),
        ] {
            owner.update(1, &scan(&processes), false);
            let now_changed = owner.take_changed();
            assert_eq!((owner.process.as_ref(), now_changed), (Some(&shown), changed));
            assert_eq!(owner.holders, [7, 8]);
        }
        owner.update(1, &Scan { holders: HashMap::from([(1, vec![8])]), ..Scan::default() }, false);
        assert!(owner.take_changed());
        assert_eq!(owner.holders, [8]);
    }
}
