//! What the kernel passes to a program.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    EbpfContext,
    programs::{BtfTracePointContext, FEntryContext, FExitContext, TracePointContext},
};
use listentop_abi::syscall;

use crate::kernel::{Completion, LiveSocket, LiveTask, MaybeGone, Packet};

/// Declares programs: each by its kind, what it is attached to, and its name, which is also the name of the function
/// with its body. With [`crate::config::empty`] the program returns at once.
///
/// aya's attributes make a function with the name that the object shows, and put this one inside. So the module can
/// have a function with the body's name.
macro_rules! programs {
    ($($kind:ident $(($function:tt))? $name:ident($context:ty);)*) => {
        $(const _: () = {
            #[aya_ebpf::macros::$kind$((function = $function))?]
            #[inline(always)]
            fn $name(context: $context) {
                if $crate::config::empty() {
                    return;
                }
                self::$name(&context);
            }
        };)*
    };
}
pub(crate) use programs;

/// Arguments of functions and tracepoints, by position.
///
/// # Trust
/// The kernel has a type for each argument, from its own BTF, and the verifier follows it. Code that uses an argument
/// as something else does not load. The remaining question is how long an argument lives: the kernel holds what it
/// passes at least until the program returns.
pub(crate) trait Arguments: EbpfContext {
    /// A word.
    fn word(&self, position: usize) -> u64;

    /// A socket, which must not be null.
    #[inline(always)]
    fn socket(&self, position: usize) -> LiveSocket {
        // SAFETY: an argument of this program that the verifier knows, see above.
        unsafe { LiveSocket::new(self.word(position) as *const u8) }
    }

    /// A socket as an address, null or not, for reads that may fail.
    #[inline(always)]
    fn address(&self, position: usize) -> MaybeGone {
        MaybeGone::of(self.word(position) as *const u8)
    }

    /// A packet, which must not be null.
    #[inline(always)]
    fn packet(&self, position: usize) -> Packet {
        // SAFETY: as for `socket`.
        unsafe { Packet::new(self.word(position) as *const u8) }
    }

    /// A task, which must not be null.
    #[inline(always)]
    fn task(&self, position: usize) -> LiveTask {
        // SAFETY: as for `socket`.
        unsafe { LiveTask::new(self.word(position) as *const u8) }
    }

    /// A completion of io_uring.
    #[inline(always)]
    fn completion(&self, position: usize) -> Completion {
        // SAFETY: as for `socket`.
        unsafe { Completion::new(self.word(position) as *const u8) }
    }
}

impl Arguments for BtfTracePointContext {
    #[inline(always)]
    fn word(&self, position: usize) -> u64 {
        self.arg(position)
    }
}

impl Arguments for FEntryContext {
    #[inline(always)]
    fn word(&self, position: usize) -> u64 {
        self.arg(position)
    }
}

impl Arguments for FExitContext {
    #[inline(always)]
    fn word(&self, position: usize) -> u64 {
        self.arg(position)
    }
}

/// Argument `index` of the function that a fentry or fexit program is attached to, for a position that is known only at
/// load. Behind the last argument comes what the function returned. 0 for a position that no function has.
///
/// The kernel lets a program read its context at constant offsets only. A compiler that sees eight loads merges them
/// into one with a computed offset: hence the assembly. `index` is frozen, so the verifier keeps one of the branches.
#[inline(always)]
pub(crate) fn argument(context: &impl EbpfContext, index: u32) -> u64 {
    let context: *const c_void = context.as_ptr();
    macro_rules! load {
        ($offset:literal) => {{
            let value: u64;
            // SAFETY: one load from the context, whose bounds the verifier checks for the position that is frozen.
            unsafe {
                asm!(concat!("{0} = *(u64 *)({1} + ", $offset, ")"), out(reg) value, in(reg) context, options(nostack))
            };
            value
        }};
    }
    match index {
        0 => load!("0"),
        1 => load!("8"),
        2 => load!("16"),
        3 => load!("24"),
        4 => load!("32"),
        5 => load!("40"),
        6 => load!("48"),
        7 => load!("56"),
        _ => 0,
    }
}

/// What the system call returns, for a program on its exit. Read in place: aya's `read_at` would call a helper to copy
/// it.
#[inline(always)]
pub(crate) fn syscall_result(context: &TracePointContext) -> i64 {
    // SAFETY: the record of such a tracepoint is long enough, which the verifier checks, and the loader compares the
    // offset with the kernel's BTF. Only this program uses it during the run.
    unsafe { context.as_ptr().byte_add(syscall::RESULT).cast::<i64>().read_volatile() }
}
