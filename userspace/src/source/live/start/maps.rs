//! The object's maps, opened and mapped.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, Queue},
};
use listentop_abi::{listed, loss::LOSSES};

use super::machine::Geometry;
use crate::source::live::error::StartError;
use crate::source::live::{
    Options,
    read::{
        lists::ListTables,
        shared::{SharedArray, WindowedArray},
        tables::Tables,
        threads::Threads,
    },
};

/// The descriptor of a map.
pub(in crate::source::live) fn descriptor<'a>(ebpf: &'a Ebpf, name: &str) -> Result<BorrowedFd<'a>, StartError> {
    match ebpf.map(name) {
        Some(Map::Array(data) | Map::HashMap(data) | Map::Queue(data)) => Ok(data.fd().as_fd()),
        _ => Err(StartError::no_map(name)),
    }
}

/// An error of aya's.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes the error by value")]
fn refused(error: MapError) -> StartError {
    StartError::object(&error)
}

/// An array, mapped.
fn shared<T: Copy>(ebpf: &Ebpf, name: &str, entries: u32) -> Result<SharedArray<T>, StartError> {
    SharedArray::map(descriptor(ebpf, name)?, entries).map_err(|error| StartError::Io("a map cannot be mapped", error))
}

/// What the probes count as lost.
pub(super) fn losses(ebpf: &Ebpf) -> Result<SharedArray<u64>, StartError> {
    shared(ebpf, "LOSSES", LOSSES)
}

/// The tables of listeners.
pub(super) fn tables(ebpf: &Ebpf, geometry: Geometry) -> Result<Tables, StartError> {
    let distributions = WindowedArray::new(descriptor(ebpf, "DISTRIBUTIONS")?, geometry.records());
    Ok(Tables {
        info: shared(ebpf, "INFO", geometry.slots)?,
        counters: shared(ebpf, "COUNTERS", geometry.records())?,
        handshakes: shared(ebpf, "HANDSHAKES", geometry.records())?,
        distributions: distributions.map_err(|error| StartError::Io("a map cannot be mapped", error))?,
        peaks: shared(ebpf, "PEAKS", geometry.slots * geometry.cpus)?,
        geometry,
    })
}

/// The lists of connections.
pub(super) fn lists(ebpf: &Ebpf, geometry: Geometry) -> Result<ListTables, StartError> {
    Ok(ListTables {
        listing: shared(ebpf, "LISTING", 1)?,
        lists: shared(ebpf, "LISTS", geometry.slots)?,
        pages: shared(ebpf, "PAGES", listed::PAGES)?,
    })
}

fn taken(ebpf: &mut Ebpf, name: &str) -> Result<Map, StartError> {
    ebpf.take_map(name).ok_or_else(|| StartError::no_map(name))
}

/// The queue of free slots, with none in it yet.
pub(super) fn free_slots(ebpf: &mut Ebpf) -> Result<Queue<MapData, u32>, StartError> {
    taken(ebpf, "FREE_SLOTS")?.try_into().map_err(refused)
}

/// Puts so many places into a queue of free ones.
pub(super) fn fill(free: &mut Queue<MapData, u32>, places: u32) -> Result<(), StartError> {
    (0..places).try_for_each(|place| free.push(&place, 0)).map_err(refused)
}

/// The table of threads, of which no record is free yet.
pub(super) fn threads(ebpf: &mut Ebpf, options: &Options) -> Result<Threads, StartError> {
    let records = shared(ebpf, "THREADS", options.max_threads)?;
    let index = taken(ebpf, "THREAD_INDEX")?.try_into().map_err(refused)?;
    let free = taken(ebpf, "FREE_THREADS")?.try_into().map_err(refused)?;
    Ok(Threads::new(records, options.max_threads, index, free))
}

/// Sets what the probes are to do ([`listentop_abi::settings`]).
pub(in crate::source::live) fn change_settings(ebpf: &mut Ebpf, value: u64) -> Result<(), StartError> {
    let map = ebpf.map_mut(".bss").ok_or_else(|| StartError::no_map(".bss"))?;
    let map = aya::maps::Array::<_, u64>::try_from(map);
    map.and_then(|mut map| map.set(0, &value, 0)).map_err(refused)
}
