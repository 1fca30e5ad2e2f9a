//! The program on the command line: reports, bad options, missing rights, full disks, signals, and that nothing is left
//! in the kernel.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Output, Stdio},
    thread,
};

use listentop_model::coverage::Measure;
use nix::{
    sys::signal::{SigHandler, Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::{Measuring, ProgramCopy, listentop},
    lab::PORT,
    process::{self, stay_on_one_cpu},
    skip, sleep_ms,
    sockets::{accept, connect, listen, readable, receive, send_all},
    tid, wait_until,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];
const WORK: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "command_line::mistakes", needs: &[], run: mistakes },
    Test { name: "command_line::without_rights", needs: &[], run: without_rights },
    Test { name: "command_line::without_rights_sampled", needs: &[], run: without_rights_sampled },
    Test { name: "command_line::dashboard_without_a_terminal", needs: &[], run: without_a_terminal },
    Test { name: "command_line::full_disk", needs: &[], run: full_disk },
    Test { name: "command_line::reader_that_has_seen_enough", needs: &[], run: closed_pipe },
    Test { name: "command_line::json_has_every_field", needs: NEEDS, run: json_has_every_field },
    Test { name: "command_line::filters", needs: NEEDS, run: filters },
    Test { name: "command_line::filter_by_a_process_that_works", needs: WORK, run: filter_by_worker },
    Test { name: "command_line::signals_end_a_report_early", needs: NEEDS, run: signals },
    Test { name: "command_line::nohup_is_heeded", needs: NEEDS, run: ignored_hangup },
    Test { name: "command_line::a_report_that_nobody_reads_ends_by_signal", needs: &[], run: unread_report },
    Test { name: "command_line::a_table_that_is_too_small", needs: NEEDS, run: small_tables },
    Test { name: "command_line::confined_to_one_cpu", needs: &[], run: one_cpu },
    Test { name: "command_line::few_descriptors_are_enough", needs: &[], run: descriptors },
    Test { name: "command_line::nothing_stays_attached", needs: &[], run: nothing_stays },
];

fn run(arguments: &str) -> Output {
    listentop(arguments).output().expect("listentop runs")
}

/// Checks that there is one line on stderr, nothing on stdout, and this exit code. Returns the line.
pub(crate) fn assert_refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("listentop: ") && stderr.ends_with('\n') && stderr.lines().count() == 1, "{stderr:?}");
    assert_eq!(output.stdout, [] as [u8; 0]);
    stderr
}

fn mistakes(_: &Lab) {
    for (arguments, named) in [
        ("report --frobnicate", "--frobnicate"),
        ("report --port 70000", "70000"),
        ("report --port http", "a port is expected"),
        ("report --pid nginx", "a process id is expected"),
        ("report --for soon", "such as 500ms, 10s or 2m"),
        ("report --for 1e19", "at most a year"),
        ("report --for 18446744073709551615s", "at most a year"),
        ("--refresh 2s report", "--refresh is not for 'report'"),
        ("doctor --port 80", "--port 80 is not for 'doctor'"),
        ("report --for 0s", "0s"),
        ("report --format xml", "xml"),
        ("--refresh 1ms", "1ms"),
        ("report --max-listeners 0", "0"),
        ("rapport", "rapport"),
    ] {
        let line = assert_refused(&run(arguments), 2);
        assert!(line.contains(named), "{arguments}: {line}");
    }
}

/// Confined to one CPU (taskset, CPUAffinity=, a cpuset) it says how many the machine has: findings divide by them.
fn one_cpu(_: &Lab) {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").expect("sysfs");
    let of_range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u64>().expect("a number") - first.parse::<u64>().expect("a number") + 1
    };
    let online: u64 = text.trim().split(',').map(of_range).sum();
    if online == 1 {
        skip("this machine has one CPU only");
    }
    // Programs that this thread starts inherit it.
    stay_on_one_cpu();
    let output = run("report --for 200ms --format json");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["host"]["cpus"], online);
}

/// Runs it as an unprivileged user, with these arguments.
fn run_as_nobody(arguments: &str) -> Output {
    ProgramCopy::new("nobody").as_nobody(arguments).output().expect("it runs")
}

