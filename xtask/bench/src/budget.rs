//! The budget of the design, with the figures: no I/O.

use std::time::Duration;

use crate::background::Background;
use crate::blame::LOADS;
use crate::bound::Bound;
use crate::dashboard::Taken;
use crate::figures::Uncertain;
use crate::latency::{Latencies, Point};
use crate::load::Load;
use crate::report::Results;
use crate::tool::{Level, Tool};

/// Bounds of the design, as ratios of throughput and in nanoseconds of listentop's own.
///
/// Keep-alive requests have no bound against nothing attached: what the tracepoints themselves cost is not ours to keep
/// small. The page shows it, with empty programs beside it.
const CONNECT_RATIO: f64 = 0.97;
const CONNECT_OWN_RATIO: f64 = 0.98;
const KEEPALIVE_OWN_RATIO: f64 = 0.97;
/// Keep-alive requests at lower levels, whose hooks are few: against nothing attached.
const LEVELS: [(Level, f64); 2] = [(Level::Accepts, 0.97), (Level::Queues, 0.98)];
/// nginx at these parts of its maximum: p50 and p99 of its clients against nothing attached, at most.
const LATENCIES: [(f64, Tool, f64); 4] = [
    (0.3, Tool::Listentop, 1.10),
    (0.7, Tool::Listentop, 1.10),
    (0.3, Tool::Level(Level::Queues), 1.05),
    (0.7, Tool::Level(Level::Queues), 1.05),
];
/// Points of the distribution that have a bound. Those beyond are reported.
const POINTS: [Point; 2] = [Point::P50, Point::P99];
const NS_PER_CONNECTION: f64 = 600.0;
const NS_PER_READ: f64 = 120.0;
const START: Duration = Duration::from_millis(500);
/// Numbers of listeners, with the dashboard's bounds: share of a core and resident memory at four refreshes a second.
const DASHBOARDS: [(usize, f64, u64); 2] = [(1_000, 0.02, 64 << 20), (10_000, 0.1, 256 << 20)];
/// A recorder with 1,000 listeners: share of a core, resident memory, bytes on the disk per hour.
const RECORD: (f64, u64, u64) = (0.015, 40 << 20, 20 << 20);
/// Blame added to listentop: throughput of a server under full load, and its own share of a core.
const BLAME: (f64, f64) = (0.97, 0.03);
/// An exporter with 1,000 listeners: time of a scrape, share of a core.
const SERVE: (Duration, f64) = (Duration::from_millis(100), 0.01);

/// The bounds of the design, in the page's order, with their figures.
pub(crate) fn bounds(results: &Results) -> Vec<Bound> {
    let connect = results.own_ns(Load::Connect, Tool::Listentop);
    let script = results.own_ns(Load::Connect, Tool::Bpftrace);
    let reads = Load::KeepAlive.reads_per_operation() as f64;
    let read = results.own_ns(Load::KeepAlive, Tool::Listentop);
    let read = read.map(|ns| Uncertain { value: ns.value / reads, error: ns.error / reads });
    let seconds = |times: &[Duration]| Uncertain::of(&times.iter().map(Duration::as_secs_f64).collect::<Vec<f64>>());
    let mut bounds = Vec::new();
    for (load, bound, own) in
        [(Load::Connect, Some(CONNECT_RATIO), CONNECT_OWN_RATIO), (Load::KeepAlive, None, KEEPALIVE_OWN_RATIO)]
    {
        let ratio = |base| {
            let comparison = results.comparison(load, Tool::Listentop, base)?;
            Some(Uncertain { value: comparison.ratio, error: comparison.error })
        };
        let floor = results.comparison(load, Tool::Empty, Tool::Nothing).map(|floor| floor.ratio);
        if let Some(bound) = bound {
            let what = format!("{}, attached : not attached", load.name());
            // No tool on these hooks can be faster.
            let remark = floor.filter(|floor| *floor < bound);
            let remark = remark.map(|floor| format!("empty programs on these hooks: {floor:.3}"));
            bounds.push(Bound::at_least(&what, bound, ratio(Tool::Nothing)).with_remark(remark));
        }
        let what = format!("{}, listentop's own part: attached : empty programs on its hooks", load.name());
        bounds.push(Bound::at_least(&what, own, ratio(Tool::Empty)));
    }
    for (level, bound) in LEVELS {
        let what = format!("keep-alive requests, `--measure {}`, attached : not attached", level.name());
        let ratio = results.comparison(Load::KeepAlive, Tool::Level(level), Tool::Nothing);
        let ratio = ratio.map(|comparison| Uncertain { value: comparison.ratio, error: comparison.error });
        bounds.push(Bound::at_least(&what, bound, ratio));
    }
    bounds.extend(latencies(results));
    let what = "probe time per accepted connection, all hooks together";
    bounds.push(Bound::at_most_ns(what, NS_PER_CONNECTION, connect));
    let what = "the same, against bpftrace measuring accept wait alone";
    bounds.push(match (script, &results.bpftrace_skipped) {
        (Some(script), _) => Bound::at_most_ns(what, script.value, connect).with_limit_error(script.error),
        (None, Some(reason)) => Bound::skipped(what, reason),
        (None, None) => Bound::at_most_ns(what, 0.0, None),
    });
    let what = "probe time per read, writes and arrivals included";
    bounds.push(Bound::at_most_ns(what, NS_PER_READ, read));
    let what = "start of `listentop report` until it measures, median";
    bounds.push(Bound::at_most(what, START, seconds(&results.starts)));
    let what = "start of the dashboard until its first frame with listeners, median";
    bounds.push(Bound::at_most(what, START, seconds(&results.first_frames)));
    for (listeners, share, resident) in DASHBOARDS {
        let taken = results.dashboards.iter().filter(|(sight, _)| sight.probes && sight.listeners == listeners);
        let most = |of: &dyn Fn(&Taken) -> f64| {
            let most = taken.clone().map(|(_, taken)| of(taken)).max_by(f64::total_cmp);
            most.map(|value| Uncertain { value, error: 0.0 })
        };
        let what =
            format!("CPU time of the dashboard with {listeners} listeners, idle or used, at four refreshes a second");
        bounds.push(Bound::at_most_of_a_core(&what, share, most(&|taken| taken.share)));
        let what = format!("its resident memory with {listeners} listeners");
        bounds.push(Bound::at_most_bytes(&what, resident, most(&|taken| taken.resident as f64)));
    }
    bounds.extend(background(results));
    bounds.extend(blame(results));
    bounds
}

