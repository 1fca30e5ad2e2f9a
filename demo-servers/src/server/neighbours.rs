//! What else runs on the server's CPU: where the server may run, with which priority, and beside which busy threads.

use super::service::Service;
use crate::cli::usage;
use crate::sys::set_thread_name;
use anyhow::Context;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Lets the calling thread, and those that it starts, run on this CPU only.
///
/// # Errors
/// There is no such CPU, or this process may not use it.
pub(super) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|_| usage(format!("--pin {cpu}: this process may not use such a CPU")))
}

/// Gives the calling thread the lowest priority (SCHED_IDLE): it runs when nobody else wants the CPU.
///
/// # Errors
/// The kernel refuses.
pub(super) fn idle_priority() -> anyhow::Result<()> {
    // SAFETY: zero is valid for all members, and is the only priority that this policy has.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the parameters outlive the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    Errno::result(result).map(drop).context("cannot set the scheduling policy SCHED_IDLE")
}

/// Starts threads that compute until the server ends.
///
/// # Errors
/// No thread can be started.
pub(super) fn hogs(service: &Arc<Service>) -> anyhow::Result<Vec<JoinHandle<()>>> {
    (1..=service.options.hogs)
        .map(|number| {
            let service = Arc::clone(service);
            let compute = move || {
                set_thread_name(&format!("hog-{number}"));
                while !service.stopping() {
                    std::hint::spin_loop();
                }
            };
            std::thread::Builder::new().spawn(compute).context("cannot start a thread")
        })
        .collect()
}
