//! `cargo xtask bench`: what listentop costs, against the budget, measured side by side in one run.

mod attached;
mod children;
mod figures;
mod first_frame;
mod load;
mod machine;
mod million;
mod namespace;
mod probe_stats;
mod report;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{cargo, process, root, setup};
use attached::Tool;
use figures::{Comparison, Pair};
use load::{Load, Server};
use report::{Cost, Results, Throughput};

/// How long and what for.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer runs: two minutes instead of ten, and less certain figures
    #[arg(long)]
    quick: bool,
    /// Write the figures to docs/benchmarks.md too
    #[arg(long)]
    write: bool,
    /// Instead: a million connections, every count of which must be the server's own and the kernel's
    #[arg(long, conflicts_with_all = ["quick", "write"])]
    million: bool,
}

/// The bench itself, in its namespaces; started by [`run`].
#[derive(Args)]
pub(crate) struct Inside {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    programs: Programs,
}

/// What is measured and what it is measured with.
#[derive(Args)]
struct Programs {
    #[arg(long)]
    listentop: PathBuf,
    #[arg(long)]
    demo_server: PathBuf,
    #[arg(long)]
    storm: PathBuf,
    #[arg(long)]
    stress: PathBuf,
}

/// How many comparisons of each tool, how long each of their four runs, and how often its programs are timed, in runs as long.
struct Plan {
    comparisons: usize,
    length: Duration,
    timings: usize,
}

impl Options {
    fn plan(&self) -> Plan {
        // Many short runs rather than few long ones: what else the machine does drifts, and a comparison should see one state of it.
        let (comparisons, timings) = if self.quick { (8, 5) } else { (40, 20) };
        Plan { comparisons, length: Duration::from_millis(250), timings }
    }

    fn flags(&self) -> Vec<&'static str> {
        let flags = [(self.quick, "--quick"), (self.write, "--write"), (self.million, "--million")];
        flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect()
    }

    fn command(&self) -> String {
        ["cargo xtask bench"].into_iter().chain(self.flags()).collect::<Vec<_>>().join(" ")
    }
}

/// Builds as the user, then goes on as root in namespaces of its own.
///
/// # Errors
/// When a step fails or root is out of reach.
pub(crate) fn run(options: &Options) -> Result<()> {
    root::ensure_reachable("the bench")?;
    setup::run()?;
    let binaries = cargo::build_release()?;
    let mut arguments: Vec<OsString> = vec!["bench-inside".into()];
    arguments.extend(options.flags().into_iter().map(OsString::from));
    let programs = [
        ("--listentop", binaries.listentop),
        ("--demo-server", binaries.demo_server),
        ("--storm", binaries.storm),
        ("--stress", binaries.stress),
    ];
    for (flag, path) in programs {
        arguments.extend([flag.into(), path.into()]);
    }
    namespace::enter(&env::current_exe().context("cannot find this program's own file")?, &arguments)
}

/// Measures and prints.
///
/// # Errors
/// When a step fails: there are no figures then.
pub(crate) fn run_inside(inside: &Inside) -> Result<()> {
    namespace::prepare()?;
    if inside.options.million {
        return million::run(&inside.programs);
    }
    let plan = inside.options.plan();
    let mut results = Results {
        machine: machine::describe()?,
        command: inside.options.command(),
        length: plan.length,
        throughput: Vec::new(),
        costs: Vec::new(),
        starts: Vec::new(),
        first_frames: first_frames(&inside.programs)?,
        bpftrace_skipped: process::find("bpftrace").is_none().then(|| "bpftrace is not installed".to_owned()),
    };
    for load in [Load::Connect, Load::KeepAlive] {
        measure(load, &plan, &inside.programs, &mut results)?;
    }
    print!("{}", report::markdown(&results)?);
    if inside.options.write {
        let path = cargo::root().join("docs/benchmarks.md");
        fs::write(&path, report::markdown(&results)?).with_context(|| format!("cannot write {}", path.display()))?;
        process::announce(&format!("written to {}", path.display()));
    }
    Ok(())
}

fn first_frames(programs: &Programs) -> Result<Vec<Duration>> {
    process::announce("starting the dashboard several times");
    first_frame::measure(programs, &Server::start(programs, Load::KeepAlive)?)
}

fn measure(load: Load, plan: &Plan, programs: &Programs, results: &mut Results) -> Result<()> {
    let server = Server::start(programs, load)?;
    let mut tools = vec![Tool::Nothing, Tool::Listentop, Tool::Own, Tool::Empty, Tool::TracedCalls];
    // The script has nothing to do with requests.
    if load == Load::Connect && results.bpftrace_skipped.is_none() {
        tools.push(Tool::Bpftrace);
    }
    process::announce(&format!("{}: warming up", load.name()));
    server.run(&programs.storm, plan.length)?;

    let mut pairs = vec![Vec::new(); tools.len()];
    for round in 0..plan.comparisons {
        process::announce(&format!("{}: comparison {} of {} for each tool", load.name(), round + 1, plan.comparisons));
        for (tool, pairs) in tools.iter().zip(&mut pairs) {
            pairs.push(compare(*tool, &server, plan, programs, results)?);
        }
    }
    for (tool, pairs) in tools.iter().zip(&pairs) {
        let comparison = Comparison::of(pairs).context("no pairs were run")?;
        results.throughput.push(Throughput { load, tool: *tool, comparison });
    }

    process::announce(&format!("{}: probe time, from the kernel's program statistics", load.name()));
    // Apart from the pairs: statistics slow every program down.
    let _stats = probe_stats::StatsOn::new()?;
    // What has no process has no programs.
    let timed = tools.into_iter().filter(|tool| matches!(tool, Tool::Listentop | Tool::Empty | Tool::Bpftrace));
    let timed: Vec<Tool> = timed.collect();
    for tool in (0..plan.timings).flat_map(|_| timed.iter().copied()) {
        let Some(attached) = tool.attach(programs)? else { continue };
        let Some(process) = &attached.process else { continue };
        let (work, spent) =
            probe_stats::during(process, || server.run(&programs.storm, plan.length)).with_context(|| tool.name())?;
        attached.finish()?;
        results.costs.push(Cost { load, tool, operations: work.operations, spent });
    }
    Ok(())
}

/// Four runs: without the tool, twice with it, without it, so that what drifts evenly meanwhile cancels out.
fn compare(tool: Tool, server: &Server, plan: &Plan, programs: &Programs, results: &mut Results) -> Result<Pair> {
    let mut runs = |tool: Option<Tool>, runs: u32| -> Result<f64> {
        let attached = tool.map_or(Ok(None), |tool| tool.attach(programs))?;
        let mut sum = 0.0;
        for _ in 0..runs {
            sum += server.run(&programs.storm, plan.length)?.per_second;
        }
        if let (Some(mut attached), Some(tool)) = (attached, tool) {
            if let Some(process) = &mut attached.process {
                ensure!(process.is_running()?, "{} ended before its load did", tool.name());
            }
            if tool == Tool::Listentop {
                results.starts.extend(attached.start);
            }
            attached.finish()?;
        }
        Ok(sum)
    };
    let before = runs(tool.base(), 1)?;
    let with = runs(Some(tool), 2)?;
    Ok(Pair { without: (before + runs(tool.base(), 1)?) / 2.0, with: with / 2.0 })
}
