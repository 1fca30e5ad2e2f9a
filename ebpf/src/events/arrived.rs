//! Payload arrives for a connection.

use listentop_abi::connection::{Connection, MARKS};

use crate::{
    kernel::TcpSock,
    stats::{self, count},
};

/// Notes how far the payload reaches and when it came. Called on the softirq side, or with the socket locked: one at a
/// time per connection.
#[inline(always)]
pub(crate) fn arrived(connection: *mut Connection, tcp: TcpSock) {
    let end = tcp.payload_end();
    let fresh = end.wrapping_sub(unsafe { (*connection).arrived });
    // Negative: nothing new (a FIN, or a wake-up for bytes that were counted already).
    if fresh as i32 <= 0 {
        return;
    }
    let now = tcp.packet_ns();
    unsafe {
        let next = (*connection).next_mark as usize % MARKS;
        // The oldest mark may go when its bytes have been read; until then the newest takes this arrival in.
        let mark = if ((*connection).kept_end[next].wrapping_sub(tcp.copied_seq()) as i32) <= 0 {
            (*connection).mark_ns[next] = now;
            (*connection).next_mark = (next as u32).wrapping_add(1);
            next
        } else {
            next.wrapping_sub(1) % MARKS
        };
        (*connection).mark_end[mark] = end;
        (*connection).kept_end[mark] = end;
        (*connection).arrived = end;
    }
    if let Some(stats) = stats::of_slot(unsafe { (*connection).slot }) {
        unsafe { count(&raw mut (*stats).arrived_bytes, u64::from(fresh)) };
    }
}