/// With `--probes tracepoint` but without rights, listentop names what is missing and ends.
fn without_rights(_: &Lab) {
    let line = assert_refused(&run_as_nobody("report --for 1s --probes tracepoint"), 3);
    assert!(line.contains("root") && line.contains("CAP_BPF"), "{line}");
}

/// Without rights and without `--probes`, listentop measures what needs no rights, and reports why the rest is missing.
fn without_rights_sampled(lab: &Lab) {
    let listener = listen(PORT, 16);
    let waiting = connect(PORT);
    let output = run_as_nobody("report --for 300ms --format json");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!((lines.len(), lines[1]), (2, "measuring"), "{stderr}");
    assert!(lines[0].starts_with("listentop: ") && lines[0].contains("sampled"), "{stderr}");
    assert!(lines[0].contains("root") && lines[0].contains("CAP_BPF"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    let found = &report["listeners"][0];
    assert_eq!((&found["netns"], &found["port"]), (&lab.netns.into(), &PORT.into()));
    let queue = &found["accept_queue"];
    assert_eq!((&queue["depth"], &queue["limit"], &queue["enqueued"]), (&1.into(), &17.into(), &Value::Null));
    let accepts = report["coverage"].as_array().expect("a list").iter().find(|entry| entry["measure"] == "accepts");
    let accepts = accepts.expect("every measure is listed");
    assert_eq!(accepts["status"], "unavailable");
    assert!(accepts["reason"].as_str().is_some_and(|reason| reason.contains("CAP_BPF")), "{accepts}");
    drop((listener, waiting));
}

fn without_a_terminal(_: &Lab) {
    for arguments in ["", "top"] {
        let line = assert_refused(&run(arguments), 1);
        assert!(line.contains("not a terminal") && line.contains("listentop report"), "{line}");
    }
}

fn full_disk(_: &Lab) {
    for format in ["json", "table"] {
        let full = File::create("/dev/full").expect("every Linux has it");
        let mut command = listentop(&format!("report --for 200ms --format {format}"));
        let output = command.stdout(full).stderr(Stdio::piped()).output().expect("listentop runs");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "measuring"), "{stderr}");
        assert!(lines[1].starts_with("listentop: ") && lines[1].contains("No space left"), "{stderr}");
    }
}

fn closed_pipe(_: &Lab) {
    let mut command = listentop("report --for 200ms --format json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("listentop runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    // The status that shells know from a program that SIGPIPE has ended, and no message.
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(141), &b"measuring\n"[..]));
}

/// The contract: every field of schema 1, by the JSON pointer of its object.
const FIELDS: &[(&str, &[&str])] = &[
    ("", &["schema", "tool", "host", "interval", "coverage", "own_cost", "listeners"]),
    ("/tool", &["version"]),
    ("/host", &["kernel", "cpus"]),
    ("/interval", &["start", "seconds"]),
    ("/coverage/0", &["measure", "status", "via", "reason"]),
    ("/own_cost", &["probe_runs", "probe_ns", "cpu_seconds", "rss_bytes", "lost_events", "missed_runs"]),
    (
        "/listeners/0",
        &[
            "id",
            "netns",
            "protocol",
            "address",
            "port",
            "group",
            "process",
            "accept_queue",
            "syn_queue",
            "drops",
            "accepts",
            "connections",
            "reads",
            "writes",
            "threads",
            "pattern",
            "findings",
        ],
    ),
    ("/listeners/0/process", &["pid", "comm", "container"]),
    (
        "/listeners/0/accept_queue",
        &["depth", "backlog", "limit", "peak", "enqueued", "aborted", "oldest_waiting_us", "wait_us"],
    ),
    ("/listeners/0/accept_queue/wait_us", QUANTILES),
    (
        "/listeners/0/syn_queue",
        &["depth", "young", "peak", "requests", "synack_retransmits", "cookies_sent", "handshake_us"],
    ),
    (
        "/listeners/0/drops",
        &[
            "total",
            "accept_queue_full_on_syn",
            "accept_queue_full_on_ack",
            "syn_queue_full",
            "other",
            "unexplained",
            "clients",
        ],
    ),
    ("/listeners/0/accepts", &["total", "per_second", "would_block"]),
    ("/listeners/0/connections", &["open", "first_byte_us", "first_read_us"]),
    ("/listeners/0/connections/first_read_us", QUANTILES),
    ("/listeners/0/reads", &["count", "bytes", "per_second", "residency_us", "bytes_per_read", "queued_bytes"]),
    ("/listeners/0/reads/residency_us", QUANTILES),
    ("/listeners/0/reads/bytes_per_read", QUANTILES),
    ("/listeners/0/writes", &["count", "bytes"]),
    (
        "/listeners/0/threads/0",
        &[
            "pid",
            "tid",
            "comm",
            "roles",
            "accepts",
            "accept_share",
            "would_block",
            "reads",
            "read_share",
            "read_bytes",
            "writes",
            "on_cpu_us",
            "run_queue_us",
            "blocked_us",
        ],
    ),
    ("/listeners/0/pattern", &["name", "confidence", "evidence"]),
];

