//! One look at a process: which of its threads wait for which listeners, and how many descriptors it has.

use std::{
    collections::HashMap,
    fs, io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    sync::OnceLock,
    time::{Duration, Instant},
};

use listentop_model::sample::{Descriptors, ThreadState, WaitKind, Waiter};
use nix::{
    sys::{
        epoll::{Epoll, EpollCreateFlags},
        stat::{major, minor},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid,
};

use super::{
    calls::Call,
    polls::{self, Polled},
};
use crate::{
    rights,
    source::{
        machine,
        owners::is_socket,
        proc::{self, Stat},
    },
};

/// A process with more threads is not looked at: it would take long.
const MOST_THREADS: usize = 2_048;
/// With more open descriptors the files of its epolls are not listed: the kernel locks an epoll while it lists them.
const MOST_DESCRIPTORS: u64 = 20_000;
/// Descriptors of one poll or select that are looked at.
const MOST_POLLED: usize = 1_024;
/// What an epoll polls is read again after so long, and not before this many times the time that it took.
const EPOLL_AGAIN: Duration = Duration::from_secs(1);
const EPOLL_THRIFT: u32 = 200;

/// What is remembered of epolls: reading one takes long where it has many files.
#[derive(Default)]
pub(super) struct Cache(HashMap<(u32, u64, u32), Listed>);

/// What an epoll polls.
struct Listed {
    polled: Vec<Polled>,
    again: Instant,
}

impl Cache {
    /// Forgets what is too old to be used.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, epoll| epoll.again > now);
    }
}

/// Who waits in a process for which socket, by inode.
#[derive(Default)]
pub(super) struct Look {
    pub waiters: Vec<(u64, Waiter)>,
    /// It has a ring in which accepts wait, but not for which of its listeners.
    pub ambiguous: bool,
}

