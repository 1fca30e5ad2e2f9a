//! Adding to the statistics. Everything is O(1), and atomic where several CPUs may write.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns};
use listentop_abi::{
    histogram::{self, UNIT_SHIFT},
    listener::{Buckets, HandshakeCounters, ListenerCounters, ListenerDistributions, ListenerRef},
    loss::Loss,
};

use crate::{
    config,
    maps::{COUNTERS, DISTRIBUTIONS, HANDSHAKES, LOSSES, PEAKS},
    values::{Lookup as _, MapValue, field},
};

/// CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing and touches no memory of the program.
    unsafe { bpf_ktime_get_ns() }
}

/// The CPU that the program runs on; the kernel does not move it before it returns.
#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: the helper takes nothing and touches no memory of the program.
    unsafe { bpf_get_smp_processor_id() }
}

/// Adds to a counter of this CPU's record. No program that could interrupt this one may add to the counter in this way.
#[inline(always)]
pub(crate) fn count(counter: MapValue<u64>, value: u64) {
    if config::exclusive() {
        counter.add_alone(value);
    } else {
        counter.add(value);
    }
}

/// Counts a value, in units, in a distribution of this CPU's record; under the same conditions as [`count`].
#[inline(always)]
pub(crate) fn record(buckets: MapValue<Buckets>, value: u64) {
    if let Some(bucket) = bucket(buckets, value) {
        if config::exclusive() {
            bucket.add_alone(1);
        } else {
            bucket.add(1);
        }
    }
}

/// The bucket of a value. The verifier does not follow the arithmetic, so the bound is tested where it sees the test.
#[inline(always)]
fn bucket(buckets: MapValue<Buckets>, value: u64) -> Option<MapValue<u32>> {
    buckets.element(core::hint::black_box(histogram::index(value)))
}

/// Counts the time between two instants, as [`record`] does; an end before the start counts as 0.
#[inline(always)]
pub(crate) fn record_span(buckets: MapValue<Buckets>, from: u64, to: u64) {
    record(buckets, to.saturating_sub(from) >> UNIT_SHIFT);
}

/// As [`record_span`], in a distribution that several programs add to.
#[inline(always)]
pub(crate) fn record_shared_span(buckets: MapValue<Buckets>, from: u64, to: u64) {
    if let Some(bucket) = bucket(buckets, to.saturating_sub(from) >> UNIT_SHIFT) {
        bucket.add(1);
    }
}

/// The counters of a listener for this CPU.
#[inline(always)]
pub(crate) fn of(listener: ListenerRef) -> Option<MapValue<ListenerCounters>> {
    of_slot(listener.slot)
}

/// The same, by slot.
#[inline(always)]
pub(crate) fn of_slot(slot: u32) -> Option<MapValue<ListenerCounters>> {
    COUNTERS.value(config::stats_index(slot, cpu()))
}

/// The distributions of a listener for this CPU.
#[inline(always)]
pub(crate) fn distributions(listener: ListenerRef) -> Option<MapValue<ListenerDistributions>> {
    DISTRIBUTIONS.value(config::stats_index(listener.slot, cpu()))
}

/// The handshake counters of a listener for this CPU.
#[inline(always)]
pub(crate) fn handshakes(listener: ListenerRef) -> Option<MapValue<HandshakeCounters>> {
    HANDSHAKES.value(config::stats_index(listener.slot, cpu()))
}

/// Notes depths for the peaks. Only this CPU writes its record; user space swaps it for 0, and a swap between the test
/// and the write costs the peak of one event at most.
#[inline(always)]
pub(crate) fn peak(listener: ListenerRef, accept_queue: u32, syn_queue: u32) {
    let Some(peaks) = PEAKS.value(config::peaks_index(listener.slot, cpu())) else { return };
    if accept_queue > field!(peaks.accept_queue).get() {
        field!(peaks.accept_queue).set(accept_queue);
    }
    if syn_queue > field!(peaks.syn_queue).get() {
        field!(peaks.syn_queue).set(syn_queue);
    }
}

/// Counts something that could not be tracked.
#[inline(always)]
pub(crate) fn lost(loss: Loss) {
    if let Some(counter) = LOSSES.value(loss as u32) {
        counter.add(1);
    }
}
