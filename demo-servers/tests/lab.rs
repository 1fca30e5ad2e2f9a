//! The lab starts and ends everything together, with a stand-in for listentop. Needs root.

use demo_test_support::lab::{Running, headless};
use demo_test_support::terminal::{LEAVE, Session};
use demo_test_support::{counter, eventually};
use lab_control::{Act, Connection, FromLab, Role, State, ToLab};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};
use test_harness::Test;

const TESTS: &[Test] = &[
    Test { name: "a_report_passes_through_with_its_exit_status", run: a_report_passes_through_with_its_exit_status },
    Test { name: "the_load_waits_until_listentop_measures", run: the_load_waits_until_listentop_measures },
    Test { name: "overflow_overflows_and_the_sysctls_follow_the_options", run: overflow_overflows },
    Test { name: "a_load_may_end_before_the_report", run: a_load_may_end_before_the_report },
    Test { name: "a_report_prints_its_progress", run: a_report_prints_its_progress },
    Test { name: "the_control_socket_takes_acts_and_tells_the_state", run: the_control_socket },
    Test { name: "strangers_to_the_control_socket_are_refused", run: strangers_are_refused },
    Test { name: "signals_end_everything", run: signals_end_everything },
    Test { name: "a_killed_lab_leaves_nothing", run: a_killed_lab_leaves_nothing },
    Test { name: "a_lost_child_ends_everything_with_one_line", run: a_lost_child_ends_everything_with_one_line },
    Test { name: "the_terminal_is_restored_after_a_dashboard_was_killed", run: after_a_killed_dashboard },
    Test { name: "the_terminal_is_restored_although_it_takes_nothing", run: on_a_terminal_that_takes_nothing },
    Test { name: "a_panic_lets_the_dashboard_restore_the_terminal", run: after_a_panic },
    Test {
        name: "a_panic_restores_the_terminal_if_the_dashboard_does_not",
        run: after_a_panic_with_a_stubborn_dashboard,
    },
    Test { name: "a_dashboard_ends_when_the_time_is_over", run: a_dashboard_ends_when_the_time_is_over },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], test_harness::not_root)
}

/// A program that stands in for listentop: a shell script.
fn stand_in(name: &str, script: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("stand-in-{name}-{}", std::process::id()));
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A lab without a dashboard, with this script instead of listentop.
fn lab(name: &str, options: &str, script: &str) -> Child {
    headless(options, &stand_in(name, script))
}

fn running(lab: &Child) -> Running {
    Running::wait(lab.id() as i32)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn a_report_passes_through_with_its_exit_status() {
    let script = "echo \"$@\" >&2; echo measuring >&2; sleep 1; echo '{\"schema\":1}'; echo last words >&2; exit 7";
    let lab = lab("report", "patterns --format json --for 1 --seed 5", script);
    let running = running(&lab);
    let output = lab.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "{\"schema\":1}\n");
    let stderr = text(&output.stderr);
    let inode = running.inode();
    assert!(stderr.contains(&format!("report --for 1000ms --format json --netns {inode}\n")), "{stderr}");
    assert!(stderr.contains("last words"), "{stderr}");
    let (_, results) = stderr.split_once("counted themselves").expect("results follow");
    for server in ["single_thread", "acceptor_readers", "message_balancing", "multi_acceptor", "sharded"] {
        let rows = results.lines().filter(|line| line.trim_start().starts_with(server));
        assert_eq!(rows.count(), 2, "one of the server and one of its load: {stderr}");
    }
    assert!(!stderr.contains("no counters") && !stderr.contains("no summary"), "{stderr}");
    running.assert_nothing_left();
}

fn the_load_waits_until_listentop_measures() {
    let lab = lab("early", "overflow", "sleep 1; exit 3");
    let output = lab.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!text(&output.stderr).contains("load on slow_acceptor"), "{}", text(&output.stderr));
}

