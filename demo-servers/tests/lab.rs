//! The lab starts and ends everything together, with a stand-in for listentop.

mod common;

use common::{alive, counter, eventually, is_root, program, run};
use nix::pty::openpty;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that stands in for listentop: a shell script.
fn stand_in(name: &str, script: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stand-in-{name}-{}", std::process::id()));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A headless lab whose listentop is this script.
fn lab(name: &str, scenario: &str, script: &str) -> Child {
    Command::new(program("lab"))
        .args(scenario.split_whitespace())
        .arg("--listentop")
        .arg(stand_in(name, script))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Descendants of a process.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        for task in fs::read_dir(format!("/proc/{}/task", found[next])).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
        }
        next += 1;
    }
    found.split_off(1)
}

fn names(pids: &[i32]) -> Vec<String> {
    pids.iter()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned())
        .collect()
}

/// Waits until load runs; all processes of the lab.
fn running(lab: &Child) -> Vec<i32> {
    let pid = lab.id() as i32;
    eventually("the load runs", || names(&descendants(pid)).iter().any(|name| name == "stress"));
    descendants(pid)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_nothing_left(pids: &[i32]) {
    eventually("nothing is left", || !pids.iter().any(|&pid| alive(pid)));
}

#[test]
fn a_report_passes_through_with_its_exit_status() {
    if !is_root("a_report_passes_through_with_its_exit_status") {
        return;
    }
    let script = "echo \"$@\" >&2; echo measuring >&2; sleep 1; echo '{\"schema\":1}'; echo last words >&2; exit 7";
    let lab = lab("report", "patterns --headless --format json --for 1 --seed 5", script);
    let pids = running(&lab);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let inside: Vec<_> = pids.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok()).collect();
    let output = lab.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "{\"schema\":1}\n");
    let stderr = text(&output.stderr);
    let namespace = inside.iter().find(|namespace| **namespace != own).expect("servers are in another namespace");
    let inode = namespace.to_str().unwrap().trim_start_matches("net:[").trim_end_matches(']');
    assert!(stderr.contains(&format!("report --for 1000ms --format json --netns {inode}\n")), "{stderr}");
    assert!(stderr.contains("last words"), "{stderr}");
    let (_, results) = stderr.split_once("counted themselves").expect("results follow");
    for server in ["single_thread", "accept_readers", "msg_balancing", "multi_acceptor", "sharded"] {
        let rows = results.lines().filter(|line| line.trim_start().starts_with(server));
        assert_eq!(rows.count(), 2, "one of the server and one of its load: {stderr}");
    }
    assert!(!stderr.contains("no counters") && !stderr.contains("no summary"), "{stderr}");
    assert_nothing_left(&pids);
}

#[test]
fn the_load_waits_until_listentop_measures() {
    if !is_root("the_load_waits_until_listentop_measures") {
        return;
    }
    let lab = lab("early", "overflow --headless", "sleep 1; exit 3");
    let output = lab.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!text(&output.stderr).contains("load on slow_acceptor"), "{}", text(&output.stderr));
}

#[test]
fn overflow_overflows_and_the_sysctls_follow_the_options() {
    if !is_root("overflow_overflows_and_the_sysctls_follow_the_options") {
        return;
    }
    let before = fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").unwrap();
    for (options, cookies, abort) in [("", "0", "0"), ("--cookies=always --abort-on-overflow", "2", "1")] {
        let lab = lab("sysctls", &format!("overflow --headless {options}"), "echo measuring >&2; exec sleep 60");
        let pids = running(&lab);
        let place = names(&pids).iter().position(|name| name == "slow_acceptor").expect("the server runs");
        let namespace = fs::File::open(format!("/proc/{}/ns/net", pids[place])).unwrap();
        let inside = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            eventually("the queue overflows", || counter("ListenOverflows") > 0);
            ["tcp_syncookies", "tcp_abort_on_overflow"]
                .map(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().to_owned())
        });
        assert_eq!(inside.join().unwrap(), [cookies, abort], "{options}");
        kill(Pid::from_raw(lab.id() as i32), Signal::SIGTERM).unwrap();
        lab.wait_with_output().unwrap();
    }
    assert_eq!(before, fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").unwrap());
}

#[test]
fn signals_end_everything() {
    if !is_root("signals_end_everything") {
        return;
    }
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let lab = lab("signal", "overflow --headless --for 60", "echo measuring >&2; exec sleep 60");
        let pids = running(&lab);
        kill(Pid::from_raw(lab.id() as i32), signal).unwrap();
        let output = lab.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_nothing_left(&pids);
    }
}

