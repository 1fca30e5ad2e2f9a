//! A network namespace without a name: it ends with the last process in it.

use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;

/// Whether the calling process may make a network namespace.
///
/// # Errors
/// It may not.
pub fn may_create() -> anyhow::Result<()> {
    Namespace::create::<&str>(&[]).map(drop)
}

/// The lab's network namespace, held open.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    /// Its inode number, by which listentop names it.
    pub inode: u64,
}

impl Namespace {
    /// Makes a network namespace with the loopback interface up and these sysctls (paths below /proc/sys) set. The
    /// calling process does not enter it.
    ///
    /// # Errors
    /// The user is not root, or this kernel does not have such a sysctl.
    pub fn create<T: AsRef<str> + Sync>(sysctls: &[(T, T)]) -> anyhow::Result<Self> {
        // Each thread has its own namespace: a thread that ends afterwards makes it.
        std::thread::scope(|scope| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
                    Errno::EPERM => anyhow!("making a network namespace needs root (CAP_SYS_ADMIN)"),
                    error => anyhow!("cannot make a network namespace: {error}"),
                })?;
                loopback_up().context("cannot bring the loopback interface up")?;
                for (path, value) in sysctls.iter().map(|(path, value)| (path.as_ref(), value.as_ref())) {
                    std::fs::write(format!("/proc/sys/{path}"), value)
                        .with_context(|| format!("cannot set {path} to {value} in the lab's namespace"))?;
                }
                let file = File::open("/proc/thread-self/ns/net").context("cannot open the lab's namespace")?;
                let inode = file.metadata().context("cannot read the lab's namespace")?.st_ino();
                Ok(Self { file, inode })
            };
            let thread = std::thread::Builder::new().spawn_scoped(scope, make).context("cannot start a thread")?;
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        })
    }
}

impl Namespace {
    /// Another descriptor of it.
    ///
    /// # Errors
    /// None is left.
    pub fn another(&self) -> anyhow::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned().context("dup")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn loopback_up() -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: zero is valid for all members.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    // SAFETY: the request names an interface and lives as long as the call, which fills in its flags.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call before filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    // SAFETY: as above; the call reads the flags.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
