//! Getting the object into the kernel.

use std::{fs, os::fd::OwnedFd};

use aya::{Ebpf, EbpfError, EbpfLoader};
use aya_obj::generated::bpf_map_type;
use listentop_abi::{
    blame,
    connection::{LISTED, PLACES},
    reading::MAX_READERS,
    stack_copy,
};
use listentop_btf::KernelBtf;

use super::machine::{Geometry, Machine};
use crate::source::live::error::StartError;
use crate::{
    errors,
    source::{
        live::{
            Level, Options,
            attach::{
                events::URING_COMPLETE,
                offsets::{self, Offsets},
                signatures,
            },
            bpf,
            visitor::{MAP_ELEMENTS, Visitor, Visitors},
        },
        proc,
    },
};

/// The probes, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/listentop-probes"));

/// Values of globals that are read from the running kernel's types.
struct KernelGlobals {
    offsets: Vec<(&'static str, u32)>,
    positions: Vec<(&'static str, u32)>,
    helpers: Vec<(&'static str, u8)>,
    has_mptcp: u8,
    uring_cqe: u8,
}

impl KernelGlobals {
    fn read(kernel: &KernelBtf) -> Result<Self, StartError> {
        let Offsets { found, missing } = offsets::resolve(kernel);
        if let Some((_, error)) = missing.into_iter().find(|(name, _)| !offsets::OPTIONAL.contains(name)) {
            return Err(StartError::Unsupported(error));
        }
        let has_mptcp = offsets::MPTCP.iter().all(|name| found.iter().any(|(found, _)| found == name));
        let uring_cqe = kernel.tracepoint_arguments(URING_COMPLETE).is_ok_and(|arguments| arguments == 3);
        Ok(Self {
            offsets: found,
            positions: signatures::positions(kernel),
            helpers: offsets::helpers(kernel),
            has_mptcp: has_mptcp.into(),
            uring_cqe: uring_cqe.into(),
        })
    }

    fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in self.offsets.iter().chain(&self.positions) {
            loader.override_global(name, value, true);
        }
        for (name, value) in &self.helpers {
            loader.override_global(name, value, true);
        }
        loader.override_global("HAS_MPTCP", &self.has_mptcp, true).override_global("URING_CQE", &self.uring_cqe, true);
    }
}

/// Loads the object with what the kernel's types, the options and the machine say; programs come later.
pub(super) fn load(options: &Options, machine: &Machine, geometry: Geometry) -> Result<Ebpf, StartError> {
    load_with(options, machine, geometry, |entries| entries)
}

/// Loads it once more beside the one that measures, for blame alone: all maps but blame's own have one entry. Those of
/// the probes are to take the places of some.
pub(in crate::source::live) fn load_apart(
    options: &Options,
    machine: &Machine,
    geometry: Geometry,
) -> Result<Ebpf, StartError> {
    load_with(options, machine, geometry, |_| 1)
}

fn load_with(
    options: &Options,
    machine: &Machine,
    geometry: Geometry,
    entries: fn(u32) -> u32,
) -> Result<Ebpf, StartError> {
    let globals = KernelGlobals::read(&machine.kernel)?;
    let pid_namespace = proc::our_pid_namespace();
    let (empty, debug) = (u8::from(options.empty), u8::from(options.log_probes));
    // As `ARRIVALS` in the probes says: while the level may change, a setting says it.
    let arrivals = match options.level {
        _ if options.adjustable => 2,
        level => u8::from(level == Level::All),
    };
    let readers = u8::from(options.blame_reads);
    let set_mask = connection_sets(options.max_connections) - 1;
    let discarding = machine.ranges.map(|(begin, end)| [begin, end]);
    let packets = geometry.packets - 1;
    let (mask, shift, slots) = (geometry.shards() - 1, geometry.shard_shift, geometry.slots);
    let mut loader = EbpfLoader::new();
    loader.btf(&machine.btf);
    globals.set(&mut loader);
    loader
        .override_global("DISCARDING", &discarding, true)
        .override_global("OUR_PID_NAMESPACE", &pid_namespace, true)
        .override_global("EMPTY", &empty, true)
        .override_global("DEBUG", &debug, true)
        .override_global("ARRIVALS", &arrivals, true)
        .override_global("BLAME_READS", &readers, true)
        .override_global("SHARD_MASK", &mask, true)
        .override_global("SHARD_SHIFT", &shift, true)
        .override_global("SLOTS", &slots, true)
        .override_global("PACKETS_MASK", &packets, true)
        .override_global("SET_MASK", &set_mask, true);
    set_sizes(&mut loader, options, geometry, entries);
    let limit = if options.blame { stack_limit() } else { 0 };
    loader.load(&with_stacks_of(limit)).map_err(|error| refused(&error))
}

/// Frames of a stack in the probes' map of stacks.
const STACK_DEPTH: u32 = 127;

/// Frames of a stack that this kernel allows (`kernel.perf_event_max_stack`). It refuses a map of deeper ones.
fn stack_limit() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/perf_event_max_stack");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(STACK_DEPTH)
}

/// The object, with maps of stacks of so many frames at most; 0: with arrays in their place, which no loaded program
/// uses. The loader makes all maps of an object, and has no option for the type and the size of a value.
fn with_stacks_of(limit: u32) -> Vec<u8> {
    let (stack_trace, array) = (bpf_map_type::BPF_MAP_TYPE_STACK_TRACE as u32, bpf_map_type::BPF_MAP_TYPE_ARRAY as u32);
    let definition = |[kind, frames]: [u32; 2]| -> Vec<u8> {
        [kind, 4, 8 * frames].into_iter().flat_map(u32::to_ne_bytes).collect()
    };
    let (from, to) = (
        definition([stack_trace, STACK_DEPTH]),
        definition(if limit == 0 { [array, 1] } else { [stack_trace, limit.min(STACK_DEPTH)] }),
    );
    let mut object = OBJECT.to_vec();
    while let Some(place) = object.windows(from.len()).position(|window| window == from).filter(|_| from != to) {
        object[place..place + to.len()].copy_from_slice(&to);
    }
    object
}

/// Processes that may hold a listener, on average.
const HOLDERS_PER_LISTENER: u32 = 8;

/// Sets how many entries each map has; `entries` may change that of maps that are not blame's.
fn set_sizes(loader: &mut EbpfLoader<'_>, options: &Options, geometry: Geometry, entries: fn(u32) -> u32) {
    let slots = geometry.slots;
    let sets = connection_sets(options.max_connections);
    for (name, size) in [
        ("LISTENERS", slots),
        ("FREE_SLOTS", slots),
        ("INFO", slots),
        ("ADDRESSES", 2 * slots),
        ("HOLDERS", HOLDERS_PER_LISTENER * slots),
        ("COMPLETING", geometry.packets),
        ("ATTEMPTS", geometry.packets),
        ("COUNTERS", geometry.records()),
        ("HANDSHAKES", geometry.records()),
        ("DISTRIBUTIONS", geometry.records()),
        ("PEAKS", slots * geometry.cpus),
        ("CONNECTIONS", sets),
        ("USED_SETS", sets.div_ceil(LISTED as u32)),
        ("SPILLED", options.max_connections.div_ceil(4)),
        ("DROPPED", options.max_dropped_clients),
        ("LISTS", slots),
        ("THREADS", options.max_threads),
        ("THREAD_INDEX", options.max_threads),
        ("FREE_THREADS", options.max_threads),
    ] {
        loader.map_max_entries(name, entries(size));
    }
    if options.blame {
        loader
            .map_max_entries("QUEUES", slots)
            .map_max_entries("WATCHED", blame::MAX_THREADS)
            .map_max_entries("WANTED", blame::MAX_THREADS)
            .map_max_entries("ACCEPTORS", blame::MAX_THREADS)
            .map_max_entries("BEFORE", blame::MAX_THREADS)
            .map_max_entries("CHARGES", blame::MAX_CHARGES)
            .map_max_entries("STACKS", blame::MAX_STACKS)
            .map_max_entries("MORE_STACKS", blame::MORE_STACKS)
            .map_max_entries("COPIES", stack_copy::RING)
            .map_max_entries("FOLLOWING", stack_copy::MAX_PROCESSES);
    }
    if options.blame && options.blame_reads {
        loader.map_max_entries("READERS", MAX_READERS).map_max_entries("READING", options.max_connections);
    }
}

/// Why the kernel does not take the object. Rights are missing unless the user is root and the error is not EPERM.
fn refused(error: &EbpfError) -> StartError {
    let text = errors::chain(error);
    let permitted = errors::errno(error) != Some(libc::EPERM);
    match (bpf::is_missing(), permitted && nix::unistd::geteuid().is_root()) {
        (true, _) => StartError::NoBpf,
        (false, true) => StartError::object(error),
        (false, false) => StartError::NotPermitted(text),
    }
}

/// Sets that hold so many connections. Chance puts some (at most 15 % are expected) into sets that are full; the table
/// of spilled ones has room for a quarter.
fn connection_sets(connections: u32) -> u32 {
    connections.div_ceil(PLACES as u32).next_power_of_two()
}

/// When an iterator is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// At every start.
    Always,
    /// Where arrivals and reads are seen, or may be later.
    Reads,
    /// Where the level may change.
    Levels,
    /// With blame.
    Blame,
}

