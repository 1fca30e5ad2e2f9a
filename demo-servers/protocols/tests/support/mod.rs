//! The programs under test: started on loopback, and ended with the test.

#![allow(dead_code, unreachable_pub, reason = "each test target uses a part")]

use demo_protocols::server::Printed as Counters;
use demo_protocols::summary::Printed as Summary;
use demo_servers::server::Ready;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `proto-server` and waits until it listens.
    pub fn start(options: &str) -> Self {
        Self::in_lab(options, None)
    }

    /// The same in the lab with this control socket.
    pub fn in_lab(options: &str, lab: Option<&str>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_proto-server"))
            .args(options.split_whitespace())
            .envs(lab.map(|lab| (lab_control::VARIABLE, lab)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{options}: {line:?}: {error}"));
        Self { child, stdout, address: SocketAddr::new(ready.address, ready.port) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn next(&mut self) -> Counters {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Its counters now.
    pub fn report(&mut self) -> Counters {
        self.signal(Signal::SIGUSR1);
        self.next()
    }

    /// The counters that it prints at its end, which must come by itself.
    pub fn report_at_end(&mut self) -> Counters {
        let counters = self.next();
        assert!(self.child.wait().unwrap().success());
        counters
    }

    /// Waits until all accepted connections are closed, then ends it: its last counters.
    pub fn end(mut self) -> Counters {
        for _ in 0..500 {
            if self.report().report.total.open == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.signal(Signal::SIGTERM);
        let counters = self.next();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "the counters are the last line");
        assert!(self.child.wait().unwrap().success());
        counters
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `proto-load` to its end.
pub fn load(mode: &str, server: &Server, options: &str) -> Summary {
    let (code, stdout, stderr) = run("proto-load", &format!("{mode} --target {} {options}", server.address));
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{stdout:?}: {error}"))
}

/// Runs a program: exit code, stdout, stderr.
pub fn run(name: &str, options: &str) -> (Option<i32>, String, String) {
    let program =
        if name == "proto-load" { env!("CARGO_BIN_EXE_proto-load") } else { env!("CARGO_BIN_EXE_proto-server") };
    let output = Command::new(program).args(options.split_whitespace()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
