//! Facts about the machine.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use caps::Capability;
use listentop_btf::{KernelBtf, VMLINUX};
use serde::Serialize;

use crate::{
    rights::{self, sandbox::Sandbox},
    source::{
        Examination,
        live::{Refusal, Target, Trial},
    },
};

/// Something about the machine that has to do with measuring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// A word for it.
    pub name: &'static str,
    /// What it is; `None` if that cannot be found out.
    pub value: Option<String>,
    /// Its effect on measuring, or why it is not known; `None` if it has none.
    pub effect: Option<String>,
    /// What it keeps listentop from, where advice can be given.
    #[serde(skip)]
    pub hindrance: Option<Hindrance>,
}

/// Something about the machine that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// The kernel has no BTF, so there are no probes.
    NoBtf,
    /// The kernel interprets BPF programs, so probes are slow.
    NoJit,
}

fn fact(name: &'static str, value: impl Into<String>) -> Fact {
    Fact { name, value: Some(value.into()), effect: None, hindrance: None }
}

fn unknown(name: &'static str, why: impl Into<String>) -> Fact {
    Fact { name, value: None, effect: Some(why.into()), hindrance: None }
}

impl Fact {
    fn but(self, effect: impl Into<String>) -> Self {
        Self { effect: Some(effect.into()), ..self }
    }

    fn hinders(self, hindrance: Hindrance) -> Self {
        Self { hindrance: Some(hindrance), ..self }
    }
}

/// Where files are looked for: `/`, or a directory in a test.
struct Root(PathBuf);

impl Root {
    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.0.join(path)).map(|text| text.trim_end().to_owned())
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
}

/// All facts, which anybody may read.
pub(super) fn all(examination: &Examination) -> Vec<Fact> {
    let root = Root(PathBuf::from("/"));
    vec![
        kernel(),
        btf(Path::new(VMLINUX)),
        fentry(&examination.trials, rights::has),
        map_iterators(examination.walks_by_test_runs),
        tracefs(&root),
        lockdown(&root),
        security_modules(&root),
        unprivileged_bpf(&root),
        jit(&root),
        addresses(&root),
        user(&root),
        seccomp(&root),
        container(&root),
        sandbox(&Sandbox::trial()),
    ]
}

fn kernel() -> Fact {
    nix::sys::utsname::uname().map_or_else(
        |error| unknown("kernel", error.to_string()),
        |name| fact("kernel", format!("{} {}", name.release().to_string_lossy(), name.machine().to_string_lossy())),
    )
}

fn btf(path: &Path) -> Fact {
    match (path.metadata(), KernelBtf::from_file(path)) {
        (Ok(metadata), Ok(_)) => {
            fact("BTF", format!("{}, {} KiB, readable, valid", path.display(), metadata.len().div_ceil(1024)))
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => fact("BTF", "none")
            .but("no probes: they need a kernel with CONFIG_DEBUG_INFO_BTF")
            .hinders(Hindrance::NoBtf),
        (_, Err(error)) => fact("BTF", "present").but(format!("no probes: {error}")),
        (Err(error), Ok(_)) => unknown("BTF", error.to_string()),
    }
}

/// Whether a policy refuses programs on functions: rights are not missing, and programs on tracepoints load.
pub(super) fn fentry_is_refused(trials: &[Trial], has: impl Fn(Capability) -> bool) -> bool {
    let entitled = has(Capability::CAP_BPF) && has(Capability::CAP_PERFMON);
    let tracing = trials.iter().any(|trial| matches!(trial.target, Target::Tracepoint(..)) && trial.outcome.is_ok());
    let functions = || trials.iter().filter(|trial| trial.target.is_function());
    let not_permitted = |trial: &Trial| matches!(trial.outcome, Err(Refusal::NotPermitted(_)));
    entitled && tracing && functions().any(not_permitted) && functions().all(|trial| trial.outcome.is_err())
}

fn fentry(trials: &[Trial], has: impl Fn(Capability) -> bool) -> Fact {
    let functions = || trials.iter().filter(|trial| trial.target.is_function());
    if functions().any(|trial| trial.outcome.is_ok()) {
        fact("fentry", "works")
    } else if fentry_is_refused(trials, has) {
        fact("fentry", "refused").but(
            "a security policy refuses fentry programs: EPERM although CAP_BPF and CAP_PERFMON are there; tracepoints \
             are used instead",
        )
    } else {
        match functions().find_map(|trial| trial.outcome.as_ref().err()) {
            Some(reason) => fact("fentry", "does not work").but(format!("{reason}; tracepoints are used instead")),
            None => unknown("fentry", "not tried"),
        }
    }
}

fn map_iterators(walks_by_test_runs: Option<bool>) -> Fact {
    const NAME: &str = "map iterators";
    match walks_by_test_runs {
        Some(false) => fact(NAME, "work"),
        Some(true) => fact(NAME, "refused").but(
            "a security policy refuses iterators over the elements of maps (EPERM); listentop runs a program for each \
             element instead: the figures are the same, at a little more CPU time",
        ),
        None => unknown(NAME, "not tried"),
    }
}

fn tracefs(root: &Root) -> Fact {
    let mounts = root.read("proc/self/mounts").unwrap_or_default();
    let mut mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "tracefs").then(|| place.to_owned())
    });
    let Some(place) = mounted.next_back() else {
        let effect = "listentop mounts it for itself alone, with CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH";
        return fact("tracefs", "not mounted").but(effect);
    };
    match root.read(&format!("{}/events/syscalls/sys_exit_accept4/id", place.trim_start_matches('/'))) {
        Ok(_) => fact("tracefs", format!("{place}, readable")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            fact("tracefs", format!("{place}, not readable"))
                .but("no system call tracepoints: CAP_DAC_READ_SEARCH would help")
        }
        Err(_) => {
            fact("tracefs", place).but("no system call tracepoints: a kernel with CONFIG_FTRACE_SYSCALLS would help")
        }
    }
}

