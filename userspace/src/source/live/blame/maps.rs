//! The maps of queue-wait blame.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, StackTraceMap},
};
use listentop_abi::{
    blame::{BeforeStack, Charge, ChargeKey, QueueTime, ThreadId, ThreadName, Wanted, WatchedThread},
    listener::{ListenerInfo, ListenerRef},
};

use crate::source::live::{error::StartError, read::shared::SharedArray};

pub(super) struct Maps {
    pub queues: Array<MapData, QueueTime>,
    pub watched: HashMap<MapData, u32, WatchedThread>,
    pub wanted: HashMap<MapData, u32, Wanted>,
    pub acceptors: HashMap<MapData, ThreadId, ThreadName>,
    pub before: HashMap<MapData, ThreadId, BeforeStack>,
    pub charges: HashMap<MapData, ChargeKey, Charge>,
    pub stacks: StackTraceMap<MapData>,
    pub lost: Array<MapData, u64>,
    /// Sockets and their slots: the probes' own table, by a descriptor of its own.
    pub listeners: HashMap<MapData, u64, u64>,
    pub info: SharedArray<ListenerInfo>,
    /// The table of listeners, for iterators.
    listeners_fd: OwnedFd,
}

/// All of them.
const NAMES: [&str; 10] = [
    "QUEUES",
    "WATCHED",
    "BLANK_THREAD",
    "WANTED",
    "ACCEPTORS",
    "BEFORE",
    "BLANK_STACK",
    "CHARGES",
    "STACKS",
    "BLAME_LOST",
];

impl Maps {
    /// Gives them back to the kernel, where nobody is to be blamed.
    pub(super) fn discard(ebpf: &mut Ebpf) {
        NAMES.iter().for_each(|name| drop(ebpf.take_map(name)));
    }

    pub(super) fn take(ebpf: &mut Ebpf, slots: u32) -> Result<Self, StartError> {
        fn taken<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<T, StartError> {
            let map = ebpf.take_map(name).ok_or_else(|| StartError::no_map(name))?;
            T::try_from(map).map_err(|error| StartError::object(&error))
        }
        let io = |error| StartError::Io("a map cannot be opened", error);
        let listeners_fd = match ebpf.map("LISTENERS") {
            Some(Map::HashMap(data)) => data.fd().as_fd().try_clone_to_owned().map_err(io)?,
            _ => return Err(StartError::no_map("LISTENERS")),
        };
        let info = match ebpf.map("INFO") {
            Some(Map::Array(data)) => SharedArray::map(data.fd().as_fd(), slots).map_err(io)?,
            _ => return Err(StartError::no_map("INFO")),
        };
        let listeners = listeners_fd.try_clone().map_err(io)?;
        let listeners = MapData::from_fd(listeners).map_err(|error| StartError::object(&error))?;
        let listeners = HashMap::try_from(Map::HashMap(listeners)).map_err(|error| StartError::object(&error))?;
        Ok(Self {
            queues: taken(ebpf, "QUEUES")?,
            watched: taken(ebpf, "WATCHED")?,
            wanted: taken(ebpf, "WANTED")?,
            acceptors: taken(ebpf, "ACCEPTORS")?,
            before: taken(ebpf, "BEFORE")?,
            charges: taken(ebpf, "CHARGES")?,
            stacks: taken(ebpf, "STACKS")?,
            lost: taken(ebpf, "BLAME_LOST")?,
            listeners,
            info,
            listeners_fd,
        })
    }

    /// The table of listeners, for iterators.
    pub(super) fn listeners_descriptor(&self) -> Result<OwnedFd, StartError> {
        let fd = self.listeners_fd.try_clone();
        fd.map_err(|error| StartError::Io("a map cannot be opened", error))
    }

    /// The addresses of all listeners' sockets.
    pub(super) fn sockets(&self) -> std::collections::HashMap<ListenerRef, u64> {
        let listener = |word: u64| {
            let (low, high) = (word as u32, (word >> 32) as u32);
            let (slot, generation) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
            ListenerRef { slot, generation }
        };
        self.listeners.iter().flatten().map(|(socket, found)| (listener(found), socket)).collect()
    }
}