fn overflow_overflows() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").unwrap();
    for (options, cookies, abort) in [("", "0", "0"), ("--cookies=always --abort-on-overflow", "2", "1")] {
        let lab = lab("sysctls", &format!("overflow {options}"), "echo measuring >&2; exec sleep 60");
        let running = running(&lab);
        let namespace = running.open_namespace();
        let inside = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            eventually("the queue overflows", || counter("ListenOverflows") > 0);
            ["tcp_syncookies", "tcp_abort_on_overflow"]
                .map(|name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim().to_owned())
        });
        assert_eq!(inside.join().unwrap(), [cookies, abort], "{options}");
        kill(Pid::from_raw(lab.id() as i32), Signal::SIGTERM).unwrap();
        lab.wait_with_output().unwrap();
        running.assert_nothing_left();
    }
    assert_eq!(before, fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies").unwrap());
}

fn a_load_may_end_before_the_report() {
    let lab = lab("short", "patterns --load-for 500ms", "echo measuring >&2; sleep 3; exit 5");
    let running = running(&lab);
    eventually("the loads end", || running.find("stress").is_none());
    assert!(running.find("sleep").is_some(), "the report goes on");
    let output = lab.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("no summary"), "{}", text(&output.stderr));
    running.assert_nothing_left();
}

fn a_report_prints_its_progress() {
    let script = "echo measuring >&2; sleep 11; exit 0";
    let output = lab("progress", "overflow --for 12s", script).wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    let printed: Vec<_> = stderr.lines().filter(|line| line.starts_with("lab: ")).collect();
    assert_eq!(printed, ["lab: 10 of 12 s"], "{stderr}");

    // On a terminal it is one line, which is erased before the report comes.
    let script = "echo measuring >&2; sleep 2.5; echo noted >&2; sleep 1; echo the report";
    let session = Session::start("overflow --headless --for 3500ms", &stand_in("progress", script));
    assert_eq!(session.end(), 0);
    let shown = session.shown();
    let (_, shown) = shown.split_once("measuring\r\n").unwrap();
    let (progress, _) = shown.split_once("what the programs counted").unwrap();
    let expected =
        "\x1b[Klab: 1 of 3.5 s\r\x1b[Klab: 2 of 3.5 s\r\x1b[Knoted\r\n\x1b[Klab: 3 of 3.5 s\r\x1b[Kthe report\r\n";
    assert_eq!(progress, expected);
}

/// A lab of five servers, and a connection to its control socket. The load runs.
fn controlled(name: &str) -> (Child, Running, Connection) {
    let lab = lab(name, "patterns --for 60", "echo measuring >&2; exec sleep 60");
    let running = running(&lab);
    let connection = Connection::to(&format!("listentop-lab-{}", lab.id()), Role::Observer, "").unwrap();
    (lab, running, connection)
}

/// The next message that is no state, or the next state for which `wanted` is true.
fn until(connection: &mut Connection, wanted: impl Fn(&State) -> bool) -> FromLab {
    loop {
        match connection.reader.receive().unwrap().expect("the lab is there") {
            FromLab::State(state) if !wanted(&state) => {}
            message => return message,
        }
    }
}