#[test]
fn a_killed_lab_leaves_nothing() {
    if !is_root("a_killed_lab_leaves_nothing") {
        return;
    }
    let mut lab = lab("killed", "patterns --headless --for 60", "echo measuring >&2; exec sleep 60");
    let pids = running(&lab);
    lab.kill().unwrap();
    lab.wait().unwrap();
    assert_nothing_left(&pids);
}

#[test]
fn a_lost_child_ends_everything_with_one_line() {
    if !is_root("a_lost_child_ends_everything_with_one_line") {
        return;
    }
    for victim in ["slow_acceptor", "stress", "sleep"] {
        let lab = lab("lost", "overflow --headless --for 60", "echo measuring >&2; exec sleep 60");
        let pids = running(&lab);
        let place = names(&pids).iter().position(|name| name == victim).expect(victim);
        kill(Pid::from_raw(pids[place]), Signal::SIGKILL).unwrap();
        let output = lab.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("lab: ")).collect();
        assert_eq!(lines.len(), 1, "{stderr}");
        assert!(lines[0].contains("SIGKILL"), "{stderr}");
        assert_eq!(output.status.code(), Some(if victim == "sleep" { 137 } else { 1 }), "{stderr}");
        assert_nothing_left(&pids);
    }
}

/// Runs an interactive lab in a pseudo-terminal: exit code, what it showed, whether the terminal echoes afterwards.
fn in_terminal(name: &str, options: &str, script: &str) -> (Option<i32>, String, bool) {
    let pty = openpty(None, None).unwrap();
    let mut command = Command::new(program("lab"));
    command.args(options.split_whitespace()).arg("--listentop").arg(stand_in(name, script));
    for stream in [Command::stdin, Command::stdout, Command::stderr] {
        stream(&mut command, Stdio::from(pty.slave.try_clone().unwrap()));
    }
    // SAFETY: setsid and ioctl are system calls and async-signal-safe; stdin is the terminal.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        })
    };
    let mut child = command.spawn().unwrap();
    let mut master = fs::File::from(pty.master.try_clone().unwrap());
    // The slave stays open here, so reading ends when the child has, not by an end of file.
    let shown = std::thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count) = master.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
            if count == 0 || buffer[..count].ends_with(b"\x04END") {
                break;
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let code = child.wait().unwrap().code();
    let echoes = tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON);
    nix::unistd::write(&pty.slave, b"\x04END").unwrap();
    (code, shown.join().unwrap(), echoes)
}

#[test]
fn the_terminal_is_put_back_after_a_dashboard_that_was_killed() {
    if !is_root("the_terminal_is_put_back_after_a_dashboard_that_was_killed") {
        return;
    }
    let script = "stty raw -echo; printf '\\033[?1049h\\033[?25l'; sleep 0.5; kill -KILL $$";
    let (code, shown, echoes) = in_terminal("raw", "overflow", script);
    assert_eq!(code, Some(137), "{shown}");
    assert!(echoes, "{shown}");
    let entered = shown.find("\x1b[?1049h").expect("the stand-in was there");
    let left = shown.find("\x1b[?1049l").expect("the alternate screen is left");
    assert!(entered < left && shown[left..].contains("\x1b[?25h") && shown[left..].contains("SIGKILL"), "{shown}");
}

#[test]
fn a_dashboard_is_ended_when_time_is_up() {
    if !is_root("a_dashboard_is_ended_when_time_is_up") {
        return;
    }
    let began = Instant::now();
    let (code, shown, _) = in_terminal("time", "patterns --for 1", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    assert_eq!(code, Some(0), "{shown}");
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(shown.contains("single_thread") && !shown.contains("\x1b[?1049l"), "{shown}");
}

#[test]
fn bad_input_is_one_line() {
    let missing = "--headless --listentop /nonexistent/listentop";
    for (options, code, part) in [
        ("nonsense", 2, "patterns, overflow"),
        ("--bogus", 2, "--bogus"),
        ("--headless --format xml", 2, "xml"),
        (missing, 2, "/nonexistent/listentop"),
        ("patterns --listentop /bin/true", 2, "--headless"),
    ] {
        let (status, stdout, stderr) = run("lab", options);
        assert_eq!((status, stdout.as_str()), (Some(code), ""), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(part), "{options}: {stderr}");
    }
    let (status, stdout, _) = run("lab", "--list");
    assert_eq!((status, stdout.lines().count()), (Some(0), 2));
}
