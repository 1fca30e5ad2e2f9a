//! Settings that user space freezes into `.rodata` before the load: constants to the verifier, which drops what they
//! rule out.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use listentop_abi::settings;

/// 1: every program returns at once. The floor against which the probes' cost is measured.
#[unsafe(no_mangle)]
static EMPTY: Global<u8> = Global::new(0);

/// 1: rare events are logged through aya-log.
#[unsafe(no_mangle)]
static DEBUG: Global<u8> = Global::new(0);

/// Statistics records per listener, less one: a mask for the CPU number.
#[unsafe(no_mangle)]
static SHARD_MASK: Global<u32> = Global::new(0);

/// log2 of the statistics records per listener.
#[unsafe(no_mangle)]
static SHARD_SHIFT: Global<u32> = Global::new(0);

/// Sets of connections, less one: a mask for the hash.
#[unsafe(no_mangle)]
static SET_MASK: Global<u32> = Global::new(0);

/// What user space changes while the probes run.
#[repr(transparent)]
struct Setting(UnsafeCell<u64>);

unsafe impl Sync for Setting {}

/// [`settings`]; alone in its section.
#[unsafe(no_mangle)]
static SETTINGS: Setting = Setting(UnsafeCell::new(0));

/// Slots, the stride of the table of peaks.
#[unsafe(no_mangle)]
static SLOTS: Global<u32> = Global::new(0);

/// Whether programs are to return at once.
#[inline(always)]
pub(crate) fn empty() -> bool {
    EMPTY.load() != 0
}

/// Whether rare events are logged.
#[inline(always)]
pub(crate) fn debug() -> bool {
    DEBUG.load() != 0
}

/// The number of sets of connections, less one.
#[inline(always)]
pub(crate) fn set_mask() -> u32 {
    SET_MASK.load()
}

/// Whether nothing but an interrupt comes between a program and its CPU's statistics records.
#[inline(always)]
pub(crate) fn exclusive() -> bool {
    set() & settings::EXCLUSIVE != 0
}

/// Whether what was there before the start has been taken over.
#[inline(always)]
pub(crate) fn started() -> bool {
    set() & settings::STARTED != 0
}

/// Whether completions are to tell of io_uring's accepts that bring a connection.
#[inline(always)]
pub(crate) fn uring_accepts() -> bool {
    set() & settings::URING_ACCEPTS != 0
}

/// Whether completions are to tell of io_uring's splices.
#[inline(always)]
pub(crate) fn uring_splices() -> bool {
    set() & settings::URING_SPLICES != 0
}

#[inline(always)]
fn set() -> u64 {
    unsafe { core::ptr::read_volatile(SETTINGS.0.get()) }
}

/// Index of a slot's statistics record for `cpu`.
#[inline(always)]
pub(crate) fn stats_index(slot: u32, cpu: u32) -> u32 {
    (slot << SHARD_SHIFT.load()) | (cpu & SHARD_MASK.load())
}

/// Index of a slot's peaks for `cpu`.
#[inline(always)]
pub(crate) fn peaks_index(slot: u32, cpu: u32) -> u32 {
    cpu * SLOTS.load() + slot
}
