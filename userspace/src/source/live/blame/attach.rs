//! Attaching the hooks of queue-wait blame.

use std::{fmt, thread};

use aya::{
    Ebpf,
    programs::{
        PerfEvent, ProgramError,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
    },
    util::online_cpus,
};

use super::{
    Blame, Walks,
    copies::{Copies, Unwinder},
    maps::Maps,
};
use crate::{
    errors, rights,
    source::live::{
        Kind, Options,
        attach::{
            Programs as _,
            declaration::hook,
            events::{Hook, Target, URING_COMPLETE},
            offsets,
            programs::KernelPrograms,
            refusal::Refusal,
        },
        error::{NO_THREAD, StartError},
        start::{loader::visitor, machine::Machine},
        visitor::Visitors,
    },
};

/// Samples a second on each CPU. No multiple of what programs do a hundred or a thousand times a second.
pub const SAMPLES_PER_SECOND: u64 = 199;

/// What an acceptor does: nothing else shows it.
const STATES: [Hook; 2] = [
    hook("blame_switch", Target::Tracepoint("sched_switch", 3)),
    hook("blame_wakeup", Target::Tracepoint("sched_wakeup", 1)),
];
/// A connection is enqueued: the first that works.
const QUEUED: [&[Hook]; 2] = [
    &[hook("blame_queued", Target::Tracepoint("sk_data_ready", 1))],
    &[hook("blame_queued_by_function", Target::Entry("sock_def_readable"))],
];
/// A thread accepts: likewise.
const ACCEPTED: [&[Hook]; 2] = [
    &[hook("blame_accepted", Target::Exit("inet_csk_accept"))],
    &[
        hook("blame_exit_accept", Target::Syscall("sys_exit_accept4")),
        hook("blame_exit_accept", Target::Syscall("sys_exit_accept")),
    ],
];
/// A thread accepts through io_uring, where no function shows it.
const URING: Hook = hook("blame_uring", Target::Tracepoint(URING_COMPLETE, 3));

/// Payload comes for a connection: the first that works.
const ARRIVED: [&[Hook]; 2] = [
    &[hook("blame_arrived", Target::Tracepoint("sk_data_ready", 1))],
    &[hook("blame_arrived_by_function", Target::Entry("sock_def_readable"))],
];
/// A thread reads: likewise.
const READ: [&[Hook]; 2] = [
    &[hook("blame_read", Target::Tracepoint("sock_recv_length", 3))],
    &[hook("blame_read_by_function", Target::Exit("tcp_recvmsg"))],
];
/// It reads by splicing: likewise.
const SPLICED: [&[Hook]; 2] = [
    &[hook("blame_spliced", Target::Exit("tcp_splice_read"))],
    &[hook("blame_exit_splice", Target::Syscall("sys_exit_splice"))],
];
/// A connection ends.
const DESTROYED: [&[Hook]; 1] = [&[hook("blame_destroyed", Target::Tracepoint("tcp_destroy_sock", 1))]];

/// Every hook.
pub(in crate::source::live) fn all_hooks() -> impl Iterator<Item = &'static Hook> {
    let ways = [&QUEUED, &ACCEPTED, &ARRIVED, &READ, &SPLICED].into_iter().flatten().chain(&DESTROYED);
    ways.copied().flatten().chain(&STATES).chain(std::iter::once(&URING))
}

/// The program that samples.
const SAMPLE: &str = "blame_sample";

/// Every program that is attached, and has done its work in the end.
pub(super) const PROGRAMS: [&str; 20] = [
    SAMPLE,
    "blame_switch",
    "blame_wakeup",
    "blame_uring",
    "blame_exit_accept",
    "blame_accepted",
    "blame_queued",
    "blame_queued_by_function",
    "blame_visit",
    "blame_refresh",
    "blame_arrived",
    "blame_arrived_by_function",
    "blame_read",
    "blame_read_by_function",
    "blame_spliced",
    "blame_exit_splice",
    "blame_destroyed",
    "blame_take_over",
    "blame_take_over_spilled",
    "blame_look_again",
];

