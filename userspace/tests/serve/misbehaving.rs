//! Whatever is done to it, it measures on.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::listentop,
    lab::PORT,
    skip, sleep_ms,
    sockets::{accept, connect, listen},
};

use crate::support::{ADDRESS, exchange, get, scrape, serve, serve_until, value};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "misbehaving::scrapers_and_clients", needs: NEEDS, run: clients },
    Test { name: "misbehaving::mistakes_are_one_line", needs: NEEDS, run: mistakes },
    Test { name: "misbehaving::who_is_elsewhere_gets_nothing", needs: &[], run: elsewhere },
    Test { name: "misbehaving::many_listeners", needs: NEEDS, run: many_listeners },
    Test { name: "misbehaving::ten_thousand_listeners", needs: NEEDS, run: ten_thousand },
    Test { name: "misbehaving::every_level_and_no_probes", needs: NEEDS, run: levels },
];

const ACCEPTS: &[&str] = &["listentop_accepts_total{", "port=\"7000\""];

/// Makes a connection, has it accepted, and waits until the exporter has counted as many.
fn one_more(listener: &Socket, count: &mut f64) {
    let client = connect(PORT);
    drop(accept(listener).expect("a connection"));
    drop(client);
    *count += 1.0;
    let begun = Instant::now();
    let mut text = String::new();
    while value(&text, ACCEPTS) != Some(*count) {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("accepts_total{")).collect();
        assert!(begun.elapsed() < Duration::from_secs(10), "{count} accepts are not counted: {lines:#?}");
        sleep_ms(100);
        text = scrape("");
    }
}

