//! Rounds of one load, with each tool attached in turn, and then the probe time of each tool.

use anyhow::{Context as _, Result};
use xtask_support::process;

use crate::attached::attach;
use crate::figures::{Comparison, Pair, Round};
use crate::load::{Load, Server};
use crate::options::{Plan, SETTLING};
use crate::probe_stats;
use crate::probe_time::Cost;
use crate::programs::Programs;
use crate::report::{Results, Throughput};
use crate::tool::{Level, Tool};

/// Measures throughput and probe time under one load.
///
/// # Errors
/// When a program fails.
pub(crate) fn measure(load: Load, plan: &Plan, programs: &Programs, results: &mut Results) -> Result<()> {
    let server = Server::start(programs, load)?;
    let levels = [Level::Accepts, Level::Queues].map(Tool::Level);
    let mut tools = vec![Tool::Nothing, Tool::Listentop, levels[0], levels[1], Tool::Empty, Tool::TracedCalls];
    // The script ignores requests.
    if load == Load::Connect && results.bpftrace_skipped.is_none() {
        tools.push(Tool::Bpftrace);
    }
    process::announce(&format!("{}: warming up", load.name()));
    server.run(programs, plan.length)?;

    let mut rounds = Vec::new();
    let number_of_rounds = plan.rounds(load);
    for number in 1..=number_of_rounds {
        process::announce(&format!("{}: round {number} of {number_of_rounds}", load.name()));
        let wanted = |tool: &&Tool| Plan::has_all_tools(number) || is_always_there(**tool, load);
        let tools: Vec<Tool> = tools.iter().filter(wanted).copied().collect();
        rounds.push(round(&tools, &server, load, plan, programs, results)?);
    }
    let base = |tool| Some((tool, Tool::Nothing));
    let own = (Tool::Listentop, Tool::Empty);
    let compared = tools.iter().flat_map(|tool| [base(*tool), (*tool == own.0).then_some(own)]).flatten();
    for (tool, base) in compared {
        let pairs: Vec<Pair> = rounds.iter().filter_map(|round| round.pair(tool, base)).collect();
        let comparison = Comparison::of(&pairs).context("no rounds were run")?;
        results.throughput.push(Throughput { load, tool, base, comparison });
    }
    if load.is_short() { time_programs(load, &tools, &server, plan, programs, results) } else { Ok(()) }
}

/// Whether the load with the tool is of enough interest to be in each round.
fn is_always_there(tool: Tool, load: Load) -> bool {
    match tool {
        Tool::Nothing | Tool::Listentop | Tool::Empty => true,
        Tool::Level(_) => load != Load::Connect,
        Tool::Blame | Tool::TracedCalls | Tool::Bpftrace | Tool::Ss => false,
    }
}

/// Times each tool's programs. This is apart from the rounds: the kernel's statistics slow every program down.
fn time_programs(
    load: Load,
    tools: &[Tool],
    server: &Server,
    plan: &Plan,
    programs: &Programs,
    results: &mut Results,
) -> Result<()> {
    process::announce(&format!("{}: probe time, from the kernel's program statistics", load.name()));
    let _stats = probe_stats::StatsOn::new()?;
    // The other tools have no programs, or fewer of the same.
    let timed = tools.iter().copied().filter(|tool| matches!(tool, Tool::Listentop | Tool::Empty | Tool::Bpftrace));
    for tool in (0..plan.timings).flat_map(|_| timed.clone()) {
        let Some(attached) = attach(tool, programs)? else { continue };
        let Some(process) = &attached.process else { continue };
        let (work, spent) =
            probe_stats::during(process, || server.run(programs, plan.length)).with_context(|| tool.name())?;
        attached.finish()?;
        let probe_stats::Spent { total, programs } = spent;
        results.costs.push(Cost { load, tool, operations: work.operations, spent: total, programs });
    }
    Ok(())
}

/// One run of each tool, then one more in reverse order, so that even drift cancels out. Runs without a tool are at
/// both ends and in the middle. Each run does the same: attach, warm up, measure, detach.
fn round(
    tools: &[Tool],
    server: &Server,
    load: Load,
    plan: &Plan,
    programs: &Programs,
    results: &mut Results,
) -> Result<Round> {
    let mut round = Round::default();
    let there = tools.iter().chain([&Tool::Nothing]);
    for tool in there.clone().chain(there.rev()) {
        let attached = attach(*tool, programs)?;
        if load.is_short() {
            server.run(programs, SETTLING)?;
        }
        round.runs.push((*tool, server.run(programs, plan.length)?.per_second));
        let Some(attached) = attached else { continue };
        if *tool == Tool::Listentop {
            results.starts.extend(attached.start);
        }
        attached.finish().with_context(|| tool.name())?;
    }
    Ok(round)
}
