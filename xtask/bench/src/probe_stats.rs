//! The kernel's statistics of BPF programs, read from /proc: the same method for every compared tool.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::figures::ProbeTime;
use xtask_support::children::{self, Guarded};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Statistics are on while this lives. A child restores the old value when its stdin closes, however we end.
pub(crate) struct StatsOn {
    child: Guarded,
    stdin: Option<ChildStdin>,
}

impl StatsOn {
    /// Switches `kernel.bpf_stats_enabled` on.
    ///
    /// # Errors
    /// When the kernel has no such switch or it cannot be written.
    pub(crate) fn new() -> Result<Self> {
        let script = format!(
            "trap '' HUP INT TERM; old=$(cat {SWITCH}) && echo 1 >{SWITCH} && echo on && cat >/dev/null; echo \"$old\" >{SWITCH}"
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child: Child = command.spawn().context("cannot run sh")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("sh has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("cannot read from sh")?;
        let on = Self { child: Guarded::new(child), stdin };
        ensure!(line.trim() == "on", "cannot switch on the kernel's program statistics: {SWITCH} cannot be written");
        Ok(on)
    }
}

impl Drop for StatsOn {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It is not killed: it must write the old value.
        self.child.wait_quietly();
    }
}

/// Time and runs of all BPF programs that the process has open.
///
/// # Errors
/// When the process is gone or its files cannot be read.
pub(crate) fn of_process(pid: u32) -> Result<ProbeTime> {
    Ok(sum(&of_programs(pid)?))
}

fn sum(programs: &[(u64, ProbeTime)]) -> ProbeTime {
    programs.iter().fold(ProbeTime::default(), |sum, (_, time)| ProbeTime {
        programs: sum.programs + time.programs,
        runs: sum.runs + time.runs,
        ns: sum.ns + time.ns,
    })
}

/// The same of each program, by its id.
fn of_programs(pid: u32) -> Result<Vec<(u64, ProbeTime)>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let mut programs: Vec<(u64, ProbeTime)> = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {dir}"))? {
        // Files may be closed meanwhile.
        let Ok(text) = entry.and_then(|entry| fs::read_to_string(entry.path())) else { continue };
        let Some((id, time)) = parse(&text) else { continue };
        // Several files can refer to one program.
        if programs.iter().all(|(other, _)| *other != id) {
            programs.push((id, time));
        }
    }
    Ok(programs)
}

/// The names of the programs that the process has open: their first 15 bytes.
///
/// # Errors
/// When the process is gone or its files cannot be read.
pub(crate) fn names(pid: u32) -> Result<Vec<String>> {
    let ids: Vec<u64> = of_programs(pid)?.into_iter().map(|(id, _)| id).collect();
    let loaded = aya::programs::loaded_programs().flatten().filter(|program| ids.contains(&u64::from(program.id())));
    Ok(loaded.map(|program| program.name_as_str().unwrap_or("?").to_owned()).collect())
}

/// What the programs of a process took while a load ran.
pub(crate) struct Spent {
    /// Together.
    pub(crate) total: ProbeTime,
    /// Those that ran, by their names: the first 15 bytes.
    pub(crate) programs: Vec<(String, ProbeTime)>,
}

/// The differences of programs that ran in between, with their names.
fn ran(before: &[(u64, ProbeTime)], after: &[(u64, ProbeTime)]) -> Vec<(String, ProbeTime)> {
    let mut ran: Vec<(String, ProbeTime)> = Vec::new();
    // Programs that went meanwhile are no error here: their ids are not asked for.
    for program in aya::programs::loaded_programs().flatten() {
        let of = |times: &[(u64, ProbeTime)]| {
            times.iter().find(|(id, _)| *id == u64::from(program.id())).map(|(_, time)| *time)
        };
        let spent = of(before).zip(of(after)).and_then(|(before, after)| after.since(before));
        if let Some(spent) = spent.filter(|spent| spent.runs > 0) {
            ran.push((program.name_as_str().unwrap_or("?").to_owned(), spent));
        }
    }
    ran.sort_by(|(a, _), (b, _)| a.cmp(b));
    ran
}

fn parse(fdinfo: &str) -> Option<(u64, ProbeTime)> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    // Links have a prog_id too, but no program type and no statistics.
    field("prog_type:")?;
    let id = field("prog_id:")?;
    Some((id, ProbeTime { programs: 1, runs: field("run_cnt:")?, ns: field("run_time_ns:")? }))
}

/// Runs `load` and returns its result, and the time that the process' programs used meanwhile.
///
/// # Errors
/// When the load fails or no program ran.
pub(crate) fn during<T>(attached: &Guarded, load: impl FnOnce() -> Result<T>) -> Result<(T, Spent)> {
    let before = of_programs(attached.pid())?;
    let result = load()?;
    let after = of_programs(attached.pid())?;
    let spent = sum(&after).since(sum(&before));
    let Some(spent) = spent else { bail!("the programs under test changed while they were measured") };
    ensure!(spent.runs > 0, "the {} programs under test did not run once: nothing was measured", spent.programs);
    Ok((result, Spent { total: spent, programs: ran(&before, &after) }))
}

/// Waits until the process holds `programs` BPF programs.
///
/// # Errors
/// When that does not happen within some seconds.
pub(crate) fn wait_for_programs(attached: &mut Guarded, programs: u64) -> Result<()> {
    children::wait_until(|| Ok(attached.is_running()? && of_process(attached.pid())?.programs >= programs))?
        .then_some(())
        .context("its programs were not loaded in time")
}

#[cfg(test)]
mod tests {
    use super::{of_process, parse};
    use crate::figures::ProbeTime;

    #[test]
    fn programs_are_distinguished_from_links_and_maps() {
        let program = "pos:\t0\nprog_type:\t26\nprog_jited:\t1\nprog_id:\t41\nrun_time_ns:\t1200\nrun_cnt:\t10\n";
        assert_eq!(parse(program), Some((41, ProbeTime { programs: 1, runs: 10, ns: 1200 })));
        assert_eq!(parse("pos:\t0\nlink_type:\ttracing\nlink_id:\t7\nprog_id:\t41\n"), None);
        assert_eq!(parse("pos:\t0\nmap_type:\t2\n"), None);
    }

    #[test]
    fn a_process_without_programs_has_none() {
        assert_eq!(of_process(std::process::id()).unwrap(), ProbeTime::default());
        assert!(of_process(u32::MAX).is_err());
    }
}
