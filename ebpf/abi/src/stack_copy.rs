//! Copies of the stacks of acceptors, of which user space makes the callers of a function: most distributions build
//! their servers without frame pointers, and the kernel follows nothing else.
//!
//! A copied stack has a number of its own in the place of the number that the kernel gives it. So what is charged to it
//! is exact. Of a thread that sleeps very often only some stacks are copied, at random: [`NOT_COPIED`] are the others.

/// A part of the copy: what is not mapped ends it. Pages are larger on some machines, never smaller.
pub const PAGE: usize = 4096;
/// Pages that are copied, at most: 16 KiB from the stack pointer on, and what is left of its own page.
pub const PAGES: usize = 5;
/// Words of a thread's registers, as `ptrace` shows them: as many as aarch64 has.
pub const REGISTERS: usize = 34;
/// The number of a thread's first copy; stacks that the kernel numbers have lower ones.
pub const FIRST_COPY: i32 = 1 << 24;
/// In place of a stack's number: it was not copied.
pub const NOT_COPIED: i32 = -1002;
/// Bytes of the ring that brings the copies: nearly 400 of them, and user space looks four times a second.
pub const RING: u32 = 8 << 20;
/// Processes of which it is known how to follow their stacks, at most.
pub const MAX_PROCESSES: u32 = 4096;

/// How to follow the stacks of a process: by frame pointers, which all of its functions keep.
pub const BY_FRAME_POINTERS: u32 = 1;
/// By copies, since frame pointers lead astray.
pub const BY_COPIES: u32 = 2;

/// For how many nanoseconds a thread's chance of being copied holds.
pub const WINDOW_NS: u64 = 250_000_000;
/// Stacks of one thread that are copied in that time when it goes to sleep: 160 a second, some 5 µs each. With a
/// quarter of that, one long sleep among 40 short ones was copied once a second: too seldom to tell its share.
pub const OF_SLEEPS: u32 = 40;
/// And while it runs: as many as there are samples.
pub const OF_SAMPLES: u32 = 50;
/// Copies that one CPU makes in that time, at most: half a millisecond.
pub const OF_CPU: u32 = 100;

/// What was copied of a thread lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// Since when the chance below holds.
    pub since_ns: u64,
    /// Stacks that could have been copied since then.
    pub seen: u32,
    /// Those that were.
    pub taken: u32,
    /// The chance of one to be copied, of 2^32 - 1.
    pub chance: u32,
    /// Copies of the thread so far.
    pub count: u32,
}

/// What a CPU has copied lately.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyingCpu {
    /// Since when.
    pub since_ns: u64,
    /// Copies.
    pub taken: u64,
}

/// A copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackCopy {
    /// When the thread started.
    pub start_ns: u64,
    /// Its id in the initial PID namespace.
    pub tid: u32,
    /// Its process' id there.
    pub process: u32,
    /// The copy's number.
    pub number: i32,
    /// The number of what frame pointers lead to; an error where that was not looked at.
    pub by_frame_pointers: i32,
    /// The registers with which the thread left its program.
    pub registers: [u64; REGISTERS],
    /// Address of the first byte.
    pub address: u64,
    /// Pages that were copied.
    pub pages: u64,
    /// The bytes.
    pub bytes: [[u8; PAGE]; PAGES],
}

const _: () = assert!(size_of::<Copying>() == 24);
const _: () = assert!(size_of::<StackCopy>() == 24 + 8 * REGISTERS + 16 + PAGE * PAGES);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
    unsafe impl aya::Pod for super::Copying {}
}
