//! Links to hooks that come and go while the probes run: each a descriptor, and closing it detaches.
//!
//! aya finds a system call's tracepoint in tracefs when it attaches, which only root may read, and asks for the
//! kernel's features by loading programs. After the start neither is allowed. Here the numbers of the tracepoints are
//! kept from the start on, and two calls are made: one for what has BTF, perf_event_open(2) for system calls.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::errno::Errno;

use super::{
    events::{Hook, Target},
    refusal::Refusal,
};
use crate::source::live::bpf;

/// The links of a source whose level may change, and what it takes to make them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    open: HashMap<(&'static str, Target), OwnedFd>,
    /// Numbers of the tracepoints of system calls.
    numbers: HashMap<&'static str, u64>,
}

impl Links {
    /// Notes the number of a system call's tracepoint.
    pub(crate) fn note_number(&mut self, tracepoint: &'static str, number: u64) {
        self.numbers.insert(tracepoint, number);
    }

    /// Attaches a hook's program.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn attach(&mut self, hook: &Hook, program: BorrowedFd<'_>) -> Result<(), Refusal> {
        let link = match hook.target {
            Target::Syscall(name) => {
                let number = self.numbers.get(name).ok_or_else(|| Refusal::Failed(format!("no number of {name}")))?;
                bpf::attach_tracepoint(program, *number)
            }
            _ => bpf::attach_by_type(program),
        };
        let link = link.map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            // perf_event_open(2) says that access is denied.
            Errno::EPERM | Errno::EACCES => Refusal::NotPermitted(error.to_string()),
            _ => Refusal::Failed(error.to_string()),
        })?;
        self.open.insert((hook.program, hook.target), link);
        Ok(())
    }

    /// Detaches it.
    pub(crate) fn detach(&mut self, hook: &Hook) {
        self.open.remove(&(hook.program, hook.target));
    }

    /// Detaches the program wherever it is attached.
    pub(crate) fn detach_all(&mut self, program: &str) {
        self.open.retain(|(of, _), _| *of != program);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }
}

/// Whether the calling thread may attach these hooks: it tries, with nothing to attach.
pub(crate) fn may_attach<'a>(mut hooks: impl Iterator<Item = &'a Hook>) -> bool {
    let nothing = std::fs::File::open("/dev/null");
    let allowed = |outcome: std::io::Result<OwnedFd>| {
        !outcome.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)))
    };
    hooks.all(|hook| match (hook.target, &nothing) {
        (Target::Syscall(_), _) => allowed(bpf::count_tracepoint(u64::MAX)),
        (_, Ok(nothing)) => allowed(bpf::attach_by_type(nothing.as_fd())),
        (_, Err(_)) => true,
    })
}