/// Why nobody can be blamed here.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The kernel's types do not say what a thread does.
    #[error("this kernel's types do not show what a thread does")]
    Types,
    /// A hook that nothing can replace.
    #[error("{what}: {target}: {refusal}")]
    Hook {
        /// What it shows.
        what: &'static str,
        /// Which hook.
        target: String,
        /// Why not.
        refusal: Refusal,
    },
    /// Anything else.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What could not be attached, and what is missing without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What is missing.
    pub without: &'static str,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.without, self.reason)
    }
}

/// Descriptors that it takes: one per map, program and hook, and two for each CPU that is sampled. More than that.
pub(in crate::source::live) fn descriptors() -> u64 {
    40 + 2 * aya::util::nr_cpus().map_or(1, |cpus| u64::from(u32::from(cpus)))
}

impl Blame {
    /// Gives back to the kernel what only blame needs.
    pub(in crate::source::live) fn discard(ebpf: &mut Ebpf) {
        Maps::discard(ebpf);
    }

    /// Attaches all hooks, on a thread of its own: system call tracepoints may need a private mount namespace.
    ///
    /// # Errors
    /// If a hook that nothing can replace is refused.
    pub(in crate::source::live) fn attach(
        ebpf: &mut Ebpf,
        options: &Options,
        machine: &Machine,
        slots: u32,
        unwinder: &Result<Unwinder, String>,
    ) -> Result<Self, Refused> {
        let resolved = offsets::resolve(&machine.kernel);
        if resolved.missing.iter().any(|(name, _)| offsets::OF_THREADS.contains(name)) {
            return Err(Refused::Types);
        }
        let mut maps = Maps::take(ebpf, slots)?;
        let mut lacks = thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, || attach(ebpf, options, machine));
            let thread = thread.map_err(|error| StartError::Io(NO_THREAD, error))?;
            thread.join().map_err(|_| StartError::Object("the attaching thread failed".to_owned()))?
        })?;
        if let Err(reason) = sample(ebpf) {
            lacks.push(Lack { without: "which code a thread runs is not known", reason });
        }
        let copies = copies(&mut maps, &resolved, unwinder).map_err(|reason| {
            lacks.push(Lack { without: "callers in programs without frame pointers are not known", reason });
        });
        let visitors = Visitors { btf: &machine.btf, refuse: &options.refuse };
        let visit = visitor(ebpf, "blame_visit", visitors, None);
        let visit = visit.map_err(|error| {
            let without = if options.blame_reads {
                "a thread is charged from its first read on"
            } else {
                "a thread is an acceptor from its first accept on, not while it waits for one"
            };
            lacks.push(Lack { without, reason: error.to_string() });
        });
        let tables = maps.tables();
        let mut over = |table, program| visitor(ebpf, program, visitors, Some(table));
        let walks = if options.blame_reads {
            let [sets, spilled] = &tables.connections;
            let take_over = vec![over(sets, "blame_take_over")?, over(spilled, "blame_take_over_spilled")?];
            Walks { visit: visit.ok(), take_over, refresh: over(&tables.reading, "blame_look_again")? }
        } else {
            let refresh = over(&tables.listeners, "blame_refresh")?;
            Walks { visit: visit.ok(), take_over: Vec::new(), refresh }
        };
        Ok(Self::new(maps, walks, copies.ok(), lacks, options.blame_reads))
    }
}

/// Starts the thread that unwinds. To be called before rights are given up.
///
/// # Errors
/// Why it cannot be started.
pub(in crate::source::live) fn start_unwinder() -> Result<Unwinder, String> {
    Unwinder::start().map_err(|error| format!("no thread can be started: {error}"))
}

/// What has copied stacks unwound.
fn copies(maps: &mut Maps, resolved: &offsets::Offsets, unwinder: &Result<Unwinder, String>) -> Result<Copies, String> {
    if let Some((_, error)) = resolved.missing.iter().find(|(name, _)| offsets::OF_COPIES.contains(name)) {
        return Err(error.to_string());
    }
    let (Some(ring), Some(following)) = (maps.copies.take(), maps.following.take()) else {
        return Err("they are read already".to_owned());
    };
    let unwinder = unwinder.as_ref().map_err(Clone::clone)?;
    Ok(Copies::new(ring, following, unwinder))
}