const QUANTILES: &[&str] = &["count", "p50", "p90", "p99", "max"];

fn assert_has_every_field(report: &Value) {
    for (pointer, names) in FIELDS {
        let object = report.pointer(pointer).and_then(Value::as_object);
        let fields = object.unwrap_or_else(|| panic!("no object {pointer} in {report:#}"));
        let missing: Vec<_> = names.iter().filter(|name| !fields.contains_key(**name)).collect();
        assert!(missing.is_empty(), "{missing:?} missing in {pointer}: {report:#}");
    }
    assert_eq!(report["coverage"].as_array().map(Vec::len), Some(Measure::ALL.len()));
}

fn json_has_every_field(lab: &Lab) {
    let server = listen(PORT, 16);
    let measuring = Measuring::start(&format!("report --for 700ms --format json --netns {}", lab.netns));
    // One connection that is accepted and read, and one that waits.
    let client = connect(PORT);
    let connection = accept(&server).expect("a connection");
    send_all(&client, b"hello");
    receive(&connection, 10);
    send_all(&connection, b"hi");
    let waiting = connect(PORT);
    let ended = measuring.end();
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON and nothing else");
    assert_eq!(report["schema"], 1);
    assert_has_every_field(&report);
    let listener = &report["listeners"][0];
    assert_eq!(report["listeners"].as_array().map(Vec::len), Some(1));
    assert_eq!((&listener["netns"], &listener["port"]), (&lab.netns.into(), &PORT.into()));
    assert_eq!(listener["process"]["pid"], std::process::id());
    let queue = &listener["accept_queue"];
    assert_eq!((&queue["enqueued"], &queue["depth"], &queue["limit"]), (&2.into(), &1.into(), &17.into()));
    assert_eq!((&queue["wait_us"]["count"], &listener["accepts"]["total"]), (&1.into(), &1.into()));
    assert_eq!((&listener["reads"]["count"], &listener["reads"]["bytes"]), (&1.into(), &5.into()));
    assert_eq!((&listener["writes"]["count"], &listener["writes"]["bytes"]), (&1.into(), &2.into()));
    assert_eq!(listener["connections"]["open"], 1);
    let thread = &listener["threads"][0];
    assert_eq!((&thread["tid"], &thread["accept_share"], &thread["accepts"]), (&tid().into(), &1.0.into(), &1.into()));
    drop((client, connection, waiting));
}

fn filters(lab: &Lab) {
    let listeners = [listen(PORT, 4), listen(PORT + 1, 4)];
    let pid = std::process::id();
    let comm = fs::read_to_string("/proc/self/comm").expect("our name");
    let here = format!("--netns {}", lab.netns);
    for (filter, ports) in [
        (here.clone(), vec![PORT, PORT + 1]),
        (format!("{here} --port {PORT}"), vec![PORT]),
        (format!("{here} --port {PORT} --port {}", PORT + 1), vec![PORT, PORT + 1]),
        (format!("{here} --port 1"), vec![]),
        (format!("{here} --pid {pid}"), vec![PORT, PORT + 1]),
        (format!("{here} --pid 1"), vec![]),
        (format!("{here} --comm {}", comm.trim_end()), vec![PORT, PORT + 1]),
        (format!("{here} --comm nobody"), vec![]),
    ] {
        let output = run(&format!("report --for 100ms --format json {filter}"));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found: Vec<u64> = report["listeners"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|listener| listener["port"].as_u64().expect("a port"))
            .collect();
        assert_eq!(found, ports.into_iter().map(u64::from).collect::<Vec<_>>(), "{filter}");
    }
    drop(listeners);
}

