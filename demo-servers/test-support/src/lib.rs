//! The programs under test: started on loopback, and ended with the test.

#![expect(clippy::must_use_candidate, reason = "most helpers act, and not every test needs what they return")]
#![expect(clippy::missing_panics_doc, reason = "a helper that does not get what it needs fails its test by a panic")]

pub mod lab;
pub mod terminal;

use demo_servers::counters::Report;
use demo_servers::server::Ready;
use demo_servers::stress::summary::Summary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running `demo-server`.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Its first line.
    pub ready: Ready,
}

impl Server {
    /// Starts a server and waits until it listens. Options are separated by spaces.
    pub fn start(options: &str) -> Self {
        let mut child = Command::new(program("demo-server"))
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

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.ready.pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the server runs");
    }

    /// Its counters now.
    pub fn report(&mut self) -> Report {
        self.signal(Signal::SIGUSR1);
        self.next_report()
    }

    /// The counters that it prints next.
    pub fn next_report(&mut self) -> Report {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("demo-server prints");
        serde_json::from_str(&line).unwrap_or_else(|error| {
            // A server without output has ended. Its status and its stderr explain why.
            let mut stderr = String::new();
            let status = line.is_empty().then(|| {
                let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr));
                self.child.wait()
            });
            panic!("{line:?}: {error}; {status:?}: {stderr}")
        })
    }

    /// Ends it by a signal: its last counters.
    pub fn end(self, signal: Signal) -> Report {
        self.signal(signal);
        self.wait()
    }

    /// Waits for its end by itself: its last counters.
    pub fn wait(self) -> Report {
        let (status, report, stderr) = self.wait_for_failure();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(stderr, "");
        report
    }

    /// Waits for its end: exit status, last counters, stderr.
    pub fn wait_for_failure(mut self) -> (ExitStatus, Report, String) {
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
pub fn stress(server: &Server, options: &str) -> Summary {
    let target = std::net::SocketAddr::new(server.ready.address, server.ready.port);
    let (code, stdout, stderr) = run("stress", &format!("--quiet --target {target} {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{stdout:?}: {error}"))
}

/// Path of a program under test. Cargo names it for the tests that it runs. Others, such as those that run as root,
/// find it in the directory above their own.
pub fn program(name: &str) -> PathBuf {
    let built = || {
        let test = std::env::current_exe().expect("every Linux has /proc/self/exe");
        test.ancestors().nth(2).expect("a directory for tests, in one for programs").join(name)
    };
    let program = std::env::var_os(format!("CARGO_BIN_EXE_{name}")).map_or_else(built, PathBuf::from);
    assert!(program.is_file(), "no program {}", program.display());
    program
}

/// Runs a program to its end: exit code, stdout, stderr.
pub fn run(name: &str, options: &str) -> (Option<i32>, String, String) {
    let output = Command::new(program(name)).args(options.split_whitespace()).stdin(Stdio::null()).output();
    let output = output.expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Waits until `condition` holds, at most for a time that only a broken program needs.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(20), what, condition);
}

/// Waits until `condition` holds, at most for `time`.
pub fn within(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

/// A counter, such as TcpExt TCPSynRetrans, of the calling thread's network namespace.
pub fn counter(name: &str) -> u64 {
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
