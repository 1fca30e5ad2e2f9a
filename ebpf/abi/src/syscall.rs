//! The record that the tracepoints of a system call's exit pass to programs: `struct syscall_trace_exit`.

/// Where the result is in it. The verifier lets programs read their context at fixed places only, so this is not
/// resolved at load but held against the running kernel's BTF there.
pub const RESULT: usize = 16;