/// `--pid` finds the listener of another process if the process serves a connection of it, and a listener that it
/// holds together with others. For a process that does neither it finds none.
fn filter_by_worker(lab: &Lab) {
    let listener = listen(PORT, 4);
    let others = listen(PORT + 1, 4);
    let client = connect(PORT);
    let connection = accept(&listener).expect("a connection");
    let worker = process::fork(|| {
        process::close_inherited_but(connection.as_fd());
        loop {
            // Probes on functions do not observe a read that began before the start.
            readable(&connection);
            receive(&connection, 5);
            send_all(&connection, b"hi");
        }
    });
    let idle = process::fork(|| {
        process::close_inherited();
        process::wait_for_ever();
    });
    let holder = process::fork(|| {
        process::close_inherited_but(others.as_fd());
        process::wait_for_ever();
    });
    let wanted =
        [(worker.pid(), vec![u64::from(PORT)]), (holder.pid(), vec![u64::from(PORT + 1)]), (idle.pid(), vec![])];
    for (pid, ports) in wanted {
        let measuring = Measuring::start(&format!("report --for 1h --format json --netns {} --pid {pid}", lab.netns));
        send_all(&client, b"hello");
        receive(&client, 2);
        sleep_ms(100);
        measuring.signal(Signal::SIGINT);
        let ended = measuring.end();
        let report: Value = serde_json::from_str(&ended.stdout).expect("a whole report");
        let listeners = report["listeners"].as_array().expect("a list");
        let found: Vec<u64> = listeners.iter().filter_map(|listener| listener["port"].as_u64()).collect();
        assert_eq!(found, ports, "{}", ended.stderr);
        if let Some(listener) = listeners.first() {
            assert_eq!(listener["process"]["pid"], std::process::id());
        }
        if pid == worker.pid() {
            let listener = &listeners[0];
            assert_eq!((&listener["threads"][0]["pid"], &listener["reads"]["count"]), (&pid.into(), &1.into()));
        }
    }
    drop((listener, others, connection));
}

fn signals(lab: &Lab) {
    let listener = listen(PORT, 4);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let measuring = Measuring::start(&format!("report --for 1h --format json --netns {}", lab.netns));
        let client = connect(PORT);
        drop(accept(&listener));
        sleep_ms(300);
        measuring.signal(signal);
        let ended = measuring.end();
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{signal}");
        let report: Value = serde_json::from_str(&ended.stdout).expect("a whole report");
        assert_eq!(report["listeners"][0]["accepts"]["total"], 1);
        let seconds = report["interval"]["seconds"].as_f64().expect("a number");
        assert!((0.3..60.0).contains(&seconds), "{seconds}");
        drop(client);
    }
}

/// Under nohup(1) a report goes on when the terminal goes away.
fn ignored_hangup(lab: &Lab) {
    let listener = listen(PORT, 4);
    let mut command = listentop(&format!("report --for 1h --format json --netns {}", lab.netns));
    let ignore = || {
        // SAFETY: no code of ours runs when the signal is ignored.
        unsafe { nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
        Ok(())
    };
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(ignore) };
    let measuring = Measuring::spawn(command);
    measuring.signal(Signal::SIGHUP);
    sleep_ms(500);
    let client = connect(PORT);
    drop(accept(&listener));
    let report = measuring.report();
    assert_eq!(report["listeners"][0]["accepts"]["total"], 1, "it ended before");
    drop(client);
}

