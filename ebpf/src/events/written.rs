//! A thread writes to a connection.

use listentop_abi::connection::Connection;

use crate::{
    account,
    events::accepted,
    kernel::MaybeGone,
    values::{MapValue, field},
};

/// The current thread gave the kernel `bytes` (above 0) to send.
#[inline(always)]
pub(crate) fn written(connection: MapValue<Connection>, key: u64, bytes: u32) {
    if field!(connection.accepted_ns).get() == 0 {
        // As for reads: an accept that no hook saw.
        accepted::accepted(MaybeGone(key));
    }
    let listener = field!(connection.listener).get();
    let remembered = field!(connection.writer).get();
    if let Some((account, remember)) = account::current(listener, remembered) {
        field!(connection.writer).set(remember);
        account.add(|work| field!(work.writes), 1);
        account.add(|work| field!(work.write_bytes), u64::from(bytes));
    }
}
