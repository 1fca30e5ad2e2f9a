//! What a scrape shows of made-up machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use listentop_model::{
    episodes::{self, HOLD_MS},
    figures::Value,
    fixtures,
    model::{Model, Severity},
    tracker::Tracker,
};

use super::{
    exposition::{self, Format},
    histogram::{CLASSIC, SERIES},
    labels::Labels,
    measuring::Latest,
    metrics::METRICS,
    own::Counters,
    page::{Exportable, Floors, Page},
};

const MANY: usize = 1_000_000;

fn page(model: Model, most: usize) -> Page {
    Floors::default().page(Latest::of(model), most)
}

fn written(page: Page, format: Format) -> String {
    let bytes = exposition::write(page, Arc::new(Counters::default()), format, Vec::new()).expect("it can be written");
    String::from_utf8(bytes).expect("text")
}

/// The values of a text by name and labels. Every line must have the form of one, and no series may be there twice.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
        assert!(name.starts_with("listentop_"), "{line}");
        let value = value.parse().unwrap_or_else(|_| panic!("no value: {line}"));
        assert_eq!(found.insert(name.to_owned(), value), None, "twice: {line}");
    }
    found
}

fn model(samples: &[listentop_model::sample::Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    tracker.model().clone()
}

#[test]
fn every_figure_has_the_value_of_the_model() {
    let model = fixtures::distinct_model();
    let seconds = model.interval.seconds;
    let page = page(model.clone(), MANY);
    assert_eq!((page.rows.len(), page.cut), (model.listeners.len(), (0, 0)));
    let found = series(&written(page, Format::Text));
    for listener in &model.listeners {
        for metric in METRICS.iter() {
            let name = metric.full_name();
            let port = format!("port=\"{}\"", listener.port);
            let of_listener = |suffix: &str| {
                let begin = format!("{name}{suffix}{{");
                let mut values = found.iter().filter(|(name, _)| name.starts_with(&begin) && name.contains(&port));
                values.next().map(|(_, value)| *value)
            };
            match metric.figure.value(listener, seconds) {
                Value::Unknown => assert_eq!(of_listener(""), None, "{name}"),
                // The peaks of the last minute are another story.
                _ if metric.figure.kind == listentop_model::figures::Kind::Peak => {}
                Value::Number(number) if metric.in_microseconds => {
                    assert_eq!(of_listener(""), Some(number as f64 / 1e6), "{name}");
                }
                Value::Number(number) => assert_eq!(of_listener(""), Some(number as f64), "{name}"),
                Value::Flag(flag) => assert_eq!(of_listener(""), Some(f64::from(u8::from(flag))), "{name}"),
                Value::Distribution(values) => {
                    assert_eq!(of_listener("_count"), Some(values.count() as f64), "{name}");
                    let buckets = found.keys().filter(|series| series.starts_with(&format!("{name}_bucket{{")));
                    assert_eq!(buckets.filter(|series| series.contains(&port)).count(), CLASSIC, "{name}");
                }
                Value::Rate(_) => panic!("{name}: rates are for queries"),
            }
        }
    }
    for forbidden in ["pid=", "tid=", "client=", "thread="] {
        assert!(found.keys().all(|name| !name.contains(forbidden)), "{forbidden}");
    }
}

/// Name and labels, in whichever order they are written.
fn parts(series: &str) -> Vec<String> {
    let mut parts: Vec<String> = series.split(['{', ',', '}']).map(str::to_owned).collect();
    parts.sort_unstable();
    parts
}

#[test]
fn open_metrics_has_the_same_series() {
    let of = |format| {
        let text = written(page(fixtures::distinct_model(), MANY), format);
        let names: BTreeSet<Vec<String>> = series(&text).keys().map(|name| parts(name)).collect();
        (text, names)
    };
    let ((text, plain), (open, other)) = (of(Format::Text), of(Format::OpenMetrics));
    assert!(plain == other, "{:?}", plain.symmetric_difference(&other).next());
    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
    assert!(open.contains("# UNIT listentop_accept_queue_wait_seconds seconds\n"));
    assert!(open.contains("# TYPE listentop_accepts counter\n"), "OpenMetrics names the family");
    assert!(text.contains("# TYPE listentop_accepts_total counter\n"));
}

#[test]
fn a_page_counts_its_series() {
    let page = page(fixtures::distinct_model(), MANY);
    let values = page.rows.iter().flat_map(|row| row.values.iter().flatten());
    let distributions = values.filter(|value| matches!(value, Exportable::Distribution(_))).count();
    assert!(distributions > 0 && page.series > distributions * SERIES);
    let series = page.series;
    let text = written(page, Format::Text);
    assert_eq!(super::tests::series(&text)["listentop_series"], series as f64);
    let of_listeners = super::tests::series(&text).keys().filter(|name| name.contains("port=")).count();
    assert_eq!(of_listeners, series);
}

#[test]
fn the_cap_leaves_out_whole_listeners_and_counts_them() {
    let model = model(&fixtures::many(50));
    let whole = page(model.clone(), MANY);
    let (all, each) = (whole.series, whole.series / whole.rows.len());
    let most = each * 20 + each / 2;
    let capped = page(model, most);
    assert!(capped.series <= most && capped.rows.len() >= 15, "{} of {most}", capped.series);
    assert_eq!(capped.rows.len() + capped.cut.0, whole.rows.len());
    assert_eq!(capped.series + capped.cut.1, all);
    // The same ones each time: those that opened first.
    let kept: Vec<_> = capped.rows.iter().map(|row| row.labels.clone()).collect();
    assert!(kept.iter().zip(&whole.rows).all(|(kept, all)| *kept == all.labels));
    let cut = capped.cut;
    let found = series(&written(capped, Format::Text));
    assert_eq!(found["listentop_listeners_cut"], cut.0 as f64);
    assert_eq!(found["listentop_series_cut"], cut.1 as f64);
}

#[test]
fn a_closed_listener_goes_after_a_scrape_or_two() {
    let mut model = model(&fixtures::overflow());
    let count = model.listeners.len();
    model.interval.seconds = 100.0;
    for (after, there) in [(0.0, true), (29.0, true), (31.0, false)] {
        model.listeners[0].closed = true;
        model.listeners[0].closed_us = Some(((100.0 - after) * 1e6) as u64);
        assert_eq!(page(model.clone(), MANY).rows.len(), count - usize::from(!there), "after {after} s");
    }
}

#[test]
fn an_address_that_is_taken_over_has_one_series() {
    let mut model = model(&fixtures::overflow());
    let mut later = model.listeners[0].clone();
    model.interval.seconds = 100.0;
    model.listeners[0].closed = true;
    model.listeners[0].closed_us = Some(99_000_000);
    later.id += 1_000;
    later.total.accepts = Some(7);
    model.listeners.push(later.clone());
    let found = series(&written(page(model.clone(), MANY), Format::Text));
    let accepts: Vec<_> = found.iter().filter(|(name, _)| name.starts_with("listentop_accepts_total{")).collect();
    assert!(accepts.iter().any(|(_, value)| **value as u64 == 7), "{accepts:?}");
    assert!(accepts.iter().all(|(name, _)| !name.contains("shard=")), "{accepts:?}");
    // Two that are open are told apart.
    model.listeners[0].closed = false;
    let found = series(&written(page(model.clone(), MANY), Format::Text));
    let shard = format!("shard=\"{}\"", later.id);
    assert!(found.keys().any(|name| name.starts_with("listentop_accepts_total{") && name.contains(&shard)));
}

/// Once the later one has closed as well, its series goes on: the earlier one's must not come back with other counts.
#[test]
fn an_address_that_was_taken_over_goes_on_with_the_later_one() {
    let mut model = model(&fixtures::overflow());
    model.interval.seconds = 100.0;
    model.listeners = model.listeners.iter().take(1).cloned().collect::<Vec<_>>().into();
    let first = &mut model.listeners[0];
    (first.closed, first.closed_us, first.total.accepts) = (true, Some(98_000_000), Some(8));
    // A CPU has cookies of its own, so a later socket's may be lower.
    for other in [first.id + 1_000, first.id - 1] {
        for (closed, closed_us) in [(false, None), (true, Some(99_000_000)), (true, Some(98_000_000))] {
            let mut model = model.clone();
            let mut later = model.listeners[0].clone();
            (later.id, later.closed, later.closed_us, later.opened_in_interval) = (other, closed, closed_us, true);
            later.total.accepts = Some(1);
            model.listeners[0].opened_in_interval = false;
            model.listeners.push(later);
            let found = series(&written(page(model, MANY), Format::Text));
            let accepts = found.iter().filter(|(name, _)| name.starts_with("listentop_accepts_total{"));
            assert_eq!(accepts.map(|(_, value)| *value as u64).collect::<Vec<_>>(), [1], "{other} {closed_us:?}");
        }
    }
}

#[test]
fn shards_are_told_apart_and_their_group_has_its_findings() {
    let model = model(&fixtures::dead_shard());
    let shards = model.groups[0].shards.clone();
    let found = series(&written(page(model.clone(), MANY), Format::Text));
    for shard in shards {
        let label = format!("shard=\"{shard}\"");
        assert!(found.keys().any(|name| name.starts_with("listentop_accept_queue_depth{") && name.contains(&label)));
    }
    let findings: Vec<&String> = found.keys().filter(|name| name.starts_with("listentop_finding{")).collect();
    let all = model.groups.iter().map(|group| group.full(&model).findings.clone());
    let mut holding = all.flatten().filter(|finding| finding.until_unix_ms.is_none()).peekable();
    assert!(holding.peek().is_some(), "the fixture has a finding of its group");
    for finding in holding {
        let id = format!("finding=\"{}\"", finding.id);
        assert!(findings.iter().any(|name| name.contains(&id) && !name.contains("shard=")), "{id}: {findings:?}");
    }
}

#[test]
fn findings_that_hold_are_there_with_their_severity() {
    let mut model = model(&fixtures::overflow());
    let labels = |model: &Model| {
        let found = series(&written(page(model.clone(), MANY), Format::Text));
        found.into_keys().filter(|name| name.starts_with("listentop_finding{")).collect::<Vec<_>>()
    };
    let critical = model.listeners[0].findings.iter().filter(|found| found.severity == Severity::Critical).count();
    assert!(critical > 0, "{:?}", model.listeners[0].findings);
    let found = labels(&model);
    assert!(found.iter().any(|name| name.contains("severity=\"critical\",root_cause=\"true\"")), "{found:?}");
    let now = episodes::now_ms(&model);
    let mut until = |ms| {
        model.listeners[0].findings.iter_mut().for_each(|finding| finding.until_unix_ms = Some(ms));
        labels(&model)
    };
    assert_eq!(until(now - HOLD_MS), found, "a moment ago is now: it may be back in a moment");
    assert!(until(now - HOLD_MS - 1).len() < found.len(), "what has passed is not there");
}

#[test]
fn a_finding_that_came_and_went_between_two_scrapes_has_left_its_time() {
    let mut model = model(&fixtures::overflow());
    let times = |model: &Model| {
        let found = series(&written(page(model.clone(), MANY), Format::Text));
        let of_findings = |name: &str| name.starts_with("listentop_finding_last_held_timestamp_seconds{");
        found.into_iter().filter(|(name, _)| of_findings(name)).map(|(_, value)| value).collect::<Vec<_>>()
    };
    let count = model.listeners.iter().map(|listener| listener.findings.len()).sum::<usize>();
    assert!(count > 0);
    let now = episodes::now_ms(&model);
    assert_eq!(times(&model), vec![now as f64 / 1e3; count], "they hold");
    model.listeners[0].findings.iter_mut().for_each(|finding| finding.until_unix_ms = Some(now - 60_500));
    assert!(times(&model).contains(&((now - 60_500) as f64 / 1e3)));
}

#[test]
fn a_counter_never_goes_back() {
    let floors = Floors::default();
    let mut model = model(&fixtures::overflow());
    let drops = |model: &Model| {
        let found = series(&written(floors.page(Latest::of(model.clone()), MANY), Format::Text));
        let name = found.iter().find(|(name, _)| name.starts_with("listentop_drops_unexplained_total{"));
        *name.expect("it is known").1
    };
    for (unexplained, expected) in [(5, 5.0), (3, 5.0), (9, 9.0)] {
        model.listeners[0].drops.unexplained = Some(unexplained);
        assert_eq!(drops(&model), expected);
    }
}

#[test]
fn containers_are_labels_by_name_and_services_are_no_containers() {
    let mut model = model(&fixtures::overflow());
    let labels = |model: &Model| Labels::of(&model.listeners[0]);
    let plain = Labels::default();
    let process = model.listeners[0].process.as_mut().expect("it has one");
    (process.service, process.container) = (Some("a.service".to_owned()), Some("a.service".to_owned()));
    assert!(!format!("{:?}", labels(&model)).contains("container"), "{:?}", labels(&model));
    let process = model.listeners[0].process.as_mut().expect("it has one");
    (process.container, process.pod) = (Some("0123456789ab".to_owned()), Some("1-2".to_owned()));
    process.service = None;
    assert!(format!("{:?}", labels(&model)).contains(r#"("container", "0123456789ab"), ("pod", "1-2")"#));
    let process = model.listeners[0].process.as_mut().expect("it has one");
    process.container_name = Some("nginx".to_owned());
    (process.pod_name, process.pod_namespace) = (Some("web-0".to_owned()), Some("shop".to_owned()));
    let named = format!("{:?}", labels(&model));
    assert!(named.contains(r#"("container", "nginx"), ("pod", "web-0"), ("namespace", "shop")"#), "{named}");
    assert_ne!(labels(&model), plain);
}

#[test]
fn a_hostile_name_stays_a_label() {
    let mut model = model(&fixtures::overflow());
    let name = "x\"} 1\nlistentop_forged 7\n\u{1b}[2J\\";
    model.listeners[0].netns_name = Some(name.to_owned());
    let process = model.listeners[0].process.as_mut().expect("it has one");
    process.comm = name.to_owned();
    process.service = Some(name.to_owned());
    for format in [Format::Text, Format::OpenMetrics] {
        let text = written(page(model.clone(), MANY), format);
        assert!(!text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("listentop_forged")), "{text}");
        assert!(series(&text).keys().any(|name| name.contains("service=\"x\\\"}")), "it is escaped");
    }
}

#[test]
fn nothing_measured_is_no_series() {
    let page = page(model(&fixtures::unavailable()), MANY);
    let found = series(&written(page, Format::Text));
    assert!(!found.keys().any(|name| name.starts_with("listentop_accepts_total")), "unknown is not 0");
    assert!(found.keys().any(|name| name.starts_with("listentop_accept_queue_depth{")));
}