fn clients(_: &Lab) {
    let listener = listen(PORT, 16);
    let exporter = serve("");
    let mut count = 0.0;
    one_more(&listener, &mut count);

    // Slow ones: nothing, half a request, a request whose answer nobody reads.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(ADDRESS).expect("it listens")).collect();
    let half: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(ADDRESS).expect("it listens");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").expect("it takes bytes");
            stream
        })
        .collect();
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(ADDRESS).expect("it listens");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes bytes");
            stream
        })
        .collect();
    one_more(&listener, &mut count);

    // Fifty at once, in all formats: each gets a whole page.
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let begun = Instant::now();
    thread::scope(|scope| {
        let scrapers: Vec<_> = (0..50)
            .map(|number| {
                let accept = ["*/*", "application/openmetrics-text; version=1.0.0", protobuf][number % 3];
                scope.spawn(move || get(ADDRESS, "/metrics", &format!("Accept: {accept}\r\n")))
            })
            .collect();
        for (number, scraper) in scrapers.into_iter().enumerate() {
            let answer = scraper.join().expect("an answer");
            assert_eq!(answer.status, 200);
            let kind = ["text/plain", "application/openmetrics-text", "application/vnd.google.protobuf"][number % 3];
            assert!(answer.head.contains(&format!("content-type: {kind};")), "{}", answer.head);
            let length = format!("content-length: {}", answer.body.len());
            assert!(answer.head.contains(&length) && answer.body.len() > 1_000, "{}", answer.head);
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    one_more(&listener, &mut count);

    // Requests that are none, or for something else.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        long.as_bytes(),
        headers.as_bytes(),
        b"GET /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ] {
        // An answer is good, and so is none.
        if let Some(answer) = exchange(ADDRESS, garbage) {
            assert!((400..=505).contains(&answer.status), "{answer:?}");
        }
    }
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET /metrics?name=x HTTP/1.0\r\n\r\n", 200),
    ] {
        assert_eq!(exchange(ADDRESS, request.as_bytes()).map(|answer| answer.status), Some(status), "{request}");
    }
    one_more(&listener, &mut count);
    let text = scrape("");
    let refused = |reason: &str| value(&text, &["listentop_requests_refused_total", reason]).expect("it is there");
    assert!(refused("mistaken") >= 2.0 && refused("broken") >= 3.0, "{text}");

    // Those that read late still get their page; and it ends at once, whoever is connected.
    for mut stream in deaf {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    let begun = Instant::now();
    assert!(exporter.end().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop((idle, half));
}

fn mistakes(_: &Lab) {
    let exporter = serve("");
    for (arguments, status, says) in [
        ("serve", 1, "cannot listen on 127.0.0.1:9753: Address already in use"),
        ("serve --web.listen-address 9753", 2, "ADDRESS:PORT is expected"),
        ("serve --web.listen-address 192.0.2.1:1", 1, "cannot listen on 192.0.2.1:1"),
        ("serve --web.listen-address no-such-host.invalid:80", 1, "no-such-host.invalid:80: "),
        ("serve --web.telemetry-path metrics", 2, "it must begin with '/'"),
        ("serve --web.config.file /nonexistent", 1, "No such file"),
        ("serve --otlp 127.0.0.1:4317", 2, "http://HOST:PORT or https://HOST:PORT is expected"),
        ("serve --otlp http://a:1 --otlp-protocol http/json", 2, "http/protobuf"),
        ("serve --otlp-interval 1s", 2, "--otlp"),
        ("serve --otlp http://a:1 --otlp-headers-file /nonexistent", 1, "No such file"),
        ("serve --max-series 0", 2, "a number of series is expected"),
        ("serve --port 80 --netns nowhere", 2, "no process visible here has such a network namespace"),
    ] {
        let output = listentop(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        // The last: a filter that no listener can pass.
        let expected = said.contains(says) || says.starts_with("no process") && said.contains("--netns nowhere");
        assert!(expected && said.lines().count() == 1, "{arguments}: {said}");
        assert_eq!(output.status.code(), Some(status), "{arguments}: {said}");
    }
    assert_eq!(get(ADDRESS, "/healthz", "").status, 200);
    // An address that others reach is what was asked for, with a word about it.
    let (open, lines) = serve_until("--web.listen-address :9754", "serving at");
    assert!(lines[0].contains("whoever reaches this address can read the figures"), "{lines:?}");
    assert_eq!(get("127.0.0.1:9754", "/metrics", "").status, 200, "every address");
    assert!(open.end().success() && exporter.end().success());
}

/// It listens on one address: not on others of the machine, and not in other network namespaces.
fn elsewhere(_: &Lab) {
    let exporter = serve("");
    for address in ["127.0.0.2:9753", "[::1]:9753"] {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
    let from_beside = Lab::beside(|_| TcpStream::connect(ADDRESS).map(drop));
    assert!(from_beside.is_err(), "another namespace's loopback is another one");
    assert_eq!(get(ADDRESS, "/healthz", "").status, 200);
    assert!(exporter.end().success());
}

/// That many listeners, or the test is skipped.
fn open_many(lab: &Lab, many: u16) -> Vec<Socket> {
    const FIRST: u16 = 20_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every Linux has it");
    if hard < u64::from(many) + 2_000 {
        skip(format!("a process may only have {hard} descriptors: raise its hard limit (ulimit -Hn)"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("any user may raise it to the hard limit");
    lab.sysctl("ipv4/ip_local_port_range", "31000 65535");
    (0..many).map(|number| listen(FIRST + number, 8)).collect()
}

/// A number of the exporter's own.
fn own(text: &str, name: &str) -> f64 {
    let mut found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    found.next().unwrap_or_else(|| panic!("{name} is there"))
}

fn kept(text: &str) -> f64 {
    text.lines().filter(|line| line.starts_with("listentop_accept_queue_depth{")).count() as f64
}

/// More listeners than the series that are allowed: some are left out, counted, and the others are whole.
fn many_listeners(lab: &Lab) {
    const MANY: u16 = 2_000;
    let all = open_many(lab, MANY);
    let exporter = serve("--max-series 50000");
    let text = scrape("");
    let (series, cut) = (own(&text, "listentop_series"), own(&text, "listentop_listeners_cut"));
    assert!(series <= 50_000.0 && cut > 0.0, "{series} series, {cut} left out");
    assert!(kept(&text) + cut >= f64::from(MANY), "{} and {cut}", kept(&text));
    assert!(own(&text, "listentop_series_cut") > 0.0);
    // Whoever asks in the meantime gets the same page, and the next sample is not late.
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(get(ADDRESS, "/metrics", "").status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(get(ADDRESS, "/healthz", "").status, 200);
    assert!(exporter.end().success());
    drop(all);
}

/// A scrape of ten thousand listeners has them all.
fn ten_thousand(lab: &Lab) {
    const MANY: u16 = 10_000;
    let all = open_many(lab, MANY);
    let exporter = serve("--measure queues --max-series 5000000 --every 2s");
    let text = scrape("");
    assert_eq!(own(&text, "listentop_listeners_cut"), 0.0);
    assert!(kept(&text) >= f64::from(MANY), "{}", kept(&text));
    assert_eq!(get(ADDRESS, "/healthz", "").status, 200, "it measures on");
    assert!(exporter.end().success());
    drop(all);
}

/// What is left out is no series, and never 0.
fn levels(_: &Lab) {
    let listener = listen(PORT, 16);
    for (arguments, accepts, reads) in [
        ("--measure queues", false, false),
        ("--measure accepts", true, false),
        ("--measure all", true, true),
        ("--probes sock_diag", false, false),
    ] {
        if arguments.contains("--probes") && test_support::environment::probes().is_some() {
            continue;
        }
        let exporter = serve(arguments);
        let text = scrape("");
        let has = |name: &str| value(&text, &[name, "port=\"7000\""]).is_some();
        assert!(has("listentop_accept_queue_depth{"), "{arguments}");
        assert_eq!(has("listentop_accepts_total{"), accepts, "{arguments}");
        assert_eq!(has("listentop_reads_total{"), reads, "{arguments}");
        let status = if reads { "measured" } else { "unavailable" };
        let coverage = value(&text, &["listentop_coverage{", "measure=\"reads\"", status]);
        assert_eq!(coverage, Some(1.0), "{arguments}");
        assert!(exporter.end().success());
    }
    drop(listener);
}