/// Every iterator: what it visits, as the kernel calls it, and when it is needed.
pub(super) const ITERATORS: &[(&str, &str, Need)] = &[
    ("find_connections", "tcp", Need::Always),
    ("walk_queues", MAP_ELEMENTS, Need::Always),
    ("unread", MAP_ELEMENTS, Need::Reads),
    ("unread_spilled", MAP_ELEMENTS, Need::Reads),
    ("list_waiting", MAP_ELEMENTS, Need::Always),
    ("list_unread", MAP_ELEMENTS, Need::Reads),
    ("list_unread_spilled", MAP_ELEMENTS, Need::Reads),
    ("list_half_open", "tcp", Need::Always),
    ("resume", MAP_ELEMENTS, Need::Levels),
    ("resume_spilled", MAP_ELEMENTS, Need::Levels),
    ("catch_up", "tcp", Need::Levels),
    ("find_listeners", "tcp", Need::Always),
    ("find_holders", "task_file", Need::Always),
    ("find_strangers", "task_file", Need::Always),
    ("let_go", "tcp", Need::Always),
    ("poll", MAP_ELEMENTS, Need::Always),
    ("blame_visit", "task", Need::Blame),
    ("blame_refresh", MAP_ELEMENTS, Need::Blame),
    ("blame_take_over", MAP_ELEMENTS, Need::Blame),
    ("blame_take_over_spilled", MAP_ELEMENTS, Need::Blame),
    ("blame_look_again", MAP_ELEMENTS, Need::Blame),
];

