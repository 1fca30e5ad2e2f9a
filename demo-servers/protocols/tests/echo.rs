//! Every protocol carries every request, and both sides count the same bytes.

mod support;

use demo_servers::counters::TotalReport;
use lab_control::{Connection, FromLab, Order, Role, ToLab};
use nix::sys::signal::Signal;
use support::{Server, load, run};

const PROTOCOLS: [&str; 5] = ["raw", "http1", "http2", "websocket", "grpc"];

/// Loads a server, and compares all totals.
fn exchange(server: &str, client: &str) -> (demo_protocols::summary::Printed, TotalReport) {
    let server = Server::start(&format!("echo {server} --response-bytes 3000"));
    let printed =
        load("echo", &server, &format!("--rate 200 --connections 40 --requests 3 --request-bytes 500 {client}"));
    let summary = &printed.summary;
    assert_eq!((summary.completed, summary.responses, summary.established), (40, 120, 40), "{client}: {printed:?}");
    assert_eq!(summary.first_response_us.count, 40);
    assert_eq!(printed.setup_us.count, 40);
    let counters = server.end();
    let total = counters.report.total.clone();
    assert_eq!((total.counts.accepts, total.closed, total.counts.requests), (40, 40, 120), "{client}: {counters:?}");
    assert!(total.counts.read_bytes >= 120 * 500 && total.counts.write_bytes >= 120 * 3000);
    (printed, total)
}

#[test]
fn every_protocol_answers_every_request() {
    for protocol in PROTOCOLS {
        let options = format!("--protocol {protocol}");
        let (printed, total) = exchange(&options, &options);
        // All that one side writes the other reads, but for what is on its way when HTTP/2 connections are closed.
        let slack = if ["http2", "grpc"].contains(&protocol) { 40 * 100 } else { 0 };
        assert!(printed.summary.sent_bytes - total.counts.read_bytes <= slack, "{protocol}");
        assert!(total.counts.write_bytes - printed.summary.received_bytes <= slack, "{protocol}");
    }
}

#[test]
fn every_protocol_is_spoken_over_tls() {
    for protocol in PROTOCOLS {
        let options = format!("--protocol {protocol} --tls 1.3");
        let (printed, _) = exchange(&options, &options);
        assert_eq!(printed.handshake_us.count, 40, "{protocol}");
    }
}

#[test]
fn sessions_are_resumed_unless_one_side_refuses() {
    for version in ["1.2", "1.3"] {
        for (server_side, client_side, most) in [("", "", true), ("--no-resume", "", false), ("", "--no-resume", false)]
        {
            let server = Server::start(&format!("echo --tls {version} {server_side}"));
            let options = format!("--tls {version} {client_side} --rate 50 --connections 20");
            let printed = load("echo", &server, &options);
            assert_eq!((printed.summary.completed, printed.handshake_us.count), (20, 20), "{printed:?}");
            let more = server.end().more;
            assert_eq!((more.handshakes, more.resumed), (20, printed.resumed), "{version}");
            // All but the first can be resumed.
            assert!(if most { more.resumed >= 17 } else { more.resumed == 0 }, "{version}: {more:?}");
        }
    }
}

#[test]
fn io_uring_serves_the_same() {
    let (printed, total) = exchange("--engine io_uring", "");
    assert_eq!(printed.summary.sent_bytes, total.counts.read_bytes);
    assert_eq!(printed.summary.received_bytes, total.counts.write_bytes);
    let server = Server::start("echo --engine io_uring --response-bytes 300000");
    let printed = load("echo", &server, "--rate 500 --connections 50 --requests 4 --request-bytes 100000");
    assert_eq!((printed.summary.completed, printed.summary.responses), (50, 200), "{printed:?}");
    let counters = server.end();
    assert_eq!(counters.report.total.counts.read_bytes, 200 * 100_004);
    assert!(counters.more.ring_calls > 0);
}

#[test]
fn blocking_holds_up_the_others_and_waiting_does_not() {
    let slowest = |work: &str| {
        let server = Server::start(&format!("echo {work}"));
        let printed = load("echo", &server, "--rate 1000 --connections 20");
        assert_eq!(printed.summary.completed, 20);
        printed.summary.response_us.max.unwrap()
    };
    let (wait, block) = (slowest("--wait-us 20000"), slowest("--block-us 20000"));
    assert!(wait < 200_000 && block >= 300_000, "{wait} {block}");
}

