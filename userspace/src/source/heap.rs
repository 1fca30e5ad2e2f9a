//! Memory that was freed is given back to the kernel. The C library keeps most of it, for what may be allocated later.

use std::time::{Duration, Instant};

use super::machine;

/// Not more often than this: it walks over all that is free.
const EVERY: Duration = Duration::from_secs(10);
/// For the first time: what only the start needed is freed by then.
const FIRST: Duration = Duration::from_secs(2);
/// Only when the process has grown by so much.
const GROWTH: u64 = 2 << 20;

/// When memory was given back, and what was left.
#[derive(Debug)]
pub(super) struct Heap {
    due: Instant,
    left: u64,
}

impl Heap {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + FIRST, left: 0 }
    }

    /// Resident memory in bytes, after giving back what was freed, if that is due.
    pub(super) fn resident(&mut self) -> u64 {
        let resident = machine::resident_bytes();
        let now = Instant::now();
        if !self.is_due(resident, now) {
            return resident;
        }
        give_back();
        self.left = machine::resident_bytes();
        self.due = now + EVERY;
        self.left
    }

    fn is_due(&self, resident: u64, now: Instant) -> bool {
        now >= self.due && resident >= self.left.saturating_add(GROWTH)
    }
}

/// Gives back every page on which nothing is allocated. Only glibc has a call for it.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number only, and may be called at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_it_has_grown_and_not_often() {
        let mut heap = Heap::new();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(!heap.is_due(1 << 30, Instant::now()), "the start is going on");
        assert!(heap.is_due(1 << 30, later(3)));
        (heap.left, heap.due) = (100 << 20, later(10));
        assert!(!heap.is_due(200 << 20, later(9)), "a moment ago");
        assert!(heap.is_due(102 << 20, later(11)));
        assert!(!heap.is_due(101 << 20, later(11)), "there is hardly anything to be given back");
        assert!(!heap.is_due(90 << 20, later(11)));
    }

    /// Every block is smaller than a page, and one in a thousand stays: nothing is given back by itself.
    #[cfg(target_env = "gnu")]
    #[test]
    fn what_was_freed_is_given_back() {
        const MIB: u64 = 1 << 20;
        let mut heap = Heap { due: Instant::now(), left: 0 };
        let before = machine::resident_bytes();
        let mut blocks: Vec<Box<[u8]>> = (0..100_000).map(|_| vec![1; 1_000].into_boxed_slice()).collect();
        let full = machine::resident_bytes();
        assert!(full > before + 60 * MIB, "{before} and {full}");
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 1_000 == 0
        });
        let left = heap.resident();
        assert!(left + 60 * MIB < full, "{left} of {full}");
        assert_eq!(blocks.len(), 100);
        // Not once more so soon.
        assert!(!heap.is_due(left + 100 * MIB, Instant::now()));
    }
}
