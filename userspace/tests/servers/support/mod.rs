//! What the tests of real servers share: a server that ends with its test, clients that count what they do, and
//! listentop's report and blame.

pub(crate) mod blame;
pub(crate) mod depths;
pub(crate) mod exchange;
pub(crate) mod flood;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod slow_disk;
pub(crate) mod waits;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held by each test: tests that measure the machine's CPUs run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that may run while others do. To be called first, and kept.
pub(crate) fn side_by_side() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that needs the machine for itself, because it measures the CPUs or its server computes all the time:
/// beside two others, that server would want for a CPU, and reports would say so. To be called first, and kept.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
