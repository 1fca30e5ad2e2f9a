//! System calls, by seccomp (seccomp(2)).
//!
//! A list of what is refused, not of what is allowed: C libraries, runtimes and kernels use other calls in each
//! version, and a listentop that fails because of one would be of no use. What is refused has EPERM for an answer.
//! Nothing here needs any of it.

use std::collections::BTreeMap;

use aya_obj::generated::bpf_cmd;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::Allowed;
use crate::source::live::bpf;

/// Whose calls are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// Those of the calling thread.
    This,
    /// Those of all.
    All,
}

/// Refused whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Other programs, and other processes' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    // The kernel, and its settings.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    // Mounts, roots, and namespaces of its own. setns(2) remains: listeners of other namespaces are looked for.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    // Other users, and files that go round permissions.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Keys, and what goes round this filter or is often used against the kernel.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
];

/// What bpf(2) is called for after the start: maps are read and written, iterators run, programs' statistics read.
const BPF: [bpf_cmd; 14] = [
    bpf_cmd::BPF_MAP_LOOKUP_ELEM,
    bpf_cmd::BPF_MAP_UPDATE_ELEM,
    bpf_cmd::BPF_MAP_DELETE_ELEM,
    bpf_cmd::BPF_MAP_GET_NEXT_KEY,
    bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_ELEM,
    bpf_cmd::BPF_MAP_LOOKUP_BATCH,
    bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH,
    bpf_cmd::BPF_MAP_UPDATE_BATCH,
    bpf_cmd::BPF_MAP_DELETE_BATCH,
    bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
    bpf_cmd::BPF_ENABLE_STATS,
    bpf_cmd::BPF_ITER_CREATE,
    bpf_cmd::BPF_PROG_TEST_RUN,
    bpf_cmd::BPF_LINK_DETACH,
];

/// And by the thread that attaches probes later: they are loaded with their maps and types, and linked to their hooks.
const BPF_TO_ATTACH: [bpf_cmd; 7] = [
    bpf_cmd::BPF_MAP_CREATE,
    bpf_cmd::BPF_MAP_FREEZE,
    bpf_cmd::BPF_PROG_LOAD,
    bpf_cmd::BPF_BTF_LOAD,
    bpf_cmd::BPF_RAW_TRACEPOINT_OPEN,
    bpf_cmd::BPF_LINK_CREATE,
    bpf_cmd::BPF_PROG_BIND_MAP,
];

/// What attaching programs takes that are loaded: no program can be loaded by it, and no map made.
const ATTACH: bpf_cmd = bpf_cmd::BPF_RAW_TRACEPOINT_OPEN;

/// Arguments of perf_event_open(2), from the second on, that count a tracepoint for a program: any process, the first
/// CPU, no group, closed in other programs. Which event it is, the filter cannot see.
const COUNT_ALL: [(u8, i32); 4] = [(1, -1), (2, 0), (3, -1), (4, bpf::CLOEXEC as i32)];

/// Families of sockets that are opened after the start: the kernel's own (netlink), and that of which a namespace is
/// asked what it is (its cookie, names of its interfaces).
const SOCKETS: [libc::c_int; 2] = [libc::AF_NETLINK, libc::AF_UNIX];
/// And to reach a collector.
const SOCKETS_OUT: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];
/// Types of the latter by which daemons are spoken to, some of which do for root what they are told (Docker). Names of
/// hosts may be asked for in this way.
const TO_DAEMONS: [libc::c_int; 2] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
/// What in a socket's type is the type, and no flag.
const TYPE: u64 = 0xf;

/// Bit of calls by the x32 interface, which have numbers of their own.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;

/// Refuses what is not needed, from now on.
///
/// # Errors
/// Why not, in words.
pub(super) fn refuse(allowed: &Allowed, threads: Threads) -> Result<(), String> {
    let program = program(allowed).map_err(|error| error.to_string())?;
    let applied = match threads {
        Threads::This => seccompiler::apply_filter(&program),
        Threads::All => seccompiler::apply_filter_all_threads(&program),
    };
    applied.map_err(|error| error.to_string())
}

/// A call whose first argument is none of these.
fn other_than(values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let not = |value| SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, value);
    Ok(vec![SeccompRule::new(values.into_iter().map(not).collect::<Result<_, _>>()?)?])
}

fn program(allowed: &Allowed) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    if allowed.attaches {
        rules.insert(libc::SYS_bpf, other_than(BPF.iter().chain(&BPF_TO_ATTACH).map(|command| *command as u64))?);
    } else {
        let attach = allowed.changes_level.then_some(ATTACH);
        rules.insert(libc::SYS_bpf, other_than(BPF.into_iter().chain(attach).map(|command| command as u64))?);
        let mut events = Vec::new();
        for (argument, allowed) in COUNT_ALL.into_iter().filter(|_| allowed.changes_level) {
            let other = SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, u64::from(allowed as u32))?;
            events.push(SeccompRule::new(vec![other])?);
        }
        rules.insert(libc::SYS_perf_event_open, events);
    }
    let out = if allowed.connects { &SOCKETS_OUT[..] } else { &[] };
    let mut sockets = other_than(SOCKETS.iter().chain(out).map(|family| *family as u64))?;
    if !allowed.connects {
        for kind in TO_DAEMONS {
            let unix = SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
            let kind = SeccompCondition::new(1, Dword, SeccompCmpOp::MaskedEq(TYPE), kind as u64)?;
            sockets.push(SeccompRule::new(vec![unix, kind])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    #[cfg(target_arch = "x86_64")]
    {
        // Some calls have another number there: from 512 on.
        let by_x32: Vec<i64> = rules.keys().copied().chain(512..=547).map(|call| call | X32).collect();
        rules.extend(by_x32.into_iter().map(|call| (call, Vec::new())));
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}
