//! Network namespaces: their names, their counters, and how to get into one.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::{
            fs::{MetadataExt, OpenOptionsExt},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use caps::Capability;
use listentop_model::sample::{NamespaceCounters, NamespaceId, NamespaceSample};
use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, statfs},
};

use super::{coverage::Reason, owners, proc};
use crate::rights;

/// Where `ip netns` keeps named namespaces.
const NAMED: &str = "/run/netns";

/// Socket option (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Names by inode: those under /run/netns, and `host` for that of process 1.
#[must_use]
pub(super) fn names() -> HashMap<u32, String> {
    let mut names: HashMap<u32, String> = named_files()
        .filter_map(|path| Some((fs::metadata(&path).ok()?.ino() as u32, path.file_name()?.to_str()?.to_owned())))
        .collect();
    // Reading this takes the right to trace process 1.
    if let Some(inode) = rights::privileged(|| proc::namespace_of(1)) {
        names.insert(inode, "host".to_owned());
    }
    names
}

/// Names, as they were a moment ago: reading them asks the kernel for each, and another thread for a right.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<u32, String>,
    /// Inodes that were asked for last: some have no name.
    asked: HashSet<u32>,
    read: Option<Instant>,
    always: bool,
}

/// How old a name may be.
const NAMES_AGE: Duration = Duration::from_secs(2);

impl Names {
    /// Reads them at every call from now on.
    pub(super) fn be_lavish(&mut self) {
        self.always = true;
    }

    /// Reads them again if they are old.
    pub(super) fn refresh(&mut self, now: Instant) {
        let is_old = |read: Instant| now.saturating_duration_since(read) >= NAMES_AGE;
        if self.always || self.read.is_none_or(is_old) {
            (self.known, self.read) = (names(), Some(now));
        }
    }

    /// The names by inode, as they are known.
    pub(super) fn known(&self) -> &HashMap<u32, String> {
        &self.known
    }

    /// The names by inode, read again for one of these that was not asked for yet.
    pub(super) fn of(&mut self, inodes: impl Iterator<Item = u32>, now: Instant) -> &HashMap<u32, String> {
        let asked: HashSet<u32> = inodes.collect();
        if asked.iter().any(|inode| !self.asked.contains(inode) && !self.known.contains_key(inode)) {
            (self.known, self.read) = (names(), Some(now));
        }
        self.asked = asked;
        &self.known
    }
}

/// Magic number of the file system that namespaces are files of (`NSFS_MAGIC`, include/uapi/linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

/// The namespaces under /run/netns. Anything may lie there: a FIFO, a directory, a link to a file, the rest of a name
/// whose namespace is gone. Nothing is opened before it is known to be a namespace: opening a FIFO would wait for ever.
fn named_files() -> impl Iterator<Item = PathBuf> {
    let is_namespace = |path: &PathBuf| statfs(path).is_ok_and(|system| system.filesystem_type() == NSFS);
    fs::read_dir(NAMED).into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_namespace)
}

/// A file for each namespace that can be found: one of its processes', or one under /run/netns.
#[must_use]
pub(super) fn all() -> HashMap<u32, PathBuf> {
    let mut found = named();
    for pid in proc::pids() {
        if let Some(inode) = proc::namespace_of(pid) {
            found.entry(inode).or_insert_with(|| format!("/proc/{pid}/ns/net").into());
        }
    }
    if let Some(inode) = proc::namespace_of(std::process::id()) {
        found.insert(inode, "/proc/self/ns/net".into());
    }
    found
}

/// The same, of the processes that a scan has seen.
#[must_use]
pub(super) fn scanned(scan: &owners::Scan) -> HashMap<u32, PathBuf> {
    let mut found = named();
    for (inode, processes) in &scan.namespaces {
        if let Some(pid) = processes.first() {
            found.entry(*inode).or_insert_with(|| format!("/proc/{pid}/ns/net").into());
        }
    }
    found
}

/// Whether /run/netns or a process shows a network namespace of this name or inode number.
#[must_use]
pub(crate) fn is_shown(name_or_inode: &str) -> bool {
    name_or_inode.parse().is_ok_and(|inode| all().contains_key(&inode))
        || names().iter().any(|(inode, name)| name == name_or_inode && (name == "host" || named().contains_key(inode)))
}

