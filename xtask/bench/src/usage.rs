//! What a process uses.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};

/// User and system time of a process so far.
///
/// # Errors
/// When it has ended.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the program has ended")?;
    let ticks = ticks(&stat).with_context(|| format!("/proc/{pid}/stat has no times: {stat}"))?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().context("the length of a tick is unknown")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// utime + stime (proc_pid_stat(5), fields 14 and 15). The name before them may contain anything, so fields are counted
/// from its end.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// VmRSS, in bytes.
///
/// # Errors
/// When it has ended.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the program has ended")?;
    kibibytes(&status).map(|kib| kib * 1024).with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}

fn kibibytes(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{cpu_time, kibibytes, resident, ticks};

    #[test]
    fn times_follow_the_name() {
        assert_eq!(ticks("7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0"), Some(345));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 7 kB\n"), Some(1234));
        assert_eq!(kibibytes("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_has_times_and_memory() {
        let us = std::process::id();
        let before = cpu_time(us).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(200) {}
        assert!(cpu_time(us).unwrap() > before);
        assert!(resident(us).unwrap() > 1 << 20);
        assert!(cpu_time(u32::MAX).is_err());
    }
}
