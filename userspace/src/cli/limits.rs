//! What the user's shell, or a service manager, limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard one: listentop holds one per program, map and hook, and one
/// per network namespace. The soft limit of 1,024 protects programs that use select(2), and this one does not.
pub(super) fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // If that fails, the soft limit may do.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