fn the_control_socket() {
    let (lab, running, mut connection) = controlled("control");
    let FromLab::State(state) = until(&mut connection, |_| true) else { panic!("a state comes first") };
    assert_eq!((state.lesson.as_str(), state.number, state.steps, state.rate), ("patterns", 1, 1, 100));
    assert!(!state.watch.is_empty() && state.expected.len() > 2, "{state:?}");
    let mut act = |act: Act, done: &str| {
        connection.writer.send(&ToLab::Act(act)).unwrap();
        until(&mut connection, |state| state.last_act.as_ref().is_some_and(|last| last.ends_with(done)))
    };
    let server = |name: &str| Some(name.to_owned());
    let FromLab::State(stalled) = act(Act::Stall { server: server("7001") }, "stall single_thread") else {
        panic!("it is done")
    };
    assert_eq!(stalled.stalled, [7001]);
    let depth = || depth_inside(&running, 7001);
    eventually("the queue of the stalled server grows", || depth() > 20);
    act(Act::Release { server: server("single_thread") }, "release single_thread");
    eventually("it accepts again", || depth() < 5);
    act(Act::Stall { server: server("7001") }, "stall single_thread");
    eventually("the queue grows again", || depth() > 20);
    act(Act::AddAcceptor { server: server("7001") }, "one more acceptor single_thread");
    // Of a queue that nobody accepts from, the depth never falls.
    let mut most = 0;
    let mut falls = || {
        let now = depth();
        most = most.max(now);
        now < most
    };
    eventually("the one that came during the stall accepts", &mut falls);
    act(Act::Release { server: server("single_thread") }, "release single_thread");
    for (done, wanted) in [
        ("backlog 3 sharded", Act::Backlog { server: server("sharded"), backlog: 3 }),
        ("one more acceptor sharded", Act::AddAcceptor { server: server("7005") }),
        ("load at 10 %", Act::Rate { load: None, percent: 10 }),
        ("SYN cookies 2", Act::Cookies { value: 2 }),
    ] {
        assert!(matches!(act(wanted, done), FromLab::State(_)), "{done}");
    }
    for (wanted, says) in [
        (Act::Stall { server: None }, "which server?"),
        (Act::Stall { server: server("nobody") }, "no server nobody runs"),
        (Act::Rate { load: server("nobody"), percent: 50 }, "no load nobody runs"),
        (Act::Rate { load: None, percent: 0 }, "from 1 to 1000"),
        (Act::Cookies { value: 3 }, "cookies are 0"),
    ] {
        let FromLab::Refused { reason } = act(wanted, "never") else { panic!("it cannot be done") };
        assert!(reason.contains(says) && reason.lines().count() == 1, "{reason}");
    }
    kill(Pid::from_raw(lab.id() as i32), Signal::SIGTERM).unwrap();
    lab.wait_with_output().unwrap();
    running.assert_nothing_left();
    assert!(Connection::to(&format!("listentop-lab-{}", running.lab()), Role::Observer, "").is_err());
}

/// The depth of the accept queue of this port in a lab's namespace.
fn depth_inside(running: &Running, port: u16) -> u64 {
    let namespace = running.open_namespace();
    let read = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        fs::read_to_string("/proc/thread-self/net/tcp").unwrap()
    };
    let table = std::thread::spawn(read).join().unwrap();
    let listens = format!(":{port:04X} 00000000:0000 0A ");
    let line = table.lines().find(|line| line.contains(&listens)).expect("it listens");
    let (_, queues) = line.split_once(&listens).unwrap();
    u64::from_str_radix(&queues[9..17], 16).unwrap()
}

fn strangers_are_refused() {
    let (lab, running, _connection) = controlled("strangers");
    for (message, says) in [
        ("{\"type\":\"hello\",\"version\":99,\"role\":\"observer\"}", "version 1, not 99"),
        ("{\"type\":\"act\",\"act\":\"next_step\"}", "must be a hello"),
        ("shout", "no message of version 1"),
    ] {
        let name = format!("listentop-lab-{}", lab.id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
        std::io::Write::write_all(&mut stream, format!("{message}\n").as_bytes()).unwrap();
        let mut connection = Connection::of(stream).unwrap();
        let Ok(Some(FromLab::Refused { reason })) = connection.reader.receive() else { panic!("{message} is refused") };
        assert!(reason.contains(says), "{reason}");
        assert!(matches!(connection.reader.receive::<FromLab>(), Ok(None) | Err(_)), "the connection has ended");
    }
    kill(Pid::from_raw(lab.id() as i32), Signal::SIGTERM).unwrap();
    lab.wait_with_output().unwrap();
    running.assert_nothing_left();
}

fn signals_end_everything() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGINT, 130),
        (Signal::SIGHUP, 129),
        (Signal::SIGQUIT, 131),
        (Signal::SIGUSR1, 138),
        (Signal::SIGUSR2, 140),
        (Signal::SIGALRM, 142),
    ] {
        let lab = lab("signal", "overflow --for 60", "echo measuring >&2; exec sleep 60");
        let running = running(&lab);
        kill(Pid::from_raw(lab.id() as i32), signal).unwrap();
        let output = lab.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        running.assert_nothing_left();
    }
}

