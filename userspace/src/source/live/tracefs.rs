//! System call tracepoints are found through tracefs, which some machines do not mount.

use std::path::Path;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Sees to it that this thread finds tracefs: where it is not mounted, it is mounted in a mount namespace of this thread's own,
/// so that nothing of it stays and nobody else sees it.
///
/// # Errors
/// Why there is none, and what to do, in one line.
pub(super) fn available_to_this_thread() -> Result<(), String> {
    let events = Path::new(TRACEFS).join("events/syscalls");
    if events.exists() || Path::new("/sys/kernel/debug/tracing/events/syscalls").exists() {
        return Ok(());
    }
    let remedy = format!("mount it (mount -t tracefs tracefs {TRACEFS}) and see that it is readable");
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("tracefs is not mounted or may not be read ({error}): {remedy}"))?;
    // Without this the mount would show up in the namespace that we came from.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .and_then(|()| mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>))
        .map_err(|error| format!("tracefs cannot be mounted ({error}): {remedy}"))?;
    if events.exists() {
        Ok(())
    } else {
        Err("this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)".to_owned())
    }
}
