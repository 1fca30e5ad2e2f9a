//! The current thread, its files, and what it asked of the kernel.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
        generated::{bpf_get_current_comm, bpf_get_task_stack, bpf_probe_read_kernel, bpf_task_pt_regs},
    },
};

use crate::values::{MapValue, Plain};

use super::{MaybeGone, btf, direct, number, probe, read_at, socket_of_file};

/// The current thread: its id in the initial PID namespace, and when it started, CLOCK_BOOTTIME. Both are read from its
/// `task_struct` where a program may load from that, which is cheaper than a helper for each.
#[inline(always)]
pub(crate) fn current_thread() -> (u32, u64) {
    if btf::HAS_TASK_BTF.load() == 0 {
        let start_ns = probe(current_task(), &btf::TASK_START_BOOTTIME).unwrap_or(0);
        return (bpf_get_current_pid_tgid() as u32, start_ns);
    }
    let task = live_task();
    // SAFETY: the verifier knows the type, and these are offsets of its members.
    unsafe { (direct(task, &btf::TASK_PID), direct(task, &btf::TASK_START_BOOTTIME)) }
}

/// The current process' id in the initial PID namespace.
#[inline(always)]
pub(crate) fn current_process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Address of the current thread's `task_struct`.
#[inline(always)]
fn current_task() -> u64 {
    // SAFETY: the helper takes nothing and touches no memory of the program.
    unsafe { bpf_get_current_task() }
}

/// The same as a pointer whose type the verifier knows. The current thread exists for as long as the program runs.
#[inline(always)]
fn live_task() -> *const u8 {
    // SAFETY: the helper takes nothing and touches no memory of the program.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// PID namespaces nest up to 32 deep (MAX_PID_NS_LEVEL); listentop's is searched for in the outermost 8.
const PID_LEVELS: u32 = 8;

/// Process and thread id of the current thread in listentop's PID namespace; 0 where it is not visible.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    if btf::OUR_PID_NAMESPACE.load() == 0 {
        let ids = bpf_get_current_pid_tgid();
        return ((ids >> 32) as u32, ids as u32);
    }
    let task = current_task();
    let leader = probe::<u64>(task, &btf::TASK_GROUP_LEADER).unwrap_or(0);
    (id_of(leader), id_of(task))
}

/// The id of the process that a task belongs to, in the initial PID namespace; 0 if it is gone.
#[inline(always)]
pub(crate) fn process_of(task: u64) -> u32 {
    probe(task, &btf::TASK_TGID).unwrap_or(0)
}

/// The task that a process descends from; 0 for the first one.
#[inline(always)]
pub(crate) fn parent_of(task: u64) -> u64 {
    let parent = probe(task, &btf::TASK_REAL_PARENT).unwrap_or(0);
    if parent == task { 0 } else { parent }
}

/// A task that the kernel passed: a live pointer, see [`super`].
#[derive(Clone, Copy)]
pub(crate) struct LiveTask(*const u8);

impl LiveTask {
    /// # Safety
    /// The verifier knows the pointer as `struct task_struct *` and not null, and the kernel holds the task until the
    /// program returns.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    fn read<T: Plain>(self, offset: &Global<u32>) -> T {
        // SAFETY: a live task; the callers below name offsets of its members.
        unsafe { direct(self.0, offset) }
    }

    /// Its id in the initial PID namespace; 0 for the idle one.
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        self.read(&btf::TASK_PID)
    }

    /// Its process' id there.
    #[inline(always)]
    pub(crate) fn process(self) -> u32 {
        self.read(&btf::TASK_TGID)
    }

    /// When it started, CLOCK_BOOTTIME.
    #[inline(always)]
    pub(crate) fn start_ns(self) -> u64 {
        self.read(&btf::TASK_START_BOOTTIME)
    }

    /// The bits of its state: 0 if it runs or may run. Up to 5.13 the member is a long, of which this is the part that
    /// holds states.
    #[inline(always)]
    pub(crate) fn state(self) -> u32 {
        self.read(&btf::TASK_STATE)
    }

    /// Whether it runs. An int, and a byte in 7.3, of which the verifier does not let a program load more: the first
    /// byte says it either way.
    #[inline(always)]
    pub(crate) fn is_on_cpu(self) -> bool {
        self.read::<u8>(&btf::TASK_ON_CPU) != 0
    }

    /// Process and thread id in listentop's PID namespace; 0 where it is not visible.
    #[inline(always)]
    pub(crate) fn ids(self) -> (u32, u32) {
        if btf::OUR_PID_NAMESPACE.load() == 0 {
            return (self.process(), self.tid());
        }
        let task = number(self.0);
        (id_of(probe::<u64>(task, &btf::TASK_GROUP_LEADER).unwrap_or(0)), id_of(task))
    }

    /// Its command name, NUL-padded, as two words of memory.
    #[inline(always)]
    pub(crate) fn name(self) -> [u64; 2] {
        let task = number(self.0);
        let bytes = probe::<[u8; 16]>(task, &btf::TASK_COMM).unwrap_or([0; 16]);
        let whole = u128::from_ne_bytes(bytes);
        if cfg!(target_endian = "little") {
            [whole as u64, (whole >> 64) as u64]
        } else {
            [(whole >> 64) as u64, whole as u64]
        }
    }

    /// Copies the addresses of its kernel stack, the innermost first.
    #[inline(always)]
    pub(crate) fn kernel_stack<const N: usize>(self, frames: MapValue<[u64; N]>) {
        // SAFETY: a live task, and a buffer of this size.
        unsafe {
            bpf_get_task_stack(self.0.cast_mut().cast(), frames.pointer().cast(), size_of::<[u64; N]>() as u32, 0);
        }
    }
}

