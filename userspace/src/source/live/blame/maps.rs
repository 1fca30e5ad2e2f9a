//! The maps of queue-wait blame.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, RingBuf, StackTraceMap},
};
use listentop_abi::{
    blame::{BeforeStack, Charge, ChargeKey, MAX_STACKS, QueueTime, ThreadId, ThreadName, Wanted, WatchedThread},
    listener::{ListenerInfo, ListenerRef},
    reading::{Reader, ReaderKey, Reading},
};

use crate::source::live::{error::StartError, read::shared::SharedArray};

pub(super) struct Maps {
    pub queues: Array<MapData, QueueTime>,
    pub watched: HashMap<MapData, u32, WatchedThread>,
    pub wanted: HashMap<MapData, u32, Wanted>,
    pub acceptors: HashMap<MapData, ThreadId, ThreadName>,
    pub before: HashMap<MapData, ThreadId, BeforeStack>,
    pub charges: HashMap<MapData, ChargeKey, Charge>,
    /// Stacks, and those whose place there was taken.
    stacks: [StackTraceMap<MapData>; 2],
    pub lost: Array<MapData, u64>,
    /// Taken by who reads it.
    pub copies: Option<RingBuf<MapData>>,
    pub following: Option<HashMap<MapData, u32, u32>>,
    pub readers: HashMap<MapData, ReaderKey, Reader>,
    /// Sockets and their slots: the probes' own table, by a descriptor of its own.
    pub listeners: HashMap<MapData, u64, u64>,
    pub info: SharedArray<ListenerInfo>,
    /// Connections whose readers are watched; the probes alone use it.
    _reading: HashMap<MapData, u64, Reading>,
    /// The same and other tables, for iterators.
    tables: Tables,
}

/// Tables that iterators walk over.
pub(super) struct Tables {
    pub listeners: OwnedFd,
    pub reading: OwnedFd,
    /// Connections of all kinds: the sets in use, and those that found no place in theirs.
    pub connections: [OwnedFd; 2],
}

impl Tables {
    fn open(ebpf: &Ebpf) -> Result<Self, StartError> {
        let open = |name| match ebpf.map(name) {
            Some(Map::HashMap(data) | Map::Array(data)) => {
                let fd = data.fd().as_fd().try_clone_to_owned();
                fd.map_err(|error| StartError::Io("a map cannot be opened", error))
            }
            _ => Err(StartError::no_map(name)),
        };
        Ok(Self {
            listeners: open("LISTENERS")?,
            reading: open("READING")?,
            connections: [open("USED_SETS")?, open("SPILLED")?],
        })
    }
}

/// All of them.
const NAMES: [&str; 16] = [
    "QUEUES",
    "WATCHED",
    "BLANK_THREAD",
    "WANTED",
    "ACCEPTORS",
    "BEFORE",
    "BLANK_STACK",
    "CHARGES",
    "STACKS",
    "MORE_STACKS",
    "BLAME_LOST",
    "COPIES",
    "FOLLOWING",
    "COPYING_CPU",
    "READERS",
    "READING",
];

impl Maps {
    /// The addresses of a stack by its number; `None`: there is none of this number.
    pub(super) fn stack(&self, number: i32) -> Option<Vec<u64>> {
        let number = u32::try_from(number).ok()?;
        let [first, more] = &self.stacks;
        let stack = match number.checked_sub(MAX_STACKS) {
            None => first.get(&number, 0),
            Some(number) => more.get(&number, 0),
        };
        Some(stack.ok()?.frames().iter().map(|frame| frame.ip).collect())
    }

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
        let tables = Tables::open(ebpf)?;
        let info = match ebpf.map("INFO") {
            Some(Map::Array(data)) => SharedArray::map(data.fd().as_fd(), slots).map_err(io)?,
            _ => return Err(StartError::no_map("INFO")),
        };
        let listeners = tables.listeners.try_clone().map_err(io)?;
        let listeners = MapData::from_fd(listeners).map_err(|error| StartError::object(&error))?;
        let listeners = HashMap::try_from(Map::HashMap(listeners)).map_err(|error| StartError::object(&error))?;
        Ok(Self {
            queues: taken(ebpf, "QUEUES")?,
            watched: taken(ebpf, "WATCHED")?,
            wanted: taken(ebpf, "WANTED")?,
            acceptors: taken(ebpf, "ACCEPTORS")?,
            before: taken(ebpf, "BEFORE")?,
            charges: taken(ebpf, "CHARGES")?,
            stacks: [taken(ebpf, "STACKS")?, taken(ebpf, "MORE_STACKS")?],
            lost: taken(ebpf, "BLAME_LOST")?,
            copies: Some(taken(ebpf, "COPIES")?),
            following: Some(taken(ebpf, "FOLLOWING")?),
            readers: taken(ebpf, "READERS")?,
            _reading: taken(ebpf, "READING")?,
            listeners,
            info,
            tables,
        })
    }

    /// Tables that iterators walk over.
    pub(super) fn tables(&self) -> &Tables {
        &self.tables
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
