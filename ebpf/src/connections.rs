//! The table of connections: every access goes through here.

use listentop_abi::{connection::Connection, loss::Loss};

use crate::{
    maps::{CONNECTIONS, DRAFTS, Draft},
    stats,
};

/// The record of the connection whose `struct sock *` is `key`, if it is one and tracked.
#[inline(always)]
pub(crate) fn find(key: u64) -> Option<*mut Connection> {
    CONNECTIONS.get_ptr_mut(key)
}

/// Makes the record of a connection that has none. `fill` must set every field: what it is given may hold an earlier
/// connection's. `false`, and the loss counted, if there is no room.
#[inline(always)]
pub(crate) fn insert(key: u64, draft: Draft, fill: impl FnOnce(*mut Connection)) -> bool {
    let Some(connection) = DRAFTS.get_ptr_mut(draft as u32) else { return false };
    fill(connection);
    #[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied onto the stack")]
    let inserted = CONNECTIONS.insert(key, unsafe { &*connection }, 0).is_ok();
    if !inserted {
        stats::lost(Loss::Connections);
    }
    inserted
}

/// Ends the record of a connection: from here on [`find`] does not find it.
#[inline(always)]
pub(crate) fn end(key: u64) {
    let _ = CONNECTIONS.remove(key);
}
