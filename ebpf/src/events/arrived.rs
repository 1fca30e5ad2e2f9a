//! Payload arrives for a connection.

use listentop_abi::connection::{Connection, MARKS};

use crate::{
    kernel::LiveTcp,
    stats::{self, count},
    values::{MapValue, field},
};

/// Notes how far the payload reaches and when it came. Called on the softirq side, or with the socket locked: one at a
/// time per connection.
#[inline(always)]
pub(crate) fn arrived(connection: MapValue<Connection>, tcp: LiveTcp) {
    let end = tcp.payload_end();
    let fresh = end.wrapping_sub(field!(connection.arrived).get());
    // Negative: nothing new (a FIN, or a wake-up for bytes that were counted already).
    if fresh as i32 <= 0 {
        return;
    }
    let now = tcp.packet_ns();
    let next = field!(connection.next_mark).get() as usize % MARKS;
    let kept_end = field!(connection.kept_end);
    // The oldest mark is free once its bytes have been read. Until then the newest takes this arrival in.
    let mark = if (kept_end.wrapping(next).get().wrapping_sub(tcp.copied_seq()) as i32) <= 0 {
        field!(connection.mark_ns).wrapping(next).set(now);
        field!(connection.next_mark).set((next as u32).wrapping_add(1));
        next
    } else {
        next.wrapping_sub(1) % MARKS
    };
    field!(connection.mark_end).wrapping(mark).set(end);
    kept_end.wrapping(mark).set(end);
    field!(connection.arrived).set(end);
    if let Some(stats) = stats::of_slot(field!(connection.slot).get()) {
        count(field!(stats.arrived_bytes), u64::from(fresh));
    }
}
