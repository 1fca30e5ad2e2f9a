use listentop_model::{fixtures, model::Model, sample::Sample, tracker::Tracker};
use serde_json::Value;

use super::*;
use crate::dashboard::format::width;

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
        assert!(table(&model, 120).lines().any(|line| line.starts_with("namespace ") && line.contains(says)), "{says}");
    }
    model.namespaces[0].unexplained_drops = Some(0);
    assert!(table(&model, 120).lines().all(|line| !line.starts_with("namespace ")));
}

#[test]
fn connections_that_were_thrown_away_are_told() {
    let mut model = model(&fixtures::quiet());
    let says =
        |model: &Model| table(model, 120).contains("aborted 4: they left the accept queue without being accepted");
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

#[test]
fn the_documentation_has_every_field() {
    fn keys(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                into.push(key.clone());
                // The figures behind a finding have names of their own.
                if key != "evidence" {
                    keys(value, into);
                }
            }),
            Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
            _ => {}
        }
    }
    let mut fields = Vec::new();
    keys(&value(&fixtures::dead_shard()), &mut fields);
    keys(&value(&fixtures::quiet()), &mut fields);
    fields.sort();
    fields.dedup();
    assert!(fields.len() > 80, "{}", fields.len());
    let schema = include_str!("../../../docs/schema.md");
    let words: Vec<&str> = schema.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let missing: Vec<_> = fields.iter().filter(|f| !words.contains(&f.as_str())).collect();
    assert!(missing.is_empty(), "docs/schema.md lacks {missing:?}");
}

#[test]
fn times_as_people_write_them() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(json::utc(ms), text);
    }
}

#[test]
fn table_of_an_overflow() {
    insta::assert_snapshot!(table(&model(&fixtures::overflow()), 110));
}

#[test]
fn table_of_a_dead_shard_at_80_columns() {
    insta::assert_snapshot!(table(&model(&fixtures::dead_shard()), 80));
}

#[test]
fn table_of_a_quiet_machine() {
    insta::assert_snapshot!(table(&model(&fixtures::quiet()), 160));
}

#[test]
fn table_without_bpf() {
    let text = table(&model(&fixtures::unavailable()), 120);
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
        let text = table(&model, columns);
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
    let text = table(&model(&samples), 100);
    assert!(text.contains("(no listener)"), "{text}");
    assert!(
        text.contains("LOST, numbers are too low: 1,234 connections (raise --max-connections), 5 probe runs skipped"),
        "{text}"
    );
    assert_eq!(value(&samples)["own_cost"]["lost"]["connections"], 1_234);
    assert_eq!(value(&samples)["own_cost"]["lost_events"], 1_234);
}
