//! A socket is destroyed: its record ends too, because another socket will have its address.

use listentop_abi::{
    connection::{STATE_BASELINE, STATE_READ},
    listener::{FLAG_MPTCP, ListenerRef},
};

use crate::{
    config, connections,
    kernel::LiveSocket,
    maps::{self, INFO},
    record::first_unread,
    stats::{self, count, record_shared_span},
    values::{Lookup as _, field},
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
        if accepted_ns != 0 {
            count(field!(stats.closed), 1);
        } else if was_accepted(listener) {
            // For no thread: which one is not known.
            field!(stats.untracked.accepts).add(1);
            count(field!(stats.closed), 1);
        } else {
            count(field!(stats.aborted), 1);
        }
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

/// Whether a connection that ends without a known accept was accepted all the same: into a fixed file of io_uring, or
/// by a thread whose accept has not returned yet. Only a listener that stops listening throws connections away, so it
/// was if the listener goes on.
///
/// Functions see every accept. Of a multipath connection the first subflow may end before the accept.
#[inline(always)]
fn was_accepted(listener: ListenerRef) -> bool {
    let Some(info) = INFO.value(listener.slot) else { return false };
    // The kernel destroys a new connection at once if its listener closes at that moment.
    let queueing = maps::attempt().is_some_and(|attempt| field!(attempt.queueing).get() != 0);
    config::uring_accepts()
        && !queueing
        && field!(info.generation).get() == listener.generation
        && field!(info.closed_ns).get() == 0
        && field!(info.flags).get() & FLAG_MPTCP == 0
}
