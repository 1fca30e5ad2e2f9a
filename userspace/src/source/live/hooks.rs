//! The hooks of the tracepoint backend: which program goes where, which measures need it, and what to do if it cannot attach.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, TracePoint},
};
use listentop_btf::KernelBtf;
use listentop_model::coverage::Measure;

use super::tracefs;

/// Where a program attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A BTF tracepoint with at least this many arguments.
    Tracepoint(&'static str, u32),
    /// A classic tracepoint of the category `syscalls`.
    Syscall(&'static str),
}

impl Target {
    /// As coverage lists name it.
    pub(super) fn name(self) -> String {
        match self {
            Target::Tracepoint(name, _) => format!("tp_btf/{name}"),
            Target::Syscall(name) => format!("tracepoint/syscalls/{name}"),
        }
    }
}

/// One program on one hook.
pub(super) struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Where it goes.
    pub target: Target,
    /// Measures that are lost without it.
    pub carries: &'static [Measure],
    /// Without it nothing makes sense, so the start fails.
    pub essential: bool,
}

use Measure::{
    AcceptQueuePeak, AcceptWait, Accepts, DropCause, DropClients, Drops, Enqueued, FirstByte, FirstRead, Handshake,
    OpenConnections, QueuedBytes, Reads, Residency, SynackRetransmits, WouldBlock, Writes,
};

/// In the order of attaching: what ends a connection's record before what makes one, so that none is left behind.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        program: "destroy",
        target: Target::Tracepoint("tcp_destroy_sock", 1),
        carries: &[OpenConnections],
        essential: true,
    },
    Hook {
        program: "state",
        target: Target::Tracepoint("inet_sock_set_state", 3),
        carries: &[AcceptWait],
        essential: true,
    },
    Hook {
        program: "recv_length",
        target: Target::Tracepoint("sock_recv_length", 3),
        carries: &[Reads, Residency, FirstRead, FirstByte, QueuedBytes],
        essential: false,
    },
    Hook {
        program: "send_length",
        target: Target::Tracepoint("sock_send_length", 3),
        carries: &[Writes],
        essential: false,
    },
    Hook {
        program: "kfree_skb",
        target: Target::Tracepoint("kfree_skb", 4),
        carries: &[Drops, DropCause, DropClients],
        essential: false,
    },
    Hook {
        program: "retransmit_synack",
        target: Target::Tracepoint("tcp_retransmit_synack", 2),
        carries: &[SynackRetransmits],
        essential: false,
    },
    Hook {
        program: "uring_complete",
        target: Target::Tracepoint("io_uring_complete", 3),
        carries: &[],
        essential: false,
    },
    Hook {
        program: "exit_accept",
        target: Target::Syscall("sys_exit_accept4"),
        carries: &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead],
        essential: false,
    },
    Hook {
        program: "exit_accept",
        target: Target::Syscall("sys_exit_accept"),
        carries: &[Accepts, AcceptWait, WouldBlock, OpenConnections, FirstByte, FirstRead],
        essential: false,
    },
    Hook { program: "exit_splice", target: Target::Syscall("sys_exit_splice"), carries: &[], essential: false },
    Hook {
        program: "data_ready",
        target: Target::Tracepoint("sk_data_ready", 1),
        carries: &[AcceptQueuePeak, Enqueued, AcceptWait, Handshake, Residency, FirstByte, QueuedBytes],
        essential: true,
    },
];

/// What became of a hook.
pub(super) struct Outcome {
    /// Which.
    pub hook: &'static Hook,
    /// Why it is not attached, and what would help.
    pub failure: Option<String>,
}

/// Loads and attaches every program, going on past those that cannot.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf, kernel: &KernelBtf) -> Vec<Outcome> {
    // System call tracepoints need tracefs, which is mounted for this thread only where it is not mounted at all.
    let tracefs = tracefs::available_to_this_thread();
    HOOKS
        .iter()
        .map(|hook| Outcome { hook, failure: attach_one(hook, ebpf, btf, kernel, tracefs.as_ref()).err() })
        .collect()
}

fn attach_one(
    hook: &Hook,
    ebpf: &mut Ebpf,
    btf: &Btf,
    kernel: &KernelBtf,
    tracefs: Result<&(), &String>,
) -> Result<(), String> {
    let program =
        ebpf.program_mut(hook.program).ok_or_else(|| format!("the object has no program {}", hook.program))?;
    match hook.target {
        Target::Tracepoint(name, arguments) => {
            let present = kernel.tracepoint_arguments(name).map_err(|error| error.to_string())?;
            if present < arguments {
                return Err(format!(
                    "tracepoint {name} passes {present} arguments on this kernel, {arguments} are needed"
                ));
            }
            let program: &mut BtfTracePoint = program.try_into().map_err(describe)?;
            program.load(name, btf).map_err(describe)?;
            program.attach().map_err(describe)?;
        }
        Target::Syscall(name) => {
            tracefs.map_err(Clone::clone)?;
            let program: &mut TracePoint = program.try_into().map_err(describe)?;
            // One program may serve several calls.
            if program.fd().is_err() {
                program.load().map_err(describe)?;
            }
            program.attach("syscalls", name).map_err(describe)?;
        }
    }
    Ok(())
}

/// An error with its causes, in one line; the verifier's log goes to the debug output only.
fn describe(error: impl Into<aya::programs::ProgramError>) -> String {
    let error = error.into();
    if let aya::programs::ProgramError::LoadError { io_error, verifier_log } = &error {
        if std::env::var_os("LISTENTOP_VERIFIER_LOG").is_some() {
            eprintln!("{verifier_log}");
        }
        return format!("the kernel refuses the program: {io_error}");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.lines().collect::<Vec<_>>().join(" ")
}
