//! Blame of readers: the time that connections have unread bytes, charged to what their readers do meanwhile.
//!
//! Every connection has one reader, so nothing is divided: what is charged to a thread is the number of its connections
//! that have unread bytes × time. Such a sum takes no lock: it is the sum of all ends minus the sum of all beginnings,
//! and for those that have not ended, now counts as the end. So one word holds it, and one atomic addition changes it:
//! in the low bits how many have not ended, above them the ends minus the beginnings.

use crate::{blame::ThreadId, listener::ListenerRef};

/// Readers that differ, at most; each counts once per listener.
pub const MAX_READERS: u32 = 16_384;

/// log2 of a tick in nanoseconds. Beginnings and ends are rounded alike, so over many the rounding cancels out.
pub const TICK_SHIFT: u32 = 10;
/// Bits for the number of connections: more than listentop tracks.
const COUNT_BITS: u32 = 20;
/// Sums of ticks are modulo this. Half of it is 2,500 hours of waiting, counted by connection: more does not come
/// between two charges.
const MODULUS: u64 = 1 << (u64::BITS - COUNT_BITS);

/// What a connection adds to a sum that has unread bytes from now on.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn begins(now_ns: u64) -> u64 {
    1_u64.wrapping_sub((now_ns >> TICK_SHIFT) << COUNT_BITS)
}

/// What it adds when they have been read.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn ends(now_ns: u64) -> u64 {
    0_u64.wrapping_sub(begins(now_ns))
}

/// What a sum comes to by now: connections × time, in ticks, modulo 2^44.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn waited(sum: u64, now_ns: u64) -> u64 {
    // One that ended may have been counted before its beginning was: below 0, for that moment.
    let count = ((sum << (u64::BITS - COUNT_BITS)) as i64 >> (u64::BITS - COUNT_BITS)) as u64;
    let ended = sum.wrapping_sub(count) >> COUNT_BITS;
    (now_ns >> TICK_SHIFT).wrapping_mul(count).wrapping_add(ended) % MODULUS
}

/// From one value of [`waited`] to a later one, in ticks. 0 if it is earlier: the clocks of CPUs differ a little.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn since(later: u64, earlier: u64) -> u64 {
    let ticks = later.wrapping_sub(earlier) % MODULUS;
    if ticks < MODULUS / 2 { ticks } else { 0 }
}

/// Ticks in nanoseconds.
#[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
#[inline(always)]
#[must_use]
pub const fn nanoseconds(ticks: u64) -> u64 {
    ticks << TICK_SHIFT
}

/// A reader of a listener's connections; thread 0: nobody is known to read them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReaderKey {
    /// The thread.
    pub thread: ThreadId,
    /// The listener.
    pub listener: ListenerRef,
}

/// What waits for a reader. It stays when the thread has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The sum over its connections.
    pub sum: u64,
    /// [`waited`] up to which it has been charged.
    pub charged: u64,
}

/// A connection that a process has; by its `struct sock *`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Programs that want to write the record: who made it 1 may.
    pub claims: u64,
    /// How often something about the connection changed: who writes the record looks again if that did.
    pub changes: u64,
    /// The listener that it came through.
    pub listener: ListenerRef,
    /// As [`crate::connection::Connection::identity`].
    pub identity: u32,
    /// 1: it is part of the sums, because it has unread bytes.
    pub is_unread: u32,
    /// Who reads it: the thread that read last, else the one that accepted it. 0: not known.
    pub reader: ThreadId,
    /// Whose sum it is part of.
    pub charged: ThreadId,
}

const _: () = assert!(size_of::<ReaderKey>() == 24);
const _: () = assert!(size_of::<Reader>() == 16);
const _: () = assert!(size_of::<Reading>() == 64);

#[cfg(feature = "user")]
mod pod {
    use super::{Reader, ReaderKey, Reading};

    // SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
    unsafe impl aya::Pod for ReaderKey {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Reader {}
    // SAFETY: likewise.
    unsafe impl aya::Pod for Reading {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time at which the ticks have no room in the upper bits.
    const LATE: u64 = 0xffff_ffff_ffff_0000;

    fn tick(ticks: u64) -> u64 {
        ticks << TICK_SHIFT
    }

    #[test]
    fn a_sum_is_the_number_of_connections_times_time() {
        for start in [0, tick(1), tick(1_u64 << 43), LATE - tick(1000)] {
            let mut sum = 0_u64;
            let before = waited(sum, start);
            sum = sum.wrapping_add(begins(start));
            sum = sum.wrapping_add(begins(start + tick(10)));
            assert_eq!(since(waited(sum, start + tick(15)), before), 20, "15 and 5, from {start}");
            sum = sum.wrapping_add(ends(start + tick(20)));
            assert_eq!(since(waited(sum, start + tick(25)), before), 35, "one goes on, from {start}");
            sum = sum.wrapping_add(ends(start + tick(30)));
            assert_eq!(since(waited(sum, start + tick(900)), before), 40, "none does, from {start}");
        }
    }

    #[test]
    fn the_order_of_additions_does_not_matter() {
        // The end is counted first, by another CPU.
        let sum = ends(tick(50));
        let sum = sum.wrapping_add(begins(tick(20)));
        assert_eq!(waited(sum, tick(70)), 30);
    }

    #[test]
    fn a_clock_that_is_behind_charges_nothing() {
        assert_eq!((since(5, 7), since(7, 5), since(1, MODULUS - 1)), (0, 2, 2));
    }

    #[test]
    fn more_connections_than_are_tracked_have_room() {
        let count = 500_000;
        let sum = (0..count).fold(0_u64, |sum, _| sum.wrapping_add(begins(tick(7))));
        assert_eq!(waited(sum, tick(9)), 2 * count);
    }
}
