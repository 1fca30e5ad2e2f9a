//! The current thread, its files, and what it asked of the kernel.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel,
};

use super::*;

/// The current thread: its id in the initial PID namespace, and when it started, CLOCK_BOOTTIME. Both from its record
/// where that can be read directly, which is cheaper than a helper for each.
#[inline(always)]
pub(crate) fn current_thread() -> (u32, u64) {
    if HAS_TASK_BTF.load() == 0 {
        let start_ns = probe(current_task(), &TASK_START_BOOTTIME).unwrap_or(0);
        return (bpf_get_current_pid_tgid() as u32, start_ns);
    }
    let task: *const u8 = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
    unsafe { (direct(task, &TASK_PID), direct(task, &TASK_START_BOOTTIME)) }
}

/// Address of the current thread's `task_struct`.
#[inline(always)]
fn current_task() -> u64 {
    unsafe { bpf_get_current_task() }
}

/// PID namespaces nest up to 32 deep (MAX_PID_NS_LEVEL); ours is sought in the outermost of them.
const PID_LEVELS: u32 = 8;

/// Process and thread id of the current thread in listentop's PID namespace; 0 where it is not visible.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    if OUR_PID_NAMESPACE.load() == 0 {
        let ids = bpf_get_current_pid_tgid();
        return ((ids >> 32) as u32, ids as u32);
    }
    let task = current_task();
    let leader = probe::<u64>(task, &TASK_GROUP_LEADER).unwrap_or(0);
    (id_of(leader), id_of(task))
}

#[inline(always)]
fn id_of(task: u64) -> u32 {
    let Some(pid) = probe::<u64>(task, &TASK_THREAD_PID) else { return 0 };
    let deepest = probe::<u32>(pid, &PID_LEVEL).unwrap_or(0);
    for level in 0..PID_LEVELS {
        if level > deepest {
            break;
        }
        let number = pid + u64::from(PID_NUMBERS.load()) + u64::from(level * UPID_SIZE.load());
        let namespace = probe::<u64>(number, &UPID_NS).unwrap_or(0);
        if probe::<u32>(namespace, &PID_NAMESPACE_INUM) == Some(OUR_PID_NAMESPACE.load()) {
            return probe(number, &UPID_NR).unwrap_or(0);
        }
    }
    0
}

/// The socket behind a file descriptor of the current process. If the descriptor is no socket the address is some other
/// object's, and found in no table.
#[inline(always)]
pub(crate) fn current_socket(fd: u32) -> Option<RawSock> {
    // The verifier knows the types as far as the table of files; loads through them are cheaper than copies, and as
    // safe.
    let files: u64 = if HAS_TASK_BTF.load() == 0 {
        probe(probe(probe(current_task(), &TASK_FILES)?, &FILES_FDT)?, &FDT_FD)?
    } else {
        let task: *const u8 = unsafe { bpf_get_current_task_btf() }.cast_const().cast();
        let files: u64 = unsafe { direct(task, &TASK_FILES) };
        let table: u64 = unsafe { direct(files as *const u8, &FILES_FDT) };
        unsafe { direct(table as *const u8, &FDT_FD) }
    };
    let file = unsafe { bpf_probe_read_kernel((files + u64::from(fd) * 8) as *const u64) }.ok()?;
    socket_of_file(file)
}

/// First argument of the system call that the current thread is returning from.
#[inline(always)]
pub(crate) fn current_argument() -> Option<u64> {
    use aya_ebpf::helpers::generated::bpf_task_pt_regs;
    if HAS_TASK_BTF.load() == 0 || HAS_TASK_REGS.load() == 0 {
        return None;
    }
    let task = unsafe { bpf_get_current_task_btf() };
    call_argument(unsafe { bpf_task_pt_regs(task.cast()) } as u64)
}

/// First argument of the system call whose registers (`struct pt_regs *`) these are.
#[inline(always)]
pub(crate) fn call_argument(regs: u64) -> Option<u64> {
    probe(regs, &REGS_ARG0)
}
