//! `stress` in a network namespace of its own, with counters and sysctls of its own. Needs root.

use demo_servers::lab::namespace::Namespace;
use demo_servers::stress::summary::Summary;
use demo_test_support::{Server, counter, run, stress};
use nix::sched::{CloneFlags, setns, unshare};
use std::net::TcpListener;
use std::process::ExitCode;
use test_harness::Test;

const TESTS: &[Test] = &[
    Test { name: "syn_retries_equal_the_kernels", run: syn_retries_equal_the_kernels },
    Test { name: "a_target_without_a_route_is_unreachable", run: a_target_without_a_route_is_unreachable },
    Test { name: "ports_run_out", run: ports_run_out },
    Test { name: "a_foreign_address_is_refused_in_a_namespace_too", run: a_foreign_address_is_refused },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], test_harness::not_root)
}

/// Moves the test's thread, and all that it starts, to a namespace like the lab's.
fn enter(sysctls: &[(&str, &str)]) {
    setns(Namespace::create(sysctls).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// Runs `stress` to its end.
fn load(options: &str) -> Summary {
    let (code, stdout, stderr) = run("stress", &format!("--quiet {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn syn_retries_equal_the_kernels() {
    enter(&[]);
    // The queue takes two connections, and no more before the clients give up.
    let server = Server::start("--pattern single_thread --backlog 1 --stall 0:60000");
    let options = "--rate 20 --connections 12 --connect-timeout-ms 1700 --timeout-ms 1700";
    let summary = stress(&server, options);
    assert_eq!((summary.established, summary.failures.connect.timeout), (2, 10), "{summary:?}");
    // Within 1.7 s a SYN is sent again once.
    assert_eq!((summary.syn_retries.one, summary.syn_retries.two), (10, 0));
    assert_eq!(counter("TCPSynRetrans"), 10);
    assert_eq!(counter("ListenOverflows"), 20);
    assert_eq!((summary.slow_connects.s1, summary.slow_connects.s3), (10, 0));
}

fn a_target_without_a_route_is_unreachable() {
    // Its loopback interface is down.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let summary = load("--target 127.0.0.1:7001 --rate 500 --connections 10");
    let failures = summary.failures;
    assert_eq!((failures.connect.unreachable, failures.connect.total(), failures.response.total()), (10, 10, 0));
}

fn ports_run_out() {
    enter(&[("net/ipv4/ip_local_port_range", "20001 20010")]);
    let _server = TcpListener::bind("127.0.0.1:7001").unwrap();
    let summary = load("--target 127.0.0.1:7001 --rate 500 --connections 15 --timeout-ms 300");
    let failures = summary.failures;
    assert_eq!((summary.established, failures.response.timeout), (10, 10), "{summary:?}");
    assert_eq!((failures.connect.no_port, failures.connect.total()), (5, 5), "{summary:?}");
}

fn a_foreign_address_is_refused() {
    enter(&[]);
    let (code, _, stderr) = run("stress", "--quiet --target 192.0.2.1:80 --rate 1 --connections 1");
    assert_eq!(code, Some(2));
    let reason = match std::fs::read_link("/proc/1/ns/net") {
        Ok(_) => "no address of this network namespace",
        // In a container even root may not be allowed to read that of process 1.
        Err(_) => "the network namespace of process 1 cannot be read",
    };
    assert!(stderr.contains(reason), "{stderr}");
}
