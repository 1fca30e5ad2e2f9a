//! What a collector gets is what listentop's report says, and what the server counted; whatever the collector does.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::{Measuring, listentop},
    lab::{PORT, loopback},
    sleep_ms,
    sockets::{accept, connect, listen, listen_on},
    wait_until,
};

use crate::{
    collector::{Collector, Mood, Speaks},
    prometheus::load,
    support::{ADDRESS, Folder, Running, get, netns, scrape, value},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Drops];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "otlp::agrees_with_the_report_and_the_server", needs: NEEDS, run: agrees },
    Test { name: "otlp::a_collector_that_is_late_misses_nothing", needs: NEEDS, run: late },
    Test { name: "otlp::whatever_a_collector_does_it_is_counted", needs: NEEDS, run: moods },
    Test { name: "otlp::no_collector_keeps_it_from_ending", needs: &[], run: ending },
    Test { name: "otlp::series_end_and_begin_anew", needs: NEEDS, run: series },
    Test { name: "otlp::tls_headers_and_compression", needs: &[], run: guarded },
    Test { name: "otlp::what_is_no_collector_is_survived", needs: &[], run: strangers },
];

const AT: &[(&str, &str)] = &[("port", "7000")];

/// What it says on stderr.
type Lines = Arc<Mutex<Vec<String>>>;

/// Starts an exporter that pushes, of this namespace's listeners, and waits until it serves.
fn push(arguments: &str, variables: &[(&str, &str)]) -> (Running, Lines) {
    let mut command = listentop(&format!("serve --every 100ms --netns {} --otlp-interval 200ms {arguments}", netns()));
    command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running::start(command);
    let stderr = BufReader::new(running.0.stderr.take().expect("piped"));
    let lines: Lines = Arc::default();
    let said = lines.clone();
    thread::spawn(move || {
        stderr.lines().map_while(Result::ok).for_each(|line| said.lock().expect("no panic").push(line));
    });
    // Attaching may take long while other tests do the same.
    let begun = Instant::now();
    while !lines.lock().expect("no panic").iter().any(|line| line.starts_with("pushing to")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{lines:?}");
        sleep_ms(50);
    }
    (running, lines)
}

/// One of its own counters, as a scrape shows it.
fn own(name: &str, label: &str) -> f64 {
    value(&scrape(""), &[&format!("listentop_otlp_{name}"), label]).unwrap_or_else(|| panic!("{name} is there"))
}

/// Whether a quantile is the report's, but for a part of it and for some time: both have attached programs of their
/// own, which see the same read some microseconds apart.
fn assert_near(what: &str, seconds: f64, report_us: &Value, (part, time): (f64, f64)) {
    let report = report_us.as_f64().unwrap_or_else(|| panic!("{what}: {report_us}")) / 1e6;
    assert!((seconds - report).abs() <= report * part + time, "{what}: {seconds} s, and {report} s in the report");
}