/// A report that nobody reads can be ended: it waits for its reader, but is not deaf.
fn unread_report(lab: &Lab) {
    // More than a pipe holds.
    let listeners: Vec<Socket> = (0..100).map(|n| listen(PORT + n, 4)).collect();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut child = listentop(&format!("report --for 300ms --format json --netns {}", lab.netns))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("listentop starts");
        let pid = Pid::from_raw(child.id() as i32);
        let waits = || fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("1 0x1 "));
        wait_until("it writes, and nobody reads", waits);
        kill(pid, signal).expect("it runs");
        wait_until("it ends", || child.try_wait().expect("our child").is_some());
        let status = child.wait().expect("our child");
        assert_eq!(status.signal(), Some(signal as i32), "{status:?}");
    }
    drop(listeners);
}

/// The report names what did not fit a table, and the option that makes the table larger.
fn small_tables(_: &Lab) {
    // The loss by its name in the JSON; the options; the text in the table.
    for (lost, options, remedy) in [
        ("connections", "--max-connections 16", "connections (raise --max-connections)"),
        ("threads", "--max-threads 1", "calls of threads (raise --max-threads)"),
        ("listeners", "--max-listeners 2", "listeners (raise --max-listeners)"),
    ] {
        for format in ["json", "table"] {
            let servers: Vec<Socket> = (0..3).map(|n| listen(PORT + n, 128)).collect();
            let measuring = Measuring::start(&format!("report --for 700ms --format {format} {options}"));
            // 100 connections at a time. One thread accepts, another one reads.
            let clients: Vec<Socket> = (0..100).map(|_| connect(PORT)).collect();
            clients.iter().for_each(|client| send_all(client, b"hello"));
            let accepted: Vec<Socket> = clients.iter().map(|_| accept(&servers[0]).expect("a connection")).collect();
            thread::scope(|scope| {
                scope.spawn(|| accepted.iter().for_each(|server| assert_eq!(receive(server, 10), 5)));
            });
            let ended = measuring.end();
            assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""));
            if format == "table" {
                assert!(ended.stdout.contains(remedy), "{options}: {}", ended.stdout);
                continue;
            }
            let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
            let own_cost = &report["own_cost"];
            let count = own_cost["lost"][lost].as_u64();
            assert!(count > Some(0) && own_cost["lost_events"].as_u64() >= count, "{options}: {own_cost}");
        }
    }
    let help = String::from_utf8(run("report --help").stdout).expect("text");
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("tracked from their accept on"), "{help}");
}

/// As many as listentop takes are fewer than it asks for at its start.
fn descriptors(lab: &Lab) {
    let listener = listen(PORT, 4);
    let measuring = Measuring::start(&format!("report --for 1h --log-probes --netns {}", lab.netns));
    let open = fs::read_dir(format!("/proc/{}/fd", measuring.pid())).expect("it runs").count();
    measuring.signal(Signal::SIGTERM);
    measuring.end();
    // Some more are open while it starts: programs that only the start needs.
    assert!((20..108).contains(&open), "{open}");
    drop(listener);
}

/// The ids of the BPF programs, links or maps that a process holds, from /proc/PID/fdinfo.
pub(crate) fn held(pid: u32, field: &str) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    descriptors
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.ok()?.path()).ok()?;
            text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
        })
        .collect()
}

/// The ids of all BPF programs and maps in the kernel.
pub(crate) fn loaded() -> (BTreeSet<u32>, BTreeSet<u32>) {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok).map(|program| program.id());
    let maps = aya::maps::loaded_maps().filter_map(Result::ok).map(|map| map.id());
    (programs.collect(), maps.collect())
}

/// However listentop ends, the kernel removes its programs and maps.
fn nothing_stays(_: &Lab) {
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGABRT] {
        let measuring = Measuring::start("report --for 1h");
        let (programs, maps) = (held(measuring.pid(), "prog_id:"), held(measuring.pid(), "map_id:"));
        let now = loaded();
        assert!(programs.len() > 5 && programs.is_subset(&now.0), "{programs:?}");
        assert!(maps.len() > 3 && maps.is_subset(&now.1), "{maps:?}");
        measuring.signal(signal);
        measuring.end();
        wait_until("the kernel removes programs and maps", || {
            let now = loaded();
            now.0.is_disjoint(&programs) && now.1.is_disjoint(&maps)
        });
    }
}
