//! The lab with the real listentop: its report equals what the programs and the kernel counted, and nothing is left
//! running. Needs root, and a listentop in the directory of the lab's program.

use demo_test_support::lab::{Running, headless};
use demo_test_support::terminal::{ENTER, Session};
use demo_test_support::{counter, eventually, program, within};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use test_harness::{Test, skip};

const TESTS: &[Test] = &[
    Test { name: "the_report_is_what_the_programs_and_the_kernel_counted", run: the_report_is_true },
    Test { name: "a_report_for_people_ends_by_itself", run: a_report_for_people },
    Test { name: "signals_end_a_report_and_all_processes", run: signals_end_a_report },
    Test { name: "a_lesson_asks_acts_and_says_what_it_proved", run: a_lesson_from_question_to_outcome },
    Test { name: "the_last_step_is_judged_while_it_runs", run: the_last_step_is_judged },
    Test { name: "an_early_end_compares_what_belongs_together", run: an_early_end },
    Test { name: "the_menu_starts_a_lesson_and_leaves", run: the_menu },
    Test { name: "an_outcome_outlives_the_menu", run: an_outcome_outlives_the_menu },
    Test { name: "signals_restore_the_terminal", run: signals_restore_the_terminal },
    Test { name: "a_panic_restores_the_terminal", run: a_panic_restores_the_terminal },
];

fn main() -> ExitCode {
    test_harness::run(&[TESTS], test_harness::not_root)
}

/// The program that the workspace builds.
fn listentop() -> PathBuf {
    let path = program("lab").with_file_name("listentop");
    if !path.is_file() {
        skip(format!("{} is not there: `cargo xtask test` builds it", path.display()));
    }
    path
}

/// Skips the test if one of these measures is unavailable on this machine.
fn must_measure(report: &Value, measures: &[&str]) {
    let coverage = report["coverage"].as_array().expect("a list");
    for entry in coverage.iter().filter(|entry| measures.iter().any(|name| entry["measure"] == **name)) {
        if entry["status"] == "unavailable" {
            skip(format!("{} cannot be measured here: {}", entry["measure"], entry["reason"]));
        }
    }
}

/// The numbers of a row of the lab's results. Place 0 is the row of the server, place 1 that of its load.
fn row(results: &str, name: &str, place: usize) -> Vec<u64> {
    let mut rows = results.lines().filter(|line| line.trim_start().starts_with(name));
    let row = rows.nth(place).unwrap_or_else(|| panic!("{name} is not in {results}"));
    row.split_whitespace().skip(1).map_while(|cell| cell.parse().ok()).collect()
}

