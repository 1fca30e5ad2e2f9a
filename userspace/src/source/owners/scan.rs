//! One pass through /proc.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use listentop_model::sample::Process;
use nix::errno::Errno;

use super::{
    super::proc,
    cgroup::{self, Key},
};

/// What one pass through /proc found.
#[derive(Debug, Clone, Default)]
pub(in crate::source) struct Scan {
    /// Counts the scans of a [`super::Watch`], from 1; 0 before the first.
    pub number: u64,
    /// Socket inode → processes that hold it, the one that started first first.
    pub holders: HashMap<u64, Vec<u32>>,
    /// The first holder of each socket that still lives. Read in every scan: a process may get another name (exec,
    /// prctl), and its id may pass to another process.
    pub processes: HashMap<u32, Process>,
    /// By what the runtime's files may name the containers of these processes.
    pub keys: HashMap<u32, Key>,
    /// Network namespace → processes in it, a few at most.
    pub namespaces: HashMap<u32, Vec<u32>>,
    /// Processes whose descriptors may not be read (without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH).
    pub hidden: u32,
}

/// Processes kept per namespace. If one ends, another serves to read the counters.
const PROCESSES_PER_NAMESPACE: usize = 4;

/// Passes through /proc once, looking for `wanted` socket inodes.
///
/// `thorough`: looks for those that are in no process' descriptor table also in the tables that threads have of their
/// own, and in those of io_uring.
#[must_use]
pub(super) fn scan(wanted: &HashSet<u64>, thorough: bool) -> Scan {
    let mut found = Scan::default();
    let mut processes = Vec::new();
    for pid in proc::pids() {
        if let Some(netns) = proc::namespace_of(pid) {
            let processes = found.namespaces.entry(netns).or_default();
            if processes.len() < PROCESSES_PER_NAMESPACE {
                processes.push(pid);
            }
        }
        if wanted.is_empty() {
            continue;
        }
        match descriptors_of_process(pid, |inode| found.hold(wanted, inode, pid)) {
            Ok(()) => processes.push(pid),
            Err(error) => found.hidden += u32::from(error.kind() == io::ErrorKind::PermissionDenied),
        }
    }
    if thorough && wanted.iter().any(|inode| !found.holders.contains_key(inode)) {
        for pid in processes {
            look_closer(pid, |inode| found.hold(wanted, inode, pid));
        }
    }
    let mut starts = HashMap::new();
    for holders in found.holders.values_mut().filter(|holders| holders.len() > 1) {
        oldest_first(holders, |pid| *starts.entry(pid).or_insert_with(|| proc::start_ticks(pid)));
    }
    // Each process once: it may hold thousands of sockets.
    let mut described = HashMap::new();
    for holders in found.holders.values() {
        holders.iter().find(|pid| described.entry(**pid).or_insert_with_key(|pid| look_at(*pid)).is_some());
    }
    for (pid, (process, key)) in described.into_iter().filter_map(|(pid, found)| Some((pid, found?))) {
        found.processes.insert(pid, process);
        found.keys.extend(key.map(|key| (pid, key)));
    }
    found
}

/// Puts processes in the order of their starts. Each is asked for once: one that ends meanwhile would answer otherwise
/// the next time, and there would be no order.
fn oldest_first(holders: &mut [u32], mut start: impl FnMut(u32) -> Option<u64>) {
    holders.sort_by_cached_key(|pid| (start(*pid).unwrap_or(u64::MAX), *pid));
}

impl Scan {
    /// Whether another scan has found the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.holders, &self.processes, &self.namespaces) == (&other.holders, &other.processes, &other.namespaces)
            && (&self.keys, self.hidden) == (&other.keys, other.hidden)
    }

    fn hold(&mut self, wanted: &HashSet<u64>, inode: u64, pid: u32) {
        if wanted.contains(&inode) {
            let holders = self.holders.entry(inode).or_default();
            if !holders.contains(&pid) {
                holders.push(pid);
            }
        }
    }
}

/// Each socket that a process has open, by inode. A first thread that has ended has no descriptors any more: then those
/// of another thread are looked at.
fn descriptors_of_process(pid: u32, mut each: impl FnMut(u64)) -> io::Result<()> {
    if descriptors(&format!("/proc/{pid}/fd"), &mut each)? > 0 {
        return Ok(());
    }
    for tid in proc::tasks(pid).filter(|tid| *tid != pid) {
        // One that is ending has none either.
        if descriptors(&format!("/proc/{pid}/task/{tid}/fd"), &mut each).is_ok_and(|entries| entries > 0) {
            break;
        }
    }
    Ok(())
}

/// Each socket in a directory of descriptors. Returns the number of its entries.
fn descriptors(directory: &str, each: &mut impl FnMut(u64)) -> io::Result<usize> {
    proc::descriptors(directory, |_, link| is_socket(link).into_iter().for_each(&mut *each))
}

