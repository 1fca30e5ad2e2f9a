//! Adding to the records. Everything is O(1) and atomic where several CPUs may write.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns};
use listentop_abi::{
    histogram::{self, BUCKETS, UNIT_SHIFT},
    listener::{Buckets, HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerRef},
    loss::Loss,
};

use crate::{
    config,
    maps::{COUNTERS, DISTRIBUTIONS, HANDSHAKES, LOSSES, PEAKS},
};

/// CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> u64 {
    unsafe { bpf_ktime_get_ns() }
}

/// Adds to a counter that several CPUs share.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, value: u64) {
    unsafe { atomic_xadd::<u64, u64, { Relaxed }>(counter, value) };
}

/// The same, for 32 bits.
#[inline(always)]
pub(crate) unsafe fn add32(counter: *mut u32, value: i32) {
    unsafe { atomic_xadd::<u32, u32, { Relaxed }>(counter, value as u32) };
}

/// Adds to a counter of this CPU's record; no program that could interrupt this one may add to it in this way. An
/// atomic addition waits for all earlier stores, such as those to a line that another CPU has.
#[inline(always)]
pub(crate) unsafe fn count(counter: *mut u64, value: u64) {
    unsafe {
        if config::exclusive() {
            *counter += value;
        } else {
            add(counter, value);
        }
    }
}

/// Counts a value, in units, in a distribution of this CPU's record; under the same conditions as [`count`].
#[inline(always)]
pub(crate) unsafe fn record(buckets: *mut Buckets, value: u64) {
    // The verifier does not follow the arithmetic, so the bound must be tested where it sees it.
    let index = core::hint::black_box(histogram::index(value));
    if index < BUCKETS {
        unsafe {
            let bucket = buckets.cast::<u32>().add(index);
            if config::exclusive() {
                *bucket = (*bucket).wrapping_add(1);
            } else {
                add32(bucket, 1);
            }
        }
    }
}

/// Counts the time between two instants, as [`record`] does; an end before the start counts as none.
#[inline(always)]
pub(crate) unsafe fn record_span(buckets: *mut Buckets, from: u64, to: u64) {
    unsafe { record(buckets, to.saturating_sub(from) >> UNIT_SHIFT) }
}

/// As [`record_span`], in a distribution that several programs add to.
#[inline(always)]
pub(crate) unsafe fn record_shared_span(buckets: *mut Buckets, from: u64, to: u64) {
    let index = core::hint::black_box(histogram::index(to.saturating_sub(from) >> UNIT_SHIFT));
    if index < BUCKETS {
        unsafe { add32(buckets.cast::<u32>().add(index), 1) };
    }
}

/// The counters of a listener for this CPU.
#[inline(always)]
pub(crate) fn of(listener: ListenerRef) -> Option<*mut ListenerCounters> {
    of_slot(listener.slot)
}

/// The same, by slot.
#[inline(always)]
pub(crate) fn of_slot(slot: u32) -> Option<*mut ListenerCounters> {
    COUNTERS.get_ptr_mut(config::stats_index(slot, unsafe { bpf_get_smp_processor_id() }))
}

/// The distributions of a listener for this CPU.
#[inline(always)]
pub(crate) fn distributions(listener: ListenerRef) -> Option<*mut ListenerDistributions> {
    DISTRIBUTIONS.get_ptr_mut(config::stats_index(listener.slot, unsafe { bpf_get_smp_processor_id() }))
}

/// The handshake counters of a listener for this CPU.
#[inline(always)]
pub(crate) fn handshakes(listener: ListenerRef) -> Option<*mut HandshakeCounters> {
    HANDSHAKES.get_ptr_mut(config::stats_index(listener.slot, unsafe { bpf_get_smp_processor_id() }))
}

/// Notes depths for the peaks. Only this CPU writes its record, except that user space swaps it for 0.
#[inline(always)]
pub(crate) fn peak(listener: ListenerRef, accept_queue: u32, syn_queue: u32) {
    let index = config::peaks_index(listener.slot, unsafe { bpf_get_smp_processor_id() });
    if let Some(peaks) = PEAKS.get_ptr_mut(index) {
        unsafe {
            if accept_queue > (*peaks).accept_queue {
                (*peaks).accept_queue = accept_queue;
            }
            if syn_queue > (*peaks).syn_queue {
                (*peaks).syn_queue = syn_queue;
            }
        }
    }
}

/// Counts something that could not be tracked.
#[inline(always)]
pub(crate) fn lost(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        unsafe { add(counter, 1) };
    }
}
