//! `wire`: a client on a host of its own, with delay and loss in between. Needs root.

use demo_servers::lab::namespace::Namespace;
use demo_servers::stress::summary::Summary;
use demo_test_support::{Server, eventually, program};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use test_harness::Test;

const TESTS: &[Test] = &[
    Test { name: "a_round_trip_takes_twice_the_delay", run: a_round_trip_takes_twice_the_delay },
    Test { name: "what_is_lost_is_sent_again", run: what_is_lost_is_sent_again },
    Test { name: "several_lines_do_not_disturb_each_other", run: several_lines },
    Test { name: "the_client_ends_with_its_line_and_its_status_is_kept", run: ends_and_statuses },
    Test { name: "bad_input_is_one_line_and_an_exit_status", run: bad_input },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], test_harness::not_root)
}

/// Moves the test's thread, and all that it starts, to a namespace like the lab's.
fn enter() {
    setns(Namespace::create::<&str>(&[]).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// Runs `wire` to its end: exit code, stdout, stderr.
fn wire(options: &str) -> (Option<i32>, String, String) {
    let output = Command::new(program("wire")).args(options.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A server for other hosts, and the options of a load on it.
fn server() -> (Server, String) {
    let server = Server::start("--pattern acceptor_readers --address 0.0.0.0");
    let load = format!("stress --quiet --target 127.0.0.1:{}", server.ready.port);
    (server, load)
}

fn summary(options: &str) -> (Summary, Value) {
    let (code, stdout, stderr) = wire(&format!("--report {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    (serde_json::from_str(&stdout).unwrap(), serde_json::from_str(&stderr).unwrap())
}

fn a_round_trip_takes_twice_the_delay() {
    enter();
    let (server, load) = server();
    let (summary, counts) = summary(&format!("--delay-ms 20 {load} --rate 50 --connections 20 --requests 2"));
    assert_eq!((summary.completed, summary.responses), (20, 40), "{summary:?}");
    for times in [summary.connect_us, summary.response_us] {
        assert!(times.p50 >= Some(40_000) && times.p50 < Some(70_000), "{summary:?}");
    }
    assert!(counts["frames"].as_u64() > Some(200) && counts["lost"] == 0, "{counts}");
    assert_eq!(server.end(Signal::SIGTERM).total.counts.accepts, 20);
}

fn what_is_lost_is_sent_again() {
    enter();
    let (_server, load) = server();
    let options = "--rate 20 --connections 40 --requests 10 --timeout-ms 30000 --connect-timeout-ms 30000";
    let (summary, counts) = summary(&format!("--loss 5 --seed 3 {load} {options}"));
    assert_eq!(summary.completed, 40, "{summary:?}");
    assert!(counts["lost"].as_u64() > Some(20), "{counts}");
    assert!(summary.retransmissions > 5, "{summary:?}");
}

fn several_lines() {
    enter();
    let (server, load) = server();
    std::thread::scope(|scope| {
        for delay in [5, 30] {
            let load = &load;
            scope.spawn(move || {
                let (summary, _) = summary(&format!("--delay-ms {delay} {load} --rate 50 --connections 10"));
                let least = 2000 * delay;
                assert!(summary.connect_us.p50 >= Some(least) && summary.completed == 10, "{delay}: {summary:?}");
            });
        }
    });
    assert_eq!(server.end(Signal::SIGTERM).total.counts.accepts, 20);
}

fn ends_and_statuses() {
    enter();
    assert_eq!(wire("/bin/false").0, Some(1));
    let mut line = Command::new(program("wire")).args(["/bin/sleep", "100"]).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", line.id());
    let client = || std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse::<i32>().ok();
    eventually("the client runs", || client().is_some());
    let pid = client().unwrap();
    kill(Pid::from_raw(line.id() as i32), Signal::SIGKILL).unwrap();
    line.wait().unwrap();
    eventually("the client is gone", || !demo_test_support::alive(pid));
    let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let began = Instant::now();
    // The interface goes with the namespaces, which the kernel takes apart a little later.
    while std::fs::read_to_string("/proc/thread-self/net/dev").unwrap().contains("wire") {
        assert!(began.elapsed() < Duration::from_secs(20), "{interfaces}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn bad_input() {
    enter();
    for (options, code) in [
        ("", 2),
        ("--delay-ms -1 stress", 2),
        ("--loss 101 stress", 2),
        ("nonexistent", 2),
        ("/nonexistent/client", 1),
        ("stress --quiet --target 192.0.2.1:80 --rate 1", 2),
    ] {
        let (status, stdout, stderr) = wire(options);
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{options}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{options}: {stderr}");
    }
}