fn lockdown(root: &Root) -> Fact {
    let Ok(text) = root.read("sys/kernel/security/lockdown") else {
        return unknown("lockdown", "securityfs is not mounted, or the kernel has none");
    };
    let mode = text.split(['[', ']']).nth(1).unwrap_or(&text).to_owned();
    let confidential = mode == "confidentiality";
    let found = fact("lockdown", mode);
    if confidential { found.but("kernel memory is withheld from probes, which may be refused") } else { found }
}

fn security_modules(root: &Root) -> Fact {
    root.read("sys/kernel/security/lsm").map_or_else(
        |_| unknown("security modules", "securityfs is not mounted, or may not be read"),
        |modules| fact("security modules", modules),
    )
}

fn unprivileged_bpf(root: &Root) -> Fact {
    const NAME: &str = "kernel.unprivileged_bpf_disabled";
    // Probes need capabilities in any case.
    root.read("proc/sys/kernel/unprivileged_bpf_disabled")
        .map_or_else(|error| unknown(NAME, error.to_string()), |value| fact(NAME, value))
}

fn jit(root: &Root) -> Fact {
    const NAME: &str = "net.core.bpf_jit_enable";
    match root.read("proc/sys/net/core/bpf_jit_enable") {
        Ok(value) if value == "0" => fact(NAME, value)
            .but("probes are interpreted, which makes them several times slower, and fentry does not run")
            .hinders(Hindrance::NoJit),
        Ok(value) => fact(NAME, value),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unknown(NAME, "only root may read it"),
        Err(error) => unknown(NAME, error.to_string()),
    }
}

fn addresses(root: &Root) -> Fact {
    const NAME: &str = "kernel.kptr_restrict";
    match root.read("proc/sys/kernel/kptr_restrict") {
        Ok(value) if value == "2" => {
            fact(NAME, value).but("kernel addresses are hidden from all: without fentry, drops may be an upper bound")
        }
        Ok(value) => fact(NAME, value),
        Err(error) => unknown(NAME, error.to_string()),
    }
}

fn user(root: &Root) -> Fact {
    let id = nix::unistd::geteuid();
    let whole = |map: &String| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    match root.read("proc/self/uid_map") {
        Ok(map) if whole(&map) => fact("user", format!("{id}, in the initial user namespace")),
        Ok(_) => fact("user", format!("{id}, in a user namespace of its own"))
            .but("capabilities of a user namespace do not count for probes: only those of the initial one do"),
        Err(_) => fact("user", id.to_string()),
    }
}

fn seccomp(root: &Root) -> Fact {
    let status = root.read("proc/self/status").unwrap_or_default();
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Seccomp:") {
        Some("0") => fact("seccomp", "none"),
        Some(_) => fact("seccomp", "a filter").but("it may refuse bpf(2) and perf_event_open(2)"),
        None => unknown("seccomp", "/proc does not show it"),
    }
}

/// The parts of the sandbox that work here.
fn sandbox(tried: &Sandbox) -> Fact {
    let (on, off): (Vec<_>, Vec<_>) = tried.parts().partition(|(_, why)| why.is_none());
    let on: Vec<&str> = on.iter().map(|(part, _)| *part).collect();
    let found = fact("sandbox", if on.is_empty() { "none".to_owned() } else { on.join(", ") });
    let off: Vec<String> = off.iter().map(|(part, why)| format!("no {part}: {}", why.unwrap_or_default())).collect();
    if off.is_empty() { found } else { found.but(off.join("; ")) }
}

