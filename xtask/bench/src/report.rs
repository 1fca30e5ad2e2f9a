//! The figures as a page, for docs/benchmarks.md and for stdout.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::background::{self, Background};
use crate::blame::{self, Blame};
use crate::budget;
use crate::dashboard::{Sight, Taken};
use crate::figures::{Comparison, Uncertain};
use crate::latency::{self, Latencies};
use crate::load::Load;
use crate::options::SETTLING;
use crate::probe_time::{self, Cost};
use crate::tool::Tool;

/// All results.
pub(crate) struct Results {
    /// The machine.
    pub(crate) machine: String,
    /// The command.
    pub(crate) command: String,
    /// The length of a run.
    pub(crate) length: Duration,
    /// Throughput, attached against not attached.
    pub(crate) throughput: Vec<Throughput>,
    /// Probe time.
    pub(crate) costs: Vec<Cost>,
    /// Latencies of nginx's clients.
    pub(crate) latencies: Vec<Latencies>,
    /// Time of each start of listentop until it announced that it measures.
    pub(crate) starts: Vec<Duration>,
    /// Time of each start of the dashboard until its first complete frame with listeners.
    pub(crate) first_frames: Vec<Duration>,
    /// What the dashboard used.
    pub(crate) dashboards: Vec<(Sight, Taken)>,
    /// What the recorder and the exporter used.
    pub(crate) background: Option<Background>,
    /// What blame costs.
    pub(crate) blames: Vec<Blame>,
    /// Why there are no figures of the web server, if there are none.
    pub(crate) web_skipped: Option<String>,
    /// Why there are no figures of bpftrace, if there are none.
    pub(crate) bpftrace_skipped: Option<String>,
}

/// Throughput of one load with a tool, compared with another tool or none.
pub(crate) struct Throughput {
    pub(crate) load: Load,
    pub(crate) tool: Tool,
    pub(crate) base: Tool,
    pub(crate) comparison: Comparison,
}

impl Results {
    /// A load's comparison of two tools.
    pub(crate) fn comparison(&self, load: Load, tool: Tool, base: Tool) -> Option<&Comparison> {
        let found = self.throughput.iter().find(|row| row.load == load && row.tool == tool && row.base == base);
        found.map(|row| &row.comparison)
    }

    /// All timings of the tool under this load, in order.
    pub(crate) fn timings(&self, load: Load, tool: Tool) -> impl Iterator<Item = &Cost> {
        self.costs.iter().filter(move |cost| cost.load == load && cost.tool == tool)
    }

    /// The tool's own time per operation: without the time of as many runs of an empty program, measured directly
    /// before or after. An empty program takes only the time of the statistics themselves, two readings of the
    /// clock.
    pub(crate) fn own_ns(&self, load: Load, tool: Tool) -> Option<Uncertain> {
        let timings = self.timings(load, tool).zip(self.timings(load, Tool::Empty));
        let own = timings.map(|(cost, empty)| cost.ns_per_operation() - cost.runs_per_operation() * empty.ns_per_run());
        Uncertain::of(&own.collect::<Vec<f64>>())
    }
}

/// The page.
///
/// # Errors
/// None in practice: it formats into a string.
pub(crate) fn markdown(results: &Results) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "# Benchmarks\n\n`{}` on {}.\n", results.command, results.machine)?;
    budget(&mut page, results)?;
    throughput(&mut page, results)?;
    probe_time::section(&mut page, results)?;
    page.push_str(&latency::section(&results.latencies, results.web_skipped.as_deref()));
    page.push_str(&blame::section(&results.blames));
    page.push_str(&dashboards(&results.dashboards)?);
    page.push_str(&results.background.as_ref().map(background::section).unwrap_or_default());
    Ok(page)
}

/// The sections on throughput and probe time.
///
/// # Errors
/// As [`markdown`].
pub(crate) fn of_load(results: &Results) -> Result<String> {
    let mut page = String::new();
    throughput(&mut page, results)?;
    probe_time::section(&mut page, results)?;
    Ok(page)
}

