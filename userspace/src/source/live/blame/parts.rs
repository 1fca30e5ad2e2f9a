//! Parts of what a thread is charged with, and how well their stacks are known.

use listentop_abi::blame::{ChargeKey, NO_STACK, RUNNING};

use super::sampling::Drawn;

/// How the callers in a stack are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Callers {
    /// By frame pointers.
    #[default]
    FramePointers,
    /// By unwinding a copy of this stack.
    Unwound,
    /// By unwinding some stacks of the same thread, in the same state and at the same place in the kernel: so only
    /// the sum over those is exact.
    Sampled,
}

/// Why a stack ends before its outermost function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// It is longer than what is copied.
    Copy,
    /// What is there as a caller's address is no code: the function before has no tables.
    Code,
    /// The function has no tables, or they need what was not copied.
    Tables,
    /// This stack was not copied, and none of its thread at its place in the kernel was.
    NotCopied,
}

/// A part of what is charged to a key of the kernel's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub(super) key: ChargeKey,
    /// Which unwound stack; `None`: the one that the key names.
    pub(super) stack: Option<usize>,
    pub(super) callers: Callers,
    pub(super) wait_ns: u64,
    /// What it is estimated from, if it ran: samples.
    pub(super) samples: Drawn,
    /// The variance of `wait_ns`, in square nanoseconds; 0 if it is exact.
    pub(super) variance: f64,
}

impl Part {
    /// All of a key, whose stack is what it names.
    pub(super) fn whole(key: ChargeKey, drawn: Drawn) -> Self {
        let Drawn { wait_ns, .. } = drawn;
        Self { key, stack: None, callers: Callers::FramePointers, wait_ns, samples: drawn, variance: 0.0 }
    }

    /// It ran, and a sample says where.
    fn is_sample(&self) -> bool {
        self.key.state == RUNNING && !(self.key.kernel_stack == NO_STACK && self.key.user_stack == NO_STACK)
    }
}

/// Says how far the parts of one thread's time on a CPU may be from the truth: all of it is sampled.
pub(super) fn estimate_running(parts: &mut [Part]) {
    let mut all = Drawn::default();
    parts.iter().filter(|part| part.is_sample()).for_each(|part| all.add(part.samples));
    for part in parts.iter_mut().filter(|part| part.is_sample()) {
        part.variance = part.samples.variance(all, all.wait_ns);
    }
}

/// Addresses by which functions are found: where the program is, and the calls that it is in. A return address is that
/// of what follows the call, which may be another function, or another one that is inlined.
pub(super) fn for_lookup(mut addresses: Vec<u64>) -> Vec<u64> {
    addresses.iter_mut().skip(1).for_each(|address| *address = address.saturating_sub(1));
    addresses
}
