//! What is measured, and for how long.

use std::time::Duration;

use clap::Args;

use crate::load::Load;

/// How long the load runs before it is measured: the new programs are cold, and the kernel still cleans up after the
/// previous ones.
pub(crate) const SETTLING: Duration = Duration::from_millis(100);

/// The command line.
#[derive(Args)]
pub(crate) struct Options {
    /// Run fewer rounds: eight minutes instead of twenty-four, but less certain figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the figures to docs/benchmarks.md too
    #[arg(long)]
    pub(crate) write: bool,
    /// Only make a million connections, and compare every count with the server's and the kernel's own
    #[arg(long, conflicts_with_all = ["quick", "write"])]
    pub(crate) million: bool,
    /// Only measure the dashboard with many listeners
    #[arg(long, conflicts_with_all = ["write", "million"])]
    pub(crate) dashboard: bool,
    /// Only measure throughput and probe time under this load
    #[arg(long, value_enum, conflicts_with_all = ["write", "million", "dashboard"])]
    pub(crate) load: Option<Load>,
    /// Only measure how long clients of nginx wait
    #[arg(long, conflicts_with_all = ["write", "million", "dashboard", "load"])]
    pub(crate) latency: bool,
    /// Only measure a recorder and an exporter with many listeners
    #[arg(long, conflicts_with_all = ["write", "million", "dashboard", "load", "latency"])]
    pub(crate) background: bool,
    /// Only measure what `listentop blame` costs a server under full load
    #[arg(long, conflicts_with_all = ["write", "million", "dashboard", "load", "latency", "background"])]
    pub(crate) blame: bool,
    /// Only count the instructions that an emulated machine executes, by functions too; --write writes them to
    /// docs/instructions.md
    #[arg(long, conflicts_with_all = ["quick", "million", "dashboard", "load", "latency", "background", "blame"])]
    pub(crate) instructions: bool,
}

/// How many runs there are, and how long each is.
pub(crate) struct Plan {
    /// Rounds of a load with short runs.
    rounds: usize,
    /// Length of a run.
    pub(crate) length: Duration,
    /// Rounds of a load of nginx whose latencies are measured; half as many where no bound depends on them.
    pub(crate) latencies: usize,
    /// Length of a run of these.
    pub(crate) requests: Duration,
    /// Runs with blame under each load.
    pub(crate) blames: usize,
    /// How often the programs are timed, each time for one run.
    pub(crate) timings: usize,
    /// How long each dashboard is watched.
    pub(crate) watching: Duration,
}

impl Plan {
    /// Whether a round has the tools that have no bound, too: one of three does.
    pub(crate) fn has_all_tools(round: usize) -> bool {
        round % 3 == 1
    }

    /// The rounds of a load: a quarter where runs are four times as long.
    pub(crate) fn rounds(&self, load: Load) -> usize {
        if load.is_short() { self.rounds } else { self.rounds.div_ceil(4) }
    }
}

impl Options {
    /// The plan that these options ask for.
    pub(crate) fn plan(&self) -> Plan {
        // Many short runs rather than few long ones: the machine's other work drifts, and a comparison should see one
        // state of it.
        let (rounds, latencies, blames, timings, watching) =
            if self.quick { (6, 1, 4, 5, 5) } else { (32, 4, 14, 15, 15) };
        Plan {
            rounds,
            length: Duration::from_millis(250),
            latencies,
            requests: Duration::from_secs(1),
            blames,
            timings,
            watching: Duration::from_secs(watching),
        }
    }

    /// The options that concern the bench inside the namespaces.
    pub(crate) fn flags(&self) -> Vec<&'static str> {
        let flags = [
            (self.quick, "--quick"),
            (self.write, "--write"),
            (self.million, "--million"),
            (self.dashboard, "--dashboard"),
            (self.latency, "--latency"),
            (self.background, "--background"),
            (self.blame, "--blame"),
        ];
        let load = self.load.map(|load| ["--load", load.option()]);
        flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).chain(load.into_iter().flatten()).collect()
    }

    /// The command, for the page.
    pub(crate) fn command(&self) -> String {
        ["cargo xtask bench"].into_iter().chain(self.flags()).collect::<Vec<_>>().join(" ")
    }
}
