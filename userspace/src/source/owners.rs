//! Who holds a socket: found in /proc/PID/fd, on a thread of its own, because a machine may have many processes.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    sync::mpsc,
    time::{Duration, Instant},
};

use listentop_model::sample::Process;
use nix::{errno::Errno, fcntl::readlinkat};

use crate::rights;

/// What one pass through /proc found.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    /// Counts the scans of a [`Watch`], from 1; 0 before the first.
    pub number: u64,
    /// Socket inode → processes that hold it, the one that started first first.
    pub holders: HashMap<u64, Vec<u32>>,
    /// The first holder of each socket that still lives. Read in every scan: a process may get another name (exec,
    /// prctl), and its id may pass to another process.
    pub processes: HashMap<u32, Process>,
    /// Network namespace → processes in it, a few at most.
    pub namespaces: HashMap<u32, Vec<u32>>,
    /// Processes whose descriptors may not be read (without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH).
    pub hidden: u32,
}

/// Processes kept per namespace. If one ends, another serves to read the counters.
const PROCESSES_PER_NAMESPACE: usize = 4;

/// Passes through /proc once, looking for `wanted` socket inodes.
#[must_use]
pub(super) fn scan(wanted: &HashSet<u64>) -> Scan {
    let mut found = Scan::default();
    for pid in pids() {
        if let Some(netns) = namespace_of(pid) {
            let processes = found.namespaces.entry(netns).or_default();
            if processes.len() < PROCESSES_PER_NAMESPACE {
                processes.push(pid);
            }
        }
        if wanted.is_empty() {
            continue;
        }
        let path = format!("/proc/{pid}/fd");
        let (descriptors, directory) = match fs::read_dir(&path).and_then(|found| Ok((found, File::open(&path)?))) {
            Ok(both) => both,
            Err(error) => {
                found.hidden += u32::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        for descriptor in descriptors.flatten() {
            // Relative to the directory: walking the whole path for each of thousands would cost twice as much.
            let target = match readlinkat(&directory, descriptor.file_name().as_os_str()) {
                Ok(target) => target,
                // The list may be read, but not its links, which take another right. All of them take the same one.
                Err(Errno::EACCES) => {
                    found.hidden += 1;
                    break;
                }
                Err(_) => continue,
            };
            let Some(inode) = target.to_str().and_then(socket_inode) else { continue };
            if wanted.contains(&inode) {
                let holders = found.holders.entry(inode).or_default();
                if !holders.contains(&pid) {
                    holders.push(pid);
                }
            }
        }
    }
    for holders in found.holders.values_mut().filter(|holders| holders.len() > 1) {
        holders.sort_by_key(|pid| (start_ticks(*pid).unwrap_or(u64::MAX), *pid));
    }
    // Each process once: it may hold thousands of sockets.
    let mut described = HashMap::new();
    for holders in found.holders.values() {
        holders.iter().find(|pid| described.entry(**pid).or_insert_with_key(|pid| describe(*pid)).is_some());
    }
    found.processes = described.into_iter().filter_map(|(pid, process)| Some((pid, process?))).collect();
    found
}

/// Every process id in /proc.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Inode of a process' network namespace.
#[must_use]
pub(super) fn namespace_of(pid: u32) -> Option<u32> {
    namespace_at(&format!("/proc/{pid}/ns/net"))
}

/// Inode of the calling thread's network namespace.
#[must_use]
pub(super) fn our_namespace() -> Option<u32> {
    namespace_at("/proc/thread-self/ns/net")
}

fn namespace_at(path: &str) -> Option<u32> {
    let link = fs::read_link(path).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// Inode of our PID namespace; 0 if it is the initial one.
pub(super) fn our_pid_namespace() -> u32 {
    let link = fs::read_link("/proc/self/ns/pid").ok();
    let inode = link.and_then(|link| link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    inode.filter(|inode| *inode != INITIAL_PID_NAMESPACE).unwrap_or(0)
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Start time of a process that lives, in clock ticks since boot. Process ids are reused; id and start time together
/// identify a process.
#[must_use]
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 3, 20 and 22, counted behind the name, which may hold anything.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    // A zombie has ended, unless it is a first thread that ended before the others.
    let ended = *fields.first()? == "Z" && *fields.get(17)? == "1";
    if ended { None } else { fields.get(19)?.parse().ok() }
}

/// The process that a thread belongs to: a process' own id for its first thread.
#[must_use]
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// Name and container of a process; `None` if it is gone.
#[must_use]
fn describe(pid: u32) -> Option<Process> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned();
    let container = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().as_deref().and_then(container);
    Some(Process { pid, comm, container, pod: None, service: None })
}

/// The container id in a cgroup path (64 hexadecimal digits, as Docker, containerd, CRI-O and Podman name them; shown
/// as the usual 12), else the systemd service.
fn container(cgroups: &str) -> Option<String> {
    let paths = || cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let words = |text: &str| -> Vec<String> { text.split(['/', '-', '.', ':']).map(str::to_owned).collect() };
    let id = paths()
        .flat_map(words)
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|id| id[..12].to_owned());
    id.or_else(|| paths().flat_map(|path| path.split('/')).rfind(|part| part.ends_with(".service")).map(str::to_owned))
}

/// A listener without an owner causes extra scans until this many found none. Some have no visible owner: the kernel's
/// own, and those of processes outside our PID namespace.
const SCANS: u32 = 4;

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

    /// Whether an extra scan may find it.
    pub(super) fn is_sought(&self) -> bool {
        self.process.is_none() && self.scans < SCANS
    }

    /// Whether it has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

/// Scans in the background, as often as it costs little.
pub(super) struct Watch {
    requests: Option<mpsc::Sender<HashSet<u64>>>,
    results: mpsc::Receiver<(Scan, Duration)>,
    latest: Scan,
    busy: bool,
    due: Instant,
}

/// Shortest time between two scans.
const SHORTEST: Duration = Duration::from_secs(2);
/// A scan is repeated after this many times its own duration at the earliest: 2 % of a core at most.
const THRIFT: u32 = 50;
/// A listener without an owner asks for a scan at most this often.
const IMPATIENT: Duration = Duration::from_millis(500);

impl Watch {
    /// Starts the thread; it ends with the watch.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start() -> std::io::Result<Self> {
        let (requests, wanted) = mpsc::channel::<HashSet<u64>>();
        let (sender, results) = mpsc::channel();
        std::thread::Builder::new().name("owners".to_owned()).spawn(move || {
            // If that fails, the thread goes on with the rights that it has.
            let _ = rights::restrict_to_owners();
            while let Ok(wanted) = wanted.recv() {
                let begin = Instant::now();
                let found = scan(&wanted);
                if sender.send((found, begin.elapsed())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests: Some(requests), results, latest: Scan::default(), busy: false, due: Instant::now() })
    }

    /// The latest scan; asks for another when one is due. `wanted`: inodes of the sockets that listen now.
    pub(super) fn latest(&mut self, wanted: impl Fn() -> HashSet<u64>, unknown: bool) -> &Scan {
        self.collect(Duration::ZERO);
        let now = Instant::now();
        if !self.busy && (now >= self.due || (unknown && now + SHORTEST >= self.due + IMPATIENT)) {
            self.request(wanted());
        }
        &self.latest
    }

    /// The latest scan, whether or not another is due.
    pub(super) fn current(&self) -> &Scan {
        &self.latest
    }

    /// Scans now and waits for it, but not longer than `patience`.
    pub(super) fn first(&mut self, wanted: HashSet<u64>, patience: Duration) {
        self.request(wanted);
        self.collect(patience);
    }

    fn request(&mut self, wanted: HashSet<u64>) {
        self.busy = self.requests.as_ref().is_some_and(|requests| requests.send(wanted).is_ok());
    }

    fn collect(&mut self, patience: Duration) {
        if let Ok((scan, took)) = self.results.recv_timeout(patience) {
            self.latest = Scan { number: self.latest.number + 1, ..scan };
            self.busy = false;
            self.due = Instant::now() + SHORTEST.max(took * THRIFT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_distinguished_from_services() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("0::/system.slice/docker-{id}.scope"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("5:cpu:/docker/{id}\n4:memory:/docker/{id}"),
        ] {
            assert_eq!(container(&path).as_deref(), Some("0123456789ab"), "{path}");
        }
        assert_eq!(container("0::/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(container("0::/user.slice"), None);
    }

    #[test]
    fn a_process_that_has_changed_is_shown_anew() {
        let process =
            |pid, comm: &str| Process { pid, comm: comm.to_owned(), container: None, pod: None, service: None };
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

    #[test]
    fn the_living_are_distinguished_from_the_dead() {
        let own = std::process::id();
        assert!(start_ticks(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_ticks(u32::MAX), None);
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().expect("every Linux has it");
        assert!(start_ticks(child.id()) >= start_ticks(own));
        child.kill().expect("it runs");
        // Its parent has not waited for it yet.
        let zombie =
            || fs::read_to_string(format!("/proc/{}/stat", child.id())).is_ok_and(|stat| stat.contains(") Z "));
        while !zombie() {
            std::thread::yield_now();
        }
        assert_eq!(start_ticks(child.id()), None);
        child.wait().expect("our child");
    }

    #[test]
    fn a_thread_is_distinguished_from_its_process() {
        let own = std::process::id();
        let this = std::thread::spawn(|| {
            let tid = nix::unistd::gettid().as_raw() as u32;
            (tid, process_of(tid))
        });
        let (tid, process) = this.join().expect("it runs");
        assert_ne!(tid, own);
        assert_eq!((process, process_of(own)), (Some(own), Some(own)));
        assert_eq!(process_of(u32::MAX), None);
    }

    #[test]
    fn our_own_listener_is_found() {
        use std::os::fd::AsRawFd;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("open");
        let inode = socket_inode(link.to_str().expect("ASCII")).expect("a socket");
        let found = scan(&HashSet::from([inode]));
        assert_eq!(found.holders[&inode], [std::process::id()]);
        assert_eq!(found.processes.keys().collect::<Vec<_>>(), [&std::process::id()]);
        let netns = namespace_of(std::process::id()).expect("we run");
        assert_ne!(found.namespaces[&netns], [] as [u32; 0]);
    }
}