/// Loads and attaches an iterator, over the elements of `map` if it is one for maps.
pub(in crate::source::live) fn visitor(
    ebpf: &mut Ebpf,
    name: &str,
    visitors: Visitors<'_>,
    map: Option<&OwnedFd>,
) -> Result<Visitor, StartError> {
    let known = ITERATORS.iter().find(|(iterator, ..)| *iterator == name);
    let (_, visits, _) = known.ok_or_else(|| StartError::no_program(name))?;
    visitors.attach(ebpf, (name, visits), map)
}

#[cfg(test)]
mod tests {
    use aya_obj::{
        Object, ProgramSection,
        generated::{BPF_PSEUDO_CALL, bpf_map_type},
    };

    use super::{ITERATORS, MAP_ELEMENTS, OBJECT, STACK_DEPTH, with_stacks_of};
    use crate::source::live::visitor;

    #[test]
    fn the_maps_of_stacks_are_those_that_the_kernel_takes() {
        let (stack_trace, array) = (bpf_map_type::BPF_MAP_TYPE_STACK_TRACE, bpf_map_type::BPF_MAP_TYPE_ARRAY);
        for (limit, kind, frames) in
            [(0, array, 1), (64, stack_trace, 64), (127, stack_trace, STACK_DEPTH), (500, stack_trace, STACK_DEPTH)]
        {
            let object = Object::parse(&with_stacks_of(limit)).expect("the probes are an object");
            for map in ["STACKS", "MORE_STACKS"].map(|name| &object.maps[name]) {
                let found = (map.map_type(), map.key_size(), map.value_size());
                assert_eq!(found, (kind as u32, 4, 8 * frames), "{limit}");
            }
        }
    }

    #[test]
    fn each_walk_over_a_map_has_a_program_for_one_element() {
        let object = Object::parse(OBJECT).expect("the probes are an object");
        let walks = || ITERATORS.iter().filter(|(_, visits, _)| *visits == MAP_ELEMENTS);
        assert!(walks().count() > 8);
        for (name, ..) in walks() {
            let one = object.programs.get(&visitor::of_one(name)).map(|program| &program.section);
            assert!(matches!(one, Some(ProgramSection::RawTracePoint)), "{name}: {one:?}");
        }
    }

    /// `BPF_JMP | BPF_CALL`.
    const CALL: u8 = 0x85;

    /// Kernels up to 6.x refuse an object whose programs call functions of its `.text` (aya#1649). A helper that the
    /// compiler does not inline, or a part of `core` that may panic, makes such a call.
    #[test]
    fn no_program_calls_a_function_of_the_object() {
        let object = Object::parse(OBJECT).expect("the probes are an object");
        assert!(object.programs.len() > 40, "it has all programs: {}", object.programs.len());
        for function in object.functions.values() {
            let call = function.instructions.iter().position(|instruction| {
                instruction.code == CALL && u32::from(instruction.src_reg()) == BPF_PSEUDO_CALL
            });
            assert_eq!(call, None, "{} calls a function of the object: make that #[inline(always)]", function.name);
        }
    }
}
