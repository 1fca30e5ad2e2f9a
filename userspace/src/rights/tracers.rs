//! Keeping tracers of the same user out.
//!
//! The kernel compares a tracer's capabilities with those of the one thread that it asks for, and here most threads
//! have none. But threads share their memory: whoever traces one of them has them all, those with CAP_SYS_ADMIN too. Of
//! a process that is not dumpable (prctl(2), PR_SET_DUMPABLE) the kernel asks for CAP_SYS_PTRACE, whichever thread it
//! is.

use caps::CapSet;

/// Makes the process not dumpable, if it has any capability: no process without CAP_SYS_PTRACE may trace it, read its
/// memory, take its descriptors, or read where they lead (ptrace(2), `PTRACE_MODE_READ` and more). It leaves no core
/// dump. Its files in /proc belong to root; those that listentop itself reads stay readable.
///
/// To be called before anything else: until then every thread still has all capabilities, so that a tracer would need
/// them too. Without capabilities there is nothing to take, and the user's own debugger goes on working.
pub fn keep_out() {
    if !caps::read(None, CapSet::Permitted).is_ok_and(|held| held.is_empty()) {
        // It can fail for wrong numbers only.
        let _ = nix::sys::prctl::set_dumpable(false);
    }
}

/// Whether processes of the same user are kept out.
#[must_use]
pub fn are_kept_out() -> bool {
    nix::sys::prctl::get_dumpable().is_ok_and(|dumpable| !dumpable)
}
