//! What the tests of real servers share: a server that ends with its test, clients that count what they do, and
//! listentop's report.

pub(crate) mod exchange;
pub(crate) mod flood;
pub(crate) mod load;
pub(crate) mod report;
pub(crate) mod server;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held by each test: tests that measure the machine's CPUs run alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that may run while others do. To be called first, and kept.
pub(crate) fn side_by_side() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that needs the machine for itself. To be called first, and kept.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