fn budget(page: &mut String, results: &Results) -> Result<()> {
    writeln!(page, "## Against the budget\n\n| what | bound | measured | |\n|---|---|---|---|")?;
    for bound in budget::bounds(results) {
        writeln!(page, "{}", bound.row())?;
    }
    Ok(())
}

fn throughput(page: &mut String, results: &Results) -> Result<()> {
    writeln!(
        page,
        "\n## Throughput\n\n\
         In a round each tool is attached for a run of {} ms, and then once more in reverse order. The load runs for {} ms before \
         each run, so that the new programs are warm. Tools without a bound are in one round of three. A ratio is taken within a round. The table has medians of the rounds with their \
         standard error. *Nothing* against nothing compares two runs in the middle of the round with two at its ends: how much \
         equal runs differ.\n\n\
         The budget bounds what is listentop's own: these loads do little besides what is measured, so the kernel's cost of \
         calling any program is a large part of what they lose ([instructions.md](instructions.md): by functions too). \
         *Empty programs* return at once. They cost what the kernel needs to \
         call a program at each of these tracepoints, so no tool that uses them costs less. *A system call traced* is a part of that: \
         while any tool traces one system call, the kernel uses a slower exit path for every system call of every process. Without \
         functions (fentry) no other hook sees an accept. At lower levels (`--measure`) fewer hooks are attached. nginx, as one process, serves a file of 1 KiB to wrk, for a second in each \
         run. All CPUs are busy there too, and the server makes seven system calls for a request. With idle CPU time there is no \
         loss of throughput.\n\n\
         | load | attached | against | rounds | per second, against | per second, attached | ratio | middle half of the ratios |\n\
         |---|---|---|--:|--:|--:|--:|--:|",
        results.length.as_millis(),
        SETTLING.as_millis()
    )?;
    for Throughput { load, tool, base, comparison } in &results.throughput {
        writeln!(
            page,
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.3} ± {:.3} | {:.3} to {:.3} |",
            load.name(),
            tool.name(),
            base.name(),
            comparison.pairs,
            comparison.without,
            comparison.with,
            comparison.ratio,
            comparison.error,
            comparison.lower_quartile,
            comparison.upper_quartile
        )?;
    }
    if let Some(reason) = &results.web_skipped {
        writeln!(page, "| {} | | | skipped: {reason} | | | | |", Load::Web.name())?;
    }
    skipped(page, results)
}

/// What bpftrace would have measured.
///
/// # Errors
/// As [`markdown`].
pub(crate) fn skipped(page: &mut String, results: &Results) -> Result<()> {
    if let Some(reason) = &results.bpftrace_skipped {
        writeln!(page, "| {} | {} | skipped: {reason} | | | | | | |", Load::Connect.name(), Tool::Bpftrace.name())?;
    }
    Ok(())
}

