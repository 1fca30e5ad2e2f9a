//! Memory that runs out (ulimit -v) ends the program as every other failure does: by one line and an exit code of its
//! own. Rust's runtime would abort it, and leave a terminal in raw mode.

use std::alloc::{GlobalAlloc, Layout, System};

/// The usual allocator, which ends the program when it has nothing left.
struct OrEnd;

#[global_allocator]
static ALLOCATOR: OrEnd = OrEnd;

// SAFETY: every call goes to the system's allocator, and what it returns is passed on.
unsafe impl GlobalAlloc for OrEnd {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        or_end(unsafe { System.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Has all threads share two of the C library's heaps, rather than have up to eight for each CPU. One thread makes the
/// samples that another drops, so that each heap of its own keeps what was freed: with 10,000 used listeners, 40 MiB of
/// 250. And has large blocks given back when they are freed: by itself the C library learns from each that such are
/// wanted again, and keeps up to 64 MiB. To be called before there are threads.
pub(crate) fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        const HEAPS: libc::c_int = 2;
        /// Larger than what each refresh allocates and frees.
        const LARGE: libc::c_int = 1 << 20;
        const KEPT: libc::c_int = 4 << 20;
        for (option, value) in
            [(libc::M_ARENA_MAX, HEAPS), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, KEPT)]
        {
            // SAFETY: takes numbers only (mallopt(3)), and no other thread allocates meanwhile.
            unsafe { libc::mallopt(option, value) };
        }
    }
}

fn or_end(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        listentop::cli::out_of_memory();
    }
    block
}