fn agrees(_: &Lab) {
    let listener = listen(PORT, 4);
    let collectors = Speaks::BOTH.map(Collector::start);
    let measuring = Measuring::start(&format!("report --for 90s --format json --netns {}", netns()));
    let (explicit, _) = push(&format!("--port 7000 {}", Speaks::Grpc.option()), &[]);
    let others = "--port 7000 --web.listen-address 127.0.0.1:9754 --otlp-histograms exponential";
    let (exponential, _) =
        push(&format!("{others} {}", Speaks::Http.option()), &[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]);
    for collector in &collectors {
        collector.wait_for("listentop.accepts", AT, 0.0);
    }
    let served = load(&listener);
    // The last push has everything, however short before the end it came.
    assert!(explicit.end().success() && exponential.end().success());
    sleep_ms(2_500);
    let report = measuring.report();
    let listeners = report["listeners"].as_array().expect("a list");
    let reported = listeners.iter().find(|listener| listener["port"] == PORT).expect("it is seen");
    for (collector, near) in collectors.iter().zip([(1.0, 131e-6), (0.15, 30e-6)]) {
        for (name, report, own) in [
            ("listentop.accepts", &reported["accepts"]["total"], served.connections),
            ("listentop.accept_queue.enqueued", &reported["accept_queue"]["enqueued"], served.connections),
            ("listentop.reads.bytes", &reported["reads"]["bytes"], served.bytes),
            ("listentop.drops", &reported["drops"]["total"], served.refused),
        ] {
            assert_eq!((collector.number(name, AT), report.as_u64()), (Some(own as f64), Some(own)), "{name}");
            assert_eq!(collector.history(name, AT)[0].number, Some(0.0), "{name} begins at 0");
        }
        for (name, report) in [
            ("listentop.accept_queue.wait", &reported["accept_queue"]["wait_us"]),
            ("listentop.reads.residency", &reported["reads"]["residency_us"]),
            ("listentop.connections.answer", &reported["connections"]["answer_us"]),
        ] {
            let said = collector.last(name, AT).expect("it is there");
            assert_eq!(Some(said.count()), report["count"].as_u64(), "{name}");
            for (part, quantile) in [(0.5, "p50"), (0.9, "p90")] {
                assert_near(&format!("{name} {quantile}"), said.quantile(part), &report[quantile], near);
            }
        }
        assert_eq!(collector.number("listentop.otlp_points_lost", &[("reason", "refused")]), Some(0.0));
        let resource = collector.resource();
        assert_eq!(resource["service.name"], "listentop");
        for key in ["service.version", "service.instance.id", "host.name", "host.arch", "os.type"] {
            assert!(resource.get(key).is_some_and(|value| !value.is_empty()), "{key}: {resource:?}");
        }
        collector.is_content();
    }
}

/// Makes a connection and has it accepted.
fn one_more(listener: &Socket) {
    let client = connect(PORT);
    drop(accept(listener).expect("a connection"));
    drop(client);
}

fn late(_: &Lab) {
    for speaks in Speaks::BOTH {
        let listener = listen(PORT, 16);
        let (exporter, lines) = push(&speaks.option(), &[]);
        wait_until("it has tried", || own("requests_failed_total", "unreachable") >= 2.0);
        one_more(&listener);
        wait_until("a scrape has it", || {
            value(&scrape(""), &["listentop_accepts_total{", "port=\"7000\""]) == Some(1.0)
        });
        assert!(own("points_queued", "") > 0.0 && own("points_sent_total", "") == 0.0);
        // Pushes with 1, before there are any with 2.
        sleep_ms(800);
        one_more(&listener);
        sleep_ms(300);
        let collector = Collector::start(speaks);
        collector.wait_for("listentop.accepts", AT, 2.0);
        // What came while nobody was there was kept: 0, 1 and 2 are points in time.
        let numbers: Vec<_> =
            collector.history("listentop.accepts", AT).iter().filter_map(|said| said.number).collect();
        assert!(numbers.contains(&0.0) && numbers.contains(&1.0), "{numbers:?}");
        wait_until("it has caught up", || own("points_sent_total", "") > 0.0 && own("points_queued", "") < 1_000.0);
        assert_eq!(own("points_lost_total", "too_old") + own("points_lost_total", "queue_full"), 0.0);
        // Goes away, and comes again: the same process goes on.
        drop(collector);
        one_more(&listener);
        let failed = own("requests_failed_total", "unreachable");
        wait_until("it notices", || own("requests_failed_total", "unreachable") > failed);
        let again = Collector::start(speaks);
        again.wait_for("listentop.accepts", AT, 3.0);
        assert!(exporter.end().success());
        again.is_content();
        let lines = lines.lock().expect("no panic").clone();
        let failures: Vec<_> = lines.iter().filter(|line| line.contains("does not take all points")).collect();
        assert_eq!(failures.len(), 1, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("takes points again; 0 are lost")), "{lines:#?}");
        drop(listener);
    }
}