/// The section on the dashboard.
///
/// # Errors
/// As [`markdown`].
pub(crate) fn dashboards(dashboards: &[(Sight, Taken)]) -> Result<String> {
    let mut page = String::new();
    writeln!(
        page,
        "\n## The dashboard\n\n\
         User and system time of its process, and its resident memory, at four refreshes a second in a terminal of 200 columns and 60 \
         rows. *Used* listeners have served one connection each since its start. One of eight threads served it, and those threads \
         stay alive, so their times are read each second.\n\n\
         | source | listeners | | share of a core | resident memory |\n|---|--:|---|--:|--:|"
    )?;
    for (sight, taken) in dashboards {
        writeln!(
            page,
            "| {} | {} | {} | {:.1} % | {} MiB |",
            if sight.probes { "probes" } else { "`--probes sock_diag`" },
            sight.listeners,
            if sight.used { "used" } else { "idle" },
            taken.share * 100.0,
            taken.resident >> 20
        )?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::{Results, Throughput, markdown};
    use crate::background::Background;
    use crate::blame::Blame;
    use crate::budget::bounds;
    use crate::dashboard::{Sight, Taken};
    use crate::figures::{Comparison, Pair, ProbeTime, Uncertain};
    use crate::latency::{Latencies, Point};
    use crate::load::Load;
    use crate::probe_time::Cost;
    use crate::tool::{Level, Tool};
    use std::time::Duration;

    fn results(per_connection: u64, ratio: f64) -> Results {
        let comparison = |ratio: f64| Comparison::of(&[Pair { without: 20_000.0, with: 20_000.0 * ratio }]).unwrap();
        let cost = |load, tool, ns| Cost {
            load,
            tool,
            operations: 1000,
            spent: ProbeTime { programs: 4, runs: 10_000, ns: ns * 1000 },
            programs: vec![
                ("recv_length".to_owned(), ProbeTime { programs: 1, runs: 2_000, ns: ns * 600 }),
                ("rare".to_owned(), ProbeTime { programs: 1, runs: 40, ns: 1 }),
            ],
        };
        Results {
            machine: "a machine".to_owned(),
            command: "cargo xtask bench".to_owned(),
            length: Duration::from_millis(250),
            throughput: [
                (Load::Connect, Tool::Listentop, Tool::Nothing, ratio),
                (Load::KeepAlive, Tool::Listentop, Tool::Nothing, ratio),
                (Load::Connect, Tool::Empty, Tool::Nothing, 0.99),
                (Load::KeepAlive, Tool::Empty, Tool::Nothing, 0.976),
                (Load::Connect, Tool::Listentop, Tool::Empty, 0.995),
                (Load::KeepAlive, Tool::Listentop, Tool::Empty, 0.96),
                (Load::KeepAlive, Tool::Level(Level::Accepts), Tool::Nothing, 0.975),
                (Load::KeepAlive, Tool::Level(Level::Queues), Tool::Nothing, 0.975),
            ]
            .map(|(load, tool, base, ratio)| Throughput { load, tool, base, comparison: comparison(ratio) })
            .into(),
            costs: vec![
                cost(Load::Connect, Tool::Listentop, per_connection),
                cost(Load::Connect, Tool::Bpftrace, 700),
                cost(Load::KeepAlive, Tool::Listentop, 400),
                // 20 ns a run, and 10 runs per operation.
                cost(Load::Connect, Tool::Empty, 200),
                cost(Load::KeepAlive, Tool::Empty, 200),
            ],
            latencies: [(0.3, Tool::Listentop, 1.08), (0.7, Tool::Level(Level::Queues), 1.06)]
                .map(|(part, tool, ratio)| Latencies {
                    part,
                    rate: 20_000.0,
                    tool,
                    points: Point::ALL
                        .map(|point| (point, Comparison::of(&[Pair { without: 60.0, with: 60.0 * ratio }]).unwrap())),
                })
                .into(),
            background: Some(Background {
                record_share: 0.0151,
                record_resident: 37 << 20,
                record_per_hour: 11.0 * 1_048_576.0,
                serve_share: 0.004,
                serve_resident: 30 << 20,
                scrape: Uncertain { value: 0.02, error: 0.001 },
                scrape_bytes: 1 << 20,
            }),
            blames: [(Load::Connect, 0.981, 0.011), (Load::KeepAlive, 0.965, 0.031)]
                .map(|(load, ratio, share)| Blame { load, comparison: comparison(ratio), share, on: 6, off: 0 })
                .into(),
            starts: [90, 300, 100].map(Duration::from_millis).into(),
            first_frames: [700, 510, 400].map(Duration::from_millis).into(),
            dashboards: vec![
                (Sight { listeners: 1_000, used: true, probes: true }, Taken { share: 0.0149, resident: 27 << 20 }),
                (Sight { listeners: 1_000, used: false, probes: true }, Taken { share: 0.01, resident: 65 << 20 }),
                (Sight { listeners: 10_000, used: false, probes: false }, Taken { share: 0.05, resident: 257 << 20 }),
            ],
            web_skipped: None,
            bpftrace_skipped: None,
        }
    }

    #[test]
    fn the_budget_is_met() {
        let page = markdown(&results(600, 0.985)).unwrap();
        for row in [
            "| connect/accept/close, attached : not attached | ≥ 0.97 | 0.985 ± 0.000 | met |",
            "| connect/accept/close, listentop's own part: attached : empty programs on its hooks | ≥ 0.98 | 0.995 ± 0.000 | met |",
            "| keep-alive requests, listentop's own part: attached : empty programs on its hooks | ≥ 0.97 | 0.960 ± 0.000 | **missed** |",
            "| keep-alive requests, `--measure accepts`, attached : not attached | ≥ 0.97 | 0.975 ± 0.000 | met |",
            "| keep-alive requests, `--measure queues`, attached : not attached | ≥ 0.98 | 0.975 ± 0.000 | **missed** |",
            "| keep-alive requests | listentop, `--measure queues` | nothing | 1 | 20000 | 19500 | 0.975 ± 0.000 |",
            "| keep-alive requests | listentop | nothing | 1 | 20000 | 19700 | 0.985 ± 0.000 | 0.985 to 0.985 |",
            "| probe time per accepted connection, all hooks together | ≤ 600 ns | 400 ± 0 ns | met |",
            "| the same, against bpftrace measuring accept wait alone | ≤ 500 ns | 400 ± 0 ns | met |",
            // Two reads per request.
            "| probe time per read, writes and arrivals included | ≤ 120 ns | 100 ± 0 ns | met |",
            "| start of `listentop report` until it measures, median | ≤ 500 ms | 100 ms | met |",
            "| start of the dashboard until its first frame with listeners, median | ≤ 500 ms | 510 ms | cannot be told: within two errors |",
            "| connect/accept/close | listentop | nothing | 1 | 20000 | 19700 | 0.985 ± 0.000 | 0.985 to 0.985 |",
            "| connect/accept/close | bpftrace, accept wait | 1 | 4 | 10.0 | 70 | 700 | - | 500 ± 0 |",
            "| keep-alive requests | listentop | 1 | 4 | 10.0 | 40 | 400 | 200 | 200 ± 0 |",
            "| keep-alive requests | empty programs | 1 | 4 | 10.0 | 20 | 200 | 100 | 0 ± 0 |",
            // 240 ns, without the empty program's 120.
            "| keep-alive requests | `recv_length` | 2.0 | 120 | 60 | 120 ± 0 |",
            "| CPU time of the dashboard with 1000 listeners, idle or used, at four refreshes a second | ≤ 2 % | 1.5 % | met |",
            "| its resident memory with 1000 listeners | ≤ 64 MiB | 65 MiB | **missed** |",
            "| CPU time of the dashboard with 10000 listeners, idle or used, at four refreshes a second | ≤ 10 % | not measured |  |",
            "| nginx at 30 % of its maximum, p99 of its clients, listentop: attached : not attached | ≤ 1.10 | 1.080 ± 0.000 | met |",
            "| nginx at 70 % of its maximum, p50 of its clients, listentop, `--measure queues`: attached : not attached | ≤ 1.05 | 1.060 ± 0.000 | **missed** |",
            "| nginx at 70 % of its maximum, p50 of its clients, listentop: attached : not attached | ≤ 1.10 | not measured |  |",
            "| connect/accept/close, blame added to listentop: with : without | ≥ 0.97 | 0.981 ± 0.000 | met |",
            "| keep-alive requests, blame added to listentop: with : without | ≥ 0.97 | 0.965 ± 0.000 | **missed** |",
            "| its own CPU time, connect/accept/close | ≤ 3 % | 1.1 % | met |",
            "| its own CPU time, keep-alive requests | ≤ 3 % | 3.1 % | **missed** |",
            "| its programs while listentop runs without it | ≤ 0 | 0 | met |",
            "| connect/accept/close | 1 | 20000 | 19620 | 0.981 ± 0.000 | 1.10 % | 6 | 0 |",
            "| `listentop record` with 1000 used listeners, a sample each second: CPU time | ≤ 1.5 % | 1.5 % | **missed** |",
            "| its recording, per hour | ≤ 20 MiB | 11 MiB | met |",
            "| `listentop serve` with 1000 used listeners: a scrape, median | ≤ 100 ms | 20 ms | met |",
            "| 30 % | 20000 | listentop | 60 / 65 (1.080 ± 0.000) |",
            "| probes | 1000 | used | 1.5 % | 27 MiB |",
            "| `--probes sock_diag` | 10000 | idle | 5.0 % | 257 MiB |",
        ] {
            assert!(page.contains(row), "{row}\nis not in\n{page}");
        }
        assert!(!page.contains("`rare`"), "{page}");
    }

    #[test]
    fn the_budget_is_missed() {
        let page = markdown(&results(900, 0.965)).unwrap();
        assert!(
            page.contains("| connect/accept/close, attached : not attached | ≥ 0.97 | 0.965 ± 0.000 | **missed** |"),
            "{page}"
        );
        assert!(page.contains("all hooks together | ≤ 600 ns | 700 ± 0 ns | **missed** |"), "{page}");

        let mut results = results(900, 0.965);
        let of_empty = |row: &&mut Throughput| (row.load, row.tool) == (Load::Connect, Tool::Empty);
        results.throughput.iter_mut().find(of_empty).unwrap().comparison =
            Comparison::of(&[Pair { without: 1_000.0, with: 966.0 }]).unwrap();
        let remarked = markdown(&results).unwrap();
        let row =
            "attached : not attached | ≥ 0.97 | 0.965 ± 0.000 | **missed**; empty programs on these hooks: 0.966 |";
        assert!(remarked.contains(row), "{remarked}");
        assert!(page.contains("accept wait alone | ≤ 500 ns | 700 ± 0 ns | **missed** |"), "{page}");
    }

    /// A bound without a row could get worse unnoticed.
    #[test]
    fn the_committed_page_has_a_row_for_every_bound() {
        let page = std::fs::read_to_string(xtask_support::cargo::root().join("docs/benchmarks.md")).unwrap();
        let rows = |what: &str| page.lines().filter(|line| line.starts_with(&format!("| {what} | "))).count();
        let bounds = bounds(&results(600, 0.985));
        for bound in &bounds {
            let wanted = bounds.iter().filter(|other| other.what() == bound.what()).count();
            assert_eq!(rows(bound.what()), wanted, "{}", bound.what());
        }
    }

    #[test]
    fn the_verdict_follows_the_rounded_figure() {
        let row = |ratio| {
            let page = markdown(&results(600, ratio)).unwrap();
            page.lines().find(|line| line.starts_with("| connect/accept/close, attached")).unwrap().to_owned()
        };
        assert!(row(0.96951).ends_with("| 0.970 ± 0.000 | met |"), "{}", row(0.96951));
        assert!(row(0.96949).ends_with("| 0.969 ± 0.000 | **missed** |"), "{}", row(0.96949));
    }

    #[test]
    fn a_missing_figure_has_no_verdict() {
        let mut results = results(600, 1.0);
        results.costs.clear();
        results.bpftrace_skipped = Some("bpftrace is not installed".to_owned());
        let page = markdown(&results).unwrap();
        assert!(page.contains("accept wait alone | | skipped: bpftrace is not installed | |"), "{page}");
        assert!(page.contains("writes and arrivals included | ≤ 120 ns | not measured |  |"), "{page}");
    }
}
