//! Record of one connection, from the accept queue to its end, and the table of them, keyed by `struct sock *`.
//!
//! A record is written by the softirq side (arrivals) and the process side (accept, reads, writes) at once, mostly on
//! different CPUs. Each field has one writing side and needs no lock, and each side has a cache line of its own with
//! all that it reads as a rule: a line that the other CPU has written costs more than everything else that a probe
//! does. What one side tells the other is in a third line, which the softirq side only writes: a store need not wait
//! for the line, a load must.

use crate::listener::ListenerRef;

/// Arrivals remembered per connection that were not read completely. When all are taken, the newest absorbs what
/// follows, so that a residency is then an upper bound. Four fit a cache line.
pub const MARKS: usize = 4;

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The listener that it came through. Set once.
    pub listener: ListenerRef,
    /// When it was put on the accept queue; 0 if that was before the start and is not known. Set once.
    pub enqueued_ns: u64,
    /// When it was accepted; 0 while it waits. Process side, as all up to `reserved`.
    pub accepted_ns: u64,
    /// Sequence number after the last payload byte that was read.
    pub consumed: u32,
    /// [`STATE_READ`] | [`STATE_BASELINE`] | [`STATE_WALKED`].
    pub state: u32,
    /// Index + 1 of the thread that read last, where its record is likely to be found again; 0: none.
    pub reader: u32,
    /// Index + 1 of the thread that wrote last.
    pub writer: u32,
    /// Who lays claim to the record: 0 nobody, 1 the connection; more for a moment, while those who came late
    /// withdraw.
    pub claims: u32,
    /// 1 from when it is filled until the connection's end.
    pub live: u32,
    /// 1: it is not in its set's places.
    pub spilled: u32,
    /// Fills the cache line.
    pub reserved: [u32; 3],

    /// Another connection's: what lies beside a cache line is fetched with it, and should be of the same side.
    pub beside: [u64; 8],

    /// As `live`, for the softirq side. All up to `reserved_kept` is that side's own; the process side reads it only
    /// when it must.
    pub arriving: u32,
    /// The listener's slot. Set once.
    pub slot: u32,
    /// Sequence number after the last payload byte that arrived.
    pub arrived: u32,
    /// Index of the mark to be put next.
    pub next_mark: u32,
    /// `mark_end` once more, to be read here.
    pub kept_end: [u32; MARKS],
    /// Fills the cache line.
    pub reserved_kept: [u32; 8],

    /// Another connection's, as above.
    pub beside_kept: [u64; 8],

    /// Marks, by which the softirq side tells the process side of arrivals: up to which sequence number one reached.
    /// One that is not beyond what was read means nothing.
    pub mark_end: [u32; MARKS],
    /// Marks: when it arrived.
    pub mark_ns: [u64; MARKS],
    /// Fills the cache line.
    pub reserved_marks: [u64; 2],
}

/// It was read at least once.
pub const STATE_READ: u32 = 1;
/// It was accepted before the start: its first-byte and first-read times are not known.
pub const STATE_BASELINE: u32 = 2;
/// It was found on the accept queue at the start.
pub const STATE_WALKED: u32 = 4;

/// Connections in a set. Their lines come in pairs: two of the process side, two of the softirq side, two with marks.
pub const PLACES: usize = 6;
/// Words from the beginning of one pair's records to the next pair's.
const PAIR: usize = 48;
/// Words from one record of a pair to the other.
const NEXT: usize = 8;

/// The connections whose addresses have the same hash.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Whose each place is, or was last: the kernel uses socket memory again, and then place and address are a pair
    /// already.
    pub keys: [u64; PLACES],
    /// Connections of this set that found no place and are in the table for those.
    pub spilled: u32,
    /// Where the search for a place goes on.
    pub next: u32,
    /// The address's line is read by all, and nothing that is written lies beside it.
    pub beside: [u64; 9],
    /// The records; [`Set::offset`] says where.
    pub lines: [u64; PLACES / 2 * PAIR],
}

impl Set {
    /// Where in `lines` the record of a place begins: between any two of its lines lies one of its pair's other record.
    #[inline(always)]
    #[must_use]
    pub const fn offset(place: usize) -> usize {
        place / 2 * PAIR + place % 2 * NEXT
    }
}

const _: () = assert!(size_of::<Connection>() == 320);
const _: () = assert!(core::mem::offset_of!(Connection, arriving) == 128);
const _: () = assert!(core::mem::offset_of!(Connection, mark_end) == 256);
const _: () = assert!(core::mem::offset_of!(Set, lines) == 128);
const _: () = assert!(size_of::<Set>() == 1280);
const _: () = assert!(Set::offset(PLACES - 1) * 8 + size_of::<Connection>() <= size_of::<[u64; PLACES / 2 * PAIR]>());
