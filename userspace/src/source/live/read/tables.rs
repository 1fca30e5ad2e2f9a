//! The tables of listeners that the probes write.

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use listentop_abi::listener::{HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerInfo, Peaks, Work};

use super::shared::{SharedArray, WindowedArray};
use crate::source::live::start::machine::Geometry;

/// The tables, by slot.
pub(crate) struct Tables {
    pub(crate) info: SharedArray<ListenerInfo>,
    pub(crate) counters: SharedArray<ListenerCounters>,
    pub(crate) handshakes: SharedArray<HandshakeCounters>,
    pub(crate) distributions: WindowedArray<ListenerDistributions>,
    pub(crate) peaks: SharedArray<Peaks>,
    pub(crate) geometry: Geometry,
}

/// Counters of one listener, summed over the shards.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) enqueued: u64,
    pub(crate) aborted: u64,
    pub(crate) closed: u64,
    pub(crate) moved_away: u64,
    pub(crate) accepted_unknown: u64,
    pub(crate) inherited_waiting: u64,
    pub(crate) inherited_open: u64,
    pub(crate) untracked_enqueued: u64,
    pub(crate) synack_retransmits: u64,
    pub(crate) ack_overflow: u64,
    pub(crate) cookie_ack_overflow: u64,
    pub(crate) not_attempts: u64,
    pub(crate) clients: u64,
    pub(crate) arrived_bytes: u64,
    pub(crate) otherwise_consumed_bytes: u64,
    pub(crate) work: Work,
    pub(crate) handshakes: HandshakeCounters,
}

impl Counters {
    /// Connections in the table that came through this listener.
    pub(crate) fn tracked(&self) -> u64 {
        (self.enqueued + self.inherited_waiting + self.inherited_open)
            .saturating_sub(self.untracked_enqueued + self.aborted + self.closed + self.moved_away)
    }

    /// Whether any of its connections may be in a distribution.
    pub(crate) fn used(&self) -> bool {
        self.enqueued + self.inherited_waiting + self.inherited_open + self.work.accepts + self.work.reads > 0
    }

    /// Connections that were accepted and live on.
    pub(crate) fn open_connections(&self) -> u64 {
        (self.work.accepts + self.inherited_open).saturating_sub(self.accepted_unknown + self.closed)
    }

    /// Bytes that arrived and did not leave. The counters are not read at one instant, so a moment's excess of reads is
    /// none.
    pub(crate) fn queued_bytes(&self) -> u64 {
        let waiting =
            self.arrived_bytes.wrapping_sub(self.work.read_bytes).wrapping_sub(self.otherwise_consumed_bytes) as i64;
        waiting.max(0).unsigned_abs()
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
    pub(crate) fn counters(&self, slot: u32, work: Work) -> Counters {
        let mut sum = Counters { work, ..Counters::default() };
        for index in self.records(slot) {
            let record = self.counters.pointer(index);
            // SAFETY: the record is inside the mapping; each counter is an aligned u64 that the probes add to
            // atomically.
            let read = |counter: *mut u64| unsafe { AtomicU64::from_ptr(counter) }.load(Ordering::Relaxed);
            // SAFETY: places inside the record; nothing is read here.
            let field = unsafe {
                [
                    (&raw mut (*record).enqueued, &mut sum.enqueued),
                    (&raw mut (*record).aborted, &mut sum.aborted),
                    (&raw mut (*record).closed, &mut sum.closed),
                    (&raw mut (*record).moved_away, &mut sum.moved_away),
                    (&raw mut (*record).accepted_unknown, &mut sum.accepted_unknown),
                    (&raw mut (*record).inherited_waiting, &mut sum.inherited_waiting),
                    (&raw mut (*record).inherited_open, &mut sum.inherited_open),
                    (&raw mut (*record).untracked_enqueued, &mut sum.untracked_enqueued),
                    (&raw mut (*record).synack_retransmits, &mut sum.synack_retransmits),
                    (&raw mut (*record).ack_overflow, &mut sum.ack_overflow),
                    (&raw mut (*record).cookie_ack_overflow, &mut sum.cookie_ack_overflow),
                    (&raw mut (*record).not_attempts, &mut sum.not_attempts),
                    (&raw mut (*record).clients, &mut sum.clients),
                    (&raw mut (*record).arrived_bytes, &mut sum.arrived_bytes),
                    (&raw mut (*record).otherwise_consumed_bytes, &mut sum.otherwise_consumed_bytes),
                    (&raw mut (*record).untracked.accepts, &mut sum.work.accepts),
                    (&raw mut (*record).untracked.would_block, &mut sum.work.would_block),
                    (&raw mut (*record).untracked.accept_failed, &mut sum.work.accept_failed),
                    (&raw mut (*record).untracked.reads, &mut sum.work.reads),
                    (&raw mut (*record).untracked.read_bytes, &mut sum.work.read_bytes),
                    (&raw mut (*record).untracked.writes, &mut sum.work.writes),
                    (&raw mut (*record).untracked.write_bytes, &mut sum.work.write_bytes),
                ]
            };
            for (counter, total) in field {
                *total = total.wrapping_add(read(counter));
            }
            let (read, sum) = (self.handshakes.read(index), &mut sum.handshakes);
            for (total, value) in [
                (&mut sum.requests, read.requests),
                (&mut sum.given_up, read.given_up),
                (&mut sum.cookies_sent, read.cookies_sent),
                (&mut sum.cookies_validated, read.cookies_validated),
                (&mut sum.accept_queue_full, read.accept_queue_full),
                (&mut sum.syn_queue_full, read.syn_queue_full),
                (&mut sum.syn_other, read.syn_other),
                (&mut sum.ack_other, read.ack_other),
                (&mut sum.migrated, read.migrated),
            ] {
                *total += value;
            }
        }
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
