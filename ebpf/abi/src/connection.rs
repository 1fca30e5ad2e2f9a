//! Record of one connection, from the accept queue to its end, keyed by its `struct sock *`.
//!
//! It is written by the softirq side (arrivals) and the process side (accept, reads) at once: each field has one writer,
//! named beside it, and needs no lock.

use crate::listener::ListenerRef;

/// Arrivals remembered per connection that were not read completely. When all are taken, the newest absorbs what
/// follows, so that a residency is then an upper bound.
pub const MARKS: usize = 8;

/// Up to which byte a segment reached, and when it arrived.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// When it arrived.
    pub at_ns: u64,
    /// Sequence number after its last payload byte.
    pub end: u32,
    /// Padding.
    pub reserved: u32,
}

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The listener that it came through. Set once.
    pub listener: ListenerRef,
    /// When it was put on the accept queue; 0 if that was before the start and is not known. Set once.
    pub enqueued_ns: u64,
    /// When it was accepted; 0 while it waits. Process side.
    pub accepted_ns: u64,
    /// When its first payload byte arrived; 0 before. Softirq side.
    pub first_byte_ns: u64,
    /// Sequence number after the last payload byte that arrived. Softirq side.
    pub arrived: u32,
    /// Sequence number after the last payload byte that was read. Process side.
    pub consumed: u32,
    /// Marks ever put. Softirq side.
    pub head: u32,
    /// Marks ever taken. Process side.
    pub tail: u32,
    /// [`STATE_READ`] | [`STATE_BASELINE`]. Process side.
    pub state: u32,
    /// Index + 1 of the thread that read last, where its record is likely to be found again; 0: none. Process side.
    pub reader: u32,
    /// Index + 1 of the thread that wrote last. Process side.
    pub writer: u32,
    /// Padding.
    pub reserved: u32,
    /// Ring of marks, index modulo [`MARKS`].
    pub marks: [Mark; MARKS],
}

/// It was read at least once.
pub const STATE_READ: u32 = 1;
/// It was accepted before the start: its first-byte and first-read times are not known.
pub const STATE_BASELINE: u32 = 2;

const _: () = assert!(size_of::<Mark>() == 16);
const _: () = assert!(size_of::<Connection>() == 64 + MARKS * 16);