#[test]
fn the_lab_changes_the_rate() {
    let server = Server::start("echo");
    let name = format!("listentop-test-{}", std::process::id());
    let lab = lab_control::listen(&name).unwrap();
    let load = std::thread::spawn(move || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_proto-load"))
            .args(["echo", "--target", &server.address.to_string(), "--rate", "10", "--for", "2"])
            .env(lab_control::VARIABLE, &name)
            .output()
            .unwrap();
        serde_json::from_slice::<demo_protocols::summary::Printed>(&output.stdout).unwrap()
    });
    let mut program = Connection::of(lab.accept().unwrap().0).unwrap();
    assert!(matches!(program.reader.receive().unwrap(), Some(ToLab::Hello { role: Role::Load, .. })));
    program.writer.send(&FromLab::Welcome { version: lab_control::VERSION, lesson: "test".to_owned() }).unwrap();
    for (number, order, accepted) in [(1, Order::Rate { percent: 1000 }, true), (2, Order::Stall, false)] {
        program.writer.send(&FromLab::Order { number, order }).unwrap();
        let Some(ToLab::Done { number: answered, error }) = program.reader.receive().unwrap() else {
            panic!("no answer")
        };
        assert_eq!((answered, error.is_none()), (number, accepted), "{error:?}");
    }
    let summary = load.join().unwrap().summary;
    // 100 per second instead of 10.
    assert!(summary.due > 100 && summary.completed == summary.due, "{summary:?}");
}

#[test]
fn a_closed_loop_waits_for_the_server() {
    let server = Server::start("echo --protocol http1 --wait-us 100000");
    let printed = load("echo", &server, "--protocol http1 --closed 5 --for 1500ms");
    let summary = &printed.summary;
    // 5 users with 100 ms each; a busy machine has less.
    assert!((20..=80).contains(&summary.due) && summary.completed == summary.due, "{summary:?}");
    assert_eq!(summary.peak_open, 5);
    assert_eq!(load("echo", &server, "--protocol http1 --closed 3 --connections 7").summary.completed, 7);
    let address = server.address;
    drop(server);
    let (_, stdout, _) = run("proto-load", &format!("echo --target {address} --closed 2 --connections 9"));
    assert!(stdout.contains("\"refused\":9"), "{stdout}");
}

/// A server in a lab: the lab's end of the connection, and the server.
fn ordered(options: &str) -> (Connection, Server) {
    static LABS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = LABS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("listentop-test-{}-{number}", std::process::id());
    let lab = lab_control::listen(&name).unwrap();
    let welcome = std::thread::spawn(move || {
        let mut program = Connection::of(lab.accept().unwrap().0).unwrap();
        assert!(matches!(program.reader.receive().unwrap(), Some(ToLab::Hello { role: Role::Server, .. })));
        program.writer.send(&FromLab::Welcome { version: lab_control::VERSION, lesson: "test".to_owned() }).unwrap();
        program
    });
    let server = Server::in_lab(options, Some(&name));
    (welcome.join().unwrap(), server)
}

/// Has a server carry out an order: why it did not.
fn order(lab: &mut Connection, order: Order) -> Option<String> {
    lab.writer.send(&FromLab::Order { number: 9, order }).unwrap();
    let Some(ToLab::Done { number: 9, error }) = lab.reader.receive().unwrap() else { panic!("no answer") };
    error
}

