//! The forked children of a server, and how they end.

use super::service::Service;
use crate::counters::Slot;
use crate::sys::say;
use anyhow::{Context, anyhow};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Children by process id.
#[derive(Debug, Default)]
pub(super) struct Children(Mutex<HashMap<Pid, Child>>);

#[derive(Debug)]
struct Child {
    slot: &'static Slot,
    /// The server cannot go on without it.
    essential: bool,
}

impl Children {
    /// Forks a child that runs `body` and ends with its result as exit status. It dies with the thread that forked it.
    ///
    /// # Errors
    /// No process can be started.
    pub(crate) fn fork(
        &self,
        service: &Service,
        slot: &'static Slot,
        essential: bool,
        body: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut children = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = nix::unistd::getpid();
        // SAFETY: the child runs code of this crate only, which takes no lock that another thread of the parent could
        // hold: children count in atomics, and glibc keeps its allocator usable across a fork.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => {
                children.insert(child, Child { slot, essential });
                Ok(())
            }
            ForkResult::Child => {
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                let status = if getppid() == parent {
                    slot.adopt();
                    let body = || service.prepare_thread().and_then(|()| body());
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                        Ok(Ok(())) => 0,
                        Ok(Err(error)) => {
                            say(format_args!("demo-server: {error:#}"));
                            1
                        }
                        Err(_) => 1,
                    }
                } else {
                    1
                };
                // SAFETY: _exit has no preconditions. Destructors and exit handlers belong to the parent.
                unsafe { libc::_exit(status) }
            }
        }
    }

    /// CPU time of the children that run, in microseconds. Those that were reaped count for the server's process.
    pub(crate) fn cpu_us(&self) -> u64 {
        let children = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has just ended has no clock; it counts when it is reaped.
        let clock = |child: &Pid| clock_gettime(clock_getcpuclockid(*child).ok()?).ok();
        children.keys().filter_map(clock).map(|time| time.num_microseconds().unsigned_abs()).sum()
    }

    /// Reaps children that have ended. If an essential one ended unexpectedly, the server ends.
    pub(crate) fn reap(&self, service: &Service) {
        while let Some((pid, status)) = wait(WaitPidFlag::WNOHANG) {
            self.ended(service, pid, status);
        }
    }

    /// Waits until all children have ended.
    pub(crate) fn wait_for_all(&self, service: &Service) {
        while let Some((pid, status)) = wait(WaitPidFlag::empty()) {
            self.ended(service, pid, status);
        }
    }

    fn ended(&self, service: &Service, pid: Pid, status: WaitStatus) {
        let Some(child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid) else { return };
        child.slot.end();
        let clean = matches!(status, WaitStatus::Exited(_, 0));
        if (child.essential && !service.stopping()) || !clean {
            service.fail(anyhow!("process {pid} ended unexpectedly: {}", describe(status)));
        }
    }
}

/// A child that has ended, or `None`. Without WNOHANG it waits for one.
fn wait(flags: WaitPidFlag) -> Option<(Pid, WaitStatus)> {
    loop {
        match waitpid(None, Some(flags)) {
            Ok(status) => return status.pid().map(|pid| (pid, status)),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        other => format!("{other:?}"),
    }
}
