//! A thread reads from a connection.

use listentop_abi::connection::{Connection, MARKS, STATE_BASELINE, STATE_READ};

use crate::{
    account,
    events::accepted,
    kernel::RawSock,
    stats::{self, add, record, record_shared_span, record_span},
};

/// The current thread got `bytes` (above 0) from the connection; `copied` is the socket's `copied_seq` afterwards,
/// `taken_ns` when it took them if that is known, else 0.
#[inline(always)]
pub(crate) fn read(connection: *mut Connection, key: u64, bytes: u32, copied: u32, taken_ns: u64) {
    if unsafe { (*connection).accepted_ns } == 0 {
        // An accept that no hook saw (io_uring's fixed files): it happened before now.
        accepted::accepted(RawSock(key));
    }
    let listener = unsafe { (*connection).listener };
    let Some(distributions) = stats::distributions(listener) else { return };
    let consumed = unsafe { (*connection).consumed };

    // Usually copied_seq moved by what was returned, and by one more if the FIN was taken with it. Otherwise bytes were
    // taken in another way (splice, zero copy, another thread) or returned transformed (kTLS): then the kernel's
    // position counts.
    let expected = consumed.wrapping_add(bytes);
    let position = if copied.wrapping_sub(expected) <= 1 { expected } else { copied };
    let first = unsafe { (*connection).state } & STATE_READ == 0;
    unsafe {
        let since = first_unread(connection, consumed);
        // Bytes that were taken in another way were not taken at that time; nor were they before they came.
        let now = if position == expected && taken_ns > since { taken_ns } else { stats::now() };
        if since != 0 {
            record_span(&raw mut (*distributions).residency, since, now);
        }
        (*connection).consumed = position;
        if position != expected
            && let Some(stats) = stats::of(listener)
        {
            add(&raw mut (*stats).otherwise_consumed_bytes, i64::from(position.wrapping_sub(expected) as i32) as u64);
        }
        record(&raw mut (*distributions).bytes_per_read, u64::from(bytes));
        if first {
            let state = (*connection).state;
            (*connection).state = state | STATE_READ;
            if state & STATE_BASELINE == 0 {
                record_shared_span(&raw mut (*distributions).first_byte, (*connection).accepted_ns, since);
                record_span(&raw mut (*distributions).first_read, (*connection).accepted_ns, now);
            }
        }
    }
    let remembered = unsafe { (*connection).reader };
    if let Some((account, remember)) = account::current(listener, remembered) {
        unsafe {
            (*connection).reader = remember;
            account.add(|work| &raw mut (*work).reads, 1);
            account.add(|work| &raw mut (*work).read_bytes, u64::from(bytes));
            if first {
                account.add(|work| &raw mut (*work).first_reads, 1);
            }
        }
    }
}

/// The current thread got `bytes` from a multipath connection whose first subflow this is. What came by other subflows
/// is no arrival here, so the subflow's position says nothing: what was read counts, as far as it arrived.
#[inline(always)]
pub(crate) fn read_multipath(connection: *mut Connection, key: u64, bytes: u32) {
    let (arrived, expected) = unsafe { ((*connection).arrived, (*connection).consumed.wrapping_add(bytes)) };
    let beyond = expected.wrapping_sub(arrived) as i32 > 0;
    read(connection, key, bytes, if beyond { arrived } else { expected }, 0);
}

/// When the first byte behind `consumed` arrived: the mark that reaches least far beyond it tells. 0 if it was read
/// before its arrival was announced (SO_RCVLOWAT, busy polling).
#[inline(always)]
pub(crate) unsafe fn first_unread(connection: *const Connection, consumed: u32) -> u64 {
    let mut nearest = i32::MAX;
    let mut since = 0;
    for index in 0..MARKS {
        let beyond = unsafe { (*connection).mark_end[index] }.wrapping_sub(consumed) as i32;
        if beyond > 0 && beyond < nearest {
            nearest = beyond;
            since = unsafe { (*connection).mark_ns[index] };
        }
    }
    since
}
