//! Settings that user space freezes into `.rodata` before the load. They are constants to the verifier, which removes
//! the branches that they rule out. And one word of settings that change while the probes run.

use core::cell::UnsafeCell;

use aya_ebpf::{Global, helpers::bpf_get_current_pid_tgid};
use listentop_abi::settings;

/// 1: every program returns at once. The floor against which the probes' cost is measured.
#[unsafe(no_mangle)]
static EMPTY: Global<u8> = Global::new(0);

/// 1: rare events are logged through aya-log.
#[unsafe(no_mangle)]
static DEBUG: Global<u8> = Global::new(0);

/// Whether payload that arrives is of interest, where a hook on listeners shows it: 0 never, 1 always, otherwise as
/// [`settings::ARRIVALS`] says.
#[unsafe(no_mangle)]
static ARRIVALS: Global<u8> = Global::new(1);

/// Statistics records per listener, less one: a mask for the CPU number.
#[unsafe(no_mangle)]
static SHARD_MASK: Global<u32> = Global::new(0);

/// log2 of the statistics records per listener.
#[unsafe(no_mangle)]
static SHARD_SHIFT: Global<u32> = Global::new(0);

/// Places for what is known of the packet at hand on one CPU, less one: 0 where nothing comes between the functions
/// that process a packet.
#[unsafe(no_mangle)]
static PACKETS_MASK: Global<u32> = Global::new(0);

/// Sets of connections, less one: a mask for the hash.
#[unsafe(no_mangle)]
static SET_MASK: Global<u32> = Global::new(0);

/// 1: blame is for readers of connections; 0: for acceptors.
#[unsafe(no_mangle)]
static BLAME_READS: Global<u8> = Global::new(0);

/// What user space changes while the probes run.
#[repr(transparent)]
struct Setting(UnsafeCell<u64>);

// SAFETY: programs only read it, by volatile loads. Only user space writes it, through the map that the section
// becomes. All settings are bits of one byte, so however that is copied, a program sees the old or the new settings.
unsafe impl Sync for Setting {}

/// [`settings`]; alone in its section.
#[unsafe(no_mangle)]
static SETTINGS: Setting = Setting(UnsafeCell::new(0));

/// Slots, the stride of the table of peaks.
#[unsafe(no_mangle)]
static SLOTS: Global<u32> = Global::new(0);

/// Whether programs return at once.
#[inline(always)]
pub(crate) fn empty() -> bool {
    EMPTY.load() != 0
}

/// Whether rare events are logged.
#[inline(always)]
pub(crate) fn debug() -> bool {
    DEBUG.load() != 0
}

/// Whether payload that arrives is noted.
#[inline(always)]
pub(crate) fn arrivals() -> bool {
    match ARRIVALS.load() {
        0 => false,
        1 => true,
        _ => set() & settings::ARRIVALS != 0,
    }
}

/// Whether readers are to be blamed, and not acceptors.
#[inline(always)]
pub(crate) fn blames_readers() -> bool {
    BLAME_READS.load() != 0
}

/// The number of sets of connections, less one.
#[inline(always)]
pub(crate) fn set_mask() -> u32 {
    SET_MASK.load()
}

/// Whether only an interrupt can come between a program and its CPU's statistics records.
#[inline(always)]
pub(crate) fn exclusive() -> bool {
    set() & settings::EXCLUSIVE != 0
}

/// Whether the takeover of what was there before the start is complete.
#[inline(always)]
pub(crate) fn started() -> bool {
    set() & settings::STARTED != 0
}

/// Whether io_uring's completions count its accepts that bring a connection.
#[inline(always)]
pub(crate) fn uring_accepts() -> bool {
    set() & settings::URING_ACCEPTS != 0
}

/// Whether io_uring's completions count its splices.
#[inline(always)]
pub(crate) fn uring_splices() -> bool {
    set() & settings::URING_SPLICES != 0
}

/// Whether a hook shows each SYN that finds the SYN queue full.
#[inline(always)]
pub(crate) fn floods_are_seen() -> bool {
    set() & settings::FLOODS != 0
}

/// Where this CPU's record of the packet at hand is. Usually a CPU processes one packet at a time. On real-time kernels
/// the processing is part of a task, which another task may preempt: there each task has its place.
#[inline(always)]
pub(crate) fn packet_place() -> u32 {
    let mask = PACKETS_MASK.load();
    if mask == 0 {
        return 0;
    }
    bpf_get_current_pid_tgid() as u32 & mask
}

#[inline(always)]
fn set() -> u64 {
    // SAFETY: a pointer to a static, and one volatile load: see `Sync` above.
    unsafe { SETTINGS.0.get().read_volatile() }
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
