//! Payload arrives for a connection.

use listentop_abi::connection::{Connection, MARKS};

use crate::{
    kernel::TcpSock,
    stats::{self, add},
};

/// Notes how far the payload reaches and when it came. Called on the softirq side, or with the socket locked: one at a time
/// per connection.
#[inline(always)]
pub(crate) fn arrived(connection: *mut Connection, tcp: TcpSock) {
    let end = tcp.payload_end();
    let listener = unsafe { (*connection).listener };
    let fresh = end.wrapping_sub(unsafe { (*connection).arrived });
    // Negative: nothing new (a FIN, or a wake-up for bytes that were counted already).
    if fresh as i32 <= 0 {
        return;
    }
    let now = stats::now();
    unsafe {
        let head = (*connection).head;
        let waiting = head.wrapping_sub((*connection).tail);
        if waiting < MARKS as u32 {
            let mark = &raw mut (*connection).marks[head as usize % MARKS];
            (*mark).at_ns = now;
            (*mark).end = end;
            (*connection).head = head.wrapping_add(1);
        } else {
            (*connection).marks[head.wrapping_sub(1) as usize % MARKS].end = end;
        }
        (*connection).arrived = end;
        if (*connection).first_byte_ns == 0 {
            (*connection).first_byte_ns = now;
        }
    }
    if let Some(stats) = stats::of(listener) {
        unsafe { add(&raw mut (*stats).arrived_bytes, u64::from(fresh)) };
    }
}
