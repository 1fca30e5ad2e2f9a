//! Copying the stacks of acceptors for user space, which unwinds them: see `listentop_abi::stack_copy`.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_probe_read_user};
use listentop_abi::{
    blame::{BlameLoss, WatchedThread},
    stack_copy::{
        BY_COPIES, BY_FRAME_POINTERS, Copying, FIRST_COPY, NOT_COPIED, OF_CPU, OF_SAMPLES, OF_SLEEPS, PAGE, PAGES,
        StackCopy, WINDOW_NS,
    },
};

use crate::{
    blame::lost,
    kernel,
    maps::{COPIES, COPYING_CPU, FOLLOWING},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// `BPF_RB_NO_WAKEUP`: user space looks by itself.
const NO_WAKEUP: u64 = 1;
/// `-EFAULT`: a thread of the kernel, which has no stack of a program.
const NO_PROGRAM: i32 = -14;
/// Numbers of copies that a thread has before they begin anew. By then user space has read the first.
const NUMBERS: u32 = 1 << 29;

/// When a stack is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The thread goes to sleep.
    Sleep,
    /// It runs, and a sample is taken.
    Sample,
}

/// The number of the program's part of the current thread's stack: of a copy, or what frame pointers lead to.
#[inline(always)]
pub(crate) fn user_stack(
    thread: MapValue<WatchedThread>,
    tid: u32,
    when: When,
    by_frame_pointers: impl Fn() -> i32,
) -> i32 {
    if !kernel::shows_registers() {
        return by_frame_pointers();
    }
    let process = kernel::current_process();
    let way = FOLLOWING.value(&process).map_or(0, MapValue::<u32>::get);
    if way == BY_FRAME_POINTERS {
        return by_frame_pointers();
    }
    let number = if way == BY_COPIES { NOT_COPIED } else { by_frame_pointers() };
    if number == NO_PROGRAM {
        return number;
    }
    let (copying, most) = match when {
        When::Sleep => (field!(thread.sleeps), OF_SLEEPS),
        When::Sample => (field!(thread.samples), OF_SAMPLES),
    };
    let now = stats::now();
    if !is_chosen(copying, most, now) || !has_room(now) {
        return number;
    }
    copy(thread, copying, (tid, process), when, number).unwrap_or(number)
}

/// Whether this stack is one of those that are copied. Each has the same chance, whatever it is: otherwise those that
/// follow a long sleep would be copied more often than they are slept on.
#[inline(always)]
fn is_chosen(copying: MapValue<Copying>, most: u32, now: u64) -> bool {
    let elapsed = now.wrapping_sub(field!(copying.since_ns).get());
    if elapsed >= WINDOW_NS {
        let expected = u64::from(field!(copying.seen).get()) * WINDOW_NS / elapsed;
        let chance = if expected <= u64::from(most) { u32::MAX } else { ((u64::from(most) << 32) / expected) as u32 };
        field!(copying.since_ns).set(now);
        field!(copying.seen).set(0);
        field!(copying.taken).set(0);
        field!(copying.chance).set(chance);
    }
    field!(copying.seen).add_alone(1);
    let taken = field!(copying.taken).get();
    // SAFETY: the helper takes nothing and touches no memory of the program.
    let drawn = unsafe { bpf_get_prandom_u32() };
    // More of them come than in the time before: the others have to wait for the next.
    if drawn > field!(copying.chance).get() || taken >= 2 * most {
        return false;
    }
    field!(copying.taken).set(taken + 1);
    true
}

/// Whether this CPU may make another copy.
#[inline(always)]
fn has_room(now: u64) -> bool {
    let Some(cpu) = COPYING_CPU.value(0) else { return false };
    if now.wrapping_sub(field!(cpu.since_ns).get()) >= WINDOW_NS {
        field!(cpu.since_ns).set(now);
        field!(cpu.taken).set(0);
    }
    if field!(cpu.taken).get() >= u64::from(OF_CPU) {
        lost(BlameLoss::Copies);
        return false;
    }
    field!(cpu.taken).add_alone(1);
    true
}

/// Copies the stack and the registers. Returns the copy's number.
#[inline(always)]
fn copy(
    thread: MapValue<WatchedThread>,
    copying: MapValue<Copying>,
    (tid, process): (u32, u32),
    when: When,
    by_frame_pointers: i32,
) -> Option<i32> {
    let registers = kernel::user_registers()?;
    let Some(mut entry) = COPIES.reserve::<StackCopy>(0) else {
        lost(BlameLoss::Copies);
        return None;
    };
    // SAFETY: the reserved memory, which is as large as this and aligned to 8 bytes, and nobody else's for now.
    let copy = unsafe { MapValue::new(entry.as_mut_ptr()) };
    let pages = match kernel::copy_registers(registers, field!(copy.registers)) {
        Some(pointer) => copy_pages(copy, pointer & !(PAGE as u64 - 1)),
        None => 0,
    };
    if pages == 0 {
        entry.discard(NO_WAKEUP);
        return None;
    }
    let count = field!(copying.count).get();
    let number = FIRST_COPY + (count % NUMBERS * 2 + u32::from(when == When::Sample)) as i32;
    field!(copying.count).set(count.wrapping_add(1));
    field!(copy.start_ns).set(field!(thread.start_ns).get());
    field!(copy.tid).set(tid);
    field!(copy.process).set(process);
    field!(copy.number).set(number);
    field!(copy.by_frame_pointers).set(by_frame_pointers);
    field!(copy.pages).set(pages);
    entry.submit(NO_WAKEUP);
    Some(number)
}

/// Copies what is mapped from an address on. Returns the number of pages.
#[inline(always)]
fn copy_pages(copy: MapValue<StackCopy>, address: u64) -> u64 {
    field!(copy.address).set(address);
    let mut pages = 0;
    for index in 0..PAGES {
        let to = field!(copy.bytes).wrapping(index);
        let from = address + (index * PAGE) as u64;
        // SAFETY: a page of the copy, and the helper fails on an address that cannot be read.
        if unsafe { bpf_probe_read_user(to.pointer().cast(), PAGE as u32, from as *const _) } != 0 {
            break;
        }
        pages += 1;
    }
    pages
}
