use std::collections::BTreeSet;

use listentop_model::{fixtures, model::Model, sample::Sample, tracker::Tracker};
use serde_json::Value;

use super::*;
use listentop_model::words::width;

fn model(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker.model().clone()
}

fn value(samples: &[Sample]) -> Value {
    serde_json::to_value(json(&model(samples))).unwrap()
}

#[test]
fn json_of_an_overflow() {
    let mut value = value(&fixtures::overflow());
    value["tool"]["version"] = "VERSION".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn what_is_unavailable_is_null() {
    let value = value(&fixtures::unavailable());
    let listener = &value["listeners"][0];
    for path in [
        "/holders",
        "/process",
        "/group",
        "/accept_queue/peak",
        "/accept_queue/enqueued",
        "/accept_queue/oldest_waiting_us",
        "/accept_queue/wait_us",
        "/syn_queue/depth",
        "/syn_queue/handshake_us",
        "/drops/total",
        "/drops/accept_queue_full_on_syn",
        "/drops/unexplained",
        "/drops/clients",
        "/accepts/total",
        "/accepts/per_second",
        "/connections/open",
        "/reads/count",
        "/reads/residency_us",
        "/writes/bytes",
    ] {
        assert_eq!(listener.pointer(path), Some(&Value::Null), "{path}");
    }
    assert_eq!(value.pointer("/own_cost/probe_runs"), Some(&Value::Null));
    assert_eq!(value.pointer("/namespaces/0/unexplained_drops"), Some(&Value::Null));
}

#[test]
fn a_namespace_whose_drops_do_not_add_up_is_named() {
    let mut model = model(&fixtures::quiet());
    for (unexplained, says) in
        [(3, "3 refused attempts that no listener accounts for"), (-3, ": 3 more attempts in the listeners'")]
    {
        model.namespaces[0].unexplained_drops = Some(unexplained);
        assert!(
            table(&model, &[], 120).lines().any(|line| line.starts_with("namespace ") && line.contains(says)),
            "{says}"
        );
    }
    model.namespaces[0].unexplained_drops = Some(0);
    assert!(table(&model, &[], 120).lines().all(|line| !line.starts_with("namespace ")));
}

#[test]
fn connections_that_were_thrown_away_are_told() {
    let mut model = model(&fixtures::quiet());
    let says =
        |model: &Model| table(model, &[], 120).contains("aborted 4: they left the accept queue without being accepted");
    assert!(!says(&model));
    let busy = model.listeners.iter().position(|l| l.total.accepts > Some(0)).expect("one accepts");
    model.listeners[busy].total.aborted = Some(4);
    assert!(says(&model));
    assert_eq!(serde_json::to_value(json(&model)).unwrap()["listeners"][busy]["accept_queue"]["aborted"], 4);
}

#[test]
fn a_distribution_without_values_has_a_count_and_no_percentiles() {
    let value = value(&fixtures::quiet());
    let idle = value["listeners"].as_array().unwrap().iter().find(|l| l["port"] == 22).unwrap();
    let wait = &idle["accept_queue"]["wait_us"];
    assert_eq!(wait.to_string(), r#"{"count":0,"max":null,"p50":null,"p90":null,"p99":null}"#);
}

#[test]
fn groups_and_numbers() {
    let value = value(&fixtures::dead_shard());
    let listeners = value["listeners"].as_array().unwrap();
    assert!(listeners.iter().all(|l| l["group"] == "tcp/4026532201/10.0.0.1:8443"));
    let finding = &listeners[3]["findings"][0];
    assert_eq!((finding["id"].as_str(), finding["severity"].as_str()), (Some("dead_shard"), Some("critical")));
    assert_eq!(finding["evidence"]["shards"].to_string(), "4", "an integer has no fraction");
    assert_eq!(listeners[0]["accepts"]["per_second"], 80.0);
    assert_eq!(listeners[0]["threads"][0]["accept_share"].as_f64().unwrap(), 1.0 / 3.0);
}

/// Every field's path: `listeners.accept_queue.wait_us.p50`.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            // The figures behind a finding have names of their own.
            let inner = if key == "evidence" { &Value::Null } else { value };
            if !inner.is_object() {
                into.insert(path.clone());
            }
            fields(inner, &path, into);
        }),
        Value::Array(items) => items.iter().filter(|item| item.is_object()).for_each(|item| fields(item, path, into)),
        _ => {}
    }
}

