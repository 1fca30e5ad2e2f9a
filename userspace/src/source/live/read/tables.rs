//! The tables of listeners that the probes write.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use listentop_abi::listener::{HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerInfo, Peaks, Work};

use super::shared::{SharedArray, WindowedArray};
use crate::source::live::{attach::silence::Evidence, start::machine::Geometry};

/// The tables, by slot.
pub(crate) struct Tables {
    pub(crate) info: SharedArray<ListenerInfo>,
    pub(crate) counters: SharedArray<ListenerCounters>,
    pub(crate) handshakes: SharedArray<HandshakeCounters>,
    pub(crate) distributions: WindowedArray<ListenerDistributions>,
    pub(crate) peaks: SharedArray<Peaks>,
    pub(crate) geometry: Geometry,
}

/// Counters of one listener, summed over its records.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) listener: ListenerCounters,
    pub(crate) handshakes: HandshakeCounters,
    /// The work of its threads, those that found the thread table full included.
    pub(crate) work: Work,
}

impl Counters {
    /// Connections in the table that came through this listener.
    pub(crate) fn tracked(&self) -> u64 {
        let ListenerCounters { enqueued, inherited_waiting, inherited_open, .. } = self.listener;
        let ListenerCounters { untracked_enqueued, aborted, closed, moved_away, .. } = self.listener;
        (enqueued + inherited_waiting + inherited_open)
            .saturating_sub(untracked_enqueued + aborted + closed + moved_away)
    }

    /// What they show of hooks that see nothing. `unseen`: accepted connections that no hook saw enqueued.
    pub(crate) fn evidence(&self, unseen: u64) -> Evidence {
        let HandshakeCounters { requests, requests_without_syn, .. } = self.handshakes;
        let HandshakeCounters { completed_without_request, completed_without_check, .. } = self.handshakes;
        let ListenerCounters { enqueued, arrived_bytes, .. } = self.listener;
        Evidence {
            requests,
            requests_without_syn,
            completed_without_request,
            completed_without_check,
            enqueued,
            unseen,
            reads: self.work.reads,
            arrived_bytes,
        }
    }

    /// Whether any of its connections may be in a distribution.
    pub(crate) fn used(&self) -> bool {
        let ListenerCounters { enqueued, inherited_waiting, inherited_open, .. } = self.listener;
        enqueued + inherited_waiting + inherited_open + self.work.accepts + self.work.reads > 0
    }
}

/// A record that consists of `u64` counters only, without padding.
///
/// # Safety
/// It must be, and its size a multiple of 8.
unsafe trait Counting: Copy + Default {}

// SAFETY: `repr(C)`, and every field is a `u64` or consists of them.
unsafe impl Counting for ListenerCounters {}
// SAFETY: as above.
unsafe impl Counting for HandshakeCounters {}
// SAFETY: as above.
unsafe impl Counting for Work {}

/// Adds each counter of a record to the same one of `sum`.
///
/// # Safety
/// `record` must be a valid record for as long as this takes. Others may only write to it atomically.
unsafe fn add<T: Counting>(sum: &mut T, record: *mut T) {
    let sum: *mut u64 = ptr::from_mut(sum).cast();
    for at in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: the counter is inside the record, aligned, and written to atomically only.
        let value = unsafe { AtomicU64::from_ptr(record.cast::<u64>().add(at)) }.load(Ordering::Relaxed);
        // SAFETY: the same counter of `sum`, which is borrowed for this.
        let total = unsafe { &mut *sum.add(at) };
        *total = total.wrapping_add(value);
    }
}

impl Tables {
    /// Where a slot's counters and distributions are: one record per shard.
    pub(crate) fn records(&self, slot: u32) -> Range<u32> {
        let first = slot << self.geometry.shard_shift;
        first..first + self.geometry.shards()
    }

    /// Empties the counters and peaks of a slot that no probe knows any more.
    pub(crate) fn clear(&self, slot: u32) {
        for index in self.records(slot) {
            // SAFETY: inside the mapping, all-zero is a valid record, and no probe writes it: its listener and
            // connections are gone from their tables.
            unsafe { ptr::write_bytes(self.counters.pointer(index), 0, 1) };
            self.handshakes.write(index, HandshakeCounters::default());
        }
        self.take_peaks(slot);
    }

    /// Its counters; `work` is that of its threads.
    pub(crate) fn counters(&self, slot: u32, mut work: Work) -> Counters {
        let mut sum = Counters::default();
        for index in self.records(slot) {
            // SAFETY: the records are inside the mappings; the probes add to their counters atomically.
            unsafe {
                add(&mut sum.listener, self.counters.pointer(index));
                add(&mut sum.handshakes, self.handshakes.pointer(index));
            }
        }
        // SAFETY: a record of our own.
        unsafe { add(&mut work, &raw mut sum.listener.untracked) };
        sum.work = work;
        // Which thread accepted last is no counter.
        sum.listener.acceptor = 0;
        sum
    }

    /// The largest depths on any CPU since the last time.
    pub(crate) fn take_peaks(&self, slot: u32) -> Peaks {
        let mut peaks = Peaks::default();
        for cpu in 0..self.geometry.cpus {
            // Both depths are swapped for 0 in one step; their order in the record is that of the bytes.
            let bytes = self.peaks.take(cpu * self.geometry.slots + slot).to_ne_bytes();
            let depth = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            peaks.accept_queue = peaks.accept_queue.max(depth(0));
            peaks.syn_queue = peaks.syn_queue.max(depth(4));
        }
        peaks
    }
}
