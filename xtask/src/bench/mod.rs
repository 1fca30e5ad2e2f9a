//! `cargo xtask bench`: what listentop costs, against the budget, measured side by side in one run.

mod attached;
mod bound;
mod children;
mod counted;
mod dashboard;
mod figures;
mod first_frame;
mod instructions;
mod load;
mod machine;
mod million;
mod namespace;
mod probe_stats;
mod report;
mod terminal;
mod web;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{cargo, process, root, setup};
use attached::Tool;
use dashboard::{Sight, Taken};
use figures::{Comparison, Pair, Round};
pub(crate) use instructions::Heavier;
use load::{Load, Server};
use report::{Cost, Results, Throughput};

/// How long and what for.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer runs: five minutes instead of seventeen, and less certain figures
    #[arg(long)]
    quick: bool,
    /// Write the figures to docs/benchmarks.md too
    #[arg(long)]
    write: bool,
    /// Instead: a million connections, every count of which must be the server's own and the kernel's
    #[arg(long, conflicts_with_all = ["quick", "write"])]
    million: bool,
    /// Only what the dashboard takes before many listeners
    #[arg(long, conflicts_with_all = ["write", "million"])]
    dashboard: bool,
    /// Instead: the instructions that an emulated machine executes, by functions too; with --write into
    /// docs/instructions.md
    #[arg(long, conflicts_with_all = ["quick", "million", "dashboard"])]
    instructions: bool,
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

/// How many rounds, how long each of their runs, how often programs are timed, in runs as long, and how long each
/// dashboard is watched.
struct Plan {
    rounds: usize,
    length: Duration,
    timings: usize,
    watching: Duration,
}

impl Plan {
    /// A third of the rounds where runs are four times as long.
    fn rounds(&self, load: Load) -> usize {
        if load.is_short() { self.rounds } else { self.rounds.div_ceil(3) }
    }
}

impl Options {
    fn plan(&self) -> Plan {
        // Many short runs rather than few long ones: what else the machine does drifts, and a comparison should see one
        // state of it.
        let (rounds, timings, watching) = if self.quick { (8, 5, 5) } else { (40, 20, 20) };
        Plan { rounds, length: Duration::from_millis(250), timings, watching: Duration::from_secs(watching) }
    }

    fn flags(&self) -> Vec<&'static str> {
        let flags = [
            (self.quick, "--quick"),
            (self.write, "--write"),
            (self.million, "--million"),
            (self.dashboard, "--dashboard"),
        ];
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
    if options.instructions {
        return instructions::run(options.write);
    }
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

/// Where the figures are kept.
const DOCUMENT: &str = "docs/benchmarks.md";

/// A bound that the committed figures meet is missed: the bench has an exit status for that.
#[derive(Debug)]
pub(crate) struct Missed(usize);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bounds that {DOCUMENT} calls met are missed: {} (`--write` takes the new figures instead)", self.0)
    }
}

impl Error for Missed {}

/// Measures and prints.
///
/// # Errors
/// When a step fails: there are no figures then. [`Missed`] when the figures are a step back and not written down.
pub(crate) fn run_inside(inside: &Inside) -> Result<()> {
    namespace::prepare()?;
    if inside.options.million {
        return million::run(&inside.programs);
    }
    let plan = inside.options.plan();
    let dashboards = dashboards(&inside.programs, plan.watching)?;
    if inside.options.dashboard {
        print!("{}", report::dashboards(&dashboards)?);
        return Ok(());
    }
    let mut results = Results {
        machine: machine::describe()?,
        command: inside.options.command(),
        length: plan.length,
        throughput: Vec::new(),
        costs: Vec::new(),
        starts: Vec::new(),
        first_frames: first_frames(&inside.programs)?,
        dashboards,
        web_skipped: web::missing(),
        bpftrace_skipped: process::find("bpftrace").is_none().then(|| "bpftrace is not installed".to_owned()),
    };
    for load in [Load::Connect, Load::KeepAlive, Load::Web] {
        if load != Load::Web || results.web_skipped.is_none() {
            measure(load, &plan, &inside.programs, &mut results)?;
        }
    }
    let page = report::markdown(&results)?;
    print!("{page}");
    let path = cargo::root().join(DOCUMENT);
    let committed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bounds = report::bounds(&results);
    let lost = bound::lost(&bounds, &committed);
    println!("\n{}", bound::verdict(&bounds, &lost, DOCUMENT));
    if inside.options.write {
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        process::announce(&format!("written to {}", path.display()));
        return Ok(());
    }
    if lost.is_empty() { Ok(()) } else { Err(Missed(lost.len()).into()) }
}

fn dashboards(programs: &Programs, length: Duration) -> Result<Vec<(Sight, Taken)>> {
    dashboard::sights().map(|sight| Ok((sight, dashboard::measure(programs, sight, length)?))).collect()
}

fn first_frames(programs: &Programs) -> Result<Vec<Duration>> {
    process::announce("starting the dashboard several times");
    first_frame::measure(programs, &Server::start(programs, Load::KeepAlive)?)
}

fn measure(load: Load, plan: &Plan, programs: &Programs, results: &mut Results) -> Result<()> {
    let server = Server::start(programs, load)?;
    let mut tools = vec![Tool::Nothing, Tool::Listentop, Tool::Empty, Tool::TracedCalls];
    // The script has nothing to do with requests.
    if load == Load::Connect && results.bpftrace_skipped.is_none() {
        tools.push(Tool::Bpftrace);
    }
    process::announce(&format!("{}: warming up", load.name()));
    server.run(programs, plan.length)?;

    let mut rounds = Vec::new();
    let number_of_rounds = plan.rounds(load);
    for number in 1..=number_of_rounds {
        process::announce(&format!("{}: round {number} of {number_of_rounds}", load.name()));
        rounds.push(round(&tools, &server, load, plan, programs, results)?);
    }
    let base = |tool| Some((tool, Tool::Nothing));
    let own = (Tool::Listentop, Tool::Empty);
    let compared = tools.iter().flat_map(|tool| [base(*tool), (*tool == own.0).then_some(own)]).flatten();
    for (tool, base) in compared {
        let pairs: Option<Vec<Pair>> = rounds.iter().map(|round| round.pair(tool, base)).collect();
        let comparison = pairs.as_deref().and_then(Comparison::of).context("no rounds were run")?;
        results.throughput.push(Throughput { load, tool, base, comparison });
    }

    if !load.is_short() {
        return Ok(());
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
            probe_stats::during(process, || server.run(programs, plan.length)).with_context(|| tool.name())?;
        attached.finish()?;
        results.costs.push(Cost { load, tool, operations: work.operations, spent });
    }
    Ok(())
}

/// How long the load runs before it is measured: what was attached is cold, and what was before it is still being put
/// away.
const SETTLING: Duration = Duration::from_millis(100);

/// Each tool's run, then once more in reverse order, so that what drifts evenly meanwhile cancels out. Nothing has its
/// runs at both ends and in the middle. All are treated alike: attached, warmed up, measured, detached.
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
        let attached = tool.attach(programs)?;
        if load.is_short() {
            server.run(programs, SETTLING)?;
        }
        round.runs.push((*tool, server.run(programs, plan.length)?.per_second));
        let Some(mut attached) = attached else { continue };
        if let Some(process) = &mut attached.process {
            ensure!(process.is_running()?, "{} ended before its load did", tool.name());
        }
        if *tool == Tool::Listentop {
            results.starts.extend(attached.start);
        }
        attached.finish()?;
    }
    Ok(round)
}