/// The same, as the first part of docs/schema.md has it: a heading says what its table's fields are of, a field written
/// with a dot in front has the parent of the one before it, and a distribution has the fields of every distribution.
fn documented() -> BTreeSet<String> {
    let schema = include_str!("../../../docs/schema.md");
    let report = schema.split("# The JSON of the doctor").next().unwrap();
    let names = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let shape = report.split("**A distribution** is `{").nth(1).expect("what a distribution is");
    let distribution: Vec<&str> = shape.split("}`").next().unwrap().split(", ").collect();
    assert_eq!(distribution.len(), 5);
    let (mut documented, mut list, mut part) = (BTreeSet::new(), String::new(), String::new());
    for line in report.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            // Of several the fields are written with their own.
            part = match &names(title)[..] {
                [one] => format!("{list}{}.", one.trim_end_matches("[]")),
                _ => list.clone(),
            };
        } else if let Some(title) = line.strip_prefix("## ") {
            list = names(title).first().map_or(String::new(), |name| format!("{}.", name.trim_end_matches("[]")));
            part = list.clone();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split(" | ");
            let (cell, meaning) = (format!("`{}", cells.next().unwrap()), cells.next().expect("a meaning"));
            let mut parent = String::new();
            for name in names(&cell) {
                let name = match name.strip_prefix('.') {
                    Some(rest) => format!("{parent}.{rest}"),
                    None => name,
                };
                parent = name.rsplit_once('.').map_or(String::new(), |(parent, _)| parent.to_owned());
                let path = format!("{part}{name}");
                if meaning.starts_with("distribution") {
                    documented.extend(distribution.iter().map(|field| format!("{path}.{field}")));
                } else {
                    assert!(documented.insert(path.clone()), "{path} is documented twice");
                }
            }
        }
    }
    // A list is told of by its own heading.
    documented
        .extend(["coverage", "namespaces", "listeners", "listeners.threads", "listeners.findings"].map(str::to_owned));
    documented
}

#[test]
fn the_documentation_has_every_field_and_no_other() {
    let mut fields_of_reports = BTreeSet::new();
    for samples in [fixtures::dead_shard(), fixtures::quiet(), fixtures::overflow()] {
        fields(&value(&samples), "", &mut fields_of_reports);
    }
    // What is there only where it is known: of a process, say, that may not be seen.
    let objects = |set: &BTreeSet<String>| -> BTreeSet<String> {
        set.iter().filter(|path| !set.iter().any(|other| other.starts_with(&format!("{path}.")))).cloned().collect()
    };
    let (written, documented) = (objects(&fields_of_reports), objects(&documented()));
    let missing: Vec<_> = written.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/schema.md lacks {missing:#?}");
    let gone: Vec<_> = documented.difference(&written).collect();
    assert!(gone.is_empty(), "docs/schema.md has what no report has: {gone:#?}");
    assert!(written.len() > 100, "{}", written.len());
}

#[test]
fn table_of_an_overflow() {
    insta::assert_snapshot!(table(&model(&fixtures::overflow()), &[], 110));
}

#[test]
fn table_of_a_dead_shard_at_80_columns() {
    insta::assert_snapshot!(table(&model(&fixtures::dead_shard()), &[], 80));
}

#[test]
fn table_of_a_quiet_machine() {
    insta::assert_snapshot!(table(&model(&fixtures::quiet()), &[], 160));
}

#[test]
fn table_without_bpf() {
    let text = table(&model(&fixtures::unavailable()), &[], 120);
    insta::assert_snapshot!(text);
}

#[test]
fn no_line_is_too_long_and_nothing_breaks_the_terminal() {
    let mut samples = fixtures::overflow();
    for sample in &mut samples {
        let process = sample.listeners[0].process.as_mut().unwrap();
        process.comm = "日本語\u{1b}[31mсервер".to_owned();
        sample.listeners[0].threads[0].comm = "スレッド\t".to_owned();
        sample.namespaces[0].name = Some("ネットワーク".to_owned());
    }
    let model = model(&samples);
    for columns in [1, 60, 61, 79, 80, 100, 200] {
        let text = table(&model, &[], columns);
        let longest = text.lines().map(width).max().unwrap();
        assert!(longest <= columns.max(60), "{longest} columns of {columns}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert!(text.ends_with('\n') && !text.contains(" \n"));
    }
}

#[test]
fn an_empty_machine_and_losses_are_said() {
    let mut samples = fixtures::many(0);
    for sample in &mut samples {
        sample.losses.connections = 1_234;
        sample.losses.missed_runs = 5;
    }
    let text = table(&model(&samples), &[], 100);
    assert!(text.contains("(no listener)"), "{text}");
    assert!(
        text.contains("LOST, numbers are too low: 1,234 connections (raise --max-connections), 5 probe runs skipped"),
        "{text}"
    );
    let remarks = ["no listener passed the filter: --port 1".to_owned(), "process 5 ended".to_owned()];
    let text = table(&model(&samples), &remarks, 100);
    assert!(text.contains("\n(no listener passed the filter: --port 1)\n(process 5 ended)\n"), "{text}");
    assert!(!text.contains("(no listener)"), "{text}");
    assert_eq!(value(&samples)["own_cost"]["lost"]["connections"], 1_234);
    assert_eq!(value(&samples)["own_cost"]["lost_events"], 1_234);
}
