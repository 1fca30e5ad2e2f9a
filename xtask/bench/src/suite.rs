//! The whole bench, as root, inside its namespaces.

use std::error::Error;
use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use xtask_support::{cargo, process};

use crate::dashboard::{self, Sight, Taken};
use crate::load::{Load, Server};
use crate::options::{Options, Plan};
use crate::programs::Programs;
use crate::report::{self, Results};
use crate::{background, blame, bound, budget, first_frame, latency, machine, million, namespace, rounds, web};

/// The document with the committed figures.
const DOCUMENT: &str = "docs/benchmarks.md";

/// The figures miss bounds that the committed figures meet: so many.
#[derive(Debug)]
pub(crate) struct Missed(usize);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bounds met in {DOCUMENT} but missed now: {} (`--write` accepts the new figures)", self.0)
    }
}

impl Error for Missed {}

/// Measures and prints.
///
/// # Errors
/// When a step fails: there are no figures then. [`Missed`] when the figures are worse and not written.
pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    namespace::prepare()?;
    if options.million {
        return million::run(programs);
    }
    let plan = options.plan();
    let web_skipped = web::missing();
    let bpftrace_skipped = process::find("bpftrace").is_none().then(|| "bpftrace is not installed".to_owned());
    if options.latency {
        let latencies = latencies(&plan, programs, web_skipped.as_deref(), bpftrace_skipped.is_none())?;
        print!("{}", latency::section(&latencies, web_skipped.as_deref()));
        return Ok(());
    }
    if options.background {
        print!("{}", background::section(&background::measure(programs)?));
        return Ok(());
    }
    if options.blame {
        print!("{}", blame::section(&blame::measure(&plan, programs)?));
        return Ok(());
    }
    if options.dashboard {
        print!("{}", report::dashboards(&dashboards(programs, plan.watching)?)?);
        return Ok(());
    }
    let mut results = Results {
        machine: machine::describe()?,
        command: options.command(),
        length: plan.length,
        throughput: Vec::new(),
        costs: Vec::new(),
        latencies: Vec::new(),
        background: None,
        blames: Vec::new(),
        starts: Vec::new(),
        first_frames: Vec::new(),
        dashboards: Vec::new(),
        web_skipped,
        bpftrace_skipped,
    };
    if let Some(load) = options.load {
        rounds::measure(load, &plan, programs, &mut results)?;
        print!("{}", report::of_load(&results)?);
        return Ok(());
    }
    results.dashboards = dashboards(programs, plan.watching)?;
    results.background = Some(background::measure(programs)?);
    results.first_frames = first_frames(programs)?;
    for load in [Load::Connect, Load::KeepAlive, Load::Web] {
        if load != Load::Web || results.web_skipped.is_none() {
            rounds::measure(load, &plan, programs, &mut results)?;
        }
    }
    results.blames = blame::measure(&plan, programs)?;
    let bpftrace = results.bpftrace_skipped.is_none();
    results.latencies = latencies(&plan, programs, results.web_skipped.as_deref(), bpftrace)?;
    conclude(&results, options.write)
}

/// Prints the page and compares it with the committed one, or writes it.
fn conclude(results: &Results, write: bool) -> Result<()> {
    let page = report::markdown(results)?;
    print!("{page}");
    let path = cargo::root().join(DOCUMENT);
    let committed = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let bounds = budget::bounds(results);
    let lost = bound::lost(&bounds, &committed);
    println!("\n{}", bound::verdict(&bounds, &lost, DOCUMENT));
    if write {
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        process::announce(&format!("wrote {}", path.display()));
        return Ok(());
    }
    if lost.is_empty() { Ok(()) } else { Err(Missed(lost.len()).into()) }
}

fn latencies(
    plan: &Plan,
    programs: &Programs,
    skipped: Option<&str>,
    bpftrace: bool,
) -> Result<Vec<latency::Latencies>> {
    if skipped.is_some() { Ok(Vec::new()) } else { latency::measure(plan, programs, bpftrace) }
}

fn dashboards(programs: &Programs, length: Duration) -> Result<Vec<(Sight, Taken)>> {
    dashboard::sights().map(|sight| Ok((sight, dashboard::measure(programs, sight, length)?))).collect()
}

fn first_frames(programs: &Programs) -> Result<Vec<Duration>> {
    process::announce("starting the dashboard several times");
    first_frame::measure(programs, &Server::start(programs, Load::KeepAlive)?)
}
