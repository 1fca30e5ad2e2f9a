//! Queue-wait blame: the time that connections wait in accept queues, charged to what the acceptors do meanwhile.
//!
//! A listener's depth × time is divided among its acceptors as it accrues: [`QueueTime::share_ns`] is what one acceptor
//! has been given so far, if it was one from the beginning. A thread remembers the share at its last change of state.
//! The next change charges the difference: one subtraction, however long it took. So the charges add up to the
//! listener's total, whatever was missed in between.

use crate::{listener::ListenerRef, stack_copy::Copying};

/// Listeners that one thread is an acceptor of, at most.
pub const SEATS: usize = 8;
/// Threads that are watched, at most.
pub const MAX_THREADS: u32 = 4096;
/// Charges that differ, at most.
pub const MAX_CHARGES: u32 = 32_768;
/// Stacks that differ, at most.
pub const MAX_STACKS: u32 = 16_384;
/// And those whose place among them is taken, at most. The kernel gives a stack one place, by its hash: of 50 stacks,
/// two have the same one in 7 of 100 runs. Their numbers follow those of the others.
pub const MORE_STACKS: u32 = 4_096;
/// Frames of a stack, at most: the kernel's default (kernel.perf_event_max_stack) is 127.
pub const MAX_FRAMES: usize = 127;
/// Frames that are kept of the kernel stack of a thread that slept already.
pub const BEFORE_FRAMES: usize = 32;

/// What a thread does: not known yet.
pub const UNKNOWN: u32 = 0;
/// It is on a CPU.
pub const RUNNING: u32 = 1;
/// It waits for a CPU.
pub const RUNNABLE: u32 = 2;
/// It sleeps.
pub const ASLEEP: u32 = 3;
/// Number of states.
pub const STATES: usize = 4;

/// In place of a stack's number: no stack belongs to it.
pub const NO_STACK: i32 = -1000;
/// It slept already when the watch began.
pub const BEFORE: i32 = -1001;

/// Changes of who accepts from a listener that wait to be summed, at most. Each takes two CPUs at the same moment; but
/// a virtual CPU may be stopped while it has the record, and then many come.
pub const NOTES: usize = 4;

/// A [`Note`] is free.
pub const FREE: u64 = 0;
/// The thread became an acceptor at [`Note::since_ns`]; the wait is not divided accordingly yet.
pub const JOINS: u64 = 1;
/// It is one of [`QueueTime::acceptors`].
pub const JOINED: u64 = 2;
/// It is none any more; its last charge is known.
pub const LEFT: u64 = 3;

/// A thread became an acceptor, or ceased to be one, while another CPU had the listener's record. Whoever sums next
/// divides the wait at that moment: until then nothing behind it is divided.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Threads that want this note: who made it 1 has it.
    pub claims: u64,
    /// [`FREE`], [`JOINS`], [`JOINED`] or [`LEFT`]. Of what is not free only those who sum write it, and who frees it.
    pub kind: u64,
    /// When it became one.
    pub since_ns: u64,
    /// From [`JOINED`] on: [`QueueTime::share_ns`] up to which it has been charged.
    pub share_ns: u64,
    /// When it ceased to be one; 0: it has not.
    pub until_ns: u64,
    /// Of [`LEFT`]: [`QueueTime::share_ns`] at that moment.
    pub last_share_ns: u64,
    /// Which thread.
    pub thread: ThreadId,
}

/// The wait of a listener's connections; by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTime {
    /// Programs that want to write the record: who made it 1 may.
    pub claims: u64,
    /// Programs that wanted to and could not.
    pub missed: u64,
    /// Which listener it is about.
    pub listener: ListenerRef,
    /// Its `struct sock *`; 0 while it is not known.
    pub socket: u64,
    /// Not 0: it is watched. Written by user space.
    pub watched: u32,
    /// `sk_ack_backlog` at `until_ns`.
    pub depth: u32,
    /// Until when the sums below are complete; 0: nothing was summed yet.
    pub until_ns: u64,
    /// Threads among which the wait is divided now.
    pub acceptors: u64,
    /// What one acceptor was given, if it was one all the time.
    pub share_ns: u64,
    /// What is left of the division: less than `acceptors`.
    pub rest: u64,
    /// Depth × time since the watch began.
    pub total_ns: u64,
    /// Of that, while there was no acceptor.
    pub nobody_ns: u64,
    /// Of that, what found no room in the table of charges, by state.
    pub untold_ns: [u64; STATES],
    /// Programs that want to charge those who left: who made it 1 may.
    pub settles: u64,
    /// How many of `notes` are taken.
    pub noted: u64,
    /// What has yet to be summed.
    pub notes: [Note; NOTES],
    /// Of readers: the sum over all connections, see [`crate::reading`].
    pub unread: u64,
    /// Likewise: a thread that reads connections of which nobody is known to, because no other can. Written by the
    /// visit of it.
    pub only: ThreadId,
}

