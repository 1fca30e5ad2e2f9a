//! Iterators over the files of all processes, at the start: who holds a connection that was open before.
//!
//! An old process may serve its connections to their end while a new one listens at the same address. Its connections
//! look as if the new listener had accepted them. But they are held by a process that does not hold the listener, and
//! neither does a process that it descends from, as with servers that start a process per connection.

use core::ffi::c_void;

use listentop_abi::{
    connection::{HELD_BY_KIN, HELD_BY_STRANGER, SHARD_UNKNOWN, STATE_BASELINE},
    listener::{HOLDERS_FOUND, HOLDERS_MISSING},
    loss::Loss,
};

use super::{iterators::TcpSocket, sockets::listener_behind};
use crate::{
    connections,
    kernel::{self, MaybeGone},
    maps::{HOLDERS, Holder, INFO},
    origin, record, stats,
    values::{Lookup as _, field},
};

/// Generations that are looked at: a process, its parent, and so on.
const GENERATIONS: usize = 6;

/// Context of iter/task_file.
#[repr(C)]
pub(crate) struct TaskFile {
    meta: *const c_void,
    task: *const u8,
    descriptor: u32,
    padding: u32,
    file: *const u8,
}

impl TaskFile {
    /// Addresses of the task and of the socket behind its file; `None` after the last file. If the file is no socket,
    /// the address is another object's, which no table contains.
    #[inline(always)]
    fn get(&self) -> Option<(u64, MaybeGone)> {
        if self.task.is_null() || self.file.is_null() {
            return None;
        }
        let task = MaybeGone::of(self.task).0;
        Some((task, kernel::socket_of_file(MaybeGone::of(self.file).0)?))
    }
}

/// Notes which processes hold a listener.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub(crate) extern "C" fn find_holders(ctx: &TaskFile) -> i32 {
    let Some((task, socket)) = ctx.get() else { return 0 };
    let Some(listener) = listener_behind(socket) else { return 0 };
    let process = kernel::process_of(task);
    note(process, listener.slot);
    // A process may hold one shard of a group, and connections that count for another.
    let raw = if socket.is_mptcp() { socket.first_subflow() } else { socket };
    if let Some(first) = origin::first_shard(raw)
        && first != listener
    {
        note(process, first.slot);
    }
    0
}

#[inline(always)]
fn note(process: u32, slot: u32) {
    let Some(info) = INFO.value(slot) else { return };
    if HOLDERS.insert(&Holder { process, slot }, &1, 0).is_err() {
        field!(info.holders).set(HOLDERS_MISSING);
    } else if field!(info.holders).get() == 0 {
        field!(info.holders).set(HOLDERS_FOUND);
    }
}

/// Notes whether a connection that was taken over is held by a process that has to do with its listener.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub(crate) extern "C" fn find_strangers(ctx: &TaskFile) -> i32 {
    let Some((mut task, socket)) = ctx.get() else { return 0 };
    let key = if socket.is_mptcp() { socket.first_subflow() } else { socket };
    let Some(connection) = connections::find(key.0) else { return 0 };
    let known = field!(connection.holder).get();
    if field!(connection.state).get() & STATE_BASELINE == 0 || known & HELD_BY_KIN != 0 {
        return 0;
    }
    let slot = field!(connection.slot).get();
    let Some(info) = INFO.value(slot) else { return 0 };
    if field!(info.holders).get() != HOLDERS_FOUND {
        return 0;
    }
    let mut holder = HELD_BY_STRANGER;
    for _ in 0..GENERATIONS {
        if HOLDERS.value(&Holder { process: kernel::process_of(task), slot }).is_some() {
            holder = HELD_BY_KIN;
            break;
        }
        task = kernel::parent_of(task);
        if task == 0 {
            break;
        }
    }
    field!(connection.holder).set(known | holder);
    0
}

/// Takes connections away from their listeners that only strangers hold.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub(crate) extern "C" fn let_go(ctx: &TcpSocket) -> i32 {
    let Some(sock) = ctx.get() else { return 0 };
    let Some(connection) = connections::find(sock.key()) else { return 0 };
    let holder = field!(connection.holder).get();
    if holder & (HELD_BY_KIN | HELD_BY_STRANGER) == HELD_BY_STRANGER {
        if holder & SHARD_UNKNOWN == 0 {
            stats::lost(Loss::AmbiguousOrigin);
        }
        record::let_go(sock.key(), connection);
    }
    0
}
