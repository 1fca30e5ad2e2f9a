//! Record of one connection, from the accept queue to its end, and the table of them, keyed by `struct sock *`.
//!
//! Two sides write a record, at the same time and mostly on different CPUs: softirq (arrivals) and the process (accept,
//! reads, writes). Each field has one writing side, so no lock is needed. Each side has its own cache line with
//! everything that it usually reads. Reading a line that another CPU has written costs more than everything else that a
//! probe does. A third line carries what softirq passes to the process. Softirq only writes it: a store does not wait
//! for the line, a load does.

use crate::listener::ListenerRef;

/// Arrivals that a connection remembers until they are read completely. When all are in use, the newest absorbs what
/// follows; a residency is then an upper bound. Four fit a cache line.
pub const MARKS: usize = 4;

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The listener that it came through. Set once.
    pub listener: ListenerRef,
    /// When it was put on the accept queue; 0 if that was before the start and is unknown. Set once.
    pub enqueued_ns: u64,
    /// When it was accepted; 0 while it waits. Written by the process side, as all up to `asked_ns`.
    pub accepted_ns: u64,
    /// Sequence number after the last payload byte that was read.
    pub consumed: u32,
    /// [`STATE_READ`] | [`STATE_BASELINE`] | [`STATE_WALKED`] | [`STATE_SPILLED`] | [`STATE_PRESUMED`].
    pub state: u32,
    /// Index + 1 of the record of the thread that read last, to try first at the next read; 0: none.
    pub reader: u32,
    /// The same for the thread that wrote last.
    pub writer: u32,
    /// How many claim the record: 0 nobody, 1 the connection; more for a moment, until those that came late withdraw.
    pub claims: u32,
    /// 1 from when it is filled until the connection's end.
    pub live: u32,
    /// The kernel's hash of its addresses and ports. A socket with another one is another connection: the end of this
    /// one was not seen, or a program disconnected the socket and uses it again. Set once.
    pub identity: u32,
    /// Of one that was open at the start: [`HELD_BY_KIN`] | [`HELD_BY_STRANGER`] | [`SHARD_UNKNOWN`]. Written by the
    /// iterators of the start.
    pub holder: u32,
    /// When the first byte came that was read since the last write; 0 if none was.
    pub asked_ns: u64,

    /// A line of another connection: the CPU fetches it together with this one, so both belong to the same side.
    pub beside: [u64; 8],

    /// As `live`, for the softirq side. All up to `reserved_kept` is that side's own; the process side reads it only
    /// if there is no other way.
    pub arriving: u32,
    /// The listener's slot. Set once.
    pub slot: u32,
    /// Sequence number after the last payload byte that arrived.
    pub arrived: u32,
    /// Index of the next mark to set.
    pub next_mark: u32,
    /// A copy of `mark_end` for the softirq side to read.
    pub kept_end: [u32; MARKS],
    /// As `identity`.
    pub identity_kept: u32,
    /// How many want to end it because its end was not seen: the one that reads 1 does. Seldom written.
    pub ending: u32,
    /// `consumed` when the walk for unread bytes came by last. Written by that walk.
    pub checked: u32,
    /// Fills the cache line.
    pub reserved_kept: [u32; 5],

    /// A line of another connection, as above.
    pub beside_kept: [u64; 8],

    /// Marks, by which the softirq side passes arrivals to the process side: the sequence number that each reaches. A
    /// mark that does not reach beyond what was read means nothing.
    pub mark_end: [u32; MARKS],
    /// Marks: when it arrived.
    pub mark_ns: [u64; MARKS],
    /// Fills the cache line.
    pub reserved_marks: [u64; 2],
}

/// It was read at least once.
pub const STATE_READ: u32 = 1;
/// It was accepted before the start: its first-byte and first-read times are unknown.
pub const STATE_BASELINE: u32 = 2;
/// It was found on the accept queue at the start.
pub const STATE_WALKED: u32 = 4;
/// It is in the table for those that found their set full.
pub const STATE_SPILLED: u32 = 8;
/// It was found accepted when accepts began to be measured again: it counts as accepted, by no thread. If its accept
/// returns only then, the thread gets it.
pub const STATE_PRESUMED: u32 = 16;