fn a_killed_lab_leaves_nothing() {
    let mut lab = lab("killed", "patterns --for 60", "echo measuring >&2; exec sleep 60");
    let running = running(&lab);
    let held = running.open_namespace();
    lab.kill().unwrap();
    lab.wait().unwrap();
    eventually("nobody but this test holds the namespace", || running.holders().len() == 1);
    drop(held);
    running.assert_nothing_left();
}

fn a_lost_child_ends_everything_with_one_line() {
    for victim in ["slow_acceptor", "stress", "sleep"] {
        let lab = lab("lost", "overflow --for 60", "echo measuring >&2; exec sleep 60");
        let running = running(&lab);
        running.signal(victim, Signal::SIGKILL);
        let output = lab.wait_with_output().unwrap();
        let stderr = text(&output.stderr);
        let lines: Vec<_> = stderr.lines().filter(|line| line.starts_with("lab: ")).collect();
        assert_eq!(lines.len(), 1, "{stderr}");
        assert!(lines[0].contains("SIGKILL"), "{stderr}");
        assert_eq!(output.status.code(), Some(if victim == "sleep" { 137 } else { 1 }), "{stderr}");
        running.assert_nothing_left();
    }
}

/// Shell commands that take the terminal as a dashboard does.
const TAKE: &str = "stty raw -echo; printf '\\033[?1049h\\033[?25l'";

fn after_a_killed_dashboard() {
    let session = Session::start("overflow", &stand_in("raw", &format!("{TAKE}; sleep 0.5; kill -KILL $$")));
    assert_eq!(session.end(), 137, "{}", session.shown());
    assert!(session.echoes(), "{}", session.shown());
    assert!(session.after_dashboard().contains("SIGKILL"), "{}", session.shown());
}

/// A dashboard fills the terminal, which takes nothing any more, and does not end either: it is killed, and what the
/// terminal takes later restores it.
fn on_a_terminal_that_takes_nothing() {
    let script = format!("{TAKE}; trap '' TERM; echo measuring >&2; exec yes");
    let session = Session::start("overflow", &stand_in("stalled", &script));
    session.wait_for("y\ny\n");
    session.stop_reading();
    let running = Running::wait(session.lab());
    session.signal(Signal::SIGUSR1);
    running.assert_nothing_left();
    assert!(session.echoes(), "the terminal's modes are not restored");
    session.go_on_reading();
    assert_eq!(session.end(), 138);
    session.after_dashboard();
}

/// The message of the panic is printed once, when the terminal is restored.
fn assert_panic_printed(session: &Session) {
    assert_eq!(session.end(), 101, "{}", session.shown());
    assert!(session.echoes(), "{}", session.shown());
    assert!(session.after_dashboard().contains("panicked at"), "{}", session.shown());
    assert_eq!(session.shown().matches("panicked at").count(), 1, "{}", session.shown());
}

fn after_a_panic() {
    let put_back = "trap 'stty sane; printf \"\\033[?1049l\\033[?25hput back\"; exit 0' TERM";
    let script = format!("{TAKE}; {put_back}; echo measuring >&2; while :; do sleep 0.1; done");
    let session = Session::start("overflow --panic", &stand_in("panic", &script));
    let running = Running::wait(session.lab());
    assert_panic_printed(&session);
    assert!(session.shown().contains("put back") && session.shown().matches(LEAVE).count() == 1, "{}", session.shown());
    running.assert_nothing_left();
}

fn after_a_panic_with_a_stubborn_dashboard() {
    let script = format!("{TAKE}; trap '' TERM; echo measuring >&2; while :; do sleep 0.1; done");
    let session = Session::start("overflow --panic", &stand_in("stubborn", &script));
    let running = Running::wait(session.lab());
    assert_panic_printed(&session);
    running.assert_nothing_left();
}

fn a_dashboard_ends_when_the_time_is_over() {
    let began = Instant::now();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let session = Session::start("patterns --for 1", &stand_in("time", script));
    assert_eq!(session.end(), 0, "{}", session.shown());
    assert!(began.elapsed() < Duration::from_secs(30));
    let shown = session.shown();
    assert!(shown.contains("single_thread") && !shown.contains(LEAVE), "{shown}");
}
