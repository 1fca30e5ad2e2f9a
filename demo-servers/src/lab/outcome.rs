//! What a run proved: expectations, totals beside each other, Little's law.

use super::snapshot::Snapshot;
use lessons::figure::parse;
use lessons::{Expectation, Lesson};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// One expectation and its value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    /// Its id in the lesson.
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) figure: &'static str,
    pub(super) unit: &'static str,
    /// Lower bound, included.
    pub(super) low: Option<f64>,
    /// Upper bound, included.
    pub(super) high: Option<f64>,
    /// By how much one of them is wider than the lesson says, because CPUs were busy.
    pub(super) widened: f64,
    /// The value; `None` if it is unknown.
    pub(super) value: Option<f64>,
    /// The value with what the servers had counted before listentop reported, if that is another one: the load went on
    /// meanwhile, and the value at the moment of the report lies between the two.
    pub(super) before: Option<f64>,
    /// Why it is unknown.
    pub(super) unknown: Option<String>,
    /// Whether it is within its bounds; an unknown value is not.
    pub(super) ok: bool,
    pub(super) why: &'static str,
}

/// Judges all expectations. `steps` are the moments at the ends of steps that are over.
pub(super) fn judge(lesson: &Lesson, steps: &[(&str, Snapshot)], now: &Snapshot, short: bool) -> Vec<Verdict> {
    lesson.expectations.iter().map(|expectation| verdict(lesson, expectation, steps, now, short)).collect()
}

fn verdict(
    lesson: &Lesson,
    expectation: &Expectation,
    steps: &[(&str, Snapshot)],
    now: &Snapshot,
    short: bool,
) -> Verdict {
    let value_at = |expression: &str, now: &Snapshot| {
        parse(expression).map_err(|mistake| mistake.to_string()).and_then(|expression| {
            expression.value(&mut |figure| {
                let at = match &figure.step {
                    None => now,
                    Some(step) => {
                        let over = steps.iter().find(|(name, _)| name == step);
                        &over.ok_or_else(|| format!("step {step} is not over"))?.1
                    }
                };
                at.values(lesson, figure)
            })
        })
    };
    let value_of = |expression: &str| value_at(expression, now);
    let widened = expectation.widened.map_or(Ok(0.0), value_of);
    // A bound that is unknown holds for nothing.
    let value = widened.as_ref().map_err(Clone::clone).and_then(|_| value_of(expectation.figure));
    let widened = widened.unwrap_or(0.0).max(0.0);
    let bounds = expectation.bounds(short).widened(widened);
    let (low, high) = bounds.ends();
    let ok = |value: f64, before: Option<f64>| {
        // Somewhere between the two is a value within the bounds.
        let (least, most) = before.map_or((value, value), |before| (value.min(before), value.max(before)));
        low.is_none_or(|low| most >= low) && high.is_none_or(|high| least <= high)
    };
    let compares = parse(expectation.figure).is_ok_and(|expression| expression.compares());
    let before = (compares && !now.servers_before.is_empty()).then(|| {
        let before = Snapshot { servers: now.servers_before.clone(), ..now.clone() };
        value_at(expectation.figure, &before).ok()
    });
    let differs = |before: &f64| value.as_ref().is_ok_and(|value| value.to_bits() != before.to_bits());
    let before = before.flatten().filter(differs);
    Verdict {
        id: expectation.id,
        what: expectation.what,
        figure: expectation.figure,
        unit: expectation.unit,
        low,
        high,
        widened,
        value: value.as_ref().ok().copied(),
        before,
        ok: value.as_ref().is_ok_and(|value| ok(*value, before)),
        unknown: value.err(),
        why: expectation.why,
    }
}

/// A wait for a CPU that one thread in a hundred has on a machine with CPUs to spare, or with a busy loop beside the
/// lab, is shorter than this: a time slice of 3 ms for each of a few threads.
const LATE_US: u64 = 20_000;
/// Likewise the delay of one in ten connections of a load, behind what it was meant to do.
const DELAYED_US: u64 = 10_000;

