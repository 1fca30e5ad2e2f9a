//! `record`, `events`, and reports on recordings, by the probes of the running kernel.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use listentop_model::coverage::Measure;
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::listentop,
    lab::PORT,
    sleep_ms,
    sockets::{accept, connect, listen},
    wait_until,
};

use crate::command_line::assert_refused;

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "recordings::a_recording_has_what_happened", needs: NEEDS, run: has_what_happened },
    Test { name: "recordings::sigkill_leaves_a_whole_recording", needs: &[], run: sigkill },
    Test { name: "recordings::a_ring_is_continued", needs: &[], run: ring },
    Test { name: "recordings::a_full_disk_ends_it_in_one_line", needs: &[], run: full_disk },
    Test { name: "recordings::a_size_ends_it", needs: &[], run: size },
    Test { name: "recordings::mistakes", needs: &[], run: mistakes },
    Test { name: "recordings::events_end_when_nobody_reads_them", needs: &[], run: unread_events },
    Test { name: "recordings::events_are_seen_live", needs: NEEDS, run: live_events },
];

/// A folder of this test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("listentop-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &str) -> Output {
    listentop(arguments).output().expect("listentop runs")
}

fn json(arguments: &str) -> Value {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// A recorder that has written its first sample.
struct Recorder(Child, BufReader<std::process::ChildStderr>);

impl Recorder {
    fn start(arguments: &str) -> Self {
        let mut child = listentop(arguments).stderr(Stdio::piped()).spawn().expect("listentop starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        let recorder = Self(child, stderr);
        assert!(line.starts_with("recording to "), "{line}");
        recorder
    }

    /// Ends it, and returns its exit status and what it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("it runs");
        let status = self.0.wait().expect("our child");
        let said = (&mut self.1).lines().map_while(Result::ok).collect();
        (status.code(), said)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has_what_happened(lab: &Lab) {
    let place = Place::new("recorded");
    let file = place.path("one.rec");
    let listener = listen(PORT, 16);
    let recorder = Recorder::start(&format!("record {file} --every 100ms"));
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds what others need not know");
    let clients: Vec<_> = (0..5).map(|_| connect(PORT)).collect();
    let accepted: Vec<_> = (0..3).map(|_| accept(&listener)).collect();
    sleep_ms(500);
    // It is read while it is written.
    let filter = format!("--netns {}", lab.netns);
    let meanwhile = json(&format!("report --from {file} --format json {filter}"));
    assert_eq!(meanwhile["listeners"][0]["accept_queue"]["enqueued"], 5, "{meanwhile:#}");
    drop(listener);
    sleep_ms(500);
    let (code, said) = recorder.end(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    assert!(said.len() == 1 && said[0].contains(" samples recorded, "), "{said:?}");

    let report = json(&format!("report --from {file} --format json {filter}"));
    let found = &report["listeners"][0];
    assert_eq!((&found["port"], &found["closed"]), (&PORT.into(), &true.into()));
    assert_eq!((&found["accepts"]["total"], &found["accept_queue"]["aborted"]), (&3.into(), &2.into()), "{found:#}");
    let events = run(&format!("events --from {file} --format json {filter}"));
    let lines = String::from_utf8(events.stdout).expect("text");
    let closed = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let closed: Vec<_> = closed.filter(|event| event["event"] == "listener_closed").collect();
    assert_eq!((closed.len(), &closed[0]["listener"]["port"]), (1, &PORT.into()), "{lines}");
    // In the last part it was closed already.
    let late = run(&format!("report --from {file} --since -200ms {filter}"));
    assert_eq!(late.status.code(), Some(5), "{}", String::from_utf8_lossy(&late.stderr));
    let page = run(&format!("report --from {file} --format html {filter}"));
    assert!(String::from_utf8(page.stdout).expect("text").starts_with("<!doctype html>"));
    drop((clients, accepted));
}

fn sigkill(_: &Lab) {
    let place = Place::new("killed");
    let file = place.path("one.rec");
    let _listener = listen(PORT, 16);
    let recorder = Recorder::start(&format!("record {file} --every 50ms"));
    sleep_ms(600);
    let (code, said) = recorder.end(Signal::SIGKILL);
    assert_eq!((code, said.len()), (None, 0));
    let report = json(&format!("report --from {file} --format json"));
    let seconds = report["interval"]["seconds"].as_f64().expect("a number");
    assert!((0.3..2.0).contains(&seconds), "{seconds}");
}

fn ring(_: &Lab) {
    let place = Place::new("ring");
    let folder = place.path("ring");
    let arguments = format!("record {folder} --ring 1h --freeze-on critical --every 100ms");
    let recorder = Recorder::start(&arguments);
    let second = assert_refused(&run(&arguments), 1);
    assert!(second.contains("another listentop is recording into it"), "{second}");
    sleep_ms(400);
    assert_eq!(recorder.end(Signal::SIGINT).0, Some(0));
    let (code, said) = Recorder::start(&arguments).end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said:?}");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
    let output = run(&format!("report --from {folder}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("2 measurements; this is the last"), "{said}");
}

fn full_disk(_: &Lab) {
    let place = Place::new("full");
    let disk = place.path("disk");
    fs::create_dir(&disk).expect("a folder");
    // Only this test's thread and its children see it.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("nothing reaches the outside");
    mount(Some("tmpfs"), &*disk, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("a small file system");
    fs::write(Path::new(&disk).join("other"), vec![1; 36 << 10]).expect("there is room for that");
    let file = format!("{disk}/one.rec");
    let output = run(&format!("record {file} --every 50ms --for 60s"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(lines.iter().filter(|line| line.contains("the disk is full: the recording ends")).count() == 1, "{stderr}");
    if lines[0].starts_with("recording to ") {
        assert!(run(&format!("report --from {file}")).status.success());
    }
    umount(&*disk).expect("it is ours");
}

fn size(_: &Lab) {
    let place = Place::new("size");
    let file = place.path("one.rec");
    // A sample in which nothing has changed takes next to nothing.
    let listeners: Vec<Socket> = (0..30).map(|n| listen(PORT + n, 16)).collect();
    let done = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (listener, port) in listeners.iter().zip(PORT..) {
                    let client = connect(port);
                    drop(accept(listener).expect("a connection"));
                    drop(client);
                }
                sleep_ms(20);
            }
        });
        let output = run(&format!("record {file} --every 50ms --for 120s --max-size 64K"));
        done.store(true, Ordering::Relaxed);
        output
    });
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("it is as large as --max-size allows"), "{stderr}");
    assert!(fs::metadata(&file).expect("it is there").len() <= 64 << 10);
    assert!(run(&format!("report --from {file}")).status.success());
}

fn mistakes(_: &Lab) {
    let place = Place::new("mistakes");
    let (there, text) = (place.path("there"), place.path("text"));
    fs::write(&there, "mine").expect("it is written");
    fs::write(&text, "no recording").expect("it is written");
    for (arguments, code, named) in [
        (format!("record {there}"), 1, "Nothing is overwritten"),
        (format!("record {}", place.path("none/x")), 1, "No such file"),
        (format!("record {} --freeze-on critical", place.path("x")), 2, "--freeze-on is for --ring"),
        (format!("record {} --ring 5s", place.path("x")), 2, "at least a minute"),
        (format!("record {} --port 80", place.path("x")), 2, "--port 80 is not for 'record'"),
        ("record".to_owned(), 2, "<FILE>"),
        (format!("report --from {text}"), 1, "not a recording"),
        (format!("report --from {}", place.path("none")), 1, "No such file"),
        ("report --at 03:12".to_owned(), 2, "are for --from"),
        ("events --since 03:12".to_owned(), 2, "are for --from"),
        ("report --from x --at noon".to_owned(), 2, "a moment is expected"),
    ] {
        let line = assert_refused(&run(&arguments), code);
        assert!(line.contains(named), "{arguments}: {line}");
    }
    assert_eq!(fs::read_to_string(&there).expect("it is there"), "mine");
}

/// Nothing happens, so nothing is written that would show that the pipe is closed.
fn unread_events(_: &Lab) {
    let mut child =
        listentop("events --port 1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(line, "measuring\n");
    drop(child.stdout.take());
    let mut status = None;
    wait_until("events end", || {
        status = child.try_wait().expect("our child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(141));
}

fn live_events(lab: &Lab) {
    let place = Place::new("events");
    let path = place.path("events.txt");
    let arguments = format!("events --netns {} --for 20s", lab.netns);
    let out = File::create(&path).expect("a file");
    let mut child = listentop(&arguments).stdout(out).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("text");
    assert_eq!(line, "measuring\n");
    let listener = listen(PORT, 1);
    sleep_ms(600);
    drop(listener);
    sleep_ms(600);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("our child").code(), Some(0));
    let text = fs::read_to_string(&path).expect("it is there");
    let happened: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(happened, ["opened", "closed"], "{text}");
    assert!(text.lines().all(|line| line.contains(&format!(":{PORT} "))), "{text}");
}