/// The current thread's command name, NUL-padded, as two words of memory.
#[inline(always)]
pub(crate) fn current_name() -> [u64; 2] {
    let mut name = MaybeUninit::<[u64; 2]>::uninit();
    // SAFETY: the helper gets the buffer's size and fills all of it, with zeros if it fails.
    unsafe {
        bpf_get_current_comm(name.as_mut_ptr().cast(), size_of_val(&name) as u32);
        name.assume_init()
    }
}

#[inline(always)]
fn id_of(task: u64) -> u32 {
    let Some(pid) = probe::<u64>(task, &btf::TASK_THREAD_PID) else { return 0 };
    let deepest = probe::<u32>(pid, &btf::PID_LEVEL).unwrap_or(0);
    for level in 0..PID_LEVELS {
        if level > deepest {
            break;
        }
        let number = pid + u64::from(btf::PID_NUMBERS.load()) + u64::from(level * btf::UPID_SIZE.load());
        let namespace = probe::<u64>(number, &btf::UPID_NS).unwrap_or(0);
        if probe::<u32>(namespace, &btf::PID_NAMESPACE_INUM) == Some(btf::OUR_PID_NAMESPACE.load()) {
            return probe(number, &btf::UPID_NR).unwrap_or(0);
        }
    }
    0
}

/// The socket behind a file descriptor of the current process. If the descriptor is no socket, the address is another
/// object's, which no table contains.
#[inline(always)]
pub(crate) fn current_socket(fd: u32) -> Option<MaybeGone> {
    // The verifier knows the types up to the table of files. Loads through them are cheaper than copies.
    let files: u64 = if btf::HAS_TASK_BTF.load() == 0 {
        probe(probe(probe(current_task(), &btf::TASK_FILES)?, &btf::FILES_FDT)?, &btf::FDT_FD)?
    } else {
        // SAFETY: the verifier knows the types on this path, and these are offsets of their members. A thread's table
        // of files exists while the thread does; if another thread enlarges it at this moment, the old one stays for
        // the RCU grace period that the program runs in.
        unsafe {
            let files: u64 = direct(live_task(), &btf::TASK_FILES);
            let table: u64 = direct(files as *const u8, &btf::FILES_FDT);
            direct(table as *const u8, &btf::FDT_FD)
        }
    };
    socket_of_file(read_at(files + u64::from(fd) * 8)?)
}

/// First argument of the system call that the current thread is returning from.
#[inline(always)]
pub(crate) fn current_argument() -> Option<u64> {
    current_registers().and_then(call_argument)
}

/// The backlog that the current thread asks for; `None` if it is not in listen(2), or that cannot be seen.
#[inline(always)]
pub(crate) fn current_backlog() -> Option<u32> {
    if btf::REGS_ARG1.load() == 0 || btf::REGS_CALL.load() == 0 {
        return None;
    }
    let registers = current_registers()?;
    if probe::<u32>(registers, &btf::REGS_CALL) != Some(btf::CALL_LISTEN.load()) {
        return None;
    }
    // An `int`; the kernel takes a negative one for a very large one.
    probe(registers, &btf::REGS_ARG1)
}

/// The registers (`struct pt_regs *`) with which the current thread entered the kernel.
#[inline(always)]
fn current_registers() -> Option<u64> {
    if btf::HAS_TASK_BTF.load() == 0 || btf::HAS_TASK_REGS.load() == 0 {
        return None;
    }
    // SAFETY: the current thread, with the type that the helper takes.
    let regs = unsafe { bpf_task_pt_regs(live_task().cast_mut().cast()) };
    Some(regs as u64)
}

/// Whether the registers and the stack of a program can be copied.
#[inline(always)]
pub(crate) fn shows_registers() -> bool {
    btf::REGS_SIZE.load() != 0
}

/// Address of the registers with which the current thread left its program. Before 5.15 they are looked for where they
/// are on kernels with stacks of the usual size; of others user space sees that they are no program's.
#[inline(always)]
pub(crate) fn user_registers() -> Option<u64> {
    current_registers().or_else(|| {
        let stack = probe::<u64>(current_task(), &btf::TASK_STACK)?;
        Some(stack + u64::from(btf::STACK_REGS.load()))
    })
}

/// Copies them. Returns the stack pointer.
#[inline(always)]
pub(crate) fn copy_registers<const N: usize>(registers: u64, to: MapValue<[u64; N]>) -> Option<u64> {
    let size = btf::REGS_SIZE.load();
    if size as usize > size_of::<[u64; N]>() {
        return None;
    }
    // SAFETY: the size is within the buffer, and the helper fails on an address that cannot be read.
    let failed = unsafe { bpf_probe_read_kernel(to.pointer().cast(), size, registers as *const _) };
    if failed != 0 { None } else { probe(registers, &btf::REGS_SP) }
}

/// First argument of the system call whose registers (`struct pt_regs *`) these are.
#[inline(always)]
pub(crate) fn call_argument(regs: u64) -> Option<u64> {
    probe(regs, &btf::REGS_ARG0)
}