/// The network namespaces under /run/netns: a link may lead to one of another type.
fn named() -> HashMap<u32, PathBuf> {
    let of_network = |path: &PathBuf| {
        let file = open(path).ok()?;
        // SAFETY: it asks only.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        // Where the kernel does not say (before 4.11), it is tried.
        (kind < 0 || kind == libc::CLONE_NEWNET).then(|| file.metadata().ok()).flatten()
    };
    named_files().filter_map(|path| Some((of_network(&path)?.ino() as u32, path))).collect()
}

/// Opens what was a namespace a moment ago.
fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: the name may have become a FIFO's.
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Runs `work` inside the namespace that `file` stands for, on a thread of its own.
///
/// # Errors
/// If the namespace is gone or may not be entered (CAP_SYS_ADMIN), or what `work` says.
pub(super) fn inside<T: Send>(file: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    // Reading this takes the right to trace the process.
    let namespace = rights::privileged(|| open(file))?;
    if namespace.metadata()?.ino() == fs::metadata("/proc/thread-self/ns/net")?.ino() {
        // We are there already, so no right is needed.
        return work();
    }
    enter(namespace, work)
}

/// net.core.somaxconn of a namespace; `None` if it cannot be entered, or `file` stands for another one by now. The file
/// shows the value of the namespace of the thread that opens it.
pub(super) fn somaxconn(file: &Path, inode: u32) -> Option<u32> {
    let read = || {
        if proc::our_namespace() != Some(inode) {
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::read_to_string("/proc/sys/net/core/somaxconn")
    };
    inside(file, read).ok()?.trim().parse().ok()
}

/// Whether other namespaces may be entered. That takes CAP_SYS_ADMIN in the user namespaces concerned, so it is tried.
pub(super) fn may_enter() -> bool {
    File::open("/proc/self/ns/net").and_then(|own| enter(own, || Ok(()))).is_ok()
}

/// Why listeners that are open already in other namespaces are not all found; `None` if they are.
pub(super) fn unseen() -> Option<Reason> {
    let mut wanted = Vec::new();
    if !may_enter() {
        wanted.push(Capability::CAP_SYS_ADMIN);
    }
    if !rights::has(Capability::CAP_SYS_PTRACE) {
        wanted.push(Capability::CAP_SYS_PTRACE);
    }
    (!wanted.is_empty()).then_some(Reason::UnseenNamespaces(wanted))
}

fn enter<T: Send>(namespace: File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    rights::privileged(|| {
        thread::scope(|scope| {
            let enter = move || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                work()
            };
            thread::Builder::new()
                .spawn_scoped(scope, enter)?
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace failed")))
        })
    })
}

/// A namespace to sample.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) id: NamespaceId,
    /// Something listens there, so it exists. Otherwise its inode may be another one's by now.
    pub(super) exists: bool,
    /// See [`NamespaceSample::before_listeners`].
    pub(super) before: Option<NamespaceCounters>,
    /// A file that led there when it was found: on a busy machine a search for processes takes seconds.
    pub(super) file: Option<PathBuf>,
}

/// Samples the namespaces that hold a listener. `processes`: some that are in each.
#[must_use]
pub(super) fn sample(
    wanted: &[Wanted],
    processes: &HashMap<u32, Vec<u32>>,
    names: &HashMap<u32, String>,
) -> Vec<NamespaceSample> {
    let sample = |wanted: &Wanted| {
        let inode = wanted.id.inode;
        let processes = processes.get(&inode).map_or(&[][..], Vec::as_slice);
        NamespaceSample {
            id: wanted.id,
            name: names.get(&inode).cloned(),
            counters: counters(wanted, processes, names.get(&inode)),
            before_listeners: wanted.before,
        }
    };
    rights::privileged(|| wanted.iter().map(sample).collect())
}

/// Reads a namespace's counters through a process in it, else by entering it by name.
fn counters(wanted: &Wanted, processes: &[u32], name: Option<&String>) -> Option<NamespaceCounters> {
    let id = wanted.id;
    let processes = || std::iter::once(std::process::id()).chain(processes.iter().copied());
    if wanted.exists || id.cookie.is_none() {
        for pid in processes() {
            // Since the process was seen here it may have changed its namespace, or ended and left its id to another
            // one.
            if proc::namespace_of(pid) == Some(id.inode)
                && let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/netstat"))
            {
                return parse(&text);
            }
        }
    }
    let named = name.map(|name| PathBuf::from(NAMED).join(name));
    let mut files =
        wanted.file.iter().cloned().chain(named).chain(processes().map(|pid| format!("/proc/{pid}/ns/net").into()));
    files.find_map(|file| {
        let (cookie, counters) = inside(&file, look_around).ok()?;
        (id.cookie.is_none() || cookie == id.cookie).then_some(counters)
    })
}

