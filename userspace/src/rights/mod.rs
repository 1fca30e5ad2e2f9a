//! Which capabilities listentop has, what each provides, and giving up those that are no longer needed.
//!
//! Capabilities belong to threads. Once the probes are attached the thread that samples, and every thread started from
//! it, needs none. A few small threads keep what only they need: `owners` reads /proc/PID/fd, `names`
//! files of container runtimes; `rights` (see [`privileged`]) enters namespaces, reads their counters, and has the
//! kernel time the probes. [`tracers`] of the same user are kept out from the start.

mod keeper;
pub mod sandbox;
mod table;
mod thread;
pub mod tracers;
mod trial;

use std::sync::OnceLock;

use caps::{CapSet, Capability, CapsHashSet};

pub use keeper::privileged;
pub use table::{GRANTS, Grant, Span};

/// What probes are loaded and attached with.
const PROBES: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// What the thread that reads /proc/PID/fd needs. Only its owner may list that directory (mode 0500). Reading its links
/// takes the right to trace the process (ptrace(2), PTRACE_MODE_READ).
const OWNERS: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE];

/// What the thread `rights` needs: setns(2) and BPF_ENABLE_STATS ask for CAP_SYS_ADMIN, links in /proc/PID/ns for
/// CAP_SYS_PTRACE.
const KEEPER: [Capability; 3] =
    [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// Why capabilities could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The kernel refuses it.
    #[error("capabilities cannot be given up: {0}")]
    Refused(String),
    /// It takes another thread.
    #[error("capabilities cannot be given up: no thread can be started: {0}")]
    NoThread(#[source] std::io::Error),
}

/// The effective capabilities that the process had at the first call, before any was given up.
pub fn held() -> &'static CapsHashSet {
    static HELD: OnceLock<CapsHashSet> = OnceLock::new();
    HELD.get_or_init(|| caps::read(None, CapSet::Effective).unwrap_or_default())
}

/// Whether the process had a capability, or one that stands for it (capabilities(7)), at its start.
#[must_use]
pub fn has(capability: Capability) -> bool {
    let also = match capability {
        Capability::CAP_BPF | Capability::CAP_PERFMON => Some(Capability::CAP_SYS_ADMIN),
        Capability::CAP_DAC_READ_SEARCH => Some(Capability::CAP_DAC_OVERRIDE),
        _ => None,
    };
    held().contains(&capability) || also.is_some_and(|also| held().contains(&also))
}

/// What would help where something was refused that the `wanted` capabilities allow: the missing ones, by name. If none
/// is missing, where else to look.
///
/// Meant for the end of a sentence: `CAP_BPF and CAP_PERFMON would help`.
#[must_use]
pub fn remedy(wanted: &[Capability]) -> String {
    remedy_for(wanted, has)
}

fn remedy_for(wanted: &[Capability], has: impl Fn(Capability) -> bool) -> String {
    let missing: Vec<String> = wanted.iter().filter(|wanted| !has(**wanted)).map(ToString::to_string).collect();
    if missing.is_empty() {
        let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        format!("{} would allow it, but a security policy or a container's limits refuse it", names.join(" and "))
    } else {
        format!("{} would help", missing.join(" and "))
    }
}

/// What would help where BPF programs may not be loaded.
pub(crate) fn remedy_for_probes() -> String {
    let missing: Vec<String> = PROBES.into_iter().filter(|wanted| !has(*wanted)).map(|it| it.to_string()).collect();
    let missing = missing.join(" and ");
    match (missing.is_empty(), nix::unistd::geteuid().is_root()) {
        (true, _) => remedy(&PROBES),
        (false, false) => format!("run it as root (sudo listentop), or with {missing}, which it lacks"),
        (false, true) => format!("this root lacks {missing}: a container or user namespace withholds it"),
    }
}

