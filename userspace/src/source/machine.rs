//! The machine, its clock, and what listentop itself costs it.

use std::{thread, time::Duration};

use listentop_model::sample::Host;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

/// Its kernel's release and the number of CPUs that listentop may use.
pub(super) fn host() -> Host {
    Host {
        kernel: nix::sys::utsname::uname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned()),
        cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// Wall clock in milliseconds since the epoch.
pub(super) fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}

/// CPU time of this process, user and system, in nanoseconds.
pub(super) fn cpu_ns() -> u64 {
    let ns = |time: TimeVal| time.tv_sec() as u64 * 1_000_000_000 + time.tv_usec() as u64 * 1000;
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| ns(usage.user_time()) + ns(usage.system_time()))
}

/// CPU time of the calling thread.
pub(super) fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Resident memory of this process in bytes: the second field of /proc/self/statm, in pages.
pub(super) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * page as u64
}
