//! Charging the wait of a listener's connections to what its acceptors do: see `listentop_abi::blame`.
//!
//! Programs on all CPUs write a listener's record and a thread's, one at a time: each claims it first, by an atomic
//! addition and a look at whether it was the only one (compare-and-swap does not exist before 5.12). [`queue`] says
//! what becomes of those that cannot get a listener's. A state whose change is charged late is charged to the next one:
//! the sum stays right.

mod queue;
pub(crate) mod reads;
mod seats;

use aya_ebpf::programs::tracing::StackIdContext;
use listentop_abi::{
    blame::{
        ASLEEP, BlameLoss, Charge, ChargeKey, LEFT, MAX_STACKS, NO_STACK, NOTES, QueueTime, RUNNABLE, RUNNING, SEATS,
        STATES, Seat, ThreadId, WatchedThread,
    },
    listener::ListenerRef,
};

pub(crate) use queue::{advance, watched};
pub(crate) use seats::{accepts, visit};

use crate::{
    blame_stacks::{self, When},
    config,
    kernel::LiveTask,
    maps::{BLAME_LOST, CHARGES, MORE_STACKS, STACKS, WATCHED},
    values::{Lookup as _, MapValue, field},
};

/// Attempts to get a record: whoever has it needs it for some 100 ns.
const ATTEMPTS: usize = 8;
/// `BPF_F_USER_STACK`.
const USER_STACK: u64 = 1 << 8;
/// `BPF_F_FAST_STACK_CMP`: two stacks with the same hash are the same.
const BY_HASH: u64 = 1 << 9;
/// `BPF_NOEXIST`.
const NEW: u64 = 1;
/// `TASK_DEAD` (include/linux/sched.h, the same since 4.14): the thread leaves the CPU for ever.
const DEAD: u32 = 0x80;

#[inline(always)]
pub(crate) fn lost(loss: BlameLoss) {
    if let Some(counter) = BLAME_LOST.value(loss as u32) {
        counter.add(1);
    }
}

