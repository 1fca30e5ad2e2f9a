//! The table of capabilities: what each brings, and what its absence shows as.

use caps::Capability;

/// For how long a capability is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Until the probes are attached. After that no thread has it.
    Start,
    /// As long as it runs, by one thread.
    Always,
}

/// A capability and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which.
    pub capability: Capability,
    /// What it brings.
    pub brings: &'static str,
    /// What is missing without it.
    pub without: &'static str,
    /// How long it is needed.
    pub needed: Span,
}

/// In order of benefit. Found out by starting listentop with each and without: see docs/rights.md.
pub const GRANTS: [Grant; 6] = [
    Grant {
        capability: Capability::CAP_BPF,
        brings: "probes: loading programs and making maps",
        without: "no probes: only what sock_diag shows",
        needed: Span::Start,
    },
    Grant {
        capability: Capability::CAP_PERFMON,
        brings: "probes: programs that trace the kernel",
        without: "no probes: only what sock_diag shows",
        needed: Span::Start,
    },
    Grant {
        capability: Capability::CAP_DAC_READ_SEARCH,
        brings: "system call tracepoints (tracefs is root's) and, with CAP_SYS_PTRACE, owners of other users' sockets",
        without: "accepts and accept waits are unavailable, and reads by splice not counted, where system call tracepoints carry them; \
                  owners are unknown",
        needed: Span::Always,
    },
    Grant {
        capability: Capability::CAP_SYS_PTRACE,
        brings: "owners of other users' sockets; which network namespace their processes are in",
        without: "owners are unknown; namespaces' counters may be",
        needed: Span::Always,
    },
    Grant {
        capability: Capability::CAP_SYS_ADMIN,
        brings: "listeners of other network namespaces that are there at the start; time that the probes take; tracefs where it is \
                 not mounted",
        without: "other namespaces' listeners are seen only if they open later; probe time is unavailable",
        needed: Span::Always,
    },
    Grant {
        capability: Capability::CAP_SYSLOG,
        brings: "addresses of kernel functions, which distinguish ignored packets from drops",
        without: "drops are an upper bound where TCP_DEFER_ACCEPT is used",
        needed: Span::Start,
    },
];
