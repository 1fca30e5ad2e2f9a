//! What `listentop blame` costs a server under full load: against listentop without it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask_support::process;

use crate::attached::{Attached, attach};
use crate::figures::{Comparison, Pair};
use crate::load::{Load, Server};
use crate::options::{Plan, SETTLING};
use crate::probe_stats;
use crate::programs::Programs;
use crate::tool::Tool;
use crate::usage;

/// The loads. In the first, connections pass the accept queue all the time; in the second none does, and threads change
/// their states all the same.
pub(crate) const LOADS: [Load; 2] = [Load::Connect, Load::KeepAlive];
/// Length of a run. Attaching takes longer than this, so it is better spent on longer runs than on more of them.
const LENGTH: Duration = Duration::from_millis(500);
/// How long its own CPU time is measured. /proc has it in hundredths of a second.
const WATCHING: Duration = Duration::from_secs(6);
/// Wait before that: the functions of stacks that are new have names by then.
const NAMING: Duration = Duration::from_secs(1);
/// The names of its programs begin with this.
const ITS_PROGRAMS: &str = "blame_";

/// What it costs under one load.
#[derive(Debug)]
pub(crate) struct Blame {
    /// The load.
    pub(crate) load: Load,
    /// Throughput with it, against listentop without it.
    pub(crate) comparison: Comparison,
    /// Its own CPU time, of a core.
    pub(crate) share: f64,
    /// Its programs while it is on.
    pub(crate) on: usize,
    /// The same while listentop runs without it.
    pub(crate) off: usize,
}

/// Measures all loads.
///
/// # Errors
/// When a program fails, or blame has no programs.
pub(crate) fn measure(plan: &Plan, programs: &Programs) -> Result<Vec<Blame>> {
    LOADS.into_iter().map(|load| of_load(load, plan, programs)).collect()
}

fn of_load(load: Load, plan: &Plan, programs: &Programs) -> Result<Blame> {
    let server = Server::start(programs, load)?;
    process::announce(&format!("{}: blame added, {} runs", load.name(), plan.blames));
    server.run(programs, LENGTH)?;
    let mut off = 0;
    let mut without = |programs: &Programs| -> Result<f64> {
        let (attached, rate) = run(Tool::Listentop, &server, programs)?;
        off = its_programs(&attached)?;
        attached.finish()?;
        Ok(rate)
    };
    let mut pairs = Vec::new();
    let mut before = without(programs)?;
    for _ in 0..plan.blames {
        let (attached, with) = run(Tool::Blame, &server, programs)?;
        attached.finish().context(Tool::Blame.name())?;
        let after = without(programs)?;
        pairs.push(pair(before, with, after));
        before = after;
    }
    let (share, on) = own(&server, programs)?;
    ensure!(on > 0, "listentop blame has no program whose name begins with {ITS_PROGRAMS}");
    Ok(Blame { load, comparison: Comparison::of(&pairs).context("no runs")?, share, on, off })
}

/// A run with blame, between two without it: even drift of the machine cancels out.
fn pair(before: f64, with: f64, after: f64) -> Pair {
    Pair { without: f64::midpoint(before, after), with }
}

/// Attaches a tool and measures a run: per second.
fn run(tool: Tool, server: &Server, programs: &Programs) -> Result<(Attached, f64)> {
    let attached = attach(tool, programs)?.context("nothing is attached")?;
    server.run(programs, SETTLING)?;
    Ok((attached, server.run(programs, LENGTH)?.per_second))
}

/// The CPU time that blame's own process takes under the load, of a core, and how many programs it has.
fn own(server: &Server, programs: &Programs) -> Result<(f64, usize)> {
    let attached = attach(Tool::Blame, programs)?.context("nothing is attached")?;
    let pid = attached.process.as_ref().context("blame has no process")?.pid();
    server.run(programs, NAMING)?;
    let (began, before) = (Instant::now(), usage::cpu_time(pid)?);
    server.run(programs, WATCHING)?;
    let used = usage::cpu_time(pid)?.saturating_sub(before);
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
    let on = its_programs(&attached)?;
    attached.finish().context(Tool::Blame.name())?;
    Ok((share, on))
}

fn its_programs(attached: &Attached) -> Result<usize> {
    let process = attached.process.as_ref().context("it has no process")?;
    let names = probe_stats::names(process.pid())?;
    Ok(names.iter().filter(|name| name.starts_with(ITS_PROGRAMS)).count())
}

/// The section on it.
pub(crate) fn section(measured: &[Blame]) -> String {
    let mut text = format!(
        "\n## Blame\n\n\
         `listentop blame` has all probes of listentop and its own at the scheduler's tracepoints. Runs of {} ms with it and \
         without it (`listentop report`) take turns; each with it is compared with the mean of those before and after it. Its own \
         CPU time is that of its process, user and system, during {} seconds of the load.\n\n\
         | load | runs | per second, without | per second, with | ratio | own CPU time, of a core | its programs, on | off |\n\
         |---|--:|--:|--:|---|--:|--:|--:|\n",
        LENGTH.as_millis(),
        WATCHING.as_secs(),
    );
    for Blame { load, comparison, share, on, off } in measured {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {:.3} ± {:.3} | {:.2} % | {on} | {off} |",
            load.name(),
            comparison.pairs,
            comparison.without,
            comparison.with,
            comparison.ratio,
            comparison.error,
            share * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Blame, pair, section};
    use crate::figures::{Comparison, Pair};
    use crate::load::Load;

    #[test]
    fn drift_cancels_out() {
        assert_eq!(pair(100.0, 95.0, 90.0), Pair { without: 95.0, with: 95.0 });
    }

    #[test]
    fn each_load_has_its_row() {
        let comparison = Comparison::of(&[pair(20_000.0, 19_500.0, 20_000.0)]).unwrap();
        let section = section(&[Blame { load: Load::Connect, comparison, share: 0.0123, on: 6, off: 0 }]);
        let row = "| connect/accept/close | 1 | 20000 | 19500 | 0.975 ± 0.000 | 1.23 % | 6 | 0 |\n";
        assert!(section.contains(row), "{section}");
    }
}
