//! What Prometheus stores is what listentop's report says, and what the server counted.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use listentop_model::coverage::Measure;
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::Measuring,
    lab::PORT,
    sleep_ms,
    sockets::{accept, attempt, connect, give_up_refused_and_count, listen, receive, send_all},
};

use crate::support::{Prometheus, installed, netns, scrape, serve, value};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Drops];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "prometheus::agrees_with_the_report_and_the_server", needs: NEEDS, run: agrees },
    Test { name: "prometheus::promtool_has_nothing_to_say", needs: NEEDS, run: linted },
];

/// Connections that wait before each of them is served.
const ROUNDS: u32 = 30;
const AT_ONCE: usize = 4;
/// How long they wait, at least.
const WAIT_MS: u64 = 40;

/// A native bucket is at most an eighth wide, and the report's middle is within a sixteenth, in whole microseconds.
const NATIVE: (f64, f64) = (0.2, 1e-6);
/// A classic bucket is as wide as its lower bound; the first ends at 131 µs.
const CLASSIC: (f64, f64) = (1.0, 131e-6);

/// What the server counted.
pub(crate) struct Served {
    pub(crate) connections: u64,
    pub(crate) bytes: u64,
    pub(crate) refused: u64,
}

/// Connections that wait for some 40 ms, ask, and are answered; then some that are refused.
pub(crate) fn load(listener: &Socket) -> Served {
    let mut served = Served { connections: 0, bytes: 0, refused: 0 };
    for _ in 0..ROUNDS {
        let clients: Vec<Socket> = (0..AT_ONCE).map(|_| connect(PORT)).collect();
        clients.iter().for_each(|client| send_all(client, b"question"));
        sleep_ms(WAIT_MS);
        for client in clients {
            let server = accept(listener).expect("a connection");
            served.bytes += receive(&server, 64) as u64;
            served.connections += 1;
            send_all(&server, b"answer");
            drop(client);
        }
    }
    let waiting: Vec<Socket> = (0..=AT_ONCE).map(|_| connect(PORT)).collect();
    let refused: Vec<Socket> = (0..3).map(|_| attempt(PORT)).collect();
    sleep_ms(50);
    let (established, syns) = give_up_refused_and_count(refused);
    assert!(established.is_empty(), "the test's own load: the queue is full");
    served.refused = syns;
    for client in waiting {
        drop(accept(listener).expect("a connection"));
        served.connections += 1;
        drop(client);
    }
    served
}

/// Whether a quantile is the report's, but for a part of it and for some time.
fn assert_near(what: &str, seconds: f64, report_us: &Value, (part, time): (f64, f64)) {
    let report = report_us.as_f64().unwrap_or_else(|| panic!("{what}: {report_us}")) / 1e6;
    assert!((seconds - report).abs() <= report * part + time, "{what}: {seconds} s, and {report} s in the report");
}

fn agrees(_: &Lab) {
    installed("prometheus");
    let listener = listen(PORT, AT_ONCE as i32);
    let measuring = Measuring::start(&format!("report --for 90s --format json --port 7000 --netns {}", netns()));
    let exporter = serve("--port 7000");
    let native = Prometheus::start(9090, &["--enable-feature=native-histograms"], "");
    let classic = Prometheus::start(9091, &[], "");
    for prometheus in [&native, &classic] {
        prometheus.wait_for("listentop_accepts_total{port=\"7000\"}", 0.0);
    }
    let served = load(&listener);
    for prometheus in [&native, &classic] {
        prometheus.wait_for("listentop_accepts_total{port=\"7000\"}", served.connections as f64);
    }
    sleep_ms(2_500);
    let report = measuring.report();
    let listener = &report["listeners"][0];
    let refused = listener["drops"]["total"].as_u64().expect("it is measured");
    assert_eq!(refused, served.refused);
    for prometheus in [&native, &classic] {
        for (name, report, own) in [
            ("accepts_total", &listener["accepts"]["total"], served.connections),
            ("accept_queue_enqueued_total", &listener["accept_queue"]["enqueued"], served.connections),
            ("reads_bytes_total", &listener["reads"]["bytes"], served.bytes),
            ("drops_total", &listener["drops"]["total"], served.refused),
        ] {
            let series = format!("listentop_{name}{{port=\"7000\"}}");
            let stored = prometheus.number(&series);
            assert_eq!((stored, report.as_u64()), (Some(own as f64), Some(own)), "{name}");
            // It began at 0, so what it grew is what it is; `increase` extrapolates to the borders of its range.
            let grown = prometheus.number(&format!("max_over_time({series}[5m]) - min_over_time({series}[5m])"));
            assert_eq!(grown, Some(own as f64), "{name}");
            let increase = prometheus.number(&format!("increase({series}[5m])")).expect("it has one");
            assert!((increase - own as f64).abs() <= own as f64 * 0.2 + 1.0, "{name}: {increase}, not {own}");
        }
        assert_eq!(prometheus.number("listentop_accept_queue_peak{port=\"7000\"}"), Some(AT_ONCE as f64 + 1.0));
        assert_eq!(prometheus.number("up"), Some(1.0));
        assert_eq!(prometheus.number("sum(listentop_lost_total{kind!=\"skipped_probe_runs\"})"), Some(0.0));
    }
    for (name, report) in [
        ("accept_queue_wait_seconds", &listener["accept_queue"]["wait_us"]),
        ("reads_residency_seconds", &listener["reads"]["residency_us"]),
        ("connections_answer_seconds", &listener["connections"]["answer_us"]),
    ] {
        let count = report["count"].as_u64().expect("it has values") as f64;
        let series = format!("listentop_{name}{{port=\"7000\"}}");
        assert_eq!(native.number(&format!("histogram_count({series})")), Some(count), "{name}");
        let bucket = format!("listentop_{name}_bucket{{port=\"7000\"}}");
        assert!(native.query(&bucket).is_empty(), "native histograms are stored as such");
        assert_eq!(classic.number(&format!("listentop_{name}_count{{port=\"7000\"}}")), Some(count), "{name}");
        for (p, quantile) in [("0.5", "p50"), ("0.9", "p90")] {
            let stored = native.number(&format!("histogram_quantile({p}, rate({series}[5m]))")).expect("it has one");
            assert_near(&format!("{name} {quantile}"), stored, &report[quantile], NATIVE);
            let stored = classic.number(&format!("histogram_quantile({p}, rate({bucket}[5m]))")).expect("it has one");
            assert_near(&format!("{name} {quantile}, classic"), stored, &report[quantile], CLASSIC);
        }
        let mean = native.number(&format!("histogram_sum({series}) / histogram_count({series})")).expect("it has one");
        assert_near(&format!("mean of {name}"), mean, &report["p50"], (0.5, 200e-6));
    }
    assert!(exporter.end().success());
}

/// The conventions, by the program that knows them.
fn linted(_: &Lab) {
    let promtool = installed("promtool");
    let listener = listen(PORT, AT_ONCE as i32);
    let exporter = serve("--port 7000");
    load(&listener);
    sleep_ms(1_000);
    let text = scrape("");
    assert!(value(&text, &["listentop_accepts_total{", "port=\"7000\""]).is_some_and(|accepts| accepts > 0.0));
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = check.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    assert!(exporter.end().success());
}
