//! Reading /proc: files as text, and the fields that several parts need.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use nix::{dir::Dir, errno::Errno, fcntl::OFlag, sys::stat::Mode};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// A file of /proc. Names of processes and cgroups may hold any bytes; what is no UTF-8 is replaced.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = fs::read(path)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Every process id in /proc.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    numbers("/proc")
}

/// The ids of a process' threads; none if it is gone.
pub(super) fn tasks(pid: u32) -> impl Iterator<Item = u32> {
    numbers(format!("/proc/{pid}/task"))
}

/// The entries of a directory whose names are numbers.
pub(super) fn numbers(directory: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What each descriptor in a directory such as /proc/PID/fd leads to: `each` is told the descriptor and the first
/// [`LONGEST_LINK`] bytes of its link. Returns how many descriptors there are.
///
/// # Errors
/// If the directory cannot be read, or not its links, which take another right. All of them take the same one.
pub(super) fn descriptors(directory: &str, mut each: impl FnMut(u32, &str)) -> io::Result<usize> {
    let mut entries = Dir::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // Relative to the directory: walking the whole path for each of thousands would cost twice as much.
    let directory = entries.as_fd().try_clone_to_owned()?;
    let mut count = 0;
    for entry in entries.iter().flatten() {
        let Some(descriptor) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        count += 1;
        let mut link = [0; LONGEST_LINK];
        // SAFETY: the kernel writes no more than it is told that there is room for; the name is a string of C.
        let length = unsafe {
            libc::readlinkat(directory.as_raw_fd(), entry.file_name().as_ptr(), link.as_mut_ptr().cast(), link.len())
        };
        match usize::try_from(length) {
            Ok(length) => str::from_utf8(&link[..length]).into_iter().for_each(|link| each(descriptor, link)),
            Err(_) if Errno::last() == Errno::EACCES => return Err(Errno::EACCES.into()),
            // It has been closed.
            Err(_) => {}
        }
    }
    Ok(count)
}

/// Of longer links the rest is left out: nothing that is looked for has one.
const LONGEST_LINK: usize = 64;

/// /proc/PID/stat, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Its name.
    pub comm: &'a str,
    /// State, as a letter.
    pub state: char,
    /// Its parent's process id; 0 if our PID namespace does not show it.
    pub parent: u32,
    /// Threads of its process.
    pub threads: u32,
    /// Start time in clock ticks since boot, by the clock of the reader's time namespace.
    pub start_ticks: u64,
}

impl<'a> Stat<'a> {
    /// Reads the text of a file (fields 2, 3, 4, 20 and 22). The name may hold anything, so it ends at the last ')'.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (open, close) = (text.find('(')?, text.rfind(')')?);
        let mut fields = text.get(close + 1..)?.split_ascii_whitespace();
        Some(Self {
            comm: text.get(open + 1..close)?,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            threads: fields.nth(15)?.parse().ok()?,
            start_ticks: fields.nth(1)?.parse().ok()?,
        })
    }
}

/// Start time of a process that lives, in clock ticks since boot. Process ids are reused; id and start time together
/// identify a process.
#[must_use]
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let text = text(format!("/proc/{pid}/stat")).ok()?;
    let stat = Stat::parse(&text)?;
    // A zombie has ended, unless it is a first thread that ended before the others.
    if stat.state == 'Z' && stat.threads == 1 { None } else { Some(stat.start_ticks) }
}

