use std::collections::BTreeSet;

use listentop_model::{
    figures::FIGURES,
    fixtures,
    model::Model,
    sample::{LikelyAcceptor, LikelyBy, Sample},
    tracker::Tracker,
};
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

/// Removes the figures that are `null`, which `figures_that_are_unavailable_are_null` checks.
fn known_figures(value: &mut Value) {
    for list in ["groups", "listeners"] {
        for entry in value[list].as_array_mut().unwrap() {
            for part in FIGURES.iter().map(|figure| figure.place().0) {
                entry[part].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
        }
    }
}

#[test]
fn json_of_an_overflow() {
    let mut value = value(&fixtures::overflow());
    value["tool"]["version"] = "VERSION".into();
    known_figures(&mut value);
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

/// All but the group and the listeners, which are the example in docs/schema.md.
#[test]
fn json_of_distinct_figures() {
    let mut value = serde_json::to_value(json(&fixtures::distinct_group())).unwrap();
    value["tool"]["version"] = "VERSION".into();
    value["coverage"].take();
    assert_eq!(value["groups"].as_array().map(Vec::len), Some(1));
    value["groups"].take();
    let shards = value["listeners"].take();
    let (mut first, mut second) = (shards[0].clone(), shards[1].clone());
    assert_eq!((first["id"].take(), second["id"].take()), (51.into(), 52.into()));
    assert_eq!(first, second);
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

/// Findings are in other pictures; here they would only push the figures apart.
fn without_findings(mut model: Model) -> Model {
    model.listeners.iter_mut().for_each(|listener| listener.findings.clear());
    model.regroup();
    model
}

#[test]
fn table_of_distinct_figures() {
    insta::assert_snapshot!(table(&without_findings(fixtures::distinct_model()), &[], 200));
}

#[test]
fn table_of_a_group_of_distinct_figures() {
    insta::assert_snapshot!(table(&without_findings(fixtures::distinct_group()), &[], 200));
}

#[test]
fn figures_that_are_unavailable_are_null() {
    let unavailable = value(&fixtures::unavailable());
    let known = serde_json::to_value(json(&fixtures::distinct_model())).unwrap();
    for figure in FIGURES {
        let path = format!("/listeners/0/{}", figure.path.replace('.', "/"));
        let is_null = |report: &Value| report.pointer(&path).map(Value::is_null);
        assert_eq!(is_null(&unavailable), Some(figure.null != "never"), "{path} where it is unavailable");
        assert_eq!(is_null(&known), Some(false), "{path} where all is known");
    }
}

/// In the order of the table of figures, as text.
#[test]
fn figures_are_written_in_their_order() {
    let text = serde_json::to_string(&json(&fixtures::distinct_model())).unwrap();
    let listeners = text.split_once(r#""listeners":"#).unwrap().1;
    let mut from = 0;
    for figure in FIGURES {
        let (part, field) = figure.place();
        let start = listeners.find(&format!(r#""{part}":{{"#)).unwrap();
        // A field may be in an object of its own within the part.
        let at = field.split('.').fold(start, |at, name| at + listeners[at..].find(&format!(r#""{name}":"#)).unwrap());
        assert!(at > from, "{} comes too early", figure.path);
        from = at;
    }
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
fn aborted_connections_are_shown() {
    let mut model = model(&fixtures::quiet());
    let says =
        |model: &Model| table(model, &[], 120).contains("aborted 4: they left the accept queue without being accepted");
    assert!(!says(&model));
    let busy = model.listeners.iter().position(|l| l.total.accepts > Some(0)).expect("one accepts");
    model.listeners[busy].total.aborted = Some(4);
    assert!(says(&model));
    assert_eq!(serde_json::to_value(json(&model)).unwrap()["listeners"][busy]["accept_queue"]["aborted"], 4);
}

/// Null if nobody asked or it is not known; empty if none waits.
#[test]
fn connections_are_listed_where_they_were_asked_for() {
    let value = value(&fixtures::connections());
    let listener = &value["listeners"][0];
    let waiting = listener["connections_waiting"].as_array().unwrap();
    assert_eq!((waiting.len(), &listener["connections_waiting_cut"]), (6, &123.into()));
    let second = serde_json::json!({
        "client_address": "10.1.0.9", "client_port": 50_123, "waiting_us": 4_210_000, "precision": "measured",
        "client_state": "reset", "unread_bytes": 0,
    });
    assert_eq!(waiting[1], second);
    assert_eq!(waiting[5]["waiting_us"], Value::Null);
    let unread = serde_json::json!({
        "client_address": "10.1.0.4", "client_port": 40_002, "unread_us": 310_000, "precision": "measured",
        "client_state": "open", "unread_bytes": 88, "open_us": 1_010_000,
        "reader": {"pid": 900, "tid": 907, "comm": "web"}, "holder": {"pid": 900, "tid": null, "comm": "web"},
    });
    assert_eq!(listener["connections_unread"][1], unread);
    let half_open = serde_json::json!({
        "client_address": "10.2.0.2", "client_port": 20_002, "age_us": 1_400_000, "precision": "at_least",
        "synacks_sent_again": 0, "final_ack_came": true, "timer_us": 600_000,
    });
    assert_eq!(listener["connections_half_open"][1], half_open);
    assert_eq!(listener["connections_half_open_cut"], 12);
    assert_eq!(value["listing"], serde_json::json!({"per_listener": 16, "in_all": 256, "unlisted": 2}));

    let mut model = model(&fixtures::connections());
    model.listeners[0].connections = None;
    let listener = |model: &Model| serde_json::to_value(json(model)).unwrap()["listeners"][0].clone();
    let parts = |l: &Value| (l["connections_waiting"].clone(), l["connections_waiting_cut"].clone());
    assert_eq!(parts(&listener(&model)), (Value::Array(Vec::new()), 0.into()));
    model.listing = None;
    assert_eq!(parts(&listener(&model)), (Value::Null, Value::Null));
    model.listing = Some(listentop_model::connections::Listing::default());
    model.coverage.clear();
    assert_eq!(parts(&listener(&model)), (Value::Null, Value::Null));
}

#[test]
fn the_table_lists_connections_below_their_listener() {
    let text = table(&model(&fixtures::connections()), &[], 200);
    for line in [
        "  6 of 129 waiting to be accepted, the longest first:",
        "    10.1.0.7:41002 ~9.3s",
        "    192.168.100.200:60999 4.1s; 120B unread; its client has closed",
        "  2 of 14 half open, their handshakes not complete, the longest first:",
        "    10.2.0.1:20001 7.2s; its SYN-ACK was sent again 3 times",
        "  3 waiting to be read, the longest first:",
        "    10.1.0.4:40002 310ms; 88B unread; accepted 1.0s ago; last read by web[900], thread 907; held by web[900]",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn a_distribution_without_values_has_a_count_and_no_percentiles() {
    let value = value(&fixtures::quiet());
    let idle = value["listeners"].as_array().unwrap().iter().find(|l| l["port"] == 22).unwrap();
    let wait = &idle["accept_queue"]["wait_us"];
    assert_eq!(wait.to_string(), r#"{"count":0,"max":null,"mean":null,"p50":null,"p90":null,"p99":null}"#);
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

/// The same, from the first part of docs/schema.md. A heading names the object of its table. A field with a dot in
/// front has the parent of the field before it. A distribution has the fields of every distribution.
fn documented() -> BTreeSet<String> {
    let schema = include_str!("../../../docs/schema.md");
    let report = schema.split("# The JSON of the doctor").next().unwrap();
    let names = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let shape = report.split("**A distribution** is `{").nth(1).expect("what a distribution is");
    let distribution: Vec<&str> = shape.split("}`").next().unwrap().split(", ").collect();
    assert_eq!(distribution.len(), 6);
    let (mut documented, mut list, mut part) = (BTreeSet::new(), String::new(), String::new());
    for line in report.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            // Under a heading of several objects, each field is written with its own.
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
    // The figures, pattern and findings of a group are described where a listener's are.
    let parts: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.place().0).chain(["pattern", "findings"]).collect();
    let of_group = |path: &String| {
        let rest = path.strip_prefix("listeners.")?;
        parts.contains(rest.split('.').next()?).then(|| format!("groups.{rest}"))
    };
    let of_groups: Vec<String> = documented.iter().filter_map(of_group).collect();
    documented.extend(of_groups);
    // A list is described by its own heading.
    let lists = [
        "coverage",
        "namespaces",
        "groups",
        "groups.findings",
        "listeners",
        "listeners.threads",
        "listeners.findings",
        "listeners.connections_waiting",
        "listeners.connections_unread",
        "listeners.blame.stacks",
        "listeners.connections_half_open",
    ];
    documented.extend(lists.map(str::to_owned));
    documented
}

#[test]
fn the_documentation_has_every_field_and_no_other() {
    let mut fields_of_reports = BTreeSet::new();
    let machines = [
        fixtures::dead_shard(),
        fixtures::quiet(),
        fixtures::overflow(),
        fixtures::distinct(),
        fixtures::per_connection(),
        fixtures::connections(),
        fixtures::blamed(),
        late(),
    ];
    for samples in machines {
        fields(&value(&samples), "", &mut fields_of_reports);
    }
    // An object may be `null` in some reports: a process that cannot be seen, for one.
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
fn ended_threads_that_are_summed_up_are_one_row() {
    let model = model(&fixtures::per_connection());
    let text = table(&model, &[], 120);
    let row = text.lines().find(|line| line.contains("(122 ended)")).unwrap_or_else(|| panic!("{text}"));
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[2..7], ["-", "reader,writer", "0", "0%", "0"], "{row}");
    assert!(!row.ends_with("ended"), "{row}");
    let json = serde_json::to_value(json(&model)).unwrap();
    let threads = json["listeners"][0]["threads"].as_array().unwrap();
    let summed: Vec<_> = threads.iter().filter(|t| !t["summed"].is_null()).collect();
    let expected = serde_json::json!({
        "threads": 122, "processes": 122, "acceptors": 0, "readers": 122, "writers": 122, "one_connection": 122
    });
    assert_eq!((summed.len(), &summed[0]["summed"], &summed[0]["reads"]), (1, &expected, &serde_json::json!(122 * 6)));
    let reads: u64 = threads.iter().filter_map(|t| t["reads"].as_u64()).sum();
    assert_eq!(Some(reads), json["listeners"][0]["reads"]["count"].as_u64());
    assert_eq!(json["listeners"][0]["pattern"]["name"], "process_per_connection");
}

#[test]
fn threads_that_are_not_shown_are_counted() {
    let mut samples = fixtures::per_connection();
    for sample in &mut samples {
        sample.listeners[0].threads.extend((0..9).map(|tid| fixtures::thread(1, 1 + tid, "idle")));
    }
    // 1 acceptor, 6 that ended, 9 idle ones and the sum: 17 rows.
    assert!(table(&model(&samples), &[], 120).contains("\n  and 5 more threads\n"));
}

#[test]
fn table_without_bpf() {
    let text = table(&model(&fixtures::unavailable()), &[], 120);
    insta::assert_snapshot!(text);
}

/// The verdict is the first line, the worst listener the first row and the first block, and coverage comes last.
#[test]
fn the_worst_comes_first_and_coverage_last() {
    let mut machine = model(&fixtures::quiet());
    machine.listeners.push(model(&fixtures::overflow()).listeners[0].clone());
    for columns in [60, 80, 120] {
        let text = table(&machine, &[], columns);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("1 of 4 listeners refuses clients: 0.0.0.0:8080"), "{text}");
        let head = lines.iter().position(|line| line.starts_with("LISTENER")).unwrap();
        assert!(lines[head + 1].starts_with("0.0.0.0:8080"), "{text}");
        let blocks: Vec<&&str> = lines.iter().filter(|line| line.starts_with("── ")).collect();
        assert!(blocks[0].starts_with("── 0.0.0.0:8080"), "{text}");
        let last_block = lines.iter().rposition(|line| line.starts_with("── ")).unwrap();
        let coverage = lines.iter().position(|line| line.starts_with("not fully measured")).unwrap();
        assert!(coverage > last_block, "{text}");
        for port in [":22", ":80", ":6379", ":8080"] {
            assert!(lines[head..].iter().any(|line| line.contains(port)), "{port} is cut off:\n{text}");
        }
    }
}

/// Clients wait, and no finding holds yet: the verdict and the block say so by the figures, and nothing denies it.
#[test]
fn where_no_finding_holds_the_figures_speak() {
    let mut machine = model(&fixtures::quiet());
    let now = &mut machine.listeners[0].now;
    (now.accept_depth, now.oldest_waiting_us) = (288, Some(5_800_000));
    let text = table(&machine, &[], 200);
    let lines: Vec<&str> = text.lines().collect();
    let says =
        "1 of 3 listeners keeps clients waiting: 0.0.0.0:22 sshd[801], 288 connections wait, the oldest for 5.8 s.";
    assert_eq!(lines[0], says);
    let line = "  CRITICAL: 288 connections wait, the oldest for 5.8 s. No finding says why yet.";
    assert!(lines.contains(&line), "{text}");
    let head = lines.iter().position(|line| line.starts_with("LISTENER")).unwrap();
    assert!(lines[head + 1].starts_with("0.0.0.0:22"), "it is the worst: {text}");
    let listener = &mut machine.listeners[1];
    listener.recent_drops.total = Some(7);
    listener.recent_drops.unexplained = Some(7);
    let text = table(&machine, &[], 200);
    assert!(text.contains("WARNING: 7 attempts were refused in the last 1.0 s, why is not known."), "{text}");
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
fn an_empty_machine_and_losses_are_shown() {
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

#[test]
fn a_report_of_the_first_sample_has_no_shares_and_no_mean_of_probe_runs() {
    let text = |model: &Model| table(model, &[], 120);
    let first = model(&fixtures::quiet()[..1]);
    assert!(text(&first).contains("own cost: no probe runs; the process 0.00 s of CPU time, "), "{}", text(&first));
    let later = text(&model(&fixtures::quiet()));
    assert!(later.contains(" probe runs of 180 ns on average; ") && later.contains("% of a CPU, "), "{later}");
}

#[test]
fn numbers_have_a_fraction_where_it_matters() {
    let text = |number| serde_json::to_string(&json::Number(number)).unwrap();
    assert_eq!([0.0, 3.0, -3.0, 0.5].map(text), ["0", "3", "-3", "0.5"]);
    // Above, f64 does not hold every integer.
    assert_eq!([8_999_999_999_999_999.0, 9e15].map(text), ["8999999999999999", "9000000000000000.0"]);
}

#[test]
fn listeners_that_opened_or_closed_say_so() {
    let quiet = model(&fixtures::quiet());
    let text = |closed, opened| {
        let mut model = quiet.clone();
        (model.listeners[0].closed, model.listeners[0].opened_in_interval) = (closed, opened);
        table(&model, &[], 200)
    };
    let says = |text: String| ["STATE", "opened, closed", "closed", "opened"].map(|word| text.contains(word));
    assert_eq!(says(text(false, false)), [false, false, false, false]);
    assert_eq!(says(text(true, false)), [true, false, true, false]);
    assert_eq!(says(text(false, true)), [true, false, false, true]);
    assert_eq!(says(text(true, true)), [true, true, true, true]);
}

/// Two samples of a listener at which connections wait, with a thread that probably should accept.
fn late() -> Vec<Sample> {
    let mut listener = fixtures::listener(1, 4_026_531_840, "0.0.0.0:80", 16);
    listener.gauges.accept_depth = 3;
    listener.likely_acceptors = Some(vec![LikelyAcceptor {
        pid: 7,
        tid: 9,
        comm: "worker".to_owned(),
        by: LikelyBy::NotParked,
        state: Some(fixtures::thread_state('S', "hrtimer_nanosleep", "clock_nanosleep")),
    }]);
    let mut scene = fixtures::Scene::new(vec![listener]);
    scene.tick(1_000);
    scene.tick(1_000);
    scene.samples()
}

#[test]
fn who_probably_should_accept_is_marked_with_the_reason() {
    let likely = value(&late())["listeners"][0]["likely_acceptors"].clone();
    let stack = likely[0]["state"]["kernel_stack"].clone();
    let expected = serde_json::json!([{
        "pid": 7, "tid": 9, "comm": "worker", "by": "not_parked",
        "state": {
            "letter": "S", "wchan": "hrtimer_nanosleep", "syscall": "clock_nanosleep", "kernel_stack": stack,
        },
    }]);
    assert_eq!(likely, expected);
    assert_eq!(value(&fixtures::overflow())["listeners"][0]["likely_acceptors"], Value::Null, "an acceptor was seen");
}