/// Why the machine could not offer the load as it was meant: its threads were ready, and got no CPU for a long time.
/// `None`: it could.
pub(super) fn busy(end: &Snapshot) -> Option<String> {
    let delay = |load: &Value| load.pointer("/start_delay_us/p90").and_then(Value::as_u64);
    let delays = end.loads.iter().filter_map(|(name, load)| Some((delay(load)?, name)));
    if let Some((delay, name)) = delays.max().filter(|(delay, _)| *delay > DELAYED_US) {
        return Some(format!("one in ten connections of load {name} began {} ms late or later", delay / 1000));
    }
    let late = end.late_us.p99.filter(|late| *late > LATE_US)?;
    Some(format!("one in a hundred threads that were ready waited {} ms or longer for a CPU", late / 1000))
}

/// A finding that listentop reports at the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Found {
    /// The server; of those that have a port in turn, the first.
    pub(super) server: &'static str,
    /// Which finding it is.
    pub(super) id: String,
    /// How severe it is, in listentop's words.
    pub(super) severity: String,
    /// It comes from what the lesson does.
    pub(super) expected: bool,
}

/// The findings of the lesson's servers, each once for a server.
pub(super) fn found(lesson: &Lesson, end: &Snapshot) -> Vec<Found> {
    let expected = lesson.expected_findings();
    let mut all: Vec<Found> = Vec::new();
    let report = end.report.as_ref();
    let listeners = ["listeners", "groups"].into_iter().filter_map(|kind| report?.get(kind)?.as_array()).flatten();
    for listener in listeners {
        let port = listener["port"].as_u64();
        let Some(server) = lesson.setup.servers.iter().find(|server| Some(u64::from(server.port)) == port) else {
            continue;
        };
        for finding in listener["findings"].as_array().into_iter().flatten() {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            let (id, severity) = (text("id"), text("severity"));
            if all.iter().any(|one| one.server == server.name && one.id == id) {
                continue;
            }
            let expected = expected.contains(&id.as_str());
            all.push(Found { server: server.name, id, severity, expected });
        }
    }
    all
}

/// A number that listentop and a program both counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Total {
    /// The server; of those that have a port in turn, the first.
    pub(super) server: &'static str,
    /// What was counted.
    pub(super) what: &'static str,
    /// By listentop.
    pub(super) listentop: u64,
    /// By the server.
    pub(super) program: u64,
    /// listentop's less the server's.
    pub(super) difference: i64,
    /// Why they may differ; `None` if they do not, or if nothing explains it.
    pub(super) explained: Option<Why>,
}

/// Why two counts may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// The server counted on while listentop reported: what listentop has lies between these.
    WentOn {
        /// The server's count before the report.
        before: u64,
        /// And after it.
        after: u64,
    },
    /// The kernel hid so many events from the probes, as the report says.
    Hidden(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WentOn { before, after } => {
                write!(f, "the server went from {before} to {after} while listentop reported")
            }
            Self::Hidden(events) => write!(f, "the kernel hid {events} events from the probes, as the report says"),
        }
    }
}

impl Total {
    /// Whether they are equal, or it is known why not.
    pub(super) fn ok(&self) -> bool {
        self.difference == 0 || self.explained.is_some()
    }
}

/// The figures that both count: what it is, the path in listentop's report, the path in the server's counters.
const COUNTED: [(&str, &str, &str); 4] = [
    ("accepted connections", "/accepts/total", "/total/accepts"),
    ("reads", "/reads/count", "/total/reads"),
    ("bytes read", "/reads/bytes", "/total/read_bytes"),
    ("writes", "/writes/count", "/total/writes"),
];

