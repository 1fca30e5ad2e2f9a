//! The machine, its clock, and what listentop itself costs it.

use std::{fs, sync::OnceLock, thread, time::Duration};

use listentop_model::sample::Host;
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};

/// Its kernel's release and the number of CPUs that are online.
pub(super) fn host() -> Host {
    Host {
        kernel: nix::sys::utsname::uname()
            .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned()),
        cpus: online_cpus(),
    }
}

/// CPUs that are online, whether or not listentop may use them (an affinity, a cpuset).
fn online_cpus() -> u32 {
    let listed = fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|list| cpus_in(&list));
    // Without /sys: what we may use, which may be less.
    listed.unwrap_or_else(|| thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32))
}

/// The number of CPUs in a list such as `0-3,5`; `None` if it is none.
fn cpus_in(list: &str) -> Option<u32> {
    let range = |part: &str| -> Option<u32> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.trim().split(',').map(range).try_fold(0_u32, |sum, cpus| sum.checked_add(cpus?))
}

/// By how much the clocks of our time namespace are ahead of the kernel's, in nanoseconds. The kernel's own times
/// (those that probes note) have no offset; what system calls and /proc show has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ClockOffsets {
    monotonic: i64,
    boottime: i64,
}

fn offsets() -> ClockOffsets {
    static OFFSETS: OnceLock<ClockOffsets> = OnceLock::new();
    *OFFSETS.get_or_init(|| {
        // The file tells of the namespace in which our children would be. Only unshare(2) makes that another one, and
        // we do not call it.
        fs::read_to_string("/proc/self/timens_offsets").map_or_else(|_| ClockOffsets::default(), |text| parse(&text))
    })
}

/// Reads /proc/self/timens_offsets: a line for each clock, with its name or number, seconds and nanoseconds.
fn parse(text: &str) -> ClockOffsets {
    let offset = |clock: &str, number: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let name = fields.next()?;
            let (seconds, ns): (i64, i64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == clock || name == number).then(|| seconds.saturating_mul(NS_PER_SECOND).saturating_add(ns))
        })
    };
    ClockOffsets { monotonic: offset("monotonic", "1").unwrap_or(0), boottime: offset("boottime", "7").unwrap_or(0) }
}

const NS_PER_SECOND: i64 = 1_000_000_000;

/// When a thread started by the kernel's own clock, from its start time in /proc, in ticks since boot as our time
/// namespace counts them.
pub(super) fn start_ns(ticks: u64) -> u64 {
    (ticks * NS_PER_TICK).saturating_add_signed(offset_of_starts().saturating_neg())
}

/// What is added to start times in /proc in our time namespace. Before Linux 5.11 nothing is. This program has started
/// a moment ago by one of the two.
fn offset_of_starts() -> i64 {
    static OFFSET: OnceLock<i64> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        let offset = offsets().boottime;
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok();
        let now = now.map(|time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64);
        let start = super::proc::start_ticks(std::process::id()).map(|ticks| ticks * NS_PER_TICK);
        now.zip(start).map_or(offset, |(now, start)| applied(offset, now, start))
    })
}

/// `offset` if it is part of this program's `start`, otherwise 0; `now` is a moment later, and has it.
fn applied(offset: i64, now: u64, start: u64) -> i64 {
    let without = now.saturating_add_signed(offset.saturating_neg());
    if now.abs_diff(start) <= without.abs_diff(start) { offset } else { 0 }
}

/// Whether a start time in /proc, which has whole ticks, is the one that the kernel notes in nanoseconds.
pub(super) fn is_start(ticks: u64, ns: u64) -> bool {
    (start_ns(ticks) / NS_PER_TICK).abs_diff(ns / NS_PER_TICK) <= 1
}

/// /proc counts start times in USER_HZ, which is 100 on every architecture that we build for.
const NS_PER_TICK: u64 = 10_000_000;

/// The kernel's CLOCK_MONOTONIC in nanoseconds: the clock of `bpf_ktime_get_ns`, which no time namespace changes.
pub(crate) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        .saturating_add_signed(offsets().monotonic.saturating_neg())
}

/// The kernel's CLOCK_BOOTTIME likewise: the clock of the times at which threads start. It goes on while the machine is
/// suspended.
pub(super) fn boottime_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        .saturating_add_signed(offsets().boottime.saturating_neg())
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
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * page as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (list, cpus) in [("0\n", Some(1)), ("0-3,5,8-9\n", Some(7)), ("", None), ("3-1", None), ("a", None)] {
            assert_eq!(cpus_in(list), cpus, "{list:?}");
        }
        assert!(online_cpus() >= thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32));
    }

    #[test]
    fn whether_start_times_have_the_offset_shows_at_our_own() {
        let second = 1_000_000_000;
        for offset in [100_000 * second, -100 * second] {
            // By the kernel's clock it started 40 ms ago.
            let (now, started) = ((5_000 * second + offset) as u64, 5_000 * second - 40_000_000);
            assert_eq!(applied(offset, now, (started + offset) as u64), offset);
            assert_eq!(applied(offset, now, started as u64), 0);
        }
        assert_eq!(applied(0, 5, 4), 0);
    }

    #[test]
    fn offsets_of_clocks() {
        let text = "monotonic      100000         5\nboottime         -7   250000000\n";
        assert_eq!(parse(text), ClockOffsets { monotonic: 100_000_000_000_005, boottime: -6_750_000_000 });
        assert_eq!(parse("1 2 0\n7 3 0\n"), ClockOffsets { monotonic: 2_000_000_000, boottime: 3_000_000_000 });
        assert_eq!(parse("monotonic x y\n"), ClockOffsets::default());
    }
}
