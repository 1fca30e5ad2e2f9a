//! A thread reads from a connection.

use listentop_abi::connection::{Connection, STATE_BASELINE, STATE_READ};

use crate::{
    account,
    events::accepted,
    kernel::MaybeGone,
    record::first_unread,
    stats::{self, record, record_shared_span, record_span},
    values::{MapValue, field},
};

/// The current thread got `bytes` (above 0) from the connection. `reader_at` yields where the socket's reader is
/// afterwards, from where it was expected; `taken_ns` is when the kernel took the bytes, 0 if that is unknown.
#[inline(always)]
pub(crate) fn read(
    connection: MapValue<Connection>,
    key: u64,
    bytes: u32,
    reader_at: impl FnOnce(u32) -> u32,
    taken_ns: u64,
) {
    if field!(connection.accepted_ns).get() == 0 {
        accepted::accepted_before(MaybeGone(key));
    }
    let listener = field!(connection.listener).get();
    let Some(distributions) = stats::distributions(listener) else { return };
    let consumed = field!(connection.consumed).get();

    // Usually the reader moved by what was returned. Otherwise bytes were skipped (urgent ones), taken by another
    // method (splice, zero copy, another thread) or returned transformed (kTLS): then the kernel's position counts.
    let expected = consumed.wrapping_add(bytes);
    let position = reader_at(expected);
    let first = field!(connection.state).get() & STATE_READ == 0;
    let since = first_unread(connection, consumed);
    // Bytes that were taken by another method were taken at another time, but not before they came.
    let now = if position == expected && taken_ns > since { taken_ns } else { stats::now() };
    if since != 0 {
        // Before the accept, bytes wait in the accept queue: that is not the reader's time.
        let accepted_ns = field!(connection.accepted_ns).get();
        record_span(field!(distributions.residency), since.max(accepted_ns), now);
        if field!(connection.asked_ns).get() == 0 {
            field!(connection.asked_ns).set(since);
        }
    }
    field!(connection.consumed).set(position);
    if position != expected
        && let Some(stats) = stats::of(listener)
    {
        field!(stats.otherwise_consumed_bytes).add(i64::from(position.wrapping_sub(expected) as i32) as u64);
    }
    record(field!(distributions.bytes_per_read), u64::from(bytes));
    if first {
        let state = field!(connection.state).get();
        field!(connection.state).set(state | STATE_READ);
        if state & STATE_BASELINE == 0 {
            let accepted_ns = field!(connection.accepted_ns).get();
            record_shared_span(field!(distributions.first_byte), accepted_ns, since);
            record_span(field!(distributions.first_read), accepted_ns, now);
        }
    }
    let remembered = field!(connection.reader).get();
    if let Some((account, remember)) = account::current(listener, remembered) {
        field!(connection.reader).set(remember);
        account.add(|work| field!(work.reads), 1);
        account.add(|work| field!(work.read_bytes), u64::from(bytes));
        if first {
            account.add(|work| field!(work.first_reads), 1);
        }
    }
}

/// The current thread got `bytes` from a multipath connection whose first subflow this is. Bytes of other subflows do
/// not arrive here, so this subflow's position does not show what was read. The read bytes count, up to those that
/// arrived.
#[inline(always)]
pub(crate) fn read_multipath(connection: MapValue<Connection>, key: u64, bytes: u32) {
    let arrived = field!(connection.arrived).get();
    let expected = field!(connection.consumed).get().wrapping_add(bytes);
    let beyond = expected.wrapping_sub(arrived) as i32 > 0;
    read(connection, key, bytes, |_| if beyond { arrived } else { expected }, 0);
}