/// The process that a thread belongs to: a process' own id for its first thread.
#[must_use]
pub(crate) fn process_of(tid: u32) -> Option<u32> {
    let status = text(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// Inode of a process' network namespace. A first thread that has ended is in none, so another one is asked.
#[must_use]
pub(super) fn namespace_of(pid: u32) -> Option<u32> {
    inode(format!("/proc/{pid}/ns/net"), "net").or_else(|| {
        let mut others = tasks(pid).filter(|tid| *tid != pid).take(OTHERS);
        others.find_map(|tid| inode(format!("/proc/{pid}/task/{tid}/ns/net"), "net"))
    })
}

/// Threads that are asked in place of the first one. More than one, because a thread may just be ending.
const OTHERS: usize = 4;

/// Inode of the calling thread's network namespace.
#[must_use]
pub(super) fn our_namespace() -> Option<u32> {
    inode("/proc/thread-self/ns/net", "net")
}

/// Inode of our PID namespace; 0 if it is the initial one.
pub(super) fn our_pid_namespace() -> u32 {
    inode("/proc/self/ns/pid", "pid").filter(|inode| *inode != INITIAL_PID_NAMESPACE).unwrap_or(0)
}

/// Inode of a namespace, from a link such as `net:[4026531840]`.
fn inode(link: impl AsRef<Path>, kind: &str) -> Option<u32> {
    let link = fs::read_link(link).ok()?;
    link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// Whether /proc hides processes of other users altogether (`hidepid=2` or `4` of proc(5)), so that not even their
/// number is known.
pub(super) fn hides_processes() -> bool {
    text("/proc/self/mounts").is_ok_and(|mounts| mount_hides_processes(&mounts))
}

fn mount_hides_processes(mounts: &str) -> bool {
    // Of several mounts at one place the last one shows.
    let proc = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some("/proc"));
    let options = proc.and_then(|line| line.split(' ').nth(3)).unwrap_or_default();
    options
        .split(',')
        .any(|option| matches!(option, "hidepid=2" | "hidepid=invisible" | "hidepid=4" | "hidepid=ptraceable"))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, os::unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn names_with_blanks_and_brackets_are_whole() {
        let stat = "12 (a ) (b) S 5 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 6 0 777 0 0";
        let expected = Stat { comm: "a ) (b", state: 'S', parent: 5, threads: 6, start_ticks: 777 };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("12 (a"), None);
        assert_eq!(Stat::parse("12 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn descriptors_are_told_with_where_they_lead() {
        let (socket, file) =
            (UnixDatagram::unbound().expect("a socket"), fs::File::open("/dev/null").expect("it opens"));
        // Another test's thread opens and closes others meanwhile.
        let mut found = HashMap::new();
        let count = descriptors("/proc/self/fd", |fd, link| drop(found.insert(fd, link.to_owned()))).expect("our own");
        let of = |fd: i32| found[&(fd as u32)].as_str();
        assert!(count >= found.len() && found.len() >= 2);
        assert!(of(socket.as_raw_fd()).starts_with("socket:["), "{found:?}");
        assert_eq!(of(file.as_raw_fd()), "/dev/null");
        let missing = descriptors("/proc/self/no", |_, _| panic!("there is none"));
        assert_eq!(missing.map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn names_that_are_no_utf8_are_read() {
        let child = std::thread::spawn(|| {
            // SAFETY: a NUL-terminated name that outlives the call.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"a\xff\xfeb".as_ptr()) };
            let text = text("/proc/thread-self/stat").expect("we run");
            Stat::parse(&text).map(|stat| stat.comm.to_owned())
        });
        assert_eq!(child.join().expect("it runs").as_deref(), Some("a\u{fffd}\u{fffd}b"));
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
        assert!(tasks(own).any(|tid| tid == own));
    }

    #[test]
    fn a_proc_that_hides_processes_says_so() {
        for (options, hides) in [
            ("rw,relatime", false),
            ("rw,nosuid,hidepid=2", true),
            ("rw,hidepid=invisible,gid=4", true),
            ("rw,hidepid=ptraceable", true),
            // What may not be read is seen, and counted.
            ("rw,hidepid=1", false),
            ("rw,hidepid=noaccess", false),
        ] {
            let mounts = format!(
                "sysfs /sys sysfs hidepid=2 0 0\nproc /proc proc {options} 0 0\nproc /a/proc proc hidepid=2 0 0\n"
            );
            assert_eq!(mount_hides_processes(&mounts), hides, "{options}");
        }
        let twice = "proc /proc proc rw 0 0\nproc /proc proc rw,hidepid=2 0 0\n";
        assert!(mount_hides_processes(twice));
    }
}