/// Cookie and counters of the calling thread's namespace.
///
/// # Errors
/// If the counters cannot be read.
pub(super) fn look_around() -> io::Result<(Option<u64>, NamespaceCounters)> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    Ok((our_cookie(), parse(&text).ok_or(io::ErrorKind::InvalidData)?))
}

/// Cookie of the calling thread's namespace; `None` before Linux 5.14.
pub(super) fn our_cookie() -> Option<u64> {
    cookie_of(&UnixDatagram::unbound().ok()?)
}

/// Cookie of the namespace that a socket belongs to, whatever sort of socket that is; `None` before Linux 5.14.
pub(super) fn cookie_of(socket: &impl AsFd) -> Option<u64> {
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the number outlives the call, which writes at most `size` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    (result == 0 && cookie != 0).then_some(cookie)
}

/// Reads the TcpExt lines of /proc/net/netstat: one of names, one of values.
fn parse(text: &str) -> Option<NamespaceCounters> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let table: HashMap<&str, u64> =
        names.split(' ').zip(values.split(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
    let value = |name| table.get(name).copied().unwrap_or(0);
    Some(NamespaceCounters {
        listen_overflows: *table.get("ListenOverflows")?,
        listen_drops: *table.get("ListenDrops")?,
        req_q_full_drop: value("TCPReqQFullDrop"),
        req_q_full_do_cookies: value("TCPReqQFullDoCookies"),
        syncookies_sent: value("SyncookiesSent"),
        syncookies_recv: value("SyncookiesRecv"),
        syncookies_failed: value("SyncookiesFailed"),
        defer_accept_drop: value("TCPDeferAcceptDrop"),
        embryonic_rsts: value("EmbryonicRsts"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPReqQFullDrop\nTcpExt: 3 10 12 2\nIpExt: A\nIpExt: 1\n";
        let counters = parse(text).expect("complete");
        assert_eq!((counters.syncookies_sent, counters.listen_overflows), (3, 10));
        assert_eq!((counters.listen_drops, counters.req_q_full_drop), (12, 2));
        assert_eq!(parse("TcpExt: A\nTcpExt: 1\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn names_are_read_when_they_are_old_or_one_is_new() {
        let begin = Instant::now();
        let mut names = Names::default();
        let after = |ms| begin + Duration::from_millis(ms);
        let read = |names: &mut Names, ms, inodes: &[u32]| {
            names.refresh(after(ms));
            names.of(inodes.iter().copied(), after(ms));
            names.read == Some(after(ms))
        };
        // No namespace has these inodes.
        assert!(read(&mut names, 0, &[1]), "the first time");
        assert!(!read(&mut names, 1_000, &[1]), "it has no name, and was asked for");
        assert!(read(&mut names, 1_500, &[1, 2]), "2 is new");
        assert!(!read(&mut names, 3_400, &[1, 2]));
        assert!(read(&mut names, 3_500, &[]), "they are old");
        names.be_lavish();
        assert!(read(&mut names, 3_501, &[]));
    }

    #[test]
    fn our_own_namespace_has_counters() {
        let inode = proc::namespace_of(std::process::id()).expect("we run");
        let id = NamespaceId { inode, cookie: our_cookie() };
        let wanted = |id, exists| sample(&[Wanted { id, exists, before: None, file: None }], &HashMap::new(), &names());
        assert!(wanted(id, true)[0].counters.is_some());
        assert!(wanted(id, false)[0].counters.is_some());
        if id.cookie.is_some() {
            let gone = NamespaceId { cookie: Some(u64::MAX), ..id };
            assert_eq!(wanted(gone, false)[0].counters, None, "another one, which had this inode before");
        }
        assert!(all().contains_key(&inode));
        assert!(is_shown(&inode.to_string()));
        assert!(!is_shown("1") && !is_shown("no such name") && !is_shown(""));
    }
}