fn the_report_is_true() {
    let lab = headless("overflow --format json --for 60s --load-for 2s", &listentop());
    let running = Running::wait(lab.id() as i32);
    // Refused clients try again for some seconds.
    within(Duration::from_secs(50), "all is served", || running.find("stress").is_none());
    std::thread::sleep(Duration::from_millis(300));
    let namespace = running.open_namespace();
    let counters = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        ["ListenDrops", "ListenOverflows"].map(counter)
    });
    let [drops, overflows] = counters.join().unwrap();
    running.signal("listentop", Signal::SIGINT);
    let output = lab.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    running.assert_nothing_left();

    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout} {stderr}"));
    must_measure(&report, &["accepts", "reads", "writes", "drops", "enqueued"]);
    let (_, results) = stderr.split_once("counted themselves").expect("results follow");
    let [accepts, would_block, reads, read_bytes, requests, closed, open] = row(results, "slow_acceptor", 0)[..] else {
        panic!("{results}")
    };
    let [due, connected, completed, failed, ..] = row(results, "slow_acceptor", 1)[..] else { panic!("{results}") };
    assert_eq!((due, connected, completed, failed), (160, 160, 160, 0), "80 per second for 2 s: {results}");
    assert_eq!((accepts, requests, closed, open), (160, 160, 160, 0), "{results}");

    let listeners = report["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 1, "{report:#}");
    let listener = &listeners[0];
    assert_eq!((&listener["port"], &listener["process"]["comm"]), (&7001.into(), &"slow_acceptor".into()));
    assert_eq!(listener["netns"].to_string(), running.inode());
    // Events that the kernel hid from the probes, which listentop reports.
    let cost = &report["own_cost"];
    let missed = cost["missed_runs"].as_u64().unwrap() + cost["lost_events"].as_u64().unwrap();
    for (what, seen, truth) in [
        ("enqueued", &listener["accept_queue"]["enqueued"], accepts),
        ("accepts", &listener["accepts"]["total"], accepts),
        ("would-block", &listener["accepts"]["would_block"], would_block),
        ("reads", &listener["reads"]["count"], reads),
        ("bytes read", &listener["reads"]["bytes"], read_bytes),
        ("drops", &listener["drops"]["total"], drops),
    ] {
        let seen = seen.as_u64().unwrap_or_else(|| panic!("{what}: {listener:#}"));
        // A missed event is one read or one connection, with its 64 bytes.
        let allowed = if what == "bytes read" { 64 * missed } else { missed };
        assert!(seen.abs_diff(truth) <= allowed, "{what}: {seen}, not {truth}, with {missed} missed\n{results}");
    }
    assert!(overflows > 50 && drops >= overflows, "{drops} {overflows}");
    let findings = listener["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["id"] == "accept_queue_overflow"), "{findings:#?}");
}

fn a_report_for_people() {
    let lab = headless("patterns --for 2s", &listentop());
    let running = Running::wait(lab.id() as i32);
    let output = lab.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let (_, results) = stderr.split_once("counted themselves").expect("results follow");
    let table = String::from_utf8(output.stdout).unwrap();
    for server in ["single_thread", "acceptor_readers", "message_balancing", "multi_acceptor", "sharded"] {
        // The kernel keeps 15 bytes of a process's name.
        let comm = &server[..server.len().min(15)];
        assert!(table.contains(comm), "{comm} is not in\n{table}");
        assert!(row(results, server, 0)[0] > 0, "{results}");
    }
    running.assert_nothing_left();
}

fn signals_end_a_report() {
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)] {
        let mut lab = headless("overflow --for 60s", &listentop());
        let running = Running::wait(lab.id() as i32);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(lab.id() as i32), signal).unwrap();
        assert_eq!(lab.wait().unwrap().code(), code);
        running.assert_nothing_left();
    }
}

/// A lab whose dashboard shows its listener.
fn dashboard(options: &str) -> (Session, Running) {
    let session = Session::start(options, &listentop());
    session.wait_for(ENTER);
    let running = Running::wait(session.lab());
    (session, running)
}

fn assert_restored(session: &Session, running: &Running) -> String {
    running.assert_nothing_left();
    eventually("the terminal is as before", || session.echoes());
    session.after_dashboard()
}

/// What a terminal sends for function keys.
const F6: &str = "\x1b[17~";
const F10: &str = "\x1b[21~";
const F12: &str = "\x1b[24~";

fn a_lesson_from_question_to_outcome() {
    let mut session = Session::start_asking("overflow", &listentop());
    session.wait_for("your prediction (1 to 3");
    session.type_text("9\n2\n");
    session.wait_for(ENTER);
    session.wait_for("repeat");
    let running = Running::wait(session.lab());
    session.type_text(F6);
    // A dashboard writes what changes only.
    session.wait_for("slow_acceptor");
    eventually("the backlog is doubled", || session.shown().contains("/17"));
    session.type_text(F12);
    eventually("it begins again", || session.shown().matches(ENTER).count() == 2);
    running.assert_nothing_left();
    let running = Running::wait(session.lab());
    within(Duration::from_secs(30), "an expectation is judged", || session.shown().contains(['✓', '✗']));
    session.type_text("q");
    assert_eq!(session.end(), 0, "{}", session.shown());
    let after = session.shown();
    for part in ["as you predicted", "expected: ", "Little's law", "the belief that it breaks", "next lesson: "] {
        assert!(after.contains(part), "{part} is not in {after}");
    }
    running.assert_nothing_left();
}

