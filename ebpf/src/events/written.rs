//! A thread writes to a connection.

use listentop_abi::connection::Connection;

use crate::{
    events::accepted,
    kernel::RawSock,
    stats::{self, add},
};

/// The current thread gave the kernel `bytes` (above 0) to send.
#[inline(always)]
pub(crate) fn written(connection: *mut Connection, key: u64, bytes: u32) {
    if unsafe { (*connection).accepted_ns } == 0 {
        // As for reads: an accept that no hook saw.
        accepted::accepted(RawSock(key));
    }
    if let Some(work) = stats::work(unsafe { (*connection).listener }) {
        unsafe {
            add(&raw mut (*work).writes, 1);
            add(&raw mut (*work).write_bytes, u64::from(bytes));
        }
    }
}
