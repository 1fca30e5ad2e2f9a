//! Failures around listentop. None of them affects traffic.

use std::{
    ffi::CString,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};
use serde_json::Value;
use socket2::Socket;

use crate::command_line::{assert_refused, held, loaded};
use test_support::{
    Lab, Test, Watch,
    command::{Measuring, listentop},
    environment::slowness,
    lab::PORT,
    sleep_ms,
    sockets::{accept, attempt, connect, listen, receive, send_all},
    wait_until,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::OpenConnections];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "failures::btf_that_cannot_be_read", needs: &[], run: unreadable_btf },
    Test { name: "failures::fallback_without_btf", needs: &[], run: fallback_without_btf },
    Test { name: "failures::two_at_once", needs: NEEDS, run: two_at_once },
    Test { name: "failures::killed_under_load", needs: NEEDS, run: killed_under_load },
];

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// A file with this content, deleted when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("listentop-test-{}", std::process::id()));
        fs::File::create(&path).and_then(|mut file| file.write_all(content)).expect("a scratch file");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A report by listentop in a mount namespace of its own, where `what` is mounted over `over`.
fn report_behind_mount(what: &str, over: &str, arguments: &str) -> Output {
    let text = |text: &str| CString::new(text).expect("no zero in it");
    let (what, over, root) = (text(what), text(over), text("/"));
    let mut command = listentop(arguments);
    // SAFETY: between fork and exec there are only system calls on memory that was allocated before.
    unsafe {
        command.pre_exec(move || {
            let none: Option<&std::ffi::CStr> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, root.as_c_str(), none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            if what.is_empty() {
                mount(none, over.as_c_str(), Some(c"tmpfs"), MsFlags::empty(), none)?;
            } else {
                mount(Some(what.as_c_str()), over.as_c_str(), none, MsFlags::MS_BIND, none)?;
            }
            Ok(())
        });
    }
    command.output().expect("listentop runs")
}

/// listentop distinguishes the reasons why the kernel's types (BTF) cannot be read, and names a remedy for each.
fn unreadable_btf(_: &Lab) {
    let whole = fs::read(VMLINUX).expect("the tests run where it is");
    let report = "report --probes tracepoint --for 200ms";
    let line = assert_refused(&report_behind_mount("", "/sys/kernel/btf", report), 3);
    assert!(line.contains(VMLINUX) && line.contains("CONFIG_DEBUG_INFO_BTF"), "{line}");
    let line = assert_refused(&report_behind_mount("/dev/zero", VMLINUX, report), 3);
    assert!(line.contains("not a regular file") && line.contains("mounted over it"), "{line}");
    for (content, expected) in [
        (&b""[..], "the file is empty"),
        (&whole[..whole.len() / 2], "a section lies outside the file"),
        (&whole[..20], "the header is cut off"),
        (b"these are not the types that you look for", "the magic number is wrong"),
    ] {
        let file = Scratch::new(content);
        let line = assert_refused(&report_behind_mount(&file.0.display().to_string(), VMLINUX, report), 3);
        assert!(line.contains(expected) && line.contains("mounted over it"), "{line}");
    }
}

