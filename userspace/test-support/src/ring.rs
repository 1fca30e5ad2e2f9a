//! io_uring, one operation at a time.

use std::io;

use io_uring::{IoUring, cqueue, squeue};

use crate::skip;

/// A small ring; skips the test where io_uring is not allowed.
pub fn ring() -> IoUring {
    match IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            skip(format!("io_uring is not available (sysctl kernel.io_uring_disabled): {error}"))
        }
        Err(error) => panic!("io_uring: {error}"),
    }
}

/// Submits an operation.
pub fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: the descriptors and buffers that the entries name outlive their completion, which each test waits for.
    unsafe { ring.submission().push(entry) }.expect("room in the queue");
}

/// Waits for the next completion.
pub fn next(ring: &mut IoUring) -> cqueue::Entry {
    ring.submit_and_wait(1).expect("a completion");
    ring.completion().next().expect("a completion")
}

/// Waits for the next completion, which must be a success.
pub fn complete(ring: &mut IoUring) -> cqueue::Entry {
    succeeded(next(ring))
}

/// Waits for the completion of an operation that not every kernel's io_uring knows; `None` if this kernel does not.
pub fn complete_if_known(ring: &mut IoUring) -> Option<cqueue::Entry> {
    let entry = next(ring);
    (-entry.result() != libc::EINVAL).then(|| succeeded(entry))
}

fn succeeded(entry: cqueue::Entry) -> cqueue::Entry {
    assert!(entry.result() >= 0, "{}", io::Error::from_raw_os_error(-entry.result()));
    entry
}
