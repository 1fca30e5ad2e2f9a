//! Probe time: what the programs take, by the kernel's statistics. No I/O.

use std::fmt::Write as _;

use anyhow::Result;

use crate::figures::{ProbeTime, Uncertain, median};
use crate::load::Load;
use crate::report::{Results, skipped};
use crate::tool::Tool;

/// Probe time of a tool during one run of a load.
pub(crate) struct Cost {
    pub(crate) load: Load,
    pub(crate) tool: Tool,
    /// Connections or requests of the load.
    pub(crate) operations: u64,
    pub(crate) spent: ProbeTime,
    /// Of each program that ran, by name.
    pub(crate) programs: Vec<(String, ProbeTime)>,
}

impl Cost {
    pub(crate) fn ns_per_operation(&self) -> f64 {
        self.spent.ns as f64 / self.operations as f64
    }

    pub(crate) fn runs_per_operation(&self) -> f64 {
        self.spent.runs as f64 / self.operations as f64
    }

    pub(crate) fn ns_per_run(&self) -> f64 {
        self.spent.ns as f64 / self.spent.runs as f64
    }

    /// All probe time of the load, of writes and arrivals at both ends too, divided by its reads: an upper bound for a
    /// read.
    fn ns_per_read(&self) -> Option<f64> {
        let reads = self.operations * self.load.reads_per_operation();
        (reads > 0).then(|| self.spent.ns as f64 / reads as f64)
    }
}

/// The section on it.
///
/// # Errors
/// None in practice: it formats into a string.
pub(crate) fn section(page: &mut String, results: &Results) -> Result<()> {
    writeln!(
        page,
        "\n## Probe time\n\n\
         From the kernel's statistics of each program (`run_time_ns`, `run_cnt`). They leave out the way into a program and include \
         two readings of the clock: the apparent time of an empty program. *Its own* is the time without as many runs of an empty \
         program, measured in turn with it; the budget means this figure. The figures are medians with their standard error. Client \
         and server are on the same machine, and probes see both ends of each connection.\n\n\
         | load | attached | timings | programs | runs per operation | ns per run | ns per operation | ns per read | its own, per operation |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    let mut listed: Vec<(Load, Tool)> = Vec::new();
    for Cost { load, tool, .. } in &results.costs {
        if listed.contains(&(*load, *tool)) {
            continue;
        }
        listed.push((*load, *tool));
        let timings: Vec<&Cost> = results.timings(*load, *tool).collect();
        let middle = |value: &dyn Fn(&Cost) -> f64| {
            median(&timings.iter().map(|cost| value(cost)).collect::<Vec<f64>>()).unwrap_or_default()
        };
        let per_read = timings.first().and_then(|cost| cost.ns_per_read());
        writeln!(
            page,
            "| {} | {} | {} | {} | {:.1} | {:.0} | {:.0} | {} | {} |",
            load.name(),
            tool.name(),
            timings.len(),
            timings.first().map_or(0, |cost| cost.spent.programs),
            middle(&Cost::runs_per_operation),
            middle(&Cost::ns_per_run),
            middle(&Cost::ns_per_operation),
            per_read
                .map_or("-".to_owned(), |_| format!("{:.0}", middle(&|cost| cost.ns_per_read().unwrap_or_default()))),
            results.own_ns(*load, *tool).map_or("-".to_owned(), |ns| format!("{:.0} ± {:.0}", ns.value, ns.error))
        )?;
    }
    skipped(page, results)?;
    programs(page, results)
}

/// Programs with fewer runs per operation are left out.
const RARE: f64 = 0.05;

/// What each program takes.
fn programs(page: &mut String, results: &Results) -> Result<()> {
    writeln!(
        page,
        "\nBy program, of listentop. *Empty* is the apparent time of the same program when it returns at once.\n\n\
         | load | program | runs per operation | ns per run | empty, ns per run | its own, per operation |\n\
         |---|---|--:|--:|--:|--:|"
    )?;
    for load in [Load::Connect, Load::KeepAlive] {
        let Some(first) = results.timings(load, Tool::Listentop).next() else { continue };
        for (name, _) in &first.programs {
            let of = |cost: &Cost| {
                let (_, time) = cost.programs.iter().find(|(of, _)| of == name)?;
                Some((time.runs as f64 / cost.operations as f64, time.ns as f64 / time.runs as f64))
            };
            // A run of the program, and one of the empty program, measured in turn.
            let (mut runs, mut full, mut empty, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (cost, of_empty) in results.timings(load, Tool::Listentop).zip(results.timings(load, Tool::Empty)) {
                let (Some((per_operation, ns)), Some((_, empty_ns))) = (of(cost), of(of_empty)) else { continue };
                runs.push(per_operation);
                full.push(ns);
                empty.push(empty_ns);
                own.push(per_operation * (ns - empty_ns));
            }
            let (Some(runs), Some(full), Some(empty), Some(own)) =
                (median(&runs), median(&full), median(&empty), Uncertain::of(&own))
            else {
                continue;
            };
            if runs >= RARE {
                let (load, Uncertain { value, error }) = (load.name(), own);
                writeln!(page, "| {load} | `{name}` | {runs:.1} | {full:.0} | {empty:.0} | {value:.0} ± {error:.0} |")?;
            }
        }
    }
    Ok(())
}