/// Without `--probes` and without BTF, listentop measures what needs no probes, and reports why the rest is missing.
fn fallback_without_btf(_: &Lab) {
    let file = Scratch::new(b"");
    let path = file.0.display().to_string();
    let output = report_behind_mount(&path, VMLINUX, "report --probes auto --for 300ms --format json");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines.len() == 2 && lines[1] == "measuring", "{stderr}");
    assert!(lines[0].contains("sock_diag") && lines[0].contains("the file is empty"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a whole report");
    let coverage = report["coverage"].as_array().expect("a list");
    for (measure, status) in
        [("accept_queue_depth", "sampled"), ("accept_wait", "unavailable"), ("reads", "unavailable")]
    {
        let entry = coverage.iter().find(|entry| entry["measure"] == measure).expect("every measure is listed");
        assert_eq!(entry["status"], status, "{entry}");
        let reason = entry["reason"].as_str().expect("a reason");
        assert!(status == "sampled" || reason.contains("mounted over it"), "{entry}");
    }
}

/// A connection, a request, its answer, and the end, `n` times.
fn exchange(listener: &Socket, n: u64) {
    for _ in 0..n {
        let client = connect(PORT);
        let server = accept(listener).expect("a connection");
        send_all(&client, b"hello");
        assert_eq!(receive(&server, 10), 5);
    }
}

/// Accepts and reads of the only listener in a report.
fn counted(report: &str) -> (u64, u64) {
    let report: Value = serde_json::from_str(report).expect("a whole report");
    let listener = &report["listeners"][0];
    let number = |value: &Value| value.as_u64().expect("it is measured");
    (number(&listener["accepts"]["total"]), number(&listener["reads"]["count"]))
}

/// Each listentop sees all that happens while it runs, while others start and end.
fn two_at_once(lab: &Lab) {
    let round = 500 / u64::from(slowness());
    let listener = listen(PORT, 16);
    let report = format!("report --for 1h --format json --netns {}", lab.netns);
    let mut watch = Watch::start(lab);
    exchange(&listener, round);
    let first = Measuring::start(&report);
    exchange(&listener, round);
    let second = Measuring::start(&report);
    exchange(&listener, round);
    first.signal(Signal::SIGINT);
    assert_eq!(counted(&first.end().stdout), (2 * round, 2 * round), "the first report");
    exchange(&listener, round);
    watch.sample_until("all connections are gone", |watch| watch.listener(PORT).now.open == Some(0));
    let seen = watch.listener(PORT);
    let all = 4 * round;
    assert_eq!((seen.total.enqueued, seen.total.accepts, seen.total.reads), (Some(all), Some(all), Some(all)));
    drop(watch);
    exchange(&listener, round);
    second.signal(Signal::SIGINT);
    assert_eq!(counted(&second.end().stdout), (3 * round, 3 * round), "the second report");
}

/// The service that clients got.
struct Service {
    exchanges: u64,
    longest: Duration,
}

/// Makes exchanges one after the other until `done`. If one fails the test fails.
fn clients(done: &AtomicBool) -> Service {
    let mut service = Service { exchanges: 0, longest: Duration::ZERO };
    let mut last = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let client = connect(PORT);
        send_all(&client, b"hello");
        assert_eq!(receive(&client, 10), 2, "the answer");
        service.exchanges += 1;
        service.longest = service.longest.max(last.elapsed());
        last = Instant::now();
    }
    service
}

/// When listentop is killed the kernel detaches the probes. Clients do not notice it.
fn killed_under_load(lab: &Lab) {
    // No exchange takes longer, even on a busy machine. A lost packet would delay it by a second.
    let patience = Duration::from_millis(900) * slowness();
    let listener = &listen(PORT, 64);
    let (done, served) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let before = lab.counters();
    let service = thread::scope(|scope| {
        let server = scope.spawn(move || {
            let mut served_connections = 0_u64;
            loop {
                let connection = accept(listener).expect("a connection");
                // The last connection only ends this loop.
                if served.load(Ordering::Relaxed) {
                    return served_connections;
                }
                assert_eq!(receive(&connection, 10), 5, "the request");
                send_all(&connection, b"ok");
                served_connections += 1;
            }
        });
        let load = scope.spawn(|| clients(done));
        // A start takes half a minute on an emulated machine.
        for _ in 0..if slowness() == 1 { 3 } else { 1 } {
            let (all_programs, all_maps) = loaded();
            let measuring = Measuring::start(&format!("report --for 1h --netns {}", lab.netns));
            let (programs, maps) = (held(measuring.pid(), "prog_id:"), held(measuring.pid(), "map_id:"));
            assert!(programs.len() > 5 && programs.is_disjoint(&all_programs), "{programs:?}");
            assert!(maps.len() > 3 && maps.is_disjoint(&all_maps), "{maps:?}");
            sleep_ms(200);
            measuring.signal(Signal::SIGKILL);
            measuring.end();
            wait_until("the kernel lets programs and maps go", || {
                let now = loaded();
                now.0.is_disjoint(&programs) && now.1.is_disjoint(&maps)
            });
            sleep_ms(100);
        }
        done.store(true, Ordering::Relaxed);
        let service = load.join().expect("no exchange fails");
        served.store(true, Ordering::Relaxed);
        // The server resets it at once, perhaps before the client knows that it is connected.
        let _last = attempt(PORT);
        assert_eq!(server.join().expect("the server does not fail"), service.exchanges);
        service
    });
    assert!(
        service.exchanges > 1000 / u64::from(slowness()),
        "the load was too small: {} exchanges",
        service.exchanges
    );
    assert!(service.longest < patience, "an exchange took {:?}", service.longest);
    let after = lab.counters();
    for counter in ["ListenDrops", "ListenOverflows", "TCPTimeouts", "TCPLostRetransmit"] {
        assert_eq!(after.since(&before, counter), 0, "{counter}");
    }
}
