//! What sampling still needs once the probes are attached. A thread without capabilities tries it.

use std::{fs, io};

use caps::{Capability, CapsHashSet};

use super::{RightsError, thread::restrict};

/// `BPF_OBJ_GET_INFO_BY_FD` (linux/bpf.h).
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// Processes that are looked at. The first ones are the system's, so most users do not own them.
const PROCESSES: usize = 64;

/// The `held` capabilities that a thread still needs to sample.
pub(super) fn needed_to_sample(held: &CapsHashSet) -> Result<Vec<Capability>, RightsError> {
    let before = (bpf_answers(), shown(&processes()));
    let trial = || restrict(&[]).map(|()| (bpf_answers(), shown(&before.1)));
    let after = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, trial);
        let thread = thread.map_err(RightsError::NoThread)?;
        thread.join().unwrap_or_else(|_| Err(RightsError::Refused("the trial failed".to_owned())))
    })?;
    // A process that has ended meanwhile was not hidden.
    let hidden = shown(&before.1).iter().any(|pid| !after.1.contains(pid));
    Ok(lost(held, (before.0, true), (after.0, !hidden)))
}

fn lost(held: &CapsHashSet, before: (bool, bool), after: (bool, bool)) -> Vec<Capability> {
    let mut needed = Vec::new();
    if before.0 && !after.0 {
        let bpf = held.contains(&Capability::CAP_BPF);
        needed.push(if bpf { Capability::CAP_BPF } else { Capability::CAP_SYS_ADMIN });
    }
    if before.1 && !after.1 {
        needed.push(Capability::CAP_SYS_PTRACE);
    }
    needed
}

/// Whether this thread may call bpf(2). A bad descriptor gives EBADF then, not EPERM.
fn bpf_answers() -> bool {
    // `attr.info`: a descriptor, a length, a pointer.
    let mut attr = [u32::MAX, 0, 0, 0];
    // SAFETY: the buffer outlives the call, which reads its length and, as the descriptor is bad, writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, attr.as_mut_ptr(), size_of_val(&attr)) };
    result >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
}

/// The first few process ids in /proc.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(PROCESSES).collect()
}

/// Those of them that /proc shows to this thread.
fn shown(processes: &[u32]) -> Vec<u32> {
    processes.iter().copied().filter(|pid| fs::read(format!("/proc/{pid}/stat")).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_lost_is_needed() {
        let all = CapsHashSet::from([Capability::CAP_BPF, Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE]);
        assert_eq!(lost(&all, (true, true), (true, true)), []);
        assert_eq!(lost(&all, (false, false), (false, false)), []);
        assert_eq!(lost(&all, (true, true), (false, true)), [Capability::CAP_BPF]);
        let admin = CapsHashSet::from([Capability::CAP_SYS_ADMIN]);
        assert_eq!(lost(&admin, (true, true), (false, true)), [Capability::CAP_SYS_ADMIN]);
        assert_eq!(lost(&all, (true, true), (true, false)), [Capability::CAP_SYS_PTRACE]);
    }
}
