//! What the kernel itself counts of a lab: counters of its namespace, its processes.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// The namespace's counters by the names that nstat(8) gives them, of the calling thread's namespace.
///
/// # Errors
/// /proc/net cannot be read.
pub(super) fn of_namespace() -> std::io::Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    for file in ["/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp"] {
        pairs(&fs::read_to_string(file)?, &mut counters);
    }
    Ok(counters)
}

/// Lines in pairs: `TcpExt: NAME …`, `TcpExt: VALUE …`.
fn pairs(text: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((group, names)) = names.split_once(':') else { continue };
        let Some((_, values)) = values.split_once(':') else { continue };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // A few are signed, such as TcpMaxConn.
            if let Ok(value) = value.parse() {
                counters.insert(format!("{group}{name}"), value);
            }
        }
    }
}

/// What /proc says of a process and its descendants.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "figures of lessons name its fields")]
pub(super) struct Processes {
    /// CPU time in milliseconds, of those that run, and of those that ended and were waited for.
    pub(super) cpu_ms: f64,
    /// Threads of all processes.
    pub(super) threads: u64,
    /// Processes.
    pub(super) processes: u64,
    /// Resident memory in KiB; what processes share counts for each.
    pub(super) rss_kib: u64,
    /// Context switches of the threads that run.
    pub(super) switches: Switches,
}

/// Context switches.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Switches {
    /// The thread waited for something.
    pub(super) voluntary: u64,
    /// Another thread got the CPU.
    pub(super) forced: u64,
}

/// Adds up a process and its descendants. `None` if it is gone.
pub(super) fn of_process(pid: u32) -> Option<Processes> {
    let mut sum = Processes::default();
    let mut pids = vec![pid];
    let mut next = 0;
    while next < pids.len() {
        let process = format!("/proc/{}", pids[next]);
        if let Some(ticks) = fs::read_to_string(format!("{process}/stat")).ok().and_then(|stat| cpu_ticks(&stat)) {
            sum.processes += 1;
            sum.cpu_ms += ticks as f64 * 1000.0 / ticks_per_second();
        } else if next == 0 {
            return None;
        }
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        sum.rss_kib += field(&status, "VmRSS:").unwrap_or(0);
        for task in fs::read_dir(format!("{process}/task")).into_iter().flatten().flatten() {
            sum.threads += 1;
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sum.switches.voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            sum.switches.forced += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    Some(sum)
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time, its own and that of children that it waited for: fields 14 to 17 of /proc/PID/stat.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    (fields.len() == 4).then(|| fields.iter().sum())
}

fn ticks_per_second() -> f64 {
    // 100 on every Linux for a long time.
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_of_nstat() {
        let mut counters = BTreeMap::new();
        pairs("TcpExt: SyncookiesSent ListenDrops\nTcpExt: 3 44\nTcp: MaxConn OutRsts\nTcp: -1 7\n", &mut counters);
        let expected = [("TcpExtSyncookiesSent", 3), ("TcpExtListenDrops", 44), ("TcpOutRsts", 7)];
        assert_eq!(counters, expected.map(|(name, value)| (name.to_owned(), value)).into());
        assert!(of_namespace().unwrap().contains_key("TcpExtListenOverflows"));
    }

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 0 -1 4194304 100 0 0 0 7 5 20 10 20 0 1 0 999 1 1";
        assert_eq!(cpu_ticks(stat), Some(42));
        let own = of_process(std::process::id()).unwrap();
        assert!(own.processes >= 1 && own.threads >= 1 && own.rss_kib > 0, "{own:?}");
        assert_eq!(of_process(u32::MAX), None);
    }
}
