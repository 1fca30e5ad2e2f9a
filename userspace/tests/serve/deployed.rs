//! What deploy/ has for Prometheus and Grafana, by the real programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use listentop_model::coverage::Measure;
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test, environment,
    lab::PORT,
    sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
};

use crate::support::{Prometheus, installed, serve};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "deployed::rules_fire_when_they_must", needs: &[], run: rules },
    Test { name: "deployed::rules_and_dashboard_find_what_they_ask_for", needs: NEEDS, run: queries },
];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn promtool(arguments: &[&str], file: &str) {
    let program = installed("promtool");
    let output = Command::new(program).args(arguments).arg(deploy(file)).output().expect("promtool runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.contains("SUCCESS"), "{arguments:?} {file}: {said}");
}

fn rules(_: &Lab) {
    promtool(&["check", "rules"], "prometheus/listentop.rules.yml");
    promtool(&["check", "config"], "prometheus/prometheus.yml");
    promtool(&["test", "rules"], "prometheus/listentop.rules.test.yml");
}

/// The expressions of the dashboard, with its variables as Grafana sets them for "All".
fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(deploy("grafana/listentop.json")).expect("the dashboard");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let panels = json["panels"].as_array().expect("panels");
    let mut found = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$__rate_interval", "1m");
            let query = ["$instance", "$netns", "$port"].iter().fold(query, |query, name| query.replace(name, ".*"));
            assert!(!query.contains('$'), "{title}: a variable that is not known: {query}");
            found.push((title.to_owned(), query));
        }
    }
    found
}

/// The metrics that a query names.
fn metrics(query: &str) -> Vec<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("listentop_")).collect()
}

/// The first series of a result as the manual has it: its labels besides those of the scrape, and its value.
fn shown(results: &[Value]) -> String {
    let port = PORT.to_string();
    let of_server = |result: &&Value| result["metric"]["port"] == port.as_str();
    let first = results.iter().find(of_server).unwrap_or(&results[0]);
    let labels = first["metric"].as_object().expect("labels").iter();
    let labels = labels.filter(|(name, _)| !["__name__", "instance", "job"].contains(&name.as_str()));
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("?"))).collect();
    let value = first["value"][1].as_str().expect("a value");
    let value = value.parse::<f64>().map_or(value.to_owned(), |value| format!("{}", (value * 1e6).round() / 1e6));
    let more = if results.len() > 1 { format!(" (and {} more)", results.len() - 1) } else { String::new() };
    format!("{}{value}{more}", if labels.is_empty() { String::new() } else { format!("{{{}}} ", labels.join(", ")) })
}

/// The table of what the dashboard's queries return: the manual has a row for each. `UPDATE_DOCS=1` writes it anew,
/// with the values of this run.
fn manual(rows: &[(String, String)]) {
    const BEGIN: &str = "| panel | query | returns |\n|---|---|---|\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/production.md");
    let text = std::fs::read_to_string(path).expect("the manual");
    let (before, rest) = text.split_once(BEGIN).expect("a table of queries");
    let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let lines: Vec<String> = rows.iter().map(|(row, shown)| format!("{row} {shown} |\n")).collect();
        std::fs::write(path, [before, BEGIN, &lines.concat(), &rest[end..]].concat()).expect("the manual");
        return;
    }
    let table: Vec<&str> = rest[..end].lines().collect();
    assert_eq!(table.len(), rows.len(), "rows of the table of queries in production.md: UPDATE_DOCS=1 writes it");
    for ((row, _), there) in rows.iter().zip(table) {
        assert!(there.starts_with(row.as_str()), "production.md has {there}, not {row}: UPDATE_DOCS=1 writes it anew");
    }
}

fn queries(_: &Lab) {
    installed("prometheus");
    let listener = listen(PORT, 16);
    // So that it has the metrics of pushing, too: nobody is there.
    let exporter = serve("--otlp http://127.0.0.1:9");
    let native = Prometheus::start(9090, &["--enable-feature=native-histograms"], "");
    let classic = Prometheus::start(9091, &[], "");
    for prometheus in [&native, &classic] {
        prometheus.wait_for("listentop_accepts_total{port=\"7000\"}", 0.0);
    }
    for _ in 0..50 {
        let client = connect(PORT);
        send_all(&client, b"question");
        let server = accept(&listener).expect("a connection");
        assert_eq!(receive(&server, 16), 8);
        send_all(&server, b"answer");
    }
    // Something that hangs: a finding.
    let hanging: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    for prometheus in [&native, &classic] {
        prometheus.wait_for("listentop_accepts_total{port=\"7000\"}", 50.0);
        prometheus.wait_for("count(listentop_finding{finding=\"hung_acceptor\"} or listentop_finding{finding=\"acceptor_gone\"}) > bool 0", 1.0);
    }
    sleep_ms(1_000);
    let text = std::fs::read_to_string(deploy("prometheus/listentop.rules.yml")).expect("the rules");
    let all = dashboard();
    assert!(all.len() >= 20, "{}", all.len());
    let mut rows = Vec::new();
    for (title, query) in &all {
        // Native and classic histograms have queries of their own, and probes may not see all causes.
        let native_only = query.contains("histogram_quantile") && !query.contains("_bucket");
        let classic_only = query.contains("_bucket");
        let expected = [!classic_only, !native_only];
        let (start, patience) = (Instant::now(), environment::patience());
        // It is about names that exist: a query that falls into a gap between two scrapes is asked again.
        let (results, found) = loop {
            let results = [&native, &classic].map(|prometheus| prometheus.query(query));
            let found = [0, 1].map(|at| !results[at].is_empty());
            if found == expected || start.elapsed() > patience {
                break (results, found);
            }
            sleep_ms(200);
        };
        let shown = results.iter().find(|results| !results.is_empty()).map_or_else(String::new, |found| shown(found));
        rows.push((format!("| {title} | `{}` |", query.replace('|', "\\|")), shown));
        assert_eq!(found, expected, "{title}: {query}");
    }
    manual(&rows);
    // No rule waits for a metric that does not exist.
    let names: Vec<Value> = classic.query("count by (__name__) ({__name__=~\"listentop_.*\"})");
    let names: Vec<&str> = names.iter().filter_map(|found| found["metric"]["__name__"].as_str()).collect();
    for metric in text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(metrics) {
        let exists = names.contains(&metric) || names.contains(&&*format!("{metric}_count"));
        assert!(exists, "{metric} is not exported: {names:?}");
    }
    assert!(exporter.end().success());
    drop(hanging);
}
