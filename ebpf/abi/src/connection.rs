//! Record of one connection, from the accept queue to its end, keyed by its `struct sock *`.
//!
//! It is written by the softirq side (arrivals) and the process side (accept, reads, writes) at once, mostly on different CPUs. Each
//! field has one writing side and needs no lock, and each side has cache lines of its own: behind the kernel's 56 bytes of hash
//! node and key, `listener` fills the first line, which nobody writes again, and each side has one of the next two.

use crate::listener::ListenerRef;

/// Arrivals remembered per connection that were not read completely. When all are taken, the newest absorbs what follows, so that a
/// residency is then an upper bound. Four fit the softirq side's cache line.
pub const MARKS: usize = 4;

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The listener that it came through. Set once.
    pub listener: ListenerRef,

    /// Sequence number after the last payload byte that arrived. Softirq side, as all up to `mark_ns`.
    pub arrived: u32,
    /// Index of the mark to be put next.
    pub next_mark: u32,
    /// When its first payload byte arrived; 0 before.
    pub first_byte_ns: u64,
    /// Marks: up to which sequence number an arrival reached. One that is not beyond what was read means nothing.
    pub mark_end: [u32; MARKS],
    /// Marks: when it arrived.
    pub mark_ns: [u64; MARKS],

    /// When it was put on the accept queue; 0 if that was before the start and is not known. Set once.
    pub enqueued_ns: u64,
    /// When it was accepted; 0 while it waits. Process side, as all that follows.
    pub accepted_ns: u64,
    /// Sequence number after the last payload byte that was read.
    pub consumed: u32,
    /// [`STATE_READ`] | [`STATE_BASELINE`].
    pub state: u32,
    /// Index + 1 of the thread that read last, where its record is likely to be found again; 0: none.
    pub reader: u32,
    /// Index + 1 of the thread that wrote last.
    pub writer: u32,
    /// Fills the cache line.
    pub reserved: [u32; 8],
}

/// It was read at least once.
pub const STATE_READ: u32 = 1;
/// It was accepted before the start: its first-byte and first-read times are not known.
pub const STATE_BASELINE: u32 = 2;

/// Bytes of hash node and key before a record in the kernel's table (`struct htab_elem` and an 8-byte key).
const ELEMENT_HEAD: usize = 56;
const _: () = assert!((ELEMENT_HEAD + size_of::<Connection>()).is_multiple_of(64));
const _: () = assert!((ELEMENT_HEAD + core::mem::offset_of!(Connection, arrived)).is_multiple_of(64));
const _: () = assert!((ELEMENT_HEAD + core::mem::offset_of!(Connection, enqueued_ns)).is_multiple_of(64));
const _: () = assert!(size_of::<Connection>() == 136);