/// The bounds of blame.
fn blame(results: &Results) -> Vec<Bound> {
    let of = |load| results.blames.iter().find(|blame| blame.load == load);
    let exact = |value| Uncertain { value, error: 0.0 };
    let ratios = LOADS.map(|load| {
        let ratio = of(load).map(|blame| Uncertain { value: blame.comparison.ratio, error: blame.comparison.error });
        Bound::at_least(&format!("{}, blame added to listentop: with : without", load.name()), BLAME.0, ratio)
    });
    let shares = LOADS.map(|load| {
        let what = format!("its own CPU time, {}", load.name());
        Bound::at_most_of_a_core(&what, BLAME.1, of(load).map(|blame| exact(blame.share)))
    });
    let off = results.blames.iter().map(|blame| blame.off).max();
    let off = off.map(|off| exact(off as f64));
    let off = Bound::at_most_number("its programs while listentop runs without it", 0, off);
    ratios.into_iter().chain(shares).chain([off]).collect()
}

/// The bounds of clients' latencies.
fn latencies(results: &Results) -> impl Iterator<Item = Bound> {
    LATENCIES.into_iter().flat_map(|row| POINTS.map(|point| (row, point))).map(|((part, tool, limit), point)| {
        let what = format!(
            "nginx at {:.0} % of its maximum, {} of its clients, {}: attached : not attached",
            part * 100.0,
            point.name(),
            tool.name()
        );
        if let Some(reason) = &results.web_skipped {
            return Bound::skipped(&what, reason);
        }
        let ratio = |tool| {
            let of = |measured: &&Latencies| (measured.part - part).abs() < 1e-9 && measured.tool == tool;
            let (_, comparison) = results.latencies.iter().find(of)?.points.iter().find(|(of, _)| *of == point)?;
            Some(Uncertain { value: comparison.ratio, error: comparison.error })
        };
        // Nothing against nothing: how far equal runs are from each other.
        let equal = ratio(Tool::Nothing).map_or(0.0, |of| of.error.max((of.value - 1.0).abs()));
        Bound::at_most_ratio(&what, limit, ratio(tool)).with_limit_error(equal)
    })
}

/// The bounds of what runs for months.
fn background(results: &Results) -> [Bound; 5] {
    let exact = |of: fn(&Background) -> f64| {
        results.background.as_ref().map(|measured| Uncertain { value: of(measured), error: 0.0 })
    };
    let scrape = results.background.as_ref().map(|measured| measured.scrape);
    let (share, resident, per_hour) = RECORD;
    let (time, serve_share) = SERVE;
    [
        Bound::at_most_of_a_core(
            "`listentop record` with 1000 used listeners, a sample each second: CPU time",
            share,
            exact(|measured| measured.record_share),
        ),
        Bound::at_most_bytes("its resident memory", resident, exact(|measured| measured.record_resident as f64)),
        Bound::at_most_bytes("its recording, per hour", per_hour, exact(|measured| measured.record_per_hour)),
        Bound::at_most("`listentop serve` with 1000 used listeners: a scrape, median", time, scrape),
        Bound::at_most_of_a_core(
            "its CPU time, scraped every 15 seconds",
            serve_share,
            exact(|measured| measured.serve_share),
        ),
    ]
}
