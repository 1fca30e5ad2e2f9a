//! System call tracepoints are found through tracefs. Only root may read it, and some machines do not mount it.

use std::{fs, io};

use caps::Capability;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::rights;

const TRACEFS: &str = "/sys/kernel/tracing";
/// The older mount point, inside debugfs.
const IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// What a look for the tracepoints finds.
enum Found {
    Readable,
    /// tracefs is there, and we may not read it.
    Hidden,
    Nothing,
}

/// The capabilities for reading tracefs: its directories belong to root.
const HIDDEN: &[Capability] = &[Capability::CAP_DAC_READ_SEARCH];
/// What mounting it, and then reading it, takes.
const NOT_MOUNTED: &[Capability] = &[Capability::CAP_SYS_ADMIN, Capability::CAP_DAC_READ_SEARCH];

/// Why system call tracepoints cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TracefsError {
    /// tracefs is mounted, and this user may not read it.
    #[error("tracefs may not be read: {remedy}", remedy = rights::remedy(HIDDEN))]
    Hidden,
    /// tracefs is not mounted, and we may not mount it.
    #[error(
        "tracefs is not mounted ({0}): mount it (mount -t tracefs tracefs {TRACEFS}), or {remedy}",
        remedy = rights::remedy(NOT_MOUNTED)
    )]
    NotMounted(Errno),
    /// The kernel has none.
    #[error("this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)")]
    NoSyscalls,
}

impl TracefsError {
    /// The capabilities that would help.
    pub(crate) fn wanted(self) -> &'static [Capability] {
        match self {
            Self::Hidden => HIDDEN,
            Self::NotMounted(_) => NOT_MOUNTED,
            Self::NoSyscalls => &[],
        }
    }
}

/// Makes tracefs available to this thread. If it is not mounted, this mounts it in a private mount namespace of the
/// thread. No other process sees that mount, and it ends with the thread.
///
/// # Errors
/// The reason why tracefs is not available.
pub(crate) fn available_to_this_thread() -> Result<(), TracefsError> {
    match look() {
        Found::Readable => return Ok(()),
        Found::Hidden => return Err(TracefsError::Hidden),
        Found::Nothing => {}
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(TracefsError::NotMounted)?;
    // Otherwise the mount would appear in the namespace that we came from.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .and_then(|()| mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>))
        .map_err(TracefsError::NotMounted)?;
    match look() {
        Found::Readable => Ok(()),
        Found::Hidden => Err(TracefsError::Hidden),
        Found::Nothing => Err(TracefsError::NoSyscalls),
    }
}

/// The number of a system call's tracepoint, where tracefs is available to this thread.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn number(name: &str) -> Result<u64, TracefsError> {
    let read = |root: &&str| fs::read_to_string(format!("{root}/events/syscalls/{name}/id")).ok()?.trim().parse().ok();
    [TRACEFS, IN_DEBUGFS].iter().find_map(read).ok_or(TracefsError::NoSyscalls)
}

fn look() -> Found {
    let mut found = Found::Nothing;
    for root in [TRACEFS, IN_DEBUGFS] {
        // Attaching reads this identifier. With the mount option `mode=`, directories may be readable and files not.
        match fs::read(format!("{root}/events/syscalls/sys_exit_accept4/id")) {
            Ok(_) => return Found::Readable,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found = Found::Hidden,
            Err(_) => {}
        }
    }
    found
}
