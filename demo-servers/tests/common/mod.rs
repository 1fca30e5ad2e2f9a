//! Programs under test, started on loopback and never left behind.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod lab;
pub(crate) mod terminal;

use demo_servers::counters::Report;
use demo_servers::server::Ready;
use demo_servers::stress::summary::Summary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running `demo-server`.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) ready: Ready,
}

impl Server {
    /// Starts a server and waits until it listens. Options are separated by spaces.
    pub(crate) fn start(options: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo-server"))
            .args(options.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("demo-server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("demo-server prints");
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{options}: {line:?}: {error}"));
        Self { child, stdout, ready }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.ready.pid
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the server runs");
    }

    /// Its counters now.
    pub(crate) fn report(&mut self) -> Report {
        self.signal(Signal::SIGUSR1);
        self.next_report()
    }

    pub(crate) fn next_report(&mut self) -> Report {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("demo-server prints");
        serde_json::from_str(&line).unwrap_or_else(|error| {
            // Nothing comes only from a server that has ended: how it did, and what it said, tells why.
            let mut stderr = String::new();
            let status = line.is_empty().then(|| {
                let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr));
                self.child.wait()
            });
            panic!("{line:?}: {error}; {status:?}: {stderr}")
        })
    }

    /// Ends it by a signal: its last counters.
    pub(crate) fn end(self, signal: Signal) -> Report {
        self.signal(signal);
        self.wait()
    }

    /// Waits for its end by itself: its last counters.
    pub(crate) fn wait(self) -> Report {
        let (status, report, stderr) = self.wait_for_failure();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(stderr, "");
        report
    }

    /// Waits for its end: exit status, last counters, stderr.
    pub(crate) fn wait_for_failure(mut self) -> (ExitStatus, Report, String) {
        let report = self.next_report();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("stdout is text");
        assert_eq!(rest, "", "the counters are the last line");
        let mut stderr = String::new();
        self.child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("stderr is text");
        (self.child.wait().expect("it is our child"), report, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `stress` against a server to its end.
pub(crate) fn stress(server: &Server, options: &str) -> Summary {
    let target = std::net::SocketAddr::new(server.ready.address, server.ready.port);
    let (code, stdout, stderr) = run("stress", &format!("--quiet --target {target} {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{stdout:?}: {error}"))
}

/// Path of a program under test.
pub(crate) fn program(name: &str) -> &'static str {
    match name {
        "demo-server" => env!("CARGO_BIN_EXE_demo-server"),
        "stress" => env!("CARGO_BIN_EXE_stress"),
        "storm" => env!("CARGO_BIN_EXE_storm"),
        "lab" => env!("CARGO_BIN_EXE_lab"),
        _ => panic!("no program {name}"),
    }
}

/// Runs a program to its end: exit code, stdout, stderr.
pub(crate) fn run(name: &str, options: &str) -> (Option<i32>, String, String) {
    let output = Command::new(program(name)).args(options.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Waits until `condition` holds, for a time that only a broken program exceeds.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, condition);
}

/// Waits so long at most.
pub(crate) fn within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

/// A namespace's counter, such as TcpExt TCPSynRetrans, as the calling thread sees it.
pub(crate) fn counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let pair = names.split_whitespace().zip(values.split_whitespace()).find(|(key, _)| *key == name);
        if let Some((_, value)) = pair {
            return value.parse().unwrap();
        }
    }
    panic!("no counter {name}");
}