/// Compares what listentop and the servers counted. Servers that do not count it have no rows. Those that have a port
/// in turn are one row: a connection may move from one to the next.
pub(super) fn totals(lesson: &Lesson, end: &Snapshot) -> Vec<Total> {
    let missed = end.report.as_ref().map_or(0, |report| {
        let cost = |name: &str| report["own_cost"][name].as_u64().unwrap_or(0);
        cost("lost_events") + cost("missed_runs")
    });
    let mut rows = Vec::new();
    for server in lesson.setup.servers {
        let same_port: Vec<_> = lesson.setup.servers.iter().filter(|other| other.port == server.port).collect();
        if same_port[0].name != server.name {
            continue;
        }
        for (what, of_listentop, of_program) in COUNTED {
            // All of them, or nothing: a part of a sum is no sum.
            let sum = |number: &dyn Fn(&str) -> Option<u64>| {
                same_port.iter().map(|server| number(server.name)).sum::<Option<u64>>()
            };
            let number = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_u64);
            let seen = sum(&|name| number(&end.of_server(lesson, name).ok()?, of_listentop));
            let after = sum(&|name| number(end.servers.get(name)?, of_program));
            let before = sum(&|name| number(end.servers_before.get(name)?, of_program));
            if let (Some(seen), Some(after)) = (seen, after) {
                rows.push(total(server.name, what, seen, before.unwrap_or(after), after, missed));
            }
        }
    }
    rows
}

fn total(server: &'static str, what: &'static str, seen: u64, before: u64, after: u64, missed: u64) -> Total {
    let difference = seen as i64 - after as i64;
    // A missed event is one call; its bytes are at most those of one read.
    let allowed = if what == "bytes read" { missed * 65_536 } else { missed };
    let explained = if difference == 0 {
        None
    } else if (before..=after).contains(&seen) {
        Some(Why::WentOn { before, after })
    } else if missed > 0 && (before.saturating_sub(allowed)..=after + allowed).contains(&seen) {
        Some(Why::Hidden(missed))
    } else {
        None
    };
    Total { server, what, listentop: seen, program: after, difference, explained }
}

/// Little's law for one accept queue: mean depth = rate × mean wait.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Little {
    /// The server.
    pub(super) server: &'static str,
    /// Mean depth as the kernel showed it in /proc/net/tcp, read every 2 ms.
    pub(super) depth: Option<f64>,
    /// Connections accepted per second, by listentop.
    pub(super) rate: Option<f64>,
    /// Their mean wait in milliseconds, by listentop.
    pub(super) wait_ms: Option<f64>,
    /// How far rate × wait is from the depth, in percent of the depth.
    pub(super) deviation: Option<f64>,
    /// Why the law is not checked here.
    pub(super) not_checked: Option<String>,
}

/// The largest deviation in percent. Waits are known to 1/16; depths are read every 2 ms, later on a busy machine.
pub(super) const DEVIATION: f64 = 15.0;
/// The least number of readings at which somebody waited. Fewer say too little: the mean of 400 is some 5 % off.
const LEAST_READINGS: u64 = 400;
/// The least number of waits.
const LEAST_WAITS: f64 = 50.0;

impl Little {
    /// Whether it holds, or is not checked.
    pub(super) fn ok(&self) -> bool {
        self.deviation.is_none_or(|deviation| deviation.abs() <= DEVIATION)
    }
}

/// Little's law for each server.
pub(super) fn little(lesson: &Lesson, end: &Snapshot) -> Vec<Little> {
    lesson.setup.servers.iter().map(|server| of_queue(lesson, server.name, server.port, end)).collect()
}

