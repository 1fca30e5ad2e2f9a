//! `stress` tells what happened to its connections, by kind, and does not wait for slow servers.

mod common;

use common::{Server, program, run, stress};
use demo_servers::stress::summary::Summary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn arrivals_do_not_wait_for_a_slow_server() {
    // One connection after the other would take 100 × 100 ms.
    let server = Server::start("--pattern single_thread --block-us 100000");
    let began = Instant::now();
    let summary = stress(&server, "--rate 200 --connections 100 --timeout-ms 400");
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(summary.due, 100);
    assert_eq!(summary.completed + summary.failures.response.timeout, 100);
    assert!(summary.completed > 0 && summary.failures.response.timeout > 50, "{summary:?}");
}

#[test]
fn what_is_over_the_ceiling_is_skipped_and_counted() {
    let server = Server::start("--pattern single_thread --stall 0:3000");
    let summary = stress(&server, "--rate 100 --connections 50 --max-open 20");
    assert_eq!((summary.skipped.max_open, summary.started, summary.peak_open), (30, 20, 20));
    assert_eq!(summary.completed, 20);
}

#[test]
fn latency_counts_from_the_intended_start() {
    // 50 requests at 20 ms each come due within 100 ms: the last one waits for all others, a second in total.
    let server = Server::start("--pattern single_thread --block-us 20000");
    let summary = stress(&server, "--rate 500 --connections 50");
    assert_eq!(summary.completed, 50);
    assert!(summary.first_response_us.max.unwrap() >= 880_000, "{summary:?}");
    assert!(summary.first_response_us.p50.unwrap() >= 400_000, "{summary:?}");
}

#[test]
fn failures_are_told_apart() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, stdout, _) = run("stress", &format!("--quiet --target {nobody} --rate 500 --connections 20"));
    assert_eq!(code, Some(0));
    let summary: Summary = serde_json::from_str(&stdout).unwrap();
    assert_eq!((summary.failures.connect.refused, summary.established), (20, 0));
    assert_eq!(summary.connect_us.p50, None, "nothing was measured, which is not 0");

    let server = Server::start("--pattern single_thread --close-on-accept");
    let failures = stress(&server, "--rate 500 --connections 20").failures;
    assert_eq!(failures.response.closed + failures.response.reset, 20, "{failures:?}");

    let server = Server::start("--pattern single_thread --response-bytes 100");
    let failures = stress(&server, "--rate 500 --connections 20 --response-bytes 64").failures;
    assert_eq!(failures.response.other, 20, "a response that is too long: {failures:?}");
}

#[test]
fn think_time_and_resets_leave_totals_exact() {
    let server = Server::start("--pattern acceptor_readers --max-connections-total 100");
    let options = "--rate 1000 --connections 100 --requests 4 --think-ms 30 --rst-close --source-addresses 5";
    let summary = stress(&server, options);
    let total = server.wait().total.counts;
    assert_eq!((summary.completed, summary.responses), (100, 400));
    assert_eq!((total.accepts, total.read_bytes, total.write_bytes), (100, summary.sent_bytes, summary.received_bytes));
    assert!(summary.seconds >= 0.09, "three pauses of 30 ms: {}", summary.seconds);
}

#[test]
fn a_signal_ends_it_with_a_summary() {
    let server = Server::start("--pattern single_thread --stall 0:60000");
    let target = format!("127.0.0.1:{}", server.ready.port);
    let mut child = Command::new(program("stress"))
        .args(["--target", &target, "--rate", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut progress).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let summary: Summary = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary.unfinished, summary.started);
    assert!(summary.started > 50);
    assert!(progress.contains("started") && progress.contains("open"), "{progress}");
}
