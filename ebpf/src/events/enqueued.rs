//! A connection is put on an accept queue.

use listentop_abi::{
    connection::{Connection, MARKS, Mark},
    listener::ListenerRef,
    loss::Loss,
};

use crate::{
    kernel::RawSock,
    maps::CONNECTIONS,
    stats::{self, add, record},
};

/// Counts it, and remembers when. `child` is 0 if the hook could not tell which connection it was.
#[inline(always)]
pub(crate) fn enqueued(listener: ListenerRef, child: u64, accept_depth: u32, syn_depth: u32) {
    stats::peak(listener, accept_depth, syn_depth);
    let Some(stats) = stats::of(listener) else { return };
    unsafe { add(&raw mut (*stats).enqueued, 1) };
    if child == 0 {
        stats::lost(Loss::UnknownChild);
        return;
    }
    let child = RawSock(child);
    // Nanoseconds are rounded up to 1 µs by the kernel, so 0 stands for "not measured" only.
    let handshake = child.srtt_us();
    if handshake != 0 {
        unsafe { record(&raw mut (*stats).handshake, (u64::from(handshake) * 1000) >> listentop_abi::histogram::UNIT_SHIFT) };
    }
    let Some(arrived) = track(listener, child, stats::now(), 0, 0) else { return };
    if arrived != 0 {
        unsafe { add(&raw mut (*stats).arrived_bytes, u64::from(arrived)) };
    }
}

/// Makes the record of a connection; returns how many payload bytes it already holds. Payload that came with the final ACK was
/// announced before the record existed, so it counts as arrived at `enqueued_ns`.
#[inline(always)]
pub(crate) fn track(listener: ListenerRef, child: RawSock, enqueued_ns: u64, accepted_ns: u64, state: u32) -> Option<u32> {
    let (copied, end) = child.receive_span()?;
    let arrived = end.wrapping_sub(copied);
    let mut connection = Connection {
        listener,
        enqueued_ns,
        accepted_ns,
        first_byte_ns: 0,
        arrived: end,
        consumed: copied,
        head: 0,
        tail: 0,
        state,
        reserved: 0,
        marks: [Mark { at_ns: 0, end: 0, reserved: 0 }; MARKS],
    };
    if arrived != 0 {
        let at_ns = if enqueued_ns != 0 { enqueued_ns } else { stats::now() };
        connection.first_byte_ns = at_ns;
        connection.head = 1;
        connection.marks[0] = Mark { at_ns, end, reserved: 0 };
    }
    if CONNECTIONS.insert(child.0, &connection, 0).is_err() {
        stats::lost(Loss::Connections);
        return None;
    }
    Some(arrived)
}
