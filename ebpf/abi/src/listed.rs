//! Connections that are listed on request: those that wait longest, of each listener, in *pages* of a few entries.
//!
//! A page belongs to one listener and is of one sort. Only the iterators that list connections write them, one after
//! another; user space empties them before, and reads them afterwards.

/// Entries of a page: the most connections that are listed of a listener and a sort. The verifier follows every turn of
/// the loop over them.
pub const ENTRIES: usize = 16;
/// Pages. What finds none is counted and not listed.
pub const PAGES: u32 = 256;
/// Connections of one accept queue that one pass lists. The verifier follows every turn of the loop.
pub const LIST_STRETCH: u32 = 4;

/// Place in [`Lists`]: connections on the accept queue.
pub const WAITING: usize = 0;
/// Place in [`Lists`]: accepted connections with unread bytes.
pub const UNREAD: usize = 1;

/// Place in [`Lists`]: half-open connections, on the SYN queue.
pub const HALF_OPEN: usize = 2;

/// Index + 1 of a listener's page of each sort; 0: none. User space clears it before connections are listed. The last
/// place is free: values of an array begin at multiples of eight bytes.
pub type Lists = [u32; 4];

/// What holds for all lists.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Entries that are wanted of a page, [`ENTRIES`] at most. Written by user space, before connections are listed.
    pub wanted: u32,
    /// Pages in use.
    pub pages: u32,
    /// Connections with unread bytes that found no page.
    pub unread_without_page: u64,
    /// Of a set with several connections that have unread bytes: which of them is listed in this pass, from 0. Written
    /// by user space, before each pass.
    pub pass: u32,
    /// The most of a set.
    pub most: u32,
    /// Of the set at hand: those that were seen.
    pub seen: u32,
    /// Its place of the one that is listed.
    pub chosen: u32,
}

/// One connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Since when it waits to be accepted, or its oldest unread byte to be read, or its SYN-ACK to be answered,
    /// CLOCK_MONOTONIC; 0 if that is unknown.
    pub since_ns: u64,
    /// When it was accepted; 0 while it waits for that.
    pub accepted_ns: u64,
    /// Inode number of its socket; 0 while no process has it.
    pub inode: u64,
    /// The client's address; an IPv4 one is in the first four bytes, and the others mean nothing. Network byte order.
    pub address: [u8; 16],
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// The client's port, network byte order.
    pub port: u16,
    /// Payload bytes that arrived and were not read.
    pub unread: u32,
    /// Index + 1 of the record of the thread that read from it last; 0: none did, or it is not known.
    pub reader: u32,
    /// The connection's state, as in `sk_state`.
    pub state: u32,
    /// [`SINCE_ESTIMATED`] | [`SINCE_AT_LEAST`] | [`ACKED`] | [`ACKED_UNKNOWN`].
    pub flags: u32,
    /// Of a half-open one: SYN-ACKs that were sent again.
    pub resent: u32,
}

/// [`Listed::since_ns`] is an estimate: no probe saw it enqueued.
pub const SINCE_ESTIMATED: u32 = 1;
/// It may wait for longer: it was open at the start, or its bytes were not announced.
pub const SINCE_AT_LEAST: u32 = 2;

/// Of a half-open one: its final ACK has come, and found no room, or no data came with it.
pub const ACKED: u32 = 4;
/// Of a half-open one: this kernel does not show that.
pub const ACKED_UNKNOWN: u32 = 8;

/// The connections of one listener that wait longest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The listener's slot.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
    /// [`WAITING`], [`UNREAD`] or [`HALF_OPEN`].
    pub sort: u32,
    /// Entries in use.
    pub count: u32,
    /// Connections of the sort, listed or not: the depth of the queue, or those with unread bytes, or half-open ones.
    pub total: u32,
    /// Of unread and half-open ones: the entry that is to be displaced next.
    pub youngest: u32,
    /// Its `since_ns`.
    pub youngest_ns: u64,
    /// Of waiting ones: the request at which the next pass goes on, 0 at first; [`ended`](LIST_ENDED) at the end.
    pub cursor: u64,
    /// The entries: those on the accept queue in its order, the others in none.
    pub entries: [Listed; ENTRIES],
}

/// A [`Page::cursor`] behind the last entry that is listed.
pub const LIST_ENDED: u64 = u64::MAX;

const _: () = assert!(size_of::<Listing>() == 32);
const _: () = assert!(size_of::<Listed>() == 64);
const _: () = assert!(core::mem::offset_of!(Listed, address).is_multiple_of(8), "the probes write it in words");
const _: () = assert!(size_of::<Page>() == 40 + 64 * ENTRIES);