/// Looks at a process that holds these listeners.
///
/// # Errors
/// If it may not be read, or has too many threads or descriptors.
pub(super) fn look(pid: u32, inodes: &[u64], cache: &mut Cache) -> io::Result<Look> {
    let own = text(&format!("/proc/{pid}/stat"))?;
    let start = Stat::parse(&own).map_or(0, |stat| stat.start_ticks);
    let threads: Vec<u32> = proc::tasks(pid).take(MOST_THREADS + 1).collect();
    if threads.len() > MOST_THREADS {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut process = Process { pid, start, inodes, cache, found: Look::default() };
    for tid in &threads {
        match text(&format!("/proc/{pid}/task/{tid}/syscall")) {
            Ok(line) => {
                if let Some(call) = Call::parse(&line) {
                    process.thread(*tid, &call)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // The thread has ended.
            Err(_) => {}
        }
    }
    let alone = threads.len() == 1;
    process.without_a_thread(alone)?;
    Ok(process.found)
}

struct Process<'a> {
    pid: u32,
    start: u64,
    inodes: &'a [u64],
    cache: &'a mut Cache,
    found: Look,
}

impl Process<'_> {
    /// A thread that is in a system call.
    fn thread(&mut self, tid: u32, call: &Call) -> io::Result<()> {
        let is = |number: libc::c_long| call.number == number;
        if is(libc::SYS_accept) || is(libc::SYS_accept4) {
            if let Some(inode) = self.socket(tid, call.descriptor()) {
                self.waits(inode, tid, WaitKind::Accept, None);
            }
        } else if is(libc::SYS_epoll_pwait) || is(libc::SYS_epoll_pwait2) || is_old(call, Old::EpollWait) {
            for polled in self.epoll(tid, call.descriptor())? {
                self.waits(polled.inode, tid, WaitKind::Epoll, Some((polled.exclusive, polled.edge)));
            }
        } else if is(libc::SYS_ppoll) || is_old(call, Old::Poll) {
            let descriptors = self.of_poll(call.arguments[0], call.arguments[1]);
            self.wait_for_any(tid, &descriptors, WaitKind::Poll)?;
        } else if is(libc::SYS_pselect6) || is_old(call, Old::Select) {
            let descriptors = self.of_select(call.arguments[0], call.arguments[1]);
            self.wait_for_any(tid, &descriptors, WaitKind::Select)?;
        } else if is(libc::SYS_io_uring_enter) {
            self.ring(tid, call);
        }
        Ok(())
    }

    /// A thread that waits for any of these: listeners, or epolls that poll some.
    fn wait_for_any(&mut self, tid: u32, descriptors: &[u32], how: WaitKind) -> io::Result<()> {
        let mut inodes = Vec::new();
        for fd in descriptors {
            let Ok(link) = fs::read_link(format!("/proc/{}/task/{tid}/fd/{fd}", self.pid)) else { continue };
            match link.to_str() {
                Some(EPOLL) => inodes.extend(self.epoll(tid, *fd)?.iter().map(|polled| polled.inode)),
                Some(link) => inodes.extend(is_socket(link)),
                None => {}
            }
        }
        inodes.sort_unstable();
        inodes.dedup();
        inodes.into_iter().for_each(|inode| self.waits(inode, tid, how, None));
        Ok(())
    }

    fn waits(&mut self, inode: u64, tid: u32, how: WaitKind, flags: Option<(bool, bool)>) {
        self.add(inode, tid, how, flags, true);
    }

    fn add(&mut self, inode: u64, tid: u32, how: WaitKind, flags: Option<(bool, bool)>, waits: bool) {
        if !self.inodes.contains(&inode) {
            return;
        }
        let comm = text(&format!("/proc/{}/task/{}/comm", self.pid, if tid == 0 { self.pid } else { tid }));
        let waiter = Waiter {
            pid: self.pid,
            tid,
            comm: comm.unwrap_or_default().trim_end_matches('\n').to_owned(),
            how,
            exclusive: flags.map(|flags| flags.0),
            edge: flags.map(|flags| flags.1),
            waits,
            polls: Some(true),
        };
        self.found.waiters.push((inode, waiter));
    }

    /// The inode of a listener at this descriptor of a thread, whose table may be its own.
    fn socket(&self, tid: u32, fd: u32) -> Option<u64> {
        let link = fs::read_link(format!("/proc/{}/task/{tid}/fd/{fd}", self.pid)).ok()?;
        is_socket(link.to_str()?).filter(|inode| self.inodes.contains(inode))
    }

    /// Those of the listeners that an epoll polls, itself or through epolls in it.
    fn epoll(&mut self, tid: u32, fd: u32) -> io::Result<Vec<Polled>> {
        let (now, key) = (Instant::now(), (self.pid, self.start, fd));
        if let Some(known) = self.cache.0.get(&key).filter(|known| known.again > now) {
            return Ok(known.polled.clone());
        }
        if open_descriptors(self.pid)? > MOST_DESCRIPTORS {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut polled = Vec::new();
        self.polled_by(tid, fd, 0, &mut polled);
        let again = now + EPOLL_AGAIN.max(now.elapsed() * EPOLL_THRIFT);
        self.cache.0.insert(key, Listed { polled: polled.clone(), again });
        Ok(polled)
    }

    /// Adds those of the listeners that an epoll polls. It is in so many others.
    fn polled_by(&self, tid: u32, fd: u32, nests: u32, found: &mut Vec<Polled>) {
        // It may have been closed meanwhile.
        let Ok(info) = text(&format!("/proc/{}/task/{tid}/fdinfo/{fd}", self.pid)) else { return };
        let (sockets, epolls) = (socket_place(), epoll_place());
        for polled in polls::of_epoll(&info) {
            if self.inodes.contains(&polled.inode) && sockets.is_none_or(|(device, _)| device == polled.device) {
                found.push(polled);
            } else if nests < MOST_NESTS
                && epolls == Some((polled.device, polled.inode))
                && let Some(inner) = self.inner(tid, fd, &polled)
            {
                self.polled_by(tid, inner, nests + 1, found);
            }
        }
    }

    /// A descriptor of an epoll in another one. All epolls have one inode, so that tells nothing; and what is at the
    /// descriptor by which it was added may be another one by now.
    fn inner(&self, tid: u32, outer: u32, polled: &Polled) -> Option<u32> {
        let directory = format!("/proc/{}/task/{tid}/fd", self.pid);
        let is_epoll =
            |fd: &u32| fs::read_link(format!("{directory}/{fd}")).is_ok_and(|link| link.as_os_str() == EPOLL);
        let own = Some(polled.descriptor).filter(is_epoll);
        match own.map(|fd| is_target(tid, fd, outer, polled)) {
            Some(Some(true) | None) => own,
            // Where files cannot be compared there is no other way to find it.
            Some(Some(false)) | None => {
                epolls(&directory).into_iter().find(|fd| is_target(tid, *fd, outer, polled) == Some(true))
            }
        }
    }

    /// The descriptors that a poll waits for: `struct pollfd` in the process' memory.
    fn of_poll(&self, address: u64, count: u64) -> Vec<u32> {
        let count = usize::try_from(count).unwrap_or(0).min(MOST_POLLED);
        let memory = self.memory(address, count * 8).unwrap_or_default();
        let entries = memory.as_chunks::<8>().0.iter().filter_map(|[a, b, c, d, e, f, ..]| {
            let (fd, events) = (i32::from_ne_bytes([*a, *b, *c, *d]), i16::from_ne_bytes([*e, *f]));
            u32::try_from(fd).ok().filter(|_| events & (libc::POLLIN | libc::POLLRDNORM) != 0)
        });
        entries.collect()
    }

    /// The descriptors that a select waits for: a bit for each.
    fn of_select(&self, count: u64, address: u64) -> Vec<u32> {
        let count = usize::try_from(count).unwrap_or(0).min(MOST_POLLED);
        let memory = self.memory(address, count.div_ceil(64) * 8).unwrap_or_default();
        let bit = |fd: &usize| memory.get(fd / 8).is_some_and(|byte| byte & 1 << (fd % 8) != 0);
        (0..count).filter(bit).map(|fd| fd as u32).collect()
    }

    fn memory(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        if address == 0 || length == 0 {
            return None;
        }
        let mut memory = vec![0; length];
        let remote = [RemoteIoVec { base: usize::try_from(address).ok()?, len: length }];
        let read = process_vm_readv(Pid::from_raw(self.pid as i32), &mut [io::IoSliceMut::new(&mut memory)], &remote);
        memory.truncate(read.ok()?);
        Some(memory)
    }

    /// A thread that waits in an io_uring. The kernel does not show what for: with one listener it is that.
    fn ring(&mut self, tid: u32, call: &Call) {
        let path = |ring: u32| format!("/proc/{}/task/{tid}/fdinfo/{ring}", self.pid);
        // A registered ring has no descriptor here (IORING_ENTER_REGISTERED_RING).
        let registered = call.arguments[3] & 1 << 4 != 0;
        let accepts =
            if registered { None } else { text(&path(call.descriptor())).ok().map(|info| polls::accepts(&info)) };
        match (accepts, self.inodes) {
            (Some(true), [inode]) => self.waits(*inode, tid, WaitKind::IoUring, None),
            (Some(true) | None, _) => self.found.ambiguous = true,
            (Some(false), _) => {}
        }
    }

    /// Listeners that no thread waits for, but that an epoll of the process polls. `alone`: it has one thread.
    fn without_a_thread(&mut self, alone: bool) -> io::Result<()> {
        let waited_for: Vec<u64> = self.found.waiters.iter().map(|(inode, _)| *inode).collect();
        if self.inodes.iter().all(|inode| waited_for.contains(inode)) || open_descriptors(self.pid)? > MOST_DESCRIPTORS
        {
            return Ok(());
        }
        for fd in epolls(&format!("/proc/{}/fd", self.pid)) {
            for polled in self.epoll(self.pid, fd)? {
                if !waited_for.contains(&polled.inode) {
                    let tid = if alone { self.pid } else { 0 };
                    self.add(polled.inode, tid, WaitKind::Epoll, Some((polled.exclusive, polled.edge)), false);
                }
            }
        }
        Ok(())
    }
}

/// Calls that only older architectures have.
#[derive(Clone, Copy)]
enum Old {
    EpollWait,
    Poll,
    Select,
}

#[cfg(target_arch = "x86_64")]
fn is_old(call: &Call, old: Old) -> bool {
    let number = match old {
        Old::EpollWait => libc::SYS_epoll_wait,
        Old::Poll => libc::SYS_poll,
        Old::Select => libc::SYS_select,
    };
    call.number == number
}

#[cfg(not(target_arch = "x86_64"))]
fn is_old(_: &Call, _: Old) -> bool {
    false
}

/// Where the link of an epoll's descriptor leads.
const EPOLL: &str = "anon_inode:[eventpoll]";

/// The epolls in a directory of descriptors.
fn epolls(directory: &str) -> Vec<u32> {
    let mut epolls = Vec::new();
    // The process may have ended.
    let _ = proc::descriptors(directory, |fd, link| epolls.extend((link == EPOLL).then_some(fd)));
    epolls
}

/// So deep the kernel lets epolls be in one another (EP_MAX_NESTS, fs/eventpoll.c).
const MOST_NESTS: u32 = 4;
/// `KCMP_EPOLL_TFD` (linux/kcmp.h).
const KCMP_EPOLL_TFD: libc::c_int = 7;

/// `struct kcmp_epoll_slot` (linux/kcmp.h).
#[repr(C)]
struct EpollSlot {
    epoll: u32,
    target: u32,
    offset: u32,
}

/// Whether the file at a descriptor of a thread is this one in its epoll; `None` if the kernel cannot compare them
/// (CONFIG_KCMP).
fn is_target(tid: u32, fd: u32, epoll: u32, polled: &Polled) -> Option<bool> {
    let slot = EpollSlot { epoll, target: polled.descriptor, offset: polled.offset };
    // SAFETY: takes numbers, and the address of a structure of that type, which outlives the call.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, tid, tid, KCMP_EPOLL_TFD, fd, &raw const slot) };
    if order >= 0 { Some(order == 0) } else { None }
}

/// A device as the kernel numbers it, and an inode.
type Place = (u64, u64);

/// That of a socket of our own; the device is that of all sockets.
fn socket_place() -> Option<Place> {
    static PLACE: OnceLock<Option<Place>> = OnceLock::new();
    *PLACE.get_or_init(|| place_of(&std::os::unix::net::UnixDatagram::unbound().ok()?))
}

/// That of an epoll of our own, which all epolls have.
fn epoll_place() -> Option<Place> {
    static PLACE: OnceLock<Option<Place>> = OnceLock::new();
    *PLACE.get_or_init(|| place_of(&Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?.0))
}

fn place_of(file: &impl AsRawFd) -> Option<Place> {
    let found = fs::metadata(format!("/proc/thread-self/fd/{}", file.as_raw_fd())).ok()?;
    // MKDEV: 12 bits and 20.
    Some((major(found.dev()) << 20 | minor(found.dev()), found.ino()))
}

/// Descriptors that are counted one by one, at most.
const MOST_COUNTED: usize = 100_000;

/// How many descriptors a process has open. Since 6.2 the directory's size says it; before, its entries are counted.
fn open_descriptors(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path)?.len() {
        0 => Ok(fs::read_dir(&path)?.take(MOST_COUNTED).count() as u64),
        count => Ok(count),
    }
}

/// The descriptors of a process, and its limit.
pub(super) fn descriptors(pid: u32) -> Option<Descriptors> {
    let soft_limit = soft_limit(&text(&format!("/proc/{pid}/limits")).ok()?)?;
    Some(Descriptors { pid, open: open_descriptors(pid).ok().filter(|open| *open > 0)?, soft_limit })
}

/// RLIMIT_NOFILE in /proc/PID/limits.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

/// Functions of a kernel stack that are kept.
const MOST_FRAMES: usize = 24;

/// What a thread does; `None` if it is not the thread that started then, or may not be seen.
pub(super) fn state(pid: u32, tid: u32, start_ns: u64) -> Option<ThreadState> {
    let line = text(&format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let stat = Stat::parse(&line).filter(|stat| machine::is_start(stat.start_ticks, start_ns))?;
    Some(state_of(pid, tid, stat.state))
}

/// What a thread does whose state in /proc/PID/stat is this letter.
pub(super) fn state_of(pid: u32, tid: u32, letter: char) -> ThreadState {
    let directory = format!("/proc/{pid}/task/{tid}");
    let wchan = text(&format!("{directory}/wchan")).ok().filter(|wchan| !wchan.is_empty() && wchan != "0");
    let syscall = text(&format!("{directory}/syscall")).ok();
    // Reading this takes CAP_SYS_ADMIN.
    let stack = rights::privileged(|| text(&format!("{directory}/stack"))).unwrap_or_default();
    ThreadState {
        letter,
        wchan,
        syscall: syscall.as_deref().and_then(Call::parse).map(|call| call.name()),
        kernel_stack: frames(&stack),
    }
}

/// Whether a thread waits on a futex: for work, a lock, or for ever. False if that may not be read.
pub(super) fn is_parked(pid: u32, tid: u32) -> bool {
    let directory = format!("/proc/{pid}/task/{tid}");
    let call = text(&format!("{directory}/syscall")).ok();
    if call.as_deref().and_then(Call::parse).is_some_and(|call| call.name().starts_with("futex")) {
        return true;
    }
    // A call that was begun again has another number.
    text(&format!("{directory}/wchan")).is_ok_and(|wchan| wchan.starts_with("futex"))
}

/// Names of the functions in /proc/PID/stack: lines such as `[<0>] ep_poll+0x2f/0x310`.
fn frames(stack: &str) -> Vec<String> {
    let name = |line: &str| {
        let symbol = line.split_once("] ")?.1.split('+').next()?.trim();
        (!symbol.is_empty() && !symbol.starts_with("0x")).then(|| symbol.to_owned())
    };
    stack.lines().filter_map(name).take(MOST_FRAMES).collect()
}

fn text(path: &str) -> io::Result<String> {
    proc::text(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             127                  127                  processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(soft_limit(limits), Some(1_024));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files\n"),
            Some(u64::MAX)
        );
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn stacks_are_names_of_functions() {
        let stack = "[<0>] ep_poll+0x2f/0x310\n[<0>] do_epoll_wait+0xb3/0xd0 [module]\n[<0>] 0xffffffffffffffff\n\n";
        assert_eq!(frames(stack), ["ep_poll", "do_epoll_wait"]);
        assert_eq!(frames(""), [] as [&str; 0]);
    }

    #[test]
    fn our_own_descriptors_are_counted() {
        let own = descriptors(std::process::id()).expect("we run");
        let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("it has one");
        assert_eq!(own.soft_limit, soft);
        assert!(own.open >= 3 && own.open < soft, "{own:?}");
    }

    #[test]
    fn our_own_sleeping_thread_is_described() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid().as_raw() as u32).expect("awaited");
            std::thread::park();
        });
        let tid = receiver.recv().expect("it runs");
        let pid = std::process::id();
        let line = text(&format!("/proc/{pid}/task/{tid}/stat")).expect("it lives");
        let start_ns = machine::start_ns(Stat::parse(&line).expect("complete").start_ticks);
        let sleeps = || state(pid, tid, start_ns).filter(|state| state.letter == 'S');
        let began = Instant::now();
        let state_now = loop {
            match sleeps() {
                Some(state) => break state,
                None => assert!(began.elapsed() < Duration::from_secs(10), "it never sleeps"),
            }
        };
        assert!(state_now.syscall.is_none_or(|call| call == "futex"));
        assert_eq!(state(pid, tid, start_ns + 5_000_000_000), None, "another thread");
        thread.thread().unpark();
        thread.join().expect("it ends");
    }
}