fn moods(_: &Lab) {
    for speaks in Speaks::BOTH {
        let listener = listen(PORT, 16);
        let collector = Collector::start(speaks);
        let (exporter, lines) = push(&speaks.option(), &[("OTEL_EXPORTER_OTLP_TIMEOUT", "500")]);
        let mut accepts = 0.0;
        for (mood, failed, lost) in [
            (Mood::Partly, None, Some("rejected")),
            (Mood::Refuses, Some("refused"), Some("refused")),
            (Mood::Garbage, Some("garbage"), Some("refused")),
            (Mood::Busy, Some("busy"), None),
            (Mood::Slow, Some("timeout"), None),
        ] {
            collector.is(Mood::Takes);
            one_more(&listener);
            accepts += 1.0;
            collector.wait_for("listentop.accepts", AT, accepts);
            let before = lost.map(|reason| own("points_lost_total", reason));
            collector.is(mood);
            let asked = collector.requests().len();
            if let Some(reason) = failed {
                wait_until(&format!("{mood:?} fails"), || own("requests_failed_total", reason) >= 2.0);
            }
            if let (Some(reason), Some(before)) = (lost, before) {
                wait_until(&format!("{mood:?} loses"), || own("points_lost_total", reason) > before);
            }
            if mood == Mood::Partly {
                assert_eq!(own("points_lost_total", "rejected") % 3.0, 0.0);
            }
            if mood == Mood::Busy {
                let requests = collector.requests().split_off(asked);
                // What was on the way when it became so, and those that it asked for.
                let waits: Vec<_> = requests.windows(2).map(|pair| pair[1] - pair[0]).collect();
                let early = waits.iter().filter(|wait| **wait < Duration::from_millis(950)).count();
                assert!(early <= 1 && !waits.is_empty(), "a second, as it asked: {waits:?}");
            }
            // Whatever it does, who scrapes does not wait for it.
            let begun = Instant::now();
            assert_eq!(get(ADDRESS, "/metrics", "").status, 200);
            assert!(begun.elapsed() < Duration::from_secs(1), "{mood:?}: {:?}", begun.elapsed());
        }
        collector.is(Mood::Takes);
        one_more(&listener);
        collector.wait_for("listentop.accepts", AT, accepts + 1.0);
        assert!(exporter.end().success());
        // The counts are whole, whichever points were lost.
        assert_eq!(collector.number("listentop.accepts", AT), Some(accepts + 1.0));
        collector.is_content();
        let lines = lines.lock().expect("no panic").clone();
        assert!(lines.len() <= 4, "rarely: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains("rejects 3 points of a request: too ?old")), "{lines:#?}");
        drop(listener);
    }
}

fn ending(_: &Lab) {
    // It accepts no connection, and its queue is full: connecting takes for ever.
    let hole = listen_on(loopback(4317), 0, |_| {});
    let _full: Vec<Socket> = (0..2).map(|_| test_support::sockets::attempt(4317)).collect();
    let slow = Collector::start(Speaks::Http);
    slow.is(Mood::Slow);
    let nobody = "--otlp http://127.0.0.1:9 --otlp-protocol grpc".to_owned();
    let unknown = "--otlp http://nobody.invalid:4317".to_owned();
    for option in [Speaks::Grpc.option(), Speaks::Http.option(), nobody, unknown] {
        let (exporter, lines) = push(&option, &[]);
        sleep_ms(500);
        let begun = Instant::now();
        assert!(exporter.end().success(), "{option}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{option}: {:?}", begun.elapsed());
        wait_until("it says what it lost", || {
            lines.lock().expect("no panic").iter().any(|line| line.contains("points were not pushed"))
        });
    }
    drop(hole);
}

/// Waits for what takes its time: a finding holds for some seconds before it is one.
fn wait_long(collector: &Collector, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        let findings = collector.all("listentop.finding");
        assert!(begun.elapsed() < Duration::from_secs(60), "{findings:#?}");
        sleep_ms(200);
    }
}

fn series(_: &Lab) {
    let collector = Collector::start(Speaks::Grpc);
    let listener = listen(PORT, 16);
    let (exporter, _) = push(&Speaks::Grpc.option(), &[]);
    for _ in 0..5 {
        one_more(&listener);
    }
    collector.wait_for("listentop.accepts", AT, 5.0);
    // Something that hangs, until it does not: the finding ends with it.
    let hanging: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    let finding = |collector: &Collector, ended: bool| {
        ["hung_acceptor", "acceptor_gone"].iter().any(|id| {
            let last =
                collector.last("listentop.finding", &[("finding", id), ("port", "7000"), ("root_cause", "true")]);
            last.is_some_and(|last| last.ended == ended)
        })
    };
    wait_long(&collector, || finding(&collector, false));
    for _ in &hanging {
        drop(accept(&listener).expect("a connection"));
    }
    drop(hanging);
    wait_long(&collector, || finding(&collector, true));
    collector.wait_for("listentop.accepts", AT, 8.0);
    // Another one takes its address over, and counts from 0.
    drop(listener);
    sleep_ms(500);
    let second = listen(PORT, 16);
    one_more(&second);
    collector.wait_for("listentop.accepts", AT, 1.0);
    drop(second);
    // It is exported for 30 seconds more.
    wait_long(&collector, || collector.last("listentop.accepts", AT).is_some_and(|last| last.ended));
    for name in ["listentop.accept_queue.depth", "listentop.accept_queue.wait", "listentop.listener_info"] {
        let all = collector.all(name).into_iter().filter(|(labels, _)| labels["port"] == "7000");
        let lasts: Vec<bool> = all.map(|(_, last)| last.ended).collect();
        assert!(!lasts.is_empty() && lasts.iter().all(|ended| *ended), "{name}: {lasts:?}");
    }
    assert!(exporter.end().success());
    collector.is_content();
}

fn guarded(_: &Lab) {
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let ca = folder.file("ca.pem", &made.cert.pem());
    let headers = folder.file("headers", "Authorization: Bearer s3cret\n");
    for speaks in Speaks::BOTH {
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).expect("it fits");
        config.alpn_protocols = vec![if speaks == Speaks::Grpc { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let collector = Collector::with_tls(speaks, Some(config));
        let url = format!("--otlp https://localhost:{}", speaks.port());
        let trusted = format!("{url} --otlp-ca-file {} --otlp-headers-file {}", ca.display(), headers.display());
        let given = [("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=7"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];
        let (exporter, lines) = push(&trusted, &given);
        wait_until("it is told", || collector.number("listentop.build_info", &[]) == Some(1.0));
        let heard = collector.headers();
        assert_eq!(heard["authorization"], "Bearer s3cret");
        assert_eq!(heard["x-scope"], "7");
        let encoding = if speaks == Speaks::Grpc { "grpc-encoding" } else { "content-encoding" };
        assert_eq!(heard[encoding], "gzip");
        assert!(exporter.end().success());
        assert!(!lines.lock().expect("no panic").concat().contains("s3cret"));
        let before = collector.requests().len();
        // Another authority: nothing is sent, the header least of all.
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let other = folder.file("other.pem", &other.cert.pem());
        let (exporter, _) = push(&format!("{url} --otlp-ca-file {}", other.display()), &given);
        wait_until("it is refused", || own("requests_failed_total", "unreachable") >= 1.0);
        assert_eq!(collector.requests().len(), before);
        assert!(exporter.end().success());
        collector.is_content();
    }
}

/// Programs that speak something else: none of them makes it fail, and none gets points counted as sent.
fn strangers(_: &Lab) {
    use std::io::{Read as _, Write as _};
    const ANSWERS: [&[u8]; 4] = [
        b"\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 5\r\n\r\n\xff\xff\xff\xff\xff",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\nxxxx",
        b"",
    ];
    let listener = std::net::TcpListener::bind("127.0.0.1:4317").expect("the port is free");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(ANSWERS[number % ANSWERS.len()]);
        }
    });
    for protocol in ["grpc", "http/protobuf"] {
        let option = format!("--otlp http://127.0.0.1:4317 --otlp-protocol {protocol}");
        let (exporter, _) = push(&option, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]);
        wait_until("it fails", || {
            let reasons = ["unreachable", "garbage", "timeout"];
            reasons.iter().map(|reason| own("requests_failed_total", reason)).sum::<f64>() >= 3.0
        });
        assert_eq!(own("points_sent_total", ""), 0.0, "{protocol}");
        assert_eq!(get(ADDRESS, "/healthz", "").status, 200);
        assert!(exporter.end().success());
    }
}