/// The initial PID namespace's inode (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xefff_fffc;

fn container(root: &Root) -> Fact {
    let mut hints = Vec::new();
    for file in [".dockerenv", "run/.containerenv"] {
        if root.has(file) {
            hints.push(format!("/{file}"));
        }
    }
    let cgroup = root.read("proc/self/cgroup").unwrap_or_default();
    let managers = ["docker", "kubepods", "libpod", "containerd", "lxc", "machine.slice"];
    hints.extend(managers.iter().filter(|name| cgroup.contains(**name)).map(|name| format!("cgroup {name}")));
    let inner = fs::metadata(root.0.join("proc/self/ns/pid")).is_ok_and(|found| found.ino() != INITIAL_PID_NAMESPACE);
    if inner {
        hints.push("a PID namespace of its own".to_owned());
    }
    let found = fact("container", if hints.is_empty() { "no sign of one".to_owned() } else { hints.join(", ") });
    if inner {
        found.but(
            "processes outside are not seen, so their sockets have no owner: run it on the host, or with --pid host",
        )
    } else {
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, gone when dropped.
    struct Machine(Root);

    impl Machine {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let directory = std::env::temp_dir().join(format!("listentop-facts-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = directory.join(path);
                fs::create_dir_all(path.parent().expect("a directory")).expect("it can be made");
                fs::write(path, text).expect("it can be written");
            }
            Self(Root(directory))
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.0);
        }
    }

    fn said(fact: &Fact) -> (Option<&str>, Option<&str>) {
        (fact.value.as_deref(), fact.effect.as_deref())
    }

    #[test]
    fn what_hinders_has_an_effect() {
        let machine = Machine::with(
            "hindered",
            &[
                ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n"),
                ("proc/sys/net/core/bpf_jit_enable", "0\n"),
                ("proc/sys/kernel/kptr_restrict", "2\n"),
                ("proc/self/uid_map", "         0       1000          1\n"),
                ("proc/self/status", "Name:\tx\nSeccomp:\t2\n"),
                ("proc/self/cgroup", "0::/kubepods.slice/cri-containerd-abc.scope\n"),
                ("proc/self/mounts", "tracefs /sys/kernel/tracing tracefs rw 0 0\n"),
            ],
        );
        let root = &machine.0;
        assert_eq!(lockdown(root).value.as_deref(), Some("confidentiality"));
        for fact in [lockdown(root), jit(root), addresses(root), user(root), seccomp(root), tracefs(root)] {
            assert!(fact.value.is_some() && fact.effect.is_some(), "{fact:?}");
        }
        assert!(container(root).value.expect("known").contains("cgroup kubepods"));
    }

    #[test]
    fn what_does_not_hinder_has_none() {
        let machine = Machine::with(
            "free",
            &[
                ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
                ("proc/sys/net/core/bpf_jit_enable", "1\n"),
                ("proc/sys/kernel/kptr_restrict", "1\n"),
                ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
                ("proc/self/uid_map", "         0          0 4294967295\n"),
                ("proc/self/status", "Name:\tx\nSeccomp:\t0\n"),
                ("proc/self/mounts", "tracefs /t tracefs rw 0 0\n"),
                ("t/events/syscalls/sys_exit_accept4/id", "700\n"),
            ],
        );
        let root = &machine.0;
        assert_eq!(said(&lockdown(root)), (Some("none"), None));
        assert_eq!(said(&tracefs(root)), (Some("/t, readable"), None));
        for fact in [jit(root), addresses(root), unprivileged_bpf(root), user(root), seccomp(root)] {
            assert!(fact.value.is_some() && fact.effect.is_none(), "{fact:?}");
        }
        assert_eq!(container(root).value.as_deref(), Some("no sign of one"));
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let machine = Machine::with("bare", &[]);
        let root = &machine.0;
        let facts =
            [lockdown(root), security_modules(root), jit(root), addresses(root), unprivileged_bpf(root), seccomp(root)];
        for fact in facts {
            assert!(fact.value.is_none() && fact.effect.is_some(), "{fact:?}");
        }
        assert!(btf(Path::new("/nonexistent")).effect.expect("said").contains("CONFIG_DEBUG_INFO_BTF"));
        let broken = Machine::with("broken", &[("btf", "no BTF at all")]);
        let found = btf(&broken.0.0.join("btf"));
        assert_eq!(found.value.as_deref(), Some("present"));
        assert!(found.effect.expect("said").contains("not valid BTF"));
    }
}
