//! The properties of the machine to which the probes are adapted.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    thread,
};

use aya::{Btf, Endianness};
use listentop_abi::limits;
use listentop_btf::KernelBtf;

use super::{kallsyms, loader::ITERATORS};
use crate::source::live::{
    attach::{
        events::{self, Hook, Target},
        offsets,
    },
    blame,
    error::{NO_THREAD, StartError},
};
use crate::source::namespaces;

/// Sizes of the maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) slots: u32,
    pub(crate) shard_shift: u32,
    pub(crate) cpus: u32,
    /// Whether each CPU has statistics records of its own, and programs at tracepoints are not preempted. A real-time
    /// kernel preempts them.
    pub(crate) exclusive: bool,
    /// Places for what is known of the packet at hand, on each CPU.
    pub(crate) packets: u32,
}

/// Those on a real-time kernel: tasks that process packets there and preempt one another have places of their own, by
/// their numbers. Few do so at a time, and each needs some 100 bytes.
const PACKETS_OF_TASKS: u32 = 256;

impl Geometry {
    pub(crate) fn new(slots: u32, kernel: &KernelBtf) -> Self {
        let cpus = aya::util::nr_cpus().map_or(1, u32::from);
        // Many listeners share the load; one record each is enough then, and memory matters more.
        let shards = if slots > 4096 { 1 } else { cpus.next_power_of_two().min(limits::MAX_SHARDS) };
        let real_time = offsets::is_real_time(kernel);
        let packets = if real_time { PACKETS_OF_TASKS } else { 1 };
        Self { slots, shard_shift: shards.ilog2(), cpus, exclusive: shards >= cpus && !real_time, packets }
    }

    /// Statistics records per listener.
    pub(crate) fn shards(self) -> u32 {
        1 << self.shard_shift
    }

    /// Statistics records of all listeners.
    pub(crate) fn records(self) -> u32 {
        self.slots << self.shard_shift
    }
}

/// What this machine's kernel is like.
pub(crate) struct Machine {
    pub(crate) kernel: KernelBtf,
    /// The numbers of the types that programs are loaded for. The loader looks names up in a list of objects, one for
    /// each type, and walks over it for each program: of the whole kernel's types it has those only that are needed.
    pub(crate) btf: Btf,
    /// Network namespaces by inode, with a file that leads into each.
    pub(crate) namespaces: HashMap<u32, PathBuf>,
    /// Where the functions lie that discard packets.
    pub(crate) ranges: kallsyms::Ranges,
}

impl Machine {
    /// Reads the kernel's types alone: of the rest nothing is known.
    pub(crate) fn types() -> Result<Self, StartError> {
        let kernel = KernelBtf::from_kernel()?;
        let btf = names(&kernel)?;
        Ok(Self { kernel, btf, namespaces: HashMap::new(), ranges: kallsyms::Ranges::default() })
    }

    /// Reads all of it.
    pub(crate) fn read() -> Result<Self, StartError> {
        thread::scope(|scope| {
            // In parallel with the rest: the kernel takes longer to write its 200,000 symbols than its types.
            let ranges = thread::Builder::new().spawn_scoped(scope, kallsyms::discarding);
            let ranges = ranges.map_err(|error| StartError::Io(NO_THREAD, error))?;
            let kernel = KernelBtf::from_kernel()?;
            let btf = names(&kernel)?;
            let namespaces = namespaces::all();
            // If the thread failed, the ranges are unknown.
            Ok(Self { kernel, btf, namespaces, ranges: ranges.join().unwrap_or_default() })
        })
    }
}

/// The kernel's types with those names only that some program is loaded for.
fn names(kernel: &KernelBtf) -> Result<Btf, StartError> {
    let of_hook = |hook: &Hook| match hook.target {
        Target::Tracepoint(name, _) => Some(format!("btf_trace_{name}")),
        Target::Entry(name) | Target::Exit(name) => Some(name.to_owned()),
        Target::Syscall(_) => None,
    };
    let hooks = events::all_hooks().chain(blame::all_hooks()).filter_map(of_hook);
    let iterators = ITERATORS.iter().map(|(_, visits, _)| format!("bpf_iter_{visits}"));
    let wanted: HashSet<String> = hooks.chain(iterators).collect();
    Btf::parse(&kernel.excerpt(wanted), Endianness::default()).map_err(|error| StartError::object(&error))
}
