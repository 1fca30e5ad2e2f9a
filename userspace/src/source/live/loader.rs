//! Getting the object into the kernel.

use std::os::fd::{AsFd, OwnedFd};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{Iter, ProgramError},
};
use listentop_abi::connection::PLACES;
use listentop_btf::KernelBtf;

use super::{
    Geometry, Options, StartError, bpf,
    events::URING_COMPLETE,
    kallsyms,
    offsets::{self, Offsets},
    signatures,
};
use crate::{say::say, source::owners};

/// The probes, built by build.rs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/listentop-probes"));

/// Loads the object with what the kernel's types, the options and the machine say; programs come later.
pub(super) fn load(
    options: &Options,
    kernel: &KernelBtf,
    btf: &Btf,
    geometry: Geometry,
    ranges: &kallsyms::Ranges,
) -> Result<Ebpf, StartError> {
    let Offsets { found, missing } = offsets::resolve(kernel);
    if let Some((_, error)) = missing.iter().find(|(name, _)| !offsets::OPTIONAL.contains(name)) {
        return Err(StartError::Unsupported(error.to_string()));
    }
    let mut loader = EbpfLoader::new();
    loader.btf(btf);
    for (name, value) in &found {
        loader.override_global(name, value, true);
    }
    let positions = signatures::positions(kernel);
    for (name, value) in &positions {
        loader.override_global(name, value, true);
    }
    let helpers = offsets::helpers(kernel);
    for (name, value) in &helpers {
        loader.override_global(name, value, true);
    }
    let has_mptcp = u8::from(offsets::MPTCP.iter().all(|name| found.iter().any(|(found, _)| found == name)));
    let uring_cqe = u8::from(kernel.tracepoint_arguments(URING_COMPLETE).is_ok_and(|arguments| arguments == 3));
    let pid_namespace = owners::our_pid_namespace();
    let (empty, debug) = (u8::from(options.empty), u8::from(options.log_probes));
    let sets = connection_sets(options.max_connections);
    let set_mask = sets - 1;
    let discarding = ranges.map(|(begin, end)| [begin, end]);
    let (mask, shift, slots) = (geometry.shards() - 1, geometry.shard_shift, geometry.slots);
    loader
        .override_global("DISCARDING", &discarding, true)
        .override_global("HAS_MPTCP", &has_mptcp, true)
        .override_global("OUR_PID_NAMESPACE", &pid_namespace, true)
        .override_global("URING_CQE", &uring_cqe, true)
        .override_global("EMPTY", &empty, true)
        .override_global("DEBUG", &debug, true)
        .override_global("SHARD_MASK", &mask, true)
        .override_global("SHARD_SHIFT", &shift, true)
        .override_global("SLOTS", &slots, true)
        .override_global("SET_MASK", &set_mask, true)
        .map_max_entries("LISTENERS", slots)
        .map_max_entries("FREE_SLOTS", slots)
        .map_max_entries("INFO", slots)
        .map_max_entries("ADDRESSES", slots)
        .map_max_entries("COUNTERS", slots << shift)
        .map_max_entries("HANDSHAKES", slots << shift)
        .map_max_entries("DISTRIBUTIONS", slots << shift)
        .map_max_entries("PEAKS", slots * geometry.cpus)
        .map_max_entries("CONNECTIONS", sets)
        .map_max_entries("SPILLED", options.max_connections.div_ceil(4))
        .map_max_entries("DROPPED", options.max_dropped_clients)
        .map_max_entries("THREADS", options.max_threads)
        .map_max_entries("THREAD_INDEX", options.max_threads)
        .map_max_entries("FREE_THREADS", options.max_threads);
    loader.load(OBJECT).map_err(|error| {
        let text = chain(&error);
        if bpf::is_missing() {
            StartError::NoBpf
        } else if nix::unistd::geteuid().is_root() && !text.contains("Operation not permitted") {
            StartError::Refused(text)
        } else {
            StartError::NotPermitted(text)
        }
    })
}

/// Sets that hold so many connections, but for the quarter (at most 15 % are expected) that chance puts into sets that
/// are full.
fn connection_sets(connections: u32) -> u32 {
    connections.div_ceil(PLACES as u32).next_power_of_two()
}

/// Loads and attaches an iterator, over the elements of `map` if it is one for maps.
pub(super) fn iterator(
    ebpf: &mut Ebpf,
    name: &str,
    kind: &str,
    btf: &Btf,
    map: Option<&OwnedFd>,
) -> Result<OwnedFd, StartError> {
    let refused = |error: ProgramError| match &error {
        ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM) => {
            StartError::NotPermitted(format!("iter/{kind}: {io_error}"))
        }
        _ => {
            if std::env::var_os("LISTENTOP_VERIFIER_LOG").is_some() {
                say(&error);
            }
            StartError::Refused(format!("iter/{kind}: {}", error.to_string().lines().next().unwrap_or_default()))
        }
    };
    let program =
        ebpf.program_mut(name).ok_or_else(|| StartError::Refused(format!("the object has no program {name}")))?;
    let program: &mut Iter = program.try_into().map_err(refused)?;
    program.load(kind, btf).map_err(refused)?;
    let fd = program.fd().map_err(refused)?;
    bpf::attach_iterator(fd.as_fd(), map.map(AsFd::as_fd))
        .map_err(|error| StartError::Io("an iterator cannot be attached", error))
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some errors name their cause already.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.lines().collect::<Vec<_>>().join(" ")
}
