//! A thread writes to a connection.

use listentop_abi::connection::Connection;

use crate::{account, events::accepted, kernel::RawSock};

/// The current thread gave the kernel `bytes` (above 0) to send.
#[inline(always)]
pub(crate) fn written(connection: *mut Connection, key: u64, bytes: u32) {
    if unsafe { (*connection).accepted_ns } == 0 {
        // As for reads: an accept that no hook saw.
        accepted::accepted(RawSock(key));
    }
    let (listener, remembered) = unsafe { ((*connection).listener, (*connection).writer) };
    if let Some((account, remember)) = account::current(listener, remembered) {
        unsafe {
            (*connection).writer = remember;
            account.add(|work| &raw mut (*work).writes, 1);
            account.add(|work| &raw mut (*work).write_bytes, u64::from(bytes));
        }
    }
}