/// A listener that a thread is an acceptor of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// Which listener.
    pub listener: ListenerRef,
    /// [`QueueTime::share_ns`] at the thread's last change of state.
    pub share_ns: u64,
    /// What it was given while it ran, since the last sample of its stack.
    pub running_ns: u64,
}

/// An acceptor; by its id in the initial PID namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchedThread {
    /// Programs that want to write the record: who made it 1 may.
    pub claims: u64,
    /// When the thread started (`start_boottime`).
    pub start_ns: u64,
    /// What it does.
    pub state: u32,
    /// Seats that are taken.
    pub seated: u32,
    /// Stack on which it left the CPU, if it sleeps: the kernel's part.
    pub kernel_stack: i32,
    /// And the program's.
    pub user_stack: i32,
    /// A listener that it has a note of, and no seat yet.
    pub pending: ListenerRef,
    /// 1 if there is one.
    pub is_pending: u32,
    /// Which of the listener's notes.
    pub note: u32,
    /// The listeners.
    pub seats: [Seat; SEATS],
    /// Which of the stacks on which it goes to sleep were copied.
    pub sleeps: Copying,
    /// And of those that it has when a sample is taken.
    pub samples: Copying,
}

/// Listeners that user space knows a thread to be an acceptor of; by its id in listentop's PID namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// How many.
    pub count: u64,
    /// Which.
    pub listeners: [ListenerRef; SEATS],
    /// Bits: of those that no other thread can be a reader of.
    pub only: u64,
}

/// What a charge is for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChargeKey {
    /// Slot of the listener.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// When the thread started.
    pub start_ns: u64,
    /// Thread id in the initial PID namespace.
    pub tid: u32,
    /// What it did.
    pub state: u32,
    /// The kernel's part of the stack: a number, or an error of the kernel's, below 0.
    pub kernel_stack: i32,
    /// The program's part.
    pub user_stack: i32,
}

/// A charge.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Waiting, in nanoseconds.
    pub wait_ns: u64,
    /// How often it was added to.
    pub count: u64,
}

/// The kernel stack of a thread that slept already.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BeforeStack {
    /// Addresses, the innermost first; 0 behind the last.
    pub frames: [u64; BEFORE_FRAMES],
}

/// Whose an acceptor is, which stays known when it has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadName {
    /// Process id in listentop's PID namespace; 0 if it is not visible there.
    pub pid: u32,
    /// Thread id likewise.
    pub tid: u32,
    /// Process id in the initial PID namespace.
    pub initial_pid: u32,
    /// 1: it has ended.
    pub ended: u32,
    /// Command name, NUL-padded: its bytes in the order in which they are in memory.
    pub comm: [u64; 2],
}

/// Which thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ThreadId {
    /// When it started.
    pub start_ns: u64,
    /// Its id in the initial PID namespace; as wide as this, so that the key has no padding.
    pub tid: u64,
}

/// Index of a counter of what could not be done.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlameLoss {
    /// A stack found no room, or was another's place.
    Stacks = 0,
    /// A charge found no room: its state is known, its stack is not.
    Charges = 1,
    /// A thread found no room: it is no acceptor.
    Threads = 2,
    /// A thread is an acceptor of more than [`SEATS`] listeners.
    Seats = 3,
    /// A change of state was charged late, because another CPU had the record.
    Late = 4,
    /// A stack could not be copied: too many were.
    Copies = 6,
    /// A connection found no room: its unread bytes are left out.
    Connections = 5,
}

/// Number of such counters: those above, and room for more.
pub const BLAME_LOSSES: u32 = 8;

const _: () = assert!(size_of::<QueueTime>() == 128 + 64 * NOTES + 32);
const _: () = assert!(size_of::<Note>() == 64);
const _: () = assert!(size_of::<Seat>() == 24);
const _: () = assert!(size_of::<WatchedThread>() == 48 + 24 * SEATS + 48);
const _: () = assert!(size_of::<ChargeKey>() == 32);
const _: () = assert!(size_of::<Charge>() == 16);
const _: () = assert!(size_of::<ThreadId>() == 16);
const _: () = assert!(size_of::<ThreadName>() == 32);

#[cfg(feature = "user")]
mod pod {
    use super::{BeforeStack, Charge, ChargeKey, QueueTime, ThreadId, ThreadName, Wanted, WatchedThread};

    macro_rules! pod {
        ($($name:ty),*) => {
            // SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
            $(unsafe impl aya::Pod for $name {})*
        };
    }
    pod!(QueueTime, WatchedThread, Wanted, ChargeKey, Charge, BeforeStack, ThreadName, ThreadId);
}