/// Bit of a [`Connection::holder`]: a process holds it that holds the listener too, or descends from one that does.
pub const HELD_BY_KIN: u32 = 1;
/// Likewise: a process holds it that has nothing to do with the listener.
pub const HELD_BY_STRANGER: u32 = 2;
/// Likewise: it is counted as ambiguous already, because its shard is unknown.
pub const SHARD_UNKNOWN: u32 = 4;

/// Connections in a set. Their lines come in pairs: two of the process side, two of the softirq side, two with marks.
pub const PLACES: usize = 6;
/// Words from the beginning of one pair's records to the next pair's.
const PAIR: usize = 48;
/// Words from one record of a pair to the other.
const NEXT: usize = 8;

/// Sets that one record of the list of used sets is about: a byte each. Few, because the verifier follows every turn of
/// a loop over them.
pub const LISTED: usize = 8;

/// The connections whose addresses have the same hash.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// The address that each place belongs to, or did last: the kernel uses socket memory again, and then the address
    /// finds its place at once.
    pub keys: [u64; PLACES],
    /// Connections of this set that found no place and are in the other table.
    pub spilled: u32,
    /// Where the search for a place goes on.
    pub next: u32,
    /// Every lookup reads the line with the addresses, so nothing that is written often lies next to them.
    pub beside: [u64; 9],
    /// The records; [`Set::offset`] says where.
    pub lines: [u64; PLACES / 2 * PAIR],
}

impl Set {
    /// Where in `lines` the record of a place begins: between any two of its lines lies one of its pair's other record.
    #[expect(clippy::inline_always, reason = "older kernels refuse programs that call functions of the object")]
    #[inline(always)]
    #[must_use]
    pub const fn offset(place: usize) -> usize {
        place / 2 * PAIR + place % 2 * NEXT
    }
}

const _: () = assert!(size_of::<Connection>() == 320);
const _: () = assert!(core::mem::offset_of!(Connection, beside) == 64);
const _: () = assert!(core::mem::offset_of!(Connection, arriving) == 128);
const _: () = assert!(core::mem::offset_of!(Connection, mark_end) == 256);
const _: () = assert!(core::mem::offset_of!(Set, lines) == 128);
const _: () = assert!(size_of::<Set>() == 1280);
const _: () = assert!(Set::offset(PLACES - 1) * 8 + size_of::<Connection>() <= size_of::<[u64; PLACES / 2 * PAIR]>());

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of a cache line.
    const LINE: usize = 8;

    /// The lines of `Set::lines` that a record's three parts take.
    fn lines(place: usize) -> [usize; 3] {
        let begin = Set::offset(place);
        let parts = [0, core::mem::offset_of!(Connection, arriving), core::mem::offset_of!(Connection, mark_end)];
        parts.map(|part| (begin + part / size_of::<u64>()) / LINE)
    }

    #[test]
    fn no_two_records_share_a_line() {
        let mut taken = [false; PLACES * 3];
        for place in 0..PLACES {
            assert_eq!(Set::offset(place) % LINE, 0, "place {place} begins at a cache line");
            for line in lines(place) {
                assert!(!taken[line], "place {place}: line {line} is another's");
                taken[line] = true;
            }
        }
        assert!(taken.iter().all(|taken| *taken), "no line is left over");
    }

    #[test]
    fn a_pair_of_lines_belongs_to_one_side() {
        // The CPU fetches lines in pairs that begin at an even line; a set begins at a line of its own before `lines`.
        for place in 0..PLACES {
            let (own, other) = (lines(place), lines(place ^ 1));
            for (own, other) in own.into_iter().zip(other) {
                assert_eq!(
                    own / 2,
                    other / 2,
                    "place {place}: the same part of its pair's other record lies beside it"
                );
            }
        }
    }
}
