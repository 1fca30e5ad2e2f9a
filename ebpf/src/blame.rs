//! Charging the wait of a listener's connections to what its acceptors do: see `listentop_abi::blame`.
//!
//! Programs on all CPUs write a listener's record and a thread's, one at a time: each claims it first, by an atomic
//! addition and a look at whether it was the only one (compare-and-swap does not exist before 5.12). Who cannot get a
//! listener's record leaves a note, and who has it sums once more. A state whose change is charged late is charged to
//! the next one: the sum stays right.

use aya_ebpf::programs::tracing::StackIdContext;
use listentop_abi::{
    blame::{
        ASLEEP, BEFORE, BlameLoss, Charge, ChargeKey, NO_STACK, QueueTime, RUNNABLE, RUNNING, SEATS, STATES, Seat,
        ThreadId, ThreadName, UNKNOWN, WatchedThread,
    },
    listener::ListenerRef,
};

use crate::{
    kernel::{LiveTask, MaybeGone},
    maps::{self, ACCEPTORS, BLAME_LOST, BLANK_STACK, BLANK_THREAD, CHARGES, INFO, QUEUES, STACKS, WANTED, WATCHED},
    stats,
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
fn lost(loss: BlameLoss) {
    if let Some(counter) = BLAME_LOST.value(loss as u32) {
        counter.add(1);
    }
}

#[inline(always)]
fn claim(claims: MapValue<u64>) -> bool {
    for _ in 0..ATTEMPTS {
        claims.add(1);
        if claims.get() == 1 {
            return true;
        }
        release(claims);
    }
    false
}

#[inline(always)]
fn release(claims: MapValue<u64>) {
    claims.add(u64::MAX);
}

/// The record of a listener, if it is watched.
#[inline(always)]
pub(crate) fn watched(listener: ListenerRef) -> Option<MapValue<QueueTime>> {
    let queue = QUEUES.value(listener.slot)?;
    if field!(queue.watched).get() != 0 && field!(queue.listener).get() == listener { Some(queue) } else { None }
}

/// Sums the wait up to now, and reads the depth from here on. Returns the share of one acceptor; `None` if another CPU
/// has the record.
#[inline(always)]
pub(crate) fn advance(queue: MapValue<QueueTime>) -> Option<u64> {
    change(queue, 0)
}

/// The same, and `more` acceptors from here on (modulo 2^64).
#[inline(always)]
fn change(queue: MapValue<QueueTime>, more: u64) -> Option<u64> {
    if !claim(field!(queue.claims)) {
        field!(queue.missed).add(1);
        return None;
    }
    let missed = field!(queue.missed).get();
    sum(queue);
    if field!(queue.missed).get() != missed {
        sum(queue);
    }
    if more != 0 {
        let acceptors = field!(queue.acceptors).get();
        field!(queue.acceptors).set(acceptors.wrapping_add(more));
    }
    let share = field!(queue.share_ns).get();
    release(field!(queue.claims));
    Some(share)
}

#[inline(always)]
fn sum(queue: MapValue<QueueTime>) {
    let listener = field!(queue.listener).get();
    let Some(info) = INFO.value(listener.slot) else { return };
    let closed_ns = field!(info.closed_ns).get();
    let now = stats::now();
    let until = if closed_ns != 0 && closed_ns < now { closed_ns } else { now };
    let since = field!(queue.until_ns).get();
    if until > since {
        if since != 0 {
            let wait = u64::from(field!(queue.depth).get()) * (until - since);
            field!(queue.total_ns).add_alone(wait);
            let acceptors = field!(queue.acceptors).get();
            if acceptors == 0 {
                field!(queue.nobody_ns).add_alone(wait);
            } else if wait != 0 {
                let wait = wait + field!(queue.rest).get();
                field!(queue.share_ns).add_alone(wait / acceptors);
                field!(queue.rest).set(wait % acceptors);
            }
        }
        field!(queue.until_ns).set(until);
    }
    let depth = if closed_ns != 0 { 0 } else { MaybeGone(field!(queue.socket).get()).accept_depth() };
    field!(queue.depth).set(depth);
}

/// The depth of this listener's queue has changed.
#[inline(always)]
pub(crate) fn depth_changed(listener: ListenerRef) {
    if let Some(queue) = watched(listener) {
        advance(queue);
    }
}

/// A thread accepts from the listener: it is one of its acceptors from here on.
#[inline(always)]
pub(crate) fn accepts(task: LiveTask, listener: ListenerRef) {
    let Some(queue) = watched(listener) else { return };
    let tid = task.tid();
    let thread = match WATCHED.value(&tid) {
        Some(thread) => thread,
        None => match open(task, tid) {
            Some(thread) => thread,
            None => return,
        },
    };
    if is_seated(thread, listener) {
        return;
    }
    if field!(thread.state).get() == UNKNOWN {
        field!(thread.state).set(RUNNING);
    }
    take_seat(thread, listener, queue);
}

/// A task is visited: user space knows of which listeners it is an acceptor.
#[inline(always)]
pub(crate) fn visit(task: LiveTask) {
    let (_, visible) = task.ids();
    let Some(wanted) = WANTED.value(&visible) else { return };
    let tid = task.tid();
    let (thread, new) = match WATCHED.value(&tid) {
        Some(thread) => (thread, false),
        None => match open(task, tid) {
            Some(thread) => (thread, true),
            None => return,
        },
    };
    if new || field!(thread.state).get() == UNKNOWN {
        let state = task.state();
        let doing = if state != 0 {
            note_kernel_stack(task, tid);
            field!(thread.kernel_stack).set(BEFORE);
            field!(thread.user_stack).set(BEFORE);
            ASLEEP
        } else if task.is_on_cpu() {
            RUNNING
        } else {
            RUNNABLE
        };
        // What the scheduler has shown meanwhile is newer.
        if field!(thread.state).get() == UNKNOWN {
            field!(thread.state).set(doing);
        }
    }
    let count = field!(wanted.count).get();
    for index in 0..SEATS {
        if index as u64 >= count {
            break;
        }
        let listener = field!(wanted.listeners).wrapping(index).get();
        if let Some(queue) = watched(listener)
            && !is_seated(thread, listener)
        {
            take_seat(thread, listener, queue);
        }
    }
}

/// Notes the kernel stack of a thread that sleeps already.
#[inline(always)]
fn note_kernel_stack(task: LiveTask, tid: u32) {
    let key = ThreadId { start_ns: task.start_ns(), tid: u64::from(tid) };
    let Some(blank) = BLANK_STACK.get(0) else { return };
    if maps::BEFORE.insert(&key, blank, 0).is_ok()
        && let Some(stack) = maps::BEFORE.value(&key)
    {
        task.kernel_stack(field!(stack.frames));
    }
}

/// A record for a thread.
#[inline(always)]
fn open(task: LiveTask, tid: u32) -> Option<MapValue<WatchedThread>> {
    let blank = BLANK_THREAD.get(0)?;
    if tid == 0 || WATCHED.insert(&tid, blank, NEW).is_err() {
        lost(BlameLoss::Threads);
        return None;
    }
    let thread = WATCHED.value(&tid)?;
    let start_ns = task.start_ns();
    field!(thread.kernel_stack).set(NO_STACK);
    field!(thread.user_stack).set(NO_STACK);
    field!(thread.start_ns).set(start_ns);
    let (pid, visible) = task.ids();
    let name = ThreadName { pid, tid: visible, initial_pid: task.process(), ended: 0, comm: task.name() };
    if ACCEPTORS.insert(&ThreadId { start_ns, tid: u64::from(tid) }, &name, 0).is_err() {
        lost(BlameLoss::Threads);
    }
    Some(thread)
}

#[inline(always)]
fn is_seated(thread: MapValue<WatchedThread>, listener: ListenerRef) -> bool {
    let seated = field!(thread.seated).get();
    for index in 0..SEATS {
        if index as u32 >= seated {
            break;
        }
        let seat = field!(thread.seats).wrapping(index);
        if field!(seat.listener).get() == listener {
            return true;
        }
    }
    false
}

#[inline(always)]
fn take_seat(thread: MapValue<WatchedThread>, listener: ListenerRef, queue: MapValue<QueueTime>) {
    field!(thread.pending).set(listener);
    field!(thread.is_pending).set(1);
    // Nobody else takes one meanwhile: who is late takes it when it leaves the CPU, or at the next accept or visit.
    if !claim(field!(thread.claims)) {
        lost(BlameLoss::Late);
        return;
    }
    let index = field!(thread.seated).get();
    if index as usize >= SEATS {
        lost(BlameLoss::Seats);
        field!(thread.is_pending).set(0);
    } else if let Some(share) = change(queue, 1) {
        let seat = field!(thread.seats).wrapping(index as usize);
        field!(seat.listener).set(listener);
        field!(seat.share_ns).set(share);
        field!(seat.running_ns).set(0);
        // Last: the hooks look at seats that are taken.
        field!(thread.seated).set(index + 1);
        field!(thread.is_pending).set(0);
    }
    release(field!(thread.claims));
}

/// A thread's listener at a place below [`SEATS`]: `None` behind the last one.
#[inline(always)]
fn seat_at(thread: MapValue<WatchedThread>, index: usize) -> Option<MapValue<Seat>> {
    if index as u32 >= field!(thread.seated).get() { None } else { Some(field!(thread.seats).wrapping(index)) }
}

/// Charges what has accrued to the thread's state.
#[inline(always)]
fn charge(thread: MapValue<WatchedThread>, tid: u32) {
    let state = field!(thread.state).get();
    for index in 0..SEATS {
        let Some(seat) = seat_at(thread, index) else { break };
        let Some(queue) = watched(field!(seat.listener).get()) else { continue };
        let Some(share) = advance(queue) else {
            lost(BlameLoss::Late);
            continue;
        };
        let gained = share.wrapping_sub(field!(seat.share_ns).get());
        if gained == 0 {
            continue;
        }
        field!(seat.share_ns).set(share);
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
    (state, kernel_stack, user_stack): (u32, i32, i32),
    wait_ns: u64,
) {
    let listener = field!(seat.listener).get();
    let key = ChargeKey {
        slot: listener.slot,
        generation: listener.generation,
        start_ns: field!(thread.start_ns).get(),
        tid,
        state,
        kernel_stack,
        user_stack,
    };
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

/// The stacks of the current thread: the kernel's part and the program's, or errors of the kernel's.
#[inline(always)]
fn stacks(ctx: &impl StackIdContext) -> (i32, i32) {
    (stack(ctx, BY_HASH), stack(ctx, BY_HASH | USER_STACK))
}

#[inline(always)]
fn stack(ctx: &impl StackIdContext, flags: u64) -> i32 {
    match ctx.get_stackid(&STACKS, flags) {
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
    if field!(thread.is_pending).get() != 0 {
        let listener = field!(thread.pending).get();
        if let Some(queue) = watched(listener)
            && !is_seated(thread, listener)
        {
            take_seat(thread, listener, queue);
        }
    }
    let state = task.state();
    let (doing, kernel, user) = if preempted || state == 0 {
        (RUNNABLE, NO_STACK, NO_STACK)
    } else {
        let (kernel, user) = stacks(ctx);
        (ASLEEP, kernel, user)
    };
    let claimed = claim(field!(thread.claims));
    if claimed {
        // It has run until now, whatever was thought.
        field!(thread.state).set(RUNNING);
        charge(thread, tid);
    } else {
        lost(BlameLoss::Late);
    }
    field!(thread.kernel_stack).set(kernel);
    field!(thread.user_stack).set(user);
    field!(thread.state).set(doing);
    if claimed {
        release(field!(thread.claims));
    }
    if state & DEAD != 0 {
        ends(thread, tid);
    }
}

/// The thread will never run again: it is no acceptor any more.
#[inline(always)]
fn ends(thread: MapValue<WatchedThread>, tid: u32) {
    for index in 0..SEATS {
        let Some(seat) = seat_at(thread, index) else { break };
        let Some(queue) = watched(field!(seat.listener).get()) else { continue };
        let gained = if let Some(share) = change(queue, u64::MAX) {
            share.wrapping_sub(field!(seat.share_ns).get())
        } else {
            lost(BlameLoss::Late);
            0
        };
        let running = field!(seat.running_ns).get() + gained;
        if running != 0 {
            add(thread, tid, seat, queue, (RUNNING, NO_STACK, NO_STACK), running);
        }
    }
    let key = ThreadId { start_ns: field!(thread.start_ns).get(), tid: u64::from(tid) };
    if let Some(name) = ACCEPTORS.value(&key) {
        field!(name.ended).set(1);
    }
    let _ = WATCHED.remove(&tid);
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
            None => stacks(ctx),
        };
        taken = Some((kernel, user));
        field!(seat.running_ns).set(0);
        add(thread, tid, seat, queue, (RUNNING, kernel, user), running);
    }
    release(field!(thread.claims));
}
