//! A socket is destroyed: nothing of it may stay, because its address will be used again.

use listentop_abi::connection::{STATE_BASELINE, STATE_READ};

use crate::{
    connections,
    stats::{self, add, record_span},
};

/// Ends the record of a connection, if the socket is one.
#[inline(always)]
pub(crate) fn destroyed(key: u64) {
    let Some(connection) = connections::find(key) else { return };
    let listener = unsafe { (*connection).listener };
    if let Some(stats) = stats::of(listener) {
        unsafe {
            let (accepted_ns, first_byte_ns) = ((*connection).accepted_ns, (*connection).first_byte_ns);
            if accepted_ns == 0 {
                add(&raw mut (*stats).aborted, 1);
            } else {
                add(&raw mut (*stats).closed, 1);
                // A first byte that was never read: otherwise the read has counted it.
                if first_byte_ns != 0
                    && (*connection).state & (STATE_READ | STATE_BASELINE) == 0
                    && let Some(distributions) = stats::distributions(listener)
                {
                    record_span(&raw mut (*distributions).first_byte, accepted_ns, first_byte_ns);
                }
            }
            // What nobody read is gone, so it does not wait any more.
            let unread = (*connection).arrived.wrapping_sub((*connection).consumed);
            if unread != 0 {
                add(&raw mut (*stats).otherwise_consumed_bytes, i64::from(unread as i32) as u64);
            }
        }
    }
    connections::end(key);
}