fn of_queue(lesson: &Lesson, server: &'static str, port: u16, end: &Snapshot) -> Little {
    let mut law = Little { server, depth: None, rate: None, wait_ms: None, deviation: None, not_checked: None };
    let not = |law: Little, why: String| Little { not_checked: Some(why), ..law };
    if lesson.setup.servers.iter().filter(|other| other.port == port).count() > 1 {
        return not(law, "several servers had this port in turn".to_owned());
    }
    let Some(queue) = end.queues.get(&port) else { return not(law, "its accept queue was not read".to_owned()) };
    let listener = match end.of_server(lesson, server) {
        Ok(listener) => listener,
        Err(why) => return not(law, why),
    };
    let figure = |path: &str| listener.pointer(path).and_then(Value::as_f64);
    law.depth = Some(queue.mean);
    let (Some(count), Some(mean_us)) = (figure("/accept_queue/wait_us/count"), figure("/accept_queue/wait_us/mean"))
    else {
        return not(law, "no wait is known".to_owned());
    };
    law.rate = Some(count / end.seconds);
    law.wait_ms = Some(mean_us / 1000.0);
    if figure("/accept_queue/aborted").is_some_and(|aborted| aborted > 0.0) {
        return not(law, "connections left the queue without being accepted".to_owned());
    }
    // Those that still wait are part of the depth, and not of the waits.
    let waiting = queue.last as f64 * figure("/accept_queue/oldest_waiting_us").unwrap_or(0.0) / 1e6;
    if waiting > 0.05 * queue.integral {
        return not(law, format!("{} connections still wait", queue.last));
    }
    if count < LEAST_WAITS || queue.busy < LEAST_READINGS {
        return not(law, "the queue is nearly always empty: too little to measure it by".to_owned());
    }
    let product = count * mean_us / 1e6;
    law.deviation = Some(100.0 * (product / queue.integral - 1.0));
    law
}

#[cfg(test)]
mod tests {
    use super::super::sampler::Queue;
    use super::*;
    use crate::stress::summary::Distribution;
    use lessons::Bounds;
    use serde_json::json;

    #[test]
    fn a_difference_is_explained_or_it_is_not() {
        assert_eq!(total("a", "reads", 10, 10, 10, 0).difference, 0);
        assert!(total("a", "reads", 10, 10, 10, 0).ok());
        for (seen, before, after, missed, ok) in [
            (9, 10, 10, 0, false),
            (11, 10, 10, 0, false),
            (10, 9, 11, 0, true),
            (8, 9, 11, 0, false),
            (8, 9, 11, 1, true),
            (9, 10, 10, 1, true),
            (8, 10, 10, 1, false),
        ] {
            let total = total("a", "reads", seen, before, after, missed);
            assert_eq!(total.ok(), ok, "{total:?}");
        }
    }

    #[test]
    fn a_finding_is_expected_or_it_is_not() {
        let lesson = lessons::find("overflow").unwrap();
        let (port, expected) = (lesson.setup.servers[0].port, lesson.expected_findings());
        let finding = |id: &str| json!({"id": id, "severity": "warning"});
        let findings = json!([finding(expected[0]), finding("unheard_of")]);
        let report = json!({
            "listeners": [{"port": port, "findings": findings}, {"port": 9, "findings": findings}],
            "groups": [{"port": port, "findings": findings}],
        });
        let found = found(lesson, &Snapshot { report: Some(report), ..Snapshot::default() });
        let short: Vec<_> = found.iter().map(|one| (one.server, one.id.as_str(), one.expected)).collect();
        let server = lesson.setup.servers[0].name;
        assert_eq!(short, [(server, expected[0], true), (server, "unheard_of", false)]);
    }

    #[test]
    fn a_load_that_is_late_makes_the_machine_busy() {
        let load = |us: u64| [("slow".to_owned(), json!({"start_delay_us": {"p90": us}}))].into();
        let late = |us| Distribution { p99: Some(us), ..Distribution::default() };
        let end = |loads, late_us| Snapshot { loads, late_us, ..Snapshot::default() };
        assert_eq!(busy(&end(load(DELAYED_US), late(LATE_US))), None);
        assert_eq!(busy(&Snapshot::default()), None);
        assert!(busy(&end(load(DELAYED_US + 1000), late(0))).unwrap().contains("load slow began 11 ms late"));
        assert!(busy(&end(load(0), late(LATE_US + 1000))).unwrap().contains("waited 21 ms"));
    }