#[test]
fn the_lab_stalls_and_releases_every_server() {
    for options in [
        "echo",
        "echo --engine io_uring",
        "echo --protocol grpc --threads 3",
        "push --method events",
        "sessions --shards 2",
        "proxy --level l4 --upstream 127.0.0.1:9",
    ] {
        let (mut lab, mut server) = ordered(options);
        let address = server.address;
        let connect = || std::net::TcpStream::connect(address).unwrap();
        let accepts = |server: &mut Server| server.report().report.total.counts.accepts;
        let until = |server: &mut Server, wanted: u64| {
            let done = (0..500).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                accepts(server) == wanted
            });
            assert!(done, "{options}: {} accepted, not {wanted}", accepts(server));
        };
        let _first = connect();
        until(&mut server, 1);
        for round in 0..2 {
            assert_eq!(order(&mut lab, Order::Stall), None, "{options}");
            assert_eq!(order(&mut lab, Order::Stall), None, "once more changes nothing");
            // io_uring's own thread hears of it a little later.
            std::thread::sleep(std::time::Duration::from_millis(100));
            let _waits: Vec<_> = (0..3).map(|_| connect()).collect();
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert_eq!(accepts(&mut server), 1 + 3 * round, "{options}: it accepts nothing");
            assert_eq!(order(&mut lab, Order::Release), None, "{options}");
            until(&mut server, 4 + 3 * round);
        }
        assert_eq!(order(&mut lab, Order::Backlog { backlog: 5 }), None, "{options}");
        let more = order(&mut lab, Order::AddAcceptor);
        assert_eq!(more.is_none(), options.starts_with("sessions"), "{options}: {more:?}");
        assert!(order(&mut lab, Order::Rate { percent: 50 }).is_some_and(|why| why.contains("no rate")), "{options}");
        server.signal(Signal::SIGTERM);
        assert_eq!(server.report_at_end().report.total.counts.accept_failures, 0, "{options}");
    }
}

#[test]
fn a_shard_is_added_while_it_runs() {
    let (mut lab, server) = ordered("sessions --shards 1");
    let threads = |server: &Server| std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    let before = threads(&server);
    assert_eq!(order(&mut lab, Order::AddAcceptor), None);
    assert_eq!(threads(&server), before + 1);
    let printed = load("sessions", &server, "--rate 500 --connections 100 --requests 1 --users 1000");
    assert_eq!(printed.summary.completed, 100, "{printed:?}");
}

#[test]
fn failures_are_counted_by_kind() {
    let server = Server::start("echo --protocol http1 --wait-us 1000000");
    let failures =
        load("echo", &server, "--rate 100 --connections 5 --timeout-ms 200 --protocol http1").summary.failures;
    assert_eq!((failures.response.timeout, failures.response.total(), failures.connect.total()), (5, 5, 0));
    let address = server.address;
    drop(server);
    let (_, stdout, _) = run("proto-load", &format!("echo --target {address} --rate 100 --connections 5"));
    assert!(stdout.contains("\"refused\":5"), "{stdout}");
    // A client that speaks something else breaks its connection, not the server.
    let server = Server::start("echo --tls 1.3");
    let printed = load("echo", &server, "--protocol raw --rate 100 --connections 5 --timeout-ms 500");
    assert_eq!(printed.summary.completed, 0);
    assert_eq!(server.end().more.broken, 5);
}

#[test]
fn bad_input_is_one_line_and_an_exit_status() {
    for (program, options, code) in [
        ("proto-server", "", 2),
        ("proto-server", "echo --protocol gopher", 2),
        ("proto-server", "echo --no-resume", 2),
        ("proto-server", "echo --engine io_uring --tls 1.3", 2),
        ("proto-server", "echo --address 192.0.2.1", 1),
        ("proto-server", "proxy --level l4 --upstream 192.0.2.1:80", 2),
        ("proto-load", "echo --target 192.0.2.1:80 --rate 1", 2),
        ("proto-load", "echo --target 127.0.0.1:1 --rate 0", 2),
        ("proto-load", "echo --target 127.0.0.1:1", 2),
        ("proto-load", "echo --target 127.0.0.1:1 --closed 2 --rate 5", 2),
        ("proto-load", "echo --target 127.0.0.1:1 --closed 0", 2),
        ("proto-load", "push --target 127.0.0.1:1", 2),
    ] {
        let (status, stdout, stderr) = run(program, options);
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{program} {options}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{program} {options}: {stderr}");
    }
}

#[test]
fn every_kind_of_end_prints_the_counters() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut server = Server::start("echo");
        assert_eq!(server.report().report.total.counts.accepts, 0);
        server.signal(signal);
        assert_eq!(server.report_at_end().report.pattern, "echo");
    }
}