/// The only step of a lesson is its last one.
fn the_last_step_is_judged() {
    let (mut session, running) = dashboard("littles-law");
    within(Duration::from_secs(14), "an expectation is judged", || session.shown().contains(['✓', '✗']));
    assert!(!session.shown().contains("over: q"), "{}", session.shown());
    session.type_text("q");
    assert_eq!(session.end(), 0, "{}", session.shown());
    running.assert_nothing_left();
}

/// The load goes on when somebody ends the lesson in its midst: listentop's last report is not of the moment at which
/// the servers printed last.
fn an_early_end() {
    for by_key in [true, false] {
        let (mut session, running) = dashboard("patterns");
        std::thread::sleep(Duration::from_secs(4));
        if by_key {
            session.type_text("q");
            assert_eq!(session.end(), 0, "{}", session.shown());
        } else {
            session.signal(Signal::SIGTERM);
            assert_eq!(session.end(), 143, "{}", session.shown());
        }
        let after = assert_restored(&session, &running);
        assert!(after.contains(" of 20 numbers agree: ") && !after.contains("NOT EXPLAINED"), "{after}");
    }
}

fn the_menu() {
    let mut session = Session::start_asking("course", &listentop());
    session.wait_for("lessons on this machine");
    // The second one.
    session.type_text("j\r");
    session.wait_for("your prediction");
    session.type_text("\n");
    session.wait_for("repeat");
    let running = Running::wait(session.lab());
    session.type_text(F10);
    eventually("the menu comes back", || session.shown().matches("lessons on this machine").count() == 2);
    running.assert_nothing_left();
    session.type_text("q");
    assert_eq!(session.end(), 0, "{}", session.shown());
    eventually("the terminal is as before", || session.echoes());
}

/// Who leaves for the menu finds on the terminal what was proved until then, and in the file what was predicted.
fn an_outcome_outlives_the_menu() {
    let file = std::env::temp_dir().join(format!("listentop-outcome-{}", std::process::id()));
    let options = format!("overflow --predict 2 --outcome {}", file.display());
    let mut session = Session::start_asking(&options, &listentop());
    session.wait_for("repeat");
    let running = Running::wait(session.lab());
    within(Duration::from_secs(30), "an expectation is judged", || session.shown().contains(['✓', '✗']));
    session.type_text(F10);
    session.wait_for("lessons on this machine");
    running.assert_nothing_left();
    session.type_text("q");
    assert_eq!(session.end(), 0, "{}", session.shown());
    let shown = session.shown();
    for part in ["as you predicted", "expected: ", "the belief that it breaks"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let outcome: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((outcome["lesson"].as_str(), outcome["prediction"]["chosen"].as_u64()), (Some("overflow"), Some(1)));
    assert_eq!(outcome["finished"].as_bool(), Some(false));
    assert!(outcome["totals"].as_array().is_some_and(|totals| !totals.is_empty()), "{outcome}");
}

fn signals_restore_the_terminal() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGKILL, 137)] {
        let (session, running) = dashboard("overflow");
        session.wait_for("quit");
        assert!(!session.echoes(), "the dashboard has the terminal");
        session.signal(signal);
        assert_eq!(session.end(), code, "{}", session.shown());
        let after = assert_restored(&session, &running);
        assert!(signal == Signal::SIGKILL || after.contains("counted themselves"), "{after}");
    }
}

fn a_panic_restores_the_terminal() {
    let (session, running) = dashboard("overflow --panic");
    assert_eq!(session.end(), 101, "{}", session.shown());
    assert!(assert_restored(&session, &running).contains("panicked at"), "{}", session.shown());
}
