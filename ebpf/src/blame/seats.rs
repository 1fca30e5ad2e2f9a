//! Who is an acceptor: threads and their seats.

use listentop_abi::{
    blame::{
        ASLEEP, BEFORE, BlameLoss, JOINED, JOINS, NO_STACK, QueueTime, RUNNABLE, RUNNING, SEATS, ThreadId, ThreadName,
        UNKNOWN, WatchedThread,
    },
    listener::ListenerRef,
};

use super::{
    DEAD, add, claim, id_of, lost,
    queue::{self, advance, watched},
    reads, release, seat_at,
};
use crate::{
    config,
    kernel::{self, LiveTask},
    maps::{self, ACCEPTORS, BLANK_STACK, BLANK_THREAD, WANTED, WATCHED},
    stats,
    values::{Lookup as _, MapValue, field},
};

/// `BPF_NOEXIST`.
const NEW: u64 = 1;
/// In the place of a listener whose seat was given back: no slot is this one.
const NO_LISTENER: ListenerRef = ListenerRef { slot: u32::MAX, generation: u32::MAX };

/// The current thread accepts from the listener: it is one of its acceptors from here on.
#[inline(always)]
pub(crate) fn accepts(listener: ListenerRef) {
    let Some(queue) = watched(listener) else { return };
    let (tid, start_ns) = kernel::current_thread();
    let thread = match WATCHED.value(&tid) {
        Some(thread) => thread,
        None => match open(tid, start_ns, current_name()) {
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
    // The seat begins now, whoever has the records.
    let claimed = claim(field!(thread.claims));
    if !(claimed && take_seat(thread, listener, queue)) {
        wait_for_seat(thread, tid, listener, queue);
    }
    if claimed {
        release(field!(thread.claims));
    }
}

/// Whose the current thread is.
#[inline(always)]
fn current_name() -> ThreadName {
    let (pid, visible) = kernel::current_ids();
    let (initial_pid, comm) = (kernel::current_process(), kernel::current_name());
    ThreadName { pid, tid: visible, initial_pid, ended: 0, comm }
}

/// A task is visited: user space knows of which listeners it is an acceptor.
#[inline(always)]
pub(crate) fn visit(task: LiveTask) {
    let (_, visible) = task.ids();
    let Some(wanted) = WANTED.value(&visible) else { return };
    let tid = task.tid();
    let (thread, new) = if let Some(thread) = WATCHED.value(&tid) {
        (thread, false)
    } else {
        let (pid, visible) = task.ids();
        let name = ThreadName { pid, tid: visible, initial_pid: task.process(), ended: 0, comm: task.name() };
        let Some(thread) = open(tid, task.start_ns(), name) else { return };
        // If it left its CPU for the last time while it was visited, that was before it had a record: it would be an
        // acceptor for ever.
        if task.state() & DEAD != 0 {
            if let Some(name) = ACCEPTORS.value(&id_of(thread, tid)) {
                field!(name.ended).set(1);
            }
            let _ = WATCHED.remove(&tid);
            return;
        }
        (thread, true)
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
    for index in 0..SEATS {
        // Read each time: of a bound that is in a register, old verifiers do not know that the loop ends there.
        if index as u64 >= field!(wanted.count).get() {
            break;
        }
        let listener = field!(wanted.listeners).wrapping(index).get();
        let Some(queue) = watched(listener) else { continue };
        if config::blames_readers() && field!(wanted.only).get() >> index & 1 != 0 {
            field!(queue.only.start_ns).set(field!(thread.start_ns).get());
            field!(queue.only.tid).set(u64::from(tid));
        }
        if !is_seated(thread, listener) && claim(field!(thread.claims)) {
            if !take_seat(thread, listener, queue) {
                wait_for_seat(thread, tid, listener, queue);
            }
            release(field!(thread.claims));
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

/// A record for a thread. Its name is no closure: the compiler would make that a function of its own.
#[inline(always)]
fn open(tid: u32, start_ns: u64, name: ThreadName) -> Option<MapValue<WatchedThread>> {
    let blank = BLANK_THREAD.get(0)?;
    if tid == 0 || WATCHED.insert(&tid, blank, NEW).is_err() {
        lost(BlameLoss::Threads);
        return None;
    }
    let thread = WATCHED.value(&tid)?;
    field!(thread.kernel_stack).set(NO_STACK);
    field!(thread.user_stack).set(NO_STACK);
    field!(thread.start_ns).set(start_ns);
    if ACCEPTORS.insert(&ThreadId { start_ns, tid: u64::from(tid) }, &name, 0).is_err() {
        lost(BlameLoss::Threads);
    }
    Some(thread)
}

/// Whether a thread has a seat, or a note that it gets one.
#[inline(always)]
fn is_seated(thread: MapValue<WatchedThread>, listener: ListenerRef) -> bool {
    if field!(thread.is_pending).get() != 0 && field!(thread.pending).get() == listener {
        return true;
    }
    has_seat(thread, listener)
}

#[inline(always)]
fn has_seat(thread: MapValue<WatchedThread>, listener: ListenerRef) -> bool {
    for index in 0..SEATS {
        // Read each time, as above.
        if index as u32 >= field!(thread.seated).get() {
            break;
        }
        let seat = field!(thread.seats).wrapping(index);
        if field!(seat.listener).get() == listener {
            return true;
        }
    }
    false
}

/// Gives a thread that has been claimed a seat; `false` if another CPU has the listener's record.
#[inline(always)]
fn take_seat(thread: MapValue<WatchedThread>, listener: ListenerRef, queue: MapValue<QueueTime>) -> bool {
    // Another CPU may have been first.
    if is_seated(thread, listener) {
        return true;
    }
    if field!(thread.seated).get() + field!(thread.is_pending).get() >= SEATS as u32 {
        lost(BlameLoss::Seats);
        return true;
    }
    // A reader is charged with its own connections: nothing is divided.
    if config::blames_readers() {
        sit(thread, listener, 0);
        return true;
    }
    let Some(share) = queue::join(queue) else { return false };
    sit(thread, listener, share);
    true
}

/// Notes that a thread has a seat from now on.
#[inline(always)]
fn wait_for_seat(thread: MapValue<WatchedThread>, tid: u32, listener: ListenerRef, queue: MapValue<QueueTime>) {
    if config::blames_readers() {
        // Nothing is lost: the next look at its sum has all.
        return;
    }
    if field!(thread.is_pending).get() != 0 {
        // Of another listener. It takes the seat at the next accept.
        lost(BlameLoss::Late);
        return;
    }
    let Some(note) = queue::note_joining(queue, id_of(thread, tid)) else {
        lost(BlameLoss::Late);
        return;
    };
    field!(thread.pending).set(listener);
    field!(thread.note).set(note);
    // Last: it says that the other two are there.
    field!(thread.is_pending).set(1);
}

/// Takes the seat that a thread has a note of, once the note was heeded. The thread has been claimed.
#[inline(always)]
pub(super) fn redeem(thread: MapValue<WatchedThread>) {
    if field!(thread.is_pending).get() == 0 {
        return;
    }
    let listener = field!(thread.pending).get();
    let Some(queue) = watched(listener) else {
        field!(thread.is_pending).set(0);
        return;
    };
    let note = queue::note(queue, field!(thread.note).get());
    if field!(note.kind).get() == JOINS {
        let _ = advance(queue);
    }
    if field!(note.kind).get() != JOINED {
        return;
    }
    if has_seat(thread, listener) || field!(thread.seated).get() >= SEATS as u32 {
        // Two CPUs were at it at once: one seat is enough, or there is no other.
        lost(BlameLoss::Seats);
        field!(note.until_ns).set(stats::now());
    } else {
        sit(thread, listener, field!(note.share_ns).get());
        queue::free(queue, note);
    }
    field!(thread.is_pending).set(0);
}

#[inline(always)]
fn sit(thread: MapValue<WatchedThread>, listener: ListenerRef, share_ns: u64) {
    let index = field!(thread.seated).get();
    let seat = field!(thread.seats).wrapping(index as usize);
    field!(seat.listener).set(listener);
    field!(seat.share_ns).set(share_ns);
    field!(seat.running_ns).set(0);
    // Last: the hooks look at seats that are taken.
    field!(thread.seated).set(index + 1);
}

/// The thread will never run again: it is no acceptor any more.
#[inline(always)]
pub(super) fn ends(thread: MapValue<WatchedThread>, tid: u32) {
    let id = id_of(thread, tid);
    if !config::blames_readers()
        && field!(thread.is_pending).get() != 0
        && let Some(queue) = watched(field!(thread.pending).get())
    {
        let note = queue::note(queue, field!(thread.note).get());
        field!(note.until_ns).set(stats::now());
        field!(thread.is_pending).set(0);
    }
    let mut stays = false;
    for index in 0..SEATS {
        let Some(seat) = seat_at(thread, index) else { break };
        let Some(queue) = watched(field!(seat.listener).get()) else { continue };
        let share = field!(seat.share_ns).get();
        let running = field!(seat.running_ns).get();
        let last = if config::blames_readers() {
            Some(share.wrapping_add(reads::gained(id, field!(seat.listener).get())))
        } else {
            queue::leave(queue)
        };
        if let Some(last) = last {
            let running = running + last.wrapping_sub(share);
            if running != 0 {
                add(thread, tid, seat, queue, (RUNNING, NO_STACK, NO_STACK), running);
            }
        } else if queue::note_leaving(queue, share.wrapping_sub(running), id).is_none() {
            // Nothing else can be done: it is charged with being dead, as running.
            lost(BlameLoss::Late);
            field!(thread.state).set(RUNNING);
            stays = true;
            continue;
        }
        field!(seat.listener).set(NO_LISTENER);
    }
    if let Some(name) = ACCEPTORS.value(&id) {
        field!(name.ended).set(1);
    }
    if !stays {
        let _ = WATCHED.remove(&tid);
    }
}
