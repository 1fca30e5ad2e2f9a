//! A socket is destroyed: its record ends too, because another socket will have its address.

use listentop_abi::connection::{STATE_BASELINE, STATE_READ};

use crate::{
    connections,
    kernel::LiveSocket,
    record::first_unread,
    stats::{self, count, record_shared_span},
    values::field,
};

/// Ends the record of a connection, if the socket is one.
#[inline(always)]
pub(crate) fn destroyed(sock: LiveSocket) {
    let key = sock.key();
    let Some(connection) = connections::find(key) else { return };
    let listener = field!(connection.listener).get();
    if let Some(stats) = stats::of(listener) {
        let accepted_ns = field!(connection.accepted_ns).get();
        let consumed = field!(connection.consumed).get();
        count(if accepted_ns == 0 { field!(stats.aborted) } else { field!(stats.closed) }, 1);
        // If no payload ever came, the softirq side noted nothing that matters. Then its cache line is better left
        // alone.
        let state = field!(connection.state);
        let unused = state.get() & STATE_READ == 0 && sock.tcp().is_some_and(|tcp| tcp.payload_end() == consumed);
        if !unused {
            // What nobody read is gone, so it waits no longer.
            let unread = field!(connection.arrived).get().wrapping_sub(consumed);
            if unread != 0 {
                field!(stats.otherwise_consumed_bytes).add(i64::from(unread as i32) as u64);
            }
            // A first byte that was never read. One that was read is counted already.
            if accepted_ns != 0 && state.get() & (STATE_READ | STATE_BASELINE) == 0 {
                let since = first_unread(connection, consumed);
                if since != 0
                    && let Some(distributions) = stats::distributions(listener)
                {
                    record_shared_span(field!(distributions.first_byte), accepted_ns, since);
                }
            }
        }
    }
    connections::end(key, connection);
}