    #[test]
    fn bounds_are_widened_by_what_the_run_measured() {
        let lesson = lessons::find("handshake").unwrap();
        let expectation = |bounds, widened| Expectation {
            id: "x",
            what: "x",
            figure: "run:seconds",
            unit: "ms",
            bounds,
            short: None,
            widened,
            why: "x",
        };
        let now = Snapshot {
            seconds: 12.0,
            late_us: Distribution { p99: Some(3_000), ..Distribution::default() },
            ..Snapshot::default()
        };
        let judged = |bounds, widened| verdict(lesson, &expectation(bounds, widened), &[], &now, false);
        let late = Some("run:late_us.p99 / 1000");
        assert!(!judged(Bounds::AtMost(10.0), None).ok);
        let wide = judged(Bounds::AtMost(10.0), late);
        assert!(wide.ok && wide.high == Some(13.0) && (wide.widened - 3.0).abs() < 1e-9, "{wide:?}");
        assert!(!judged(Bounds::AtMost(8.0), late).ok);
        assert!(judged(Bounds::AtLeast(14.0), late).ok && !judged(Bounds::AtLeast(16.0), late).ok);
        // What is not measured widens nothing, and its bounds are unknown.
        let unknown = judged(Bounds::AtMost(100.0), Some("run:late_us.p90"));
        assert!(!unknown.ok && unknown.value.is_none(), "{unknown:?}");
    }

    #[test]
    fn counts_that_went_on_are_equal_somewhere_between() {
        let lesson = lessons::find("thundering-herd").unwrap();
        let expectation = lesson.expectations.iter().find(|one| one.figure.contains("would_block - ")).unwrap();
        let counted = |count: u64| [("all_wake".to_owned(), json!({"total": {"would_block": count}}))].into();
        let judged = |seen: u64, before: u64, after: u64| {
            let listener = json!({"id": 1, "port": 7001, "accepts": {"would_block": seen}});
            let report = Some(json!({ "listeners": [listener] }));
            let now =
                Snapshot { report, servers: counted(after), servers_before: counted(before), ..Snapshot::default() };
            verdict(lesson, expectation, &[], &now, false)
        };
        let between = judged(1_000, 940, 1_090);
        assert_eq!((between.ok, between.value, between.before), (true, Some(-90.0), Some(60.0)));
        let over = judged(1_000, 1_000, 1_000);
        assert_eq!((over.ok, over.value, over.before), (true, Some(0.0), None));
        // Beyond both, something was counted wrong.
        assert!(!judged(1_000, 1_001, 1_090).ok && !judged(1_000, 900, 999).ok);
    }

    fn law(wait_us: u64, count: u64, queue: Queue, oldest: u64) -> Little {
        let lesson = lessons::find("overflow").unwrap();
        let report = json!({"listeners": [{"id": 1, "port": 7001, "accept_queue": {
            "aborted": 0, "oldest_waiting_us": oldest, "wait_us": {"count": count, "mean": wait_us}}}]});
        let end =
            Snapshot { seconds: 10.0, report: Some(report), queues: [(7001, queue)].into(), ..Snapshot::default() };
        of_queue(lesson, "slow_acceptor", 7001, &end)
    }

    #[test]
    fn depth_is_rate_times_wait() {
        // 50 per second × 0.18 s = 9.
        let queue = Queue { integral: 90.0, mean: 9.0, max: 9, last: 0, samples: 1000, busy: 1000 };
        let holds = law(180_000, 500, queue.clone(), 0);
        assert!(holds.deviation.unwrap().abs() < 1e-6 && holds.ok(), "{holds:?}");
        assert!(!law(250_000, 500, queue.clone(), 0).ok());
        assert!(!law(120_000, 500, queue.clone(), 0).ok());
        for not_checked in [
            law(180_000, 10, queue.clone(), 0),
            law(180_000, 500, Queue { busy: 300, ..queue.clone() }, 0),
            law(180_000, 500, Queue { last: 9, ..queue }, 900_000),
        ] {
            assert!(not_checked.deviation.is_none() && not_checked.not_checked.is_some(), "{not_checked:?}");
        }
    }
}
