//! `real-server`: real servers start and end as the lab's own do, and leave nothing behind. Needs root, and the
//! servers.

use demo_servers::lab::namespace::Namespace;
use demo_servers::server::Ready;
use demo_test_support::{alive, eventually, program};
use lessons::real::{ALL, Kind, configuration};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use test_harness::{Test, skip};

/// After this time `real-server` kills.
const PATIENCE: Duration = Duration::from_secs(5);

const TESTS: &[Test] = &[
    Test { name: "every_real_server_serves_and_ends", run: every_real_server_serves_and_ends },
    Test { name: "a_server_ends_with_whoever_started_it", run: ends_with_its_starter },
    Test { name: "a_broken_configuration_is_an_error", run: broken_configuration },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], test_harness::not_root)
}

/// Moves the test's thread, and all that it starts, to a namespace like the lab's.
fn enter() {
    setns(Namespace::create::<&str>(&[]).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

fn start(kind: Kind, text: &str, port: u16) -> Child {
    Command::new(program("real-server"))
        .args(["--kind", kind.name(), "--port", &port.to_string(), "--configuration", text])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a lesson's server and waits until it listens: what it prints, and its first line.
fn started(kind: Kind) -> (Child, BufReader<std::process::ChildStdout>, Ready) {
    if let Err(reason) = kind.installed() {
        skip(reason);
    }
    let real = ALL.iter().find(|real| real.kind == kind).unwrap();
    let servers = lessons::find(real.lesson).unwrap().setup.servers;
    let port = servers.iter().find(|server| server.name == real.server).unwrap().port;
    let mut child = start(kind, &configuration(real, servers), port);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        panic!("{kind:?}: {error}: {stderr}")
    });
    (child, stdout, ready)
}

fn every_real_server_serves_and_ends() {
    enter();
    for kind in Kind::ALL {
        let (mut child, mut stdout, ready) = started(kind);
        TcpStream::connect((ready.address, ready.port)).unwrap();
        let mut asked = Instant::now();
        for signal in [Signal::SIGUSR1, Signal::SIGTERM] {
            asked = Instant::now();
            kill(Pid::from_raw(child.id() as i32), signal).unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(line.contains(kind.name()), "{line}");
        }
        assert!(child.wait().unwrap().success(), "{kind:?}");
        assert!(asked.elapsed() < PATIENCE, "{kind:?} was killed because it did not end");
        assert!(!alive(ready.pid), "{kind:?}");
        assert!(!std::path::Path::new("/tmp/configuration").exists(), "its files are its own");
    }
}

fn ends_with_its_starter() {
    enter();
    let (mut child, _stdout, ready) = started(Kind::Nginx);
    let workers = format!("/proc/{0}/task/{0}/children", ready.pid);
    let worker = || std::fs::read_to_string(&workers).ok()?.split_whitespace().next()?.parse::<i32>().ok();
    eventually("a worker runs", || worker().is_some());
    let worker = worker().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("all are gone", || !alive(ready.pid) && !alive(worker));
}

fn broken_configuration() {
    enter();
    if let Err(reason) = Kind::Nginx.installed() {
        skip(reason);
    }
    let output = start(Kind::Nginx, "nonsense", 7001).wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().last().unwrap().starts_with("real-server: nginx ended by itself"), "{stderr}");
}