#[inline(always)]
fn claim(claims: MapValue<u64>) -> bool {
    for _ in 0..ATTEMPTS {
        if try_claim(claims) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn try_claim(claims: MapValue<u64>) -> bool {
    claims.add(1);
    if claims.get() == 1 {
        return true;
    }
    release(claims);
    false
}

#[inline(always)]
fn release(claims: MapValue<u64>) {
    claims.add(u64::MAX);
}

/// The depth of this listener's queue has changed.
#[inline(always)]
pub(crate) fn depth_changed(listener: ListenerRef) {
    if let Some(queue) = watched(listener) {
        advance(queue);
    }
}

/// A thread's listener at a place below [`SEATS`]: `None` behind the last one.
#[inline(always)]
fn seat_at(thread: MapValue<WatchedThread>, index: usize) -> Option<MapValue<Seat>> {
    if index as u32 >= field!(thread.seated).get() { None } else { Some(field!(thread.seats).wrapping(index)) }
}

#[inline(always)]
fn id_of(thread: MapValue<WatchedThread>, tid: u32) -> ThreadId {
    ThreadId { start_ns: field!(thread.start_ns).get(), tid: u64::from(tid) }
}

/// Charges what has accrued to the thread's state.
#[inline(always)]
fn charge(thread: MapValue<WatchedThread>, tid: u32) {
    if !config::blames_readers() {
        seats::redeem(thread);
    }
    let state = field!(thread.state).get();
    for index in 0..SEATS {
        let Some(seat) = seat_at(thread, index) else { break };
        let Some(queue) = watched(field!(seat.listener).get()) else { continue };
        let gained = if config::blames_readers() {
            reads::gained(id_of(thread, tid), field!(seat.listener).get())
        } else {
            let Some(share) = advance(queue) else {
                lost(BlameLoss::Late);
                continue;
            };
            let gained = share.wrapping_sub(field!(seat.share_ns).get());
            field!(seat.share_ns).set(share);
            gained
        };
        if gained == 0 {
            continue;
        }
        if state == RUNNING {
            field!(seat.running_ns).add_alone(gained);
        } else {
            let (kernel, user) = if state == ASLEEP {
                (field!(thread.kernel_stack).get(), field!(thread.user_stack).get())
            } else {
                (NO_STACK, NO_STACK)
            };
            add(thread, tid, seat, queue, (state, kernel, user), gained);
        }
    }
}

#[inline(always)]
fn add(
    thread: MapValue<WatchedThread>,
    tid: u32,
    seat: MapValue<Seat>,
    queue: MapValue<QueueTime>,
    stack: (u32, i32, i32),
    wait_ns: u64,
) {
    put(id_of(thread, tid), field!(seat.listener).get(), queue, stack, wait_ns);
}

#[inline(always)]
fn put(
    thread: ThreadId,
    listener: ListenerRef,
    queue: MapValue<QueueTime>,
    (state, kernel_stack, user_stack): (u32, i32, i32),
    wait_ns: u64,
) {
    let (slot, generation) = (listener.slot, listener.generation);
    let (start_ns, tid) = (thread.start_ns, thread.tid as u32);
    let key = ChargeKey { slot, generation, start_ns, tid, state, kernel_stack, user_stack };
    let mut charge = CHARGES.value(&key);
    if charge.is_none() {
        let _ = CHARGES.insert(&key, &Charge { wait_ns: 0, count: 0 }, NEW);
        charge = CHARGES.value(&key);
    }
    let Some(charge) = charge else {
        lost(BlameLoss::Charges);
        field!(queue.untold_ns).wrapping(state as usize % STATES).add(wait_ns);
        return;
    };
    field!(charge.wait_ns).add(wait_ns);
    field!(charge.count).add(1);
}

/// Charges those who left while another CPU had the listener's record, and gives their notes back.
#[inline(always)]
pub(crate) fn settle(listener: ListenerRef) {
    let Some(queue) = watched(listener) else { return };
    advance(queue);
    if field!(queue.noted).get() == 0 || !try_claim(field!(queue.settles)) {
        return;
    }
    for index in 0..NOTES {
        let note = queue::note(queue, index as u32);
        if field!(note.kind).get() != LEFT {
            continue;
        }
        let gained = field!(note.last_share_ns).get().wrapping_sub(field!(note.share_ns).get());
        if gained != 0 {
            let thread = ThreadId { start_ns: field!(note.thread.start_ns).get(), tid: field!(note.thread.tid).get() };
            put(thread, listener, queue, (RUNNING, NO_STACK, NO_STACK), gained);
        }
        queue::free(queue, note);
    }
    release(field!(queue.settles));
}

/// The stacks of the current thread: the kernel's part and the program's, or errors of the kernel's.
#[inline(always)]
fn stacks(ctx: &impl StackIdContext, thread: MapValue<WatchedThread>, tid: u32, when: When) -> (i32, i32) {
    let user = || stack(ctx, BY_HASH | USER_STACK);
    (stack(ctx, BY_HASH), blame_stacks::user_stack(thread, tid, when, user))
}

#[inline(always)]
fn stack(ctx: &impl StackIdContext, flags: u64) -> i32 {
    let number = match ctx.get_stackid(&STACKS, flags) {
        // -EEXIST: another stack has its place.
        Err(-17) => ctx.get_stackid(&MORE_STACKS, flags).map(|number| number + i64::from(MAX_STACKS)),
        number => number,
    };
    match number {
        Ok(number) => number as i32,
        Err(error) => {
            // -EFAULT: there is none, as in threads of the kernel.
            if error != -14 {
                lost(BlameLoss::Stacks);
            }
            error
        }
    }
}

/// The current thread leaves the CPU.
#[inline(always)]
pub(crate) fn leaves(ctx: &impl StackIdContext, preempted: bool, task: LiveTask) {
    let tid = task.tid();
    let Some(thread) = (if tid == 0 { None } else { WATCHED.value(&tid) }) else { return };
    let state = task.state();
    let claimed = claim(field!(thread.claims));
    if claimed {
        // It has run until now, whatever was thought.
        field!(thread.state).set(RUNNING);
        charge(thread, tid);
    } else {
        lost(BlameLoss::Late);
    }
    // Behind the charging: the verifier follows whatever comes next once for each way through what comes before.
    if preempted || state == 0 {
        field!(thread.kernel_stack).set(NO_STACK);
        field!(thread.user_stack).set(NO_STACK);
        field!(thread.state).set(RUNNABLE);
    } else {
        let (kernel, user) = stacks(ctx, thread, tid, When::Sleep);
        field!(thread.kernel_stack).set(kernel);
        field!(thread.user_stack).set(user);
        field!(thread.state).set(ASLEEP);
    }
    if claimed {
        release(field!(thread.claims));
    }
    if state & DEAD != 0 {
        seats::ends(thread, tid);
    }
}

/// A thread gets a CPU.
#[inline(always)]
pub(crate) fn enters(task: LiveTask) {
    becomes(task, RUNNING);
}

/// A thread that slept wants a CPU.
#[inline(always)]
pub(crate) fn wakes(task: LiveTask) {
    becomes(task, RUNNABLE);
}

#[inline(always)]
fn becomes(task: LiveTask, doing: u32) {
    let tid = task.tid();
    let Some(thread) = (if tid == 0 { None } else { WATCHED.value(&tid) }) else { return };
    let state = field!(thread.state).get();
    // The kernel wakes threads that do not sleep, too.
    if doing == RUNNABLE && (state == RUNNING || state == RUNNABLE) {
        return;
    }
    let claimed = claim(field!(thread.claims));
    if claimed {
        charge(thread, tid);
    } else {
        lost(BlameLoss::Late);
    }
    field!(thread.state).set(doing);
    if claimed {
        release(field!(thread.claims));
    }
}

/// The CPU was interrupted to see which code the thread runs.
#[inline(always)]
pub(crate) fn sampled(ctx: &impl StackIdContext, tid: u32) {
    let Some(thread) = (if tid == 0 { None } else { WATCHED.value(&tid) }) else { return };
    // Whoever was interrupted may have the record: then the next sample has more.
    if !claim(field!(thread.claims)) {
        return;
    }
    charge(thread, tid);
    field!(thread.state).set(RUNNING);
    // Taken once, and only if it is charged with something.
    let mut taken = None;
    for index in 0..SEATS {
        let Some(seat) = seat_at(thread, index) else { break };
        let Some(queue) = watched(field!(seat.listener).get()) else { continue };
        let running = field!(seat.running_ns).get();
        if running == 0 {
            continue;
        }
        let (kernel, user) = match taken {
            Some(stacks) => stacks,
            None => stacks(ctx, thread, tid, When::Sample),
        };
        taken = Some((kernel, user));
        field!(seat.running_ns).set(0);
        add(thread, tid, seat, queue, (RUNNING, kernel, user), running);
    }
    release(field!(thread.claims));
}
