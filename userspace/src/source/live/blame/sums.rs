//! The sums of a listener's wait and a thread's charges at the end of the watch, when no probe runs any more.

use listentop_abi::{
    blame::{ASLEEP, ChargeKey, JOINED, JOINS, LEFT, NO_STACK, QueueTime, RUNNABLE, RUNNING, Seat, WatchedThread},
    listener::ListenerRef,
};

/// The sums until `end_ns`, with what has accrued since they were last made: divided at the moments that threads left
/// notes of.
pub(super) fn finished(mut queue: QueueTime, end_ns: u64) -> QueueTime {
    for index in 0..queue.notes.len() {
        let note = queue.notes[index];
        let mut kind = note.kind;
        if kind == JOINS {
            divide(&mut queue, note.since_ns.min(end_ns));
            queue.acceptors += 1;
            queue.notes[index].share_ns = queue.share_ns;
            kind = JOINED;
        }
        if kind == JOINED && note.until_ns != 0 {
            divide(&mut queue, note.until_ns.min(end_ns));
            queue.acceptors -= 1;
            queue.notes[index].last_share_ns = queue.share_ns;
            kind = LEFT;
        }
        queue.notes[index].kind = kind;
    }
    divide(&mut queue, end_ns);
    queue
}

/// Divides the wait up to a moment.
fn divide(queue: &mut QueueTime, until_ns: u64) {
    let wait = u64::from(queue.depth) * until_ns.saturating_sub(queue.until_ns);
    queue.total_ns += wait;
    let whole = wait + if queue.acceptors == 0 { 0 } else { queue.rest };
    match whole.checked_div(queue.acceptors) {
        Some(share) => {
            queue.share_ns += share;
            queue.rest = whole % queue.acceptors;
        }
        None => queue.nobody_ns += wait,
    }
    queue.until_ns = queue.until_ns.max(until_ns);
}

/// A thread's seats, and the one that it has a note of.
pub(super) fn seats<'a>(
    thread: &WatchedThread,
    queue: impl Fn(ListenerRef) -> Option<&'a QueueTime>,
) -> impl Iterator<Item = Seat> {
    let pending = (thread.is_pending != 0).then_some(thread.pending).and_then(|listener| {
        let note = queue(listener)?.notes.get(thread.note as usize)?;
        (note.kind == JOINED).then_some(Seat { listener, share_ns: note.share_ns, running_ns: 0 })
    });
    let seats = thread.seats;
    seats.into_iter().take(thread.seated as usize).chain(pending)
}

/// What a thread has not been charged yet: since its last change of state, and what it ran since its last sample.
pub(super) fn open_charges(tid: u32, thread: &WatchedThread, seat: &Seat, queue: &QueueTime) -> Vec<(ChargeKey, u64)> {
    let key = |state, kernel_stack, user_stack| ChargeKey {
        slot: seat.listener.slot,
        generation: seat.listener.generation,
        start_ns: thread.start_ns,
        tid,
        state,
        kernel_stack,
        user_stack,
    };
    let accrued = queue.share_ns.saturating_sub(seat.share_ns);
    let open = match thread.state {
        ASLEEP => key(ASLEEP, thread.kernel_stack, thread.user_stack),
        RUNNABLE => key(RUNNABLE, NO_STACK, NO_STACK),
        _ => key(RUNNING, NO_STACK, NO_STACK),
    };
    vec![(open, accrued), (key(RUNNING, NO_STACK, NO_STACK), seat.running_ns)]
}

/// The last charges of threads that left while another CPU had the listener's record.
pub(super) fn last_charges(queue: &QueueTime) -> impl Iterator<Item = (ChargeKey, u64)> {
    queue.notes.iter().filter(|note| note.kind == LEFT).map(|note| {
        let key = ChargeKey {
            slot: queue.listener.slot,
            generation: queue.listener.generation,
            start_ns: note.thread.start_ns,
            tid: note.thread.tid as u32,
            state: RUNNING,
            kernel_stack: NO_STACK,
            user_stack: NO_STACK,
        };
        (key, note.last_share_ns.saturating_sub(note.share_ns))
    })
}

#[cfg(test)]
mod tests {
    use listentop_abi::blame::{Note, ThreadId};

    use super::*;

    fn queue() -> QueueTime {
        QueueTime {
            depth: 3,
            until_ns: 1_000,
            acceptors: 2,
            share_ns: 500,
            rest: 1,
            total_ns: 1_001,
            ..Default::default()
        }
    }

    #[test]
    fn what_is_open_is_divided_among_the_acceptors() {
        let done = finished(queue(), 1_101);
        assert_eq!((done.total_ns, done.share_ns, done.nobody_ns), (1_001 + 303, 500 + 152, 0));
        let done = finished(QueueTime { acceptors: 0, ..queue() }, 1_101);
        assert_eq!((done.share_ns, done.nobody_ns), (500, 303));
        assert_eq!(finished(queue(), 900).total_ns, 1_001, "it was summed later than that");
    }

    #[test]
    fn a_thread_is_charged_what_it_does_and_what_it_ran() {
        let thread = WatchedThread { state: ASLEEP, kernel_stack: 7, user_stack: 8, ..Default::default() };
        let seat = Seat { share_ns: 400, running_ns: 30, ..Default::default() };
        let charges = open_charges(5, &thread, &seat, &queue());
        let of = |state| charges.iter().filter(|(key, _)| key.state == state).map(|(_, ns)| ns).sum::<u64>();
        assert_eq!((of(ASLEEP), of(RUNNING)), (100, 30));
        assert_eq!((charges[0].0.kernel_stack, charges[0].0.user_stack, charges[0].0.tid), (7, 8, 5));
    }

    /// A third one joins at 1,100 and, if so, leaves at 1,200, which nobody has summed.
    fn noted(until_ns: u64) -> QueueTime {
        let thread = ThreadId { start_ns: 9, tid: 77 };
        let mut queue = QueueTime { rest: 0, ..queue() };
        queue.notes[2] = Note { claims: 1, kind: JOINS, since_ns: 1_100, until_ns, thread, ..Note::default() };
        queue
    }

    #[test]
    fn who_joined_unseen_has_its_share_from_that_moment_on() {
        let done = finished(noted(0), 1_300);
        // Two share 300, and three the 600 that follow.
        assert_eq!((done.total_ns, done.share_ns, done.acceptors), (1_001 + 900, 500 + 150 + 200, 3));
        let waiting = WatchedThread { state: ASLEEP, is_pending: 1, note: 2, ..Default::default() };
        let seats: Vec<Seat> = seats(&waiting, |_| Some(&done)).collect();
        let charged: u64 = open_charges(77, &waiting, &seats[0], &done).iter().map(|(_, ns)| ns).sum();
        assert_eq!((seats.len(), charged), (1, 200));
        assert_eq!(last_charges(&done).count(), 0);
    }

    #[test]
    fn who_left_unseen_is_charged_up_to_that_moment() {
        let done = finished(noted(1_200), 1_300);
        assert_eq!((done.share_ns, done.acceptors), (500 + 150 + 100 + 150, 2));
        let charges: Vec<(ChargeKey, u64)> = last_charges(&done).collect();
        assert_eq!((charges[0].0.tid, charges[0].0.state, charges[0].1), (77, RUNNING, 100));
        // Two who were there all the time, and the third: all of it.
        assert_eq!(2 * (done.share_ns - 500) + charges[0].1, 900);
    }
}