/// Gives up what the calling thread does not need to sample once the source has started: its effective, permitted,
/// inheritable, ambient and, where CAP_SETPCAP allows it, bounding capabilities; and sets `no_new_privs`. Threads
/// started afterwards have no more than it has.
///
/// To be called once, on the thread that started the source, before it starts others. A thread without capabilities
/// tries what sampling still needs: CAP_BPF for every bpf(2) call before Linux 5.19 where
/// kernel.unprivileged_bpf_disabled is set, CAP_SYS_PTRACE where /proc hides other users' processes (`hidepid`).
///
/// Where the level of measuring may change (`changes_level`), one thread keeps what attaching takes, if CAP_SYS_ADMIN
/// does not stand for it anyway.
///
/// Returns those that the thread keeps.
///
/// # Errors
/// If the kernel refuses to take them, or no thread can be started. Nothing else was given up then.
pub fn drop_after_attach(changes_level: bool) -> Result<Vec<Capability>, RightsError> {
    let held = held();
    let needed = trial::needed_to_sample(held)?;
    let mut kept: Vec<Capability> = KEEPER.into_iter().filter(|kept| held.contains(kept)).collect();
    if changes_level && !held.contains(&Capability::CAP_SYS_ADMIN) {
        // perf_event_open(2) asks for the one always, bpf(2) for the other where it did in the trial.
        let bpf = needed.contains(&Capability::CAP_BPF).then_some(Capability::CAP_BPF);
        kept.extend(bpf.into_iter().chain([Capability::CAP_PERFMON]).filter(|kept| held.contains(kept)));
    }
    if !kept.is_empty() {
        keeper::start(kept)?;
    }
    thread::restrict(&needed)?;
    Ok(needed)
}

/// Leaves the calling thread, which looks for owners, with what that needs.
pub(crate) fn restrict_to_owners() -> Result<(), RightsError> {
    thread::restrict(&OWNERS)
}

/// What the thread that names functions needs: the files that other users' processes have mapped, through links of
/// /proc/PID/map_files, and the kernel's symbols.
#[cfg(feature = "blame")]
const SYMBOLS: [Capability; 4] =
    [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE, Capability::CAP_SYS_ADMIN, Capability::CAP_SYSLOG];

/// Leaves the calling thread, which names functions, with what that needs.
#[cfg(feature = "blame")]
pub(crate) fn restrict_to_symbols() -> Result<(), RightsError> {
    thread::restrict(&SYMBOLS)
}

/// Leaves the calling thread, which attaches blame's programs later, with what that needs: the rights of the probes,
/// and those for the ids of system call tracepoints.
#[cfg(feature = "blame")]
pub(crate) fn restrict_to_blame() -> Result<(), RightsError> {
    let mut needed = vec![Capability::CAP_DAC_READ_SEARCH];
    needed.extend(PROBES);
    if PROBES.iter().any(|probes| !held().contains(probes)) {
        // It stands for them.
        needed.push(Capability::CAP_SYS_ADMIN);
    }
    thread::restrict(&needed)
}

/// Leaves the calling thread, which reads files of container runtimes, with what that needs.
pub(crate) fn restrict_to_files() -> Result<(), RightsError> {
    thread::restrict(&[Capability::CAP_DAC_READ_SEARCH])
}

/// Leaves the calling thread with nothing.
pub(crate) fn restrict_to_nothing() -> Result<(), RightsError> {
    thread::restrict(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_the_threat_model_are_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = std::fs::read_to_string(root.join("SECURITY.md")).expect("it is there");
        let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("| adversary")).skip(2).collect();
        let rows: Vec<&str> = rows.into_iter().take_while(|line| line.starts_with('|')).collect();
        assert!(rows.len() > 8, "{rows:?}");
        for row in rows {
            let tests = row.trim_end_matches(" |").rsplit(" | ").next().expect("its last column");
            for path in tests.split(", ").map(|path| path.trim_matches('`')) {
                assert!(root.join(path).exists(), "{path}: {row}");
            }
        }
    }

    #[test]
    fn only_what_is_missing_is_named() {
        let wanted = [Capability::CAP_BPF, Capability::CAP_PERFMON];
        assert_eq!(remedy_for(&wanted, |_| false), "CAP_BPF and CAP_PERFMON would help");
        assert_eq!(remedy_for(&wanted, |held| held == Capability::CAP_BPF), "CAP_PERFMON would help");
        assert!(remedy_for(&wanted, |_| true).contains("security policy"));
    }
}
