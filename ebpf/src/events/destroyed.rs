//! A socket is destroyed: nothing of it may stay, because its address will be used again.

use listentop_abi::{
    connection::{Connection, STATE_BASELINE, STATE_READ},
    loss::Loss,
};

use crate::{
    connections,
    events::read::first_unread,
    kernel::Sock,
    stats::{self, add, count, record_shared_span},
};

/// Ends the record of a connection, if the socket is one.
#[inline(always)]
pub(crate) fn destroyed(sock: Sock) {
    let key = sock.key();
    let Some(connection) = connections::find(key) else { return };
    let listener = unsafe { (*connection).listener };
    if let Some(stats) = stats::of(listener) {
        unsafe {
            let (accepted_ns, consumed) = ((*connection).accepted_ns, (*connection).consumed);
            let counter = if accepted_ns == 0 { &raw mut (*stats).aborted } else { &raw mut (*stats).closed };
            count(counter, 1);
            // Without payload, ever, nothing of what the softirq side noted matters; then its cache line is better left
            // alone.
            let unused =
                (*connection).state & STATE_READ == 0 && sock.tcp().is_some_and(|tcp| tcp.payload_end() == consumed);
            if !unused {
                // What nobody read is gone, so it does not wait any more.
                let unread = (*connection).arrived.wrapping_sub(consumed);
                if unread != 0 {
                    add(&raw mut (*stats).otherwise_consumed_bytes, i64::from(unread as i32) as u64);
                }
                // A first byte that was never read: otherwise the read has counted it.
                if accepted_ns != 0 && (*connection).state & (STATE_READ | STATE_BASELINE) == 0 {
                    let since = first_unread(connection, consumed);
                    if since != 0
                        && let Some(distributions) = stats::distributions(listener)
                    {
                        record_shared_span(&raw mut (*distributions).first_byte, accepted_ns, since);
                    }
                }
            }
        }
    }
    connections::end(key, connection);
}

/// Ends the record of a connection that ended without being seen; its socket is another's by now.
#[inline(always)]
pub(crate) fn unseen(key: u64, connection: *mut Connection) {
    stats::lost(Loss::UnseenEnd);
    if let Some(stats) = stats::of(unsafe { (*connection).listener }) {
        unsafe {
            let counter =
                if (*connection).accepted_ns == 0 { &raw mut (*stats).aborted } else { &raw mut (*stats).closed };
            add(counter, 1);
            let unread = (*connection).arrived.wrapping_sub((*connection).consumed);
            add(&raw mut (*stats).otherwise_consumed_bytes, i64::from(unread as i32) as u64);
        }
    }
    connections::end(key, connection);
}
