//! The record that the tracepoints of a system call's exit pass to programs: `struct syscall_trace_exit`.

/// Offset of the result in it. The verifier lets programs read their context at constant offsets only. So the loader
/// does not resolve this one: it compares it with the running kernel's BTF.
pub const RESULT: usize = 16;