fn attach(ebpf: &mut Ebpf, options: &Options, machine: &Machine) -> Result<Vec<Lack>, Refused> {
    let mut attacher = Attacher {
        programs: KernelPrograms::new(ebpf, &machine.btf, &machine.kernel),
        refuse: &options.refuse,
        kind: options.kind,
    };
    let mut lacks = Vec::new();
    if options.blame_reads {
        // Before what makes records of connections.
        attacher.first("connections that end cannot be seen", &DESTROYED)?;
        attacher.first("payload that comes cannot be seen", &ARRIVED)?;
        attacher.first("reads cannot be seen", &READ)?;
        if let Err(refused) = attacher.first("reads by splice(2) are seen late", &SPLICED) {
            lacks.push(Lack { without: "reads by splice(2) are seen up to 0.3 s late", reason: refused.to_string() });
        }
    } else {
        attacher.first("connections that are enqueued cannot be seen", &QUEUED)?;
    }
    let accepted = attacher.first("accepts cannot be seen", &ACCEPTED)?;
    if accepted == 1
        && let Err((_, refusal)) = attacher.all(&[URING])
    {
        lacks.push(Lack { without: "accepts through io_uring are not seen", reason: refusal.to_string() });
    }
    attacher.first("what threads do cannot be seen", &[&STATES])?;
    Ok(lacks)
}

struct Attacher<'a> {
    programs: KernelPrograms<'a>,
    refuse: &'a [String],
    kind: Option<Kind>,
}

impl Attacher<'_> {
    /// Attaches the first method of which the kernel takes all hooks, and returns which.
    fn first(&mut self, what: &'static str, methods: &[&[Hook]]) -> Result<usize, Refused> {
        let mut refused = None;
        for (index, hooks) in methods.iter().enumerate() {
            match self.all(hooks) {
                Ok(()) => return Ok(index),
                Err((target, refusal)) => refused = Some((target, refusal)),
            }
        }
        let (target, refusal) = refused.unwrap_or((Target::Exit(""), Refusal::NotRequested));
        Err(Refused::Hook { what, target: target.to_string(), refusal })
    }

    fn all(&mut self, hooks: &[Hook]) -> Result<(), (Target, Refusal)> {
        for hook in hooks {
            if let Err(refusal) = self.attach(hook) {
                hooks.iter().for_each(|hook| self.programs.unload(hook));
                return Err((hook.target, refusal));
            }
        }
        Ok(())
    }

    fn attach(&mut self, hook: &Hook) -> Result<(), Refusal> {
        if self.refuse.contains(&hook.target.to_string()) {
            return Err(Refusal::OnPurpose);
        }
        if hook.target.is_function() && self.kind == Some(Kind::Tracepoint) {
            return Err(Refusal::NotRequested);
        }
        self.programs.load(hook)?;
        self.programs.attach(hook)
    }
}

/// Samples what every CPU runs.
fn sample(ebpf: &mut Ebpf) -> Result<(), String> {
    let program = ebpf.program_mut(SAMPLE).ok_or_else(|| format!("the object has no program {SAMPLE}"))?;
    let program: &mut PerfEvent = program.try_into().map_err(|error: ProgramError| reason(&error))?;
    program.load().map_err(|error| reason(&error))?;
    for cpu in online_cpus().map_err(|(path, error)| format!("{path}: {error}"))? {
        let config = PerfEventConfig::Software(SoftwareEvent::CpuClock);
        let scope = PerfEventScope::AllProcessesOneCpu { cpu };
        program
            .attach(config, scope, SamplePolicy::Frequency(SAMPLES_PER_SECOND), false)
            .map_err(|error| format!("{} ({})", reason(&error), rights::remedy(&[caps::Capability::CAP_PERFMON])))?;
    }
    Ok(())
}

fn reason(error: &ProgramError) -> String {
    errors::one_line(&errors::chain(error))
}