/// Each socket in the tables of a process that few processes have: those of threads (CLONE_FILES, unshare), and those
/// of io_uring, whose files need no descriptor.
fn look_closer(pid: u32, mut each: impl FnMut(u64)) {
    for tid in proc::tasks(pid).filter(|tid| *tid != pid && has_own_table(pid, *tid)) {
        // Without the right to read it the process' own table could not be read either.
        let _ = descriptors(&format!("/proc/{pid}/task/{tid}/fd"), &mut each);
    }
    for ring in rings(pid) {
        if let Ok(text) = proc::text(format!("/proc/{pid}/fdinfo/{ring}")) {
            ring_files(&text).for_each(&mut each);
        }
    }
}

/// `KCMP_FILES` (linux/kcmp.h).
const KCMP_FILES: libc::c_int = 2;

/// Whether a thread has a descriptor table that is not its process'. Where the kernel does not compare tables, it is
/// said to: looking then costs time only.
fn has_own_table(pid: u32, tid: u32) -> bool {
    // SAFETY: takes numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) };
    match order {
        0 => false,
        1.. => true,
        _ => Errno::last() == Errno::ENOSYS,
    }
}

/// The descriptors of a process that are io_urings.
fn rings(pid: u32) -> Vec<u32> {
    let mut rings = Vec::new();
    let note = |fd, link: &str| rings.extend((link == "anon_inode:[io_uring]").then_some(fd));
    // Without the right to read the links the process' sockets could not be found either.
    let _ = proc::descriptors(&format!("/proc/{pid}/fd"), note);
    rings
}

/// The sockets in the file table of an io_uring, from its fdinfo: lines such as `    0: socket:[4711]` below
/// `UserFiles`.
fn ring_files(fdinfo: &str) -> impl Iterator<Item = u64> {
    let table = fdinfo.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
    let entries = table.take_while(|line| line.starts_with(' '));
    entries.filter_map(|line| is_socket(line.split_once(": ")?.1.trim()))
}

/// The inode, if a link's target is a socket.
pub(in crate::source) fn is_socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Name, container, pod and service of a process; `None` if it is gone.
#[must_use]
pub(in crate::source) fn describe(pid: u32) -> Option<Process> {
    Some(look_at(pid)?.0)
}

fn look_at(pid: u32) -> Option<(Process, Option<Key>)> {
    let comm = proc::text(format!("/proc/{pid}/comm")).ok()?.trim_end_matches('\n').to_owned();
    let cgroups = proc::text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut names = cgroup::Names::of(&cgroups);
    let key = names.key.take();
    Some((names.describe(pid, comm, cgroup::path(&cgroups)), key))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::AsRawFd};

    use super::*;

    fn inode_of(socket: &impl AsRawFd) -> u64 {
        let link = fs::read_link(format!("/proc/thread-self/fd/{}", socket.as_raw_fd())).expect("open");
        is_socket(link.to_str().expect("ASCII")).expect("a socket")
    }

    #[test]
    fn holders_that_end_while_they_are_put_in_order_do_no_harm() {
        // Each process but the oldest ends once it was asked for.
        let mut asked = HashSet::new();
        let mut start = |pid: u32| (pid == 40 || asked.insert(pid)).then(|| u64::from(1_000 - pid));
        let mut holders: Vec<u32> = (1..=40).rev().chain(41..=60).collect();
        oldest_first(&mut holders, &mut start);
        assert!(holders.is_sorted_by_key(|pid| u32::MAX - pid), "{holders:?}");
    }

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let inode = inode_of(&listener);
        let found = scan(&HashSet::from([inode]), false);
        assert_eq!(found.holders[&inode], [std::process::id()]);
        assert_eq!(found.processes.keys().collect::<Vec<_>>(), [&std::process::id()]);
        let netns = proc::namespace_of(std::process::id()).expect("we run");
        assert_ne!(found.namespaces[&netns], [] as [u32; 0]);
    }

    /// In a child process: another test's threads must not end up with a copy of the socket.
    #[test]
    fn a_table_of_a_thread_is_found_by_a_thorough_scan_only() {
        let (sender, inode) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).expect("needs no right");
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            sender.send(inode_of(&listener)).expect("awaited");
            let _ = stopped.recv();
        });
        let inode = inode.recv().expect("it listens");
        let wanted = HashSet::from([inode]);
        assert!(!scan(&wanted, false).holders.contains_key(&inode));
        assert_eq!(scan(&wanted, true).holders[&inode], [std::process::id()]);
        drop(stop);
        thread.join().expect("it ends");
    }

    #[test]
    fn files_of_a_ring_are_read() {
        let fdinfo = "pos:\t0\nSqMask:\t0x3\nUserFiles:\t3\n    0: socket:[4711]\n    1: <none>\n    2: /dev/null\n\
                      UserBufs:\t0\n    0: socket:[1]\nPollList:\n";
        assert_eq!(ring_files(fdinfo).collect::<Vec<_>>(), [4711]);
        assert_eq!(ring_files("").count(), 0);
    }
}
