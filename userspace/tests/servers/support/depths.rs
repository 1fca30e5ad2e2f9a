//! The depth of an accept queue over time, as the kernel tells it: with Little's law, what connections waited.

use std::{
    fs::{self, read_link},
    io,
    ops::RangeInclusive,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use test_support::sockets::queued;

/// Time between two looks. A connection's wait is wrong by half of it, in either direction.
const EVERY: Duration = Duration::from_micros(500);
/// The part by which what is sampled may be wrong.
const SAMPLING: f64 = 0.05;
/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";

/// Looks at a queue until it is asked for the sum.
pub(crate) struct Depths {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Depths {
    /// Looks at the queue of a process' listener from now on.
    pub(crate) fn watch(pid: u32, port: u16) -> Self {
        let listener = socket2::Socket::from(listener_of(pid, port));
        let ends = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut sum, mut depth, mut since) = (Duration::ZERO, queued(&listener), Instant::now());
            while !until.load(Ordering::Relaxed) {
                thread::sleep(EVERY);
                let (now, next) = (Instant::now(), queued(&listener));
                // Between two looks it is taken to change halfway.
                sum += (now - since) * (depth + next) / 2;
                (depth, since) = (next, now);
            }
            sum
        });
        Self { ends, thread }
    }

    /// What connections have waited, in microseconds.
    pub(crate) fn waited_us(self) -> RangeInclusive<f64> {
        self.ends.store(true, Ordering::Relaxed);
        let sum = self.thread.join().expect("it looks").as_micros() as f64;
        sum * (1.0 - SAMPLING)..=sum * (1.0 + SAMPLING)
    }
}

/// A copy of a process' descriptor of the socket that listens on a port of this thread's network namespace.
fn listener_of(pid: u32, port: u16) -> OwnedFd {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").expect("it can be read");
    let suffix = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut rows = rows.filter(|row| row.len() > 9 && row[1].ends_with(&suffix) && row[3] == LISTEN);
    let name = format!("socket:[{}]", rows.next().expect("it listens")[9]);
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let mut descriptors =
        descriptors.filter(|file| read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*name));
    let descriptor = descriptors.next().expect("the process listens").file_name();
    let descriptor: i32 = descriptor.to_str().and_then(|number| number.parse().ok()).expect("a number");
    let process = descriptor_from(|| {
        // SAFETY: it takes numbers and returns a descriptor.
        unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }
    });
    descriptor_from(|| {
        // SAFETY: likewise.
        unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) }
    })
}

fn descriptor_from(call: impl FnOnce() -> libc::c_long) -> OwnedFd {
    let descriptor = call();
    assert!(descriptor >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just returned this descriptor to us.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}
