//! System call tracepoints are found through tracefs, which is root's alone, and which some machines do not mount.

use std::{fs, io};

use caps::Capability;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::rights;

const TRACEFS: &str = "/sys/kernel/tracing";
/// Where it was mounted before it had a place of its own.
const IN_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// What a look for the tracepoints finds.
enum Found {
    Readable,
    /// tracefs is there, but not for us.
    Hidden,
    Nothing,
}

/// Sees to it that this thread finds tracefs: where it is not mounted, it is mounted in a mount namespace of this
/// thread's own, so that nothing of it stays and nobody else sees it.
///
/// # Errors
/// Why there is none, and what to do, in one line.
pub(super) fn available_to_this_thread() -> Result<(), String> {
    let hidden = || format!("tracefs may not be read: {}", rights::remedy(&[Capability::CAP_DAC_READ_SEARCH]));
    match look() {
        Found::Readable => return Ok(()),
        Found::Hidden => return Err(hidden()),
        Found::Nothing => {}
    }
    let unmounted = |error: nix::Error| {
        let remedy = rights::remedy(&[Capability::CAP_SYS_ADMIN, Capability::CAP_DAC_READ_SEARCH]);
        format!("tracefs is not mounted ({error}): mount it (mount -t tracefs tracefs {TRACEFS}), or {remedy}")
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(unmounted)?;
    // Without this the mount would show up in the namespace that we came from.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .and_then(|()| mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>))
        .map_err(unmounted)?;
    match look() {
        Found::Readable => Ok(()),
        Found::Hidden => Err(hidden()),
        Found::Nothing => Err("this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)".to_owned()),
    }
}

fn look() -> Found {
    let mut found = Found::Nothing;
    for root in [TRACEFS, IN_DEBUGFS] {
        // An identifier, which is what attaching reads: with `mode=` the directories may be readable and the files not.
        match fs::read(format!("{root}/events/syscalls/sys_exit_accept4/id")) {
            Ok(_) => return Found::Readable,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found = Found::Hidden,
            Err(_) => {}
        }
    }
    found
}
