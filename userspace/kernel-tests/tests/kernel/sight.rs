//! Servers and listentop in namespaces of their own: who is who is known where it can be seen. Where it cannot,
//! coverage says so, and nothing that lives is taken for ended.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
};

use caps::{CapSet, Capability, CapsHashSet};
use io_uring::{opcode, types};
use listentop_model::{
    coverage::Measure,
    model::{ListenerModel, WaitKind},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{Gid, Pid, Uid, pipe2, setgid, setgroups, setuid},
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    command::{Measuring, NOBODY, coverage, listentop},
    lab::PORT,
    process::{Forked, Gate, close_inherited, fork, server},
    ring::{complete, push, ring},
    skip, sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    wait_until,
};

const NEEDS: &[Measure] =
    &[Measure::Accepts, Measure::Reads, Measure::Writes, Measure::Owners, Measure::ThreadTimes, Measure::AcceptWait];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "sight::server_in_a_time_namespace", needs: NEEDS, run: server_in_a_time_namespace },
    Test { name: "sight::listentop_in_a_time_namespace", needs: NEEDS, run: listentop_in_a_time_namespace },
    Test { name: "sight::servers_in_pid_namespaces", needs: NEEDS, run: servers_in_pid_namespaces },
    Test { name: "sight::listentop_in_a_pid_namespace", needs: NEEDS, run: listentop_in_a_pid_namespace },
    Test { name: "sight::where_proc_hides_processes", needs: NEEDS, run: hidden_processes },
    Test { name: "sight::held_by_an_io_uring_only", needs: NEEDS, run: held_by_a_ring },
];

/// Rounds of one request to each server. They take longer than a second: so often /proc is read.
const ROUNDS: u64 = 12;
/// An unprivileged user other than [`NOBODY`].
const SOMEBODY: u32 = 54_321;

/// Serves one client after the other.
fn serve(listener: &Socket) -> ! {
    loop {
        let client = accept(listener).expect("a connection");
        if receive(&client, 10) > 0 {
            send_all(&client, b"x");
        }
    }
}

fn ask(port: u16) {
    let client = connect(port);
    send_all(&client, b"hello");
    assert_eq!(receive(&client, 10), 1);
}

fn ask_all(ports: &[u16]) {
    for _ in 0..ROUNDS {
        ports.iter().copied().for_each(ask);
        sleep_ms(130);
    }
}

/// Where `CLONE_NEWTIME` is missing there are no time namespaces (Linux 5.6, CONFIG_TIME_NS).
fn has_time_namespaces() {
    if !Path::new("/proc/self/ns/time").exists() {
        skip("the kernel has no time namespaces (CONFIG_TIME_NS)");
    }
}

/// The children of the calling process will be in a time namespace whose clocks are days ahead.
fn leave_our_time() {
    // SAFETY: takes a number only. No other thread of this process uses the namespace.
    let result = unsafe { libc::unshare(libc::CLONE_NEWTIME) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    fs::write("/proc/self/timens_offsets", "monotonic 1000000 0\nboottime 2000000 0\n").expect("nobody is in it yet");
}

fn leave_our_pids() {
    unshare(CloneFlags::CLONE_NEWPID).expect("a PID namespace");
}

/// A process in namespaces of its own, that `leave` makes for the children of the one that calls it.
struct Inside {
    /// The one that has left, and waits for the other.
    _outer: Forked,
    /// Its id here.
    pid: u32,
}

impl Inside {
    fn start(leave: fn(), work: impl FnOnce()) -> Self {
        let pid = Gate::new();
        let outer = fork(|| {
            leave();
            let inner = fork(work);
            pid.send(inner.pid().into());
            let _ = waitpid(Pid::from_raw(inner.pid() as i32), None);
        });
        let pid = pid.receive() as u32;
        Self { _outer: outer, pid }
    }

    /// A server, that holds nothing but its listener.
    fn server(leave: fn(), port: u16) -> Self {
        Self::start(leave, || {
            close_inherited();
            serve(&listen(port, 16));
        })
    }
}

/// `listentop report` on the test's network namespace, in other namespaces. It ends at the gate.
struct Report {
    text: File,
    end: Gate,
    inside: Inside,
}

impl Report {
    /// `enter` is called by a process in the namespaces, before listentop starts there.
    fn start(lab: &Lab, leave: fn(), enter: impl FnOnce()) -> Self {
        let (text, out): (OwnedFd, OwnedFd) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let (measures, end) = (Gate::new(), Gate::new());
        let inside = Inside::start(leave, || {
            enter();
            let measuring = Measuring::start(&format!("report --for 1h --format json --netns {}", lab.netns));
            measures.open(1);
            end.pass();
            let report = measuring.report().to_string();
            let written = File::from(out.try_clone().expect("a descriptor")).write_all(report.as_bytes());
            written.expect("it is read");
        });
        measures.pass();
        Self { text: text.into(), end, inside }
    }

    fn end(self) -> Value {
        self.end.open(1);
        let mut text = String::new();
        // Its length is not known; the other end of the pipe is open here too, so its end is not seen.
        let mut report = self.text;
        let mut part = [0; 4096];
        loop {
            let read = report.read(&mut part).expect("a report");
            text.push_str(std::str::from_utf8(&part[..read]).expect("ASCII"));
            if let Ok(value) = serde_json::from_str(&text) {
                drop(self.inside);
                return value;
            }
            assert!(read > 0, "it ended early: {text}");
        }
    }
}

/// The report's listener on a port.
fn on_port(report: &Value, port: u16) -> &Value {
    let listeners = report["listeners"].as_array().expect("a list");
    listeners.iter().find(|listener| listener["port"] == port).expect("it is seen")
}

/// Its only thread, which has done all of its work and lives.
fn only_thread(listener: &Value) -> &Value {
    let threads = listener["threads"].as_array().expect("a list");
    assert_eq!(threads.len(), 1, "{threads:#?}");
    let thread = &threads[0];
    assert_eq!((&thread["ended"], &listener["accepts"]["total"]), (&false.into(), &ROUNDS.into()), "{listener:#}");
    for (of_thread, of_listener) in [("accepts", "accepts"), ("reads", "reads"), ("writes", "writes")] {
        let all = &listener[of_listener];
        let all = if of_listener == "accepts" { &all["total"] } else { &all["count"] };
        assert_eq!(&thread[of_thread], all, "{of_thread}");
    }
    thread
}

/// Its only thread, which has done all of its work and lives, in this process; and /proc tells of its times.
fn is_served_by(seen: &ListenerModel, pid: u32) {
    assert_eq!((seen.process.as_ref().map(|process| process.pid), &seen.holders[..]), (Some(pid), &[pid][..]));
    assert_eq!(seen.total.accepts, Some(ROUNDS));
    let [thread] = &seen.threads[..] else { panic!("one thread: {:#?}", seen.threads) };
    assert_eq!((thread.pid, thread.tid, thread.ended), (pid, pid, false));
    assert_eq!((Some(thread.accepts), Some(thread.reads)), (seen.total.accepts, seen.total.reads));
    assert!(thread.on_cpu_us.is_some(), "it is known by its id and its start");
}

/// Its clocks are days ahead of the kernel's. /proc shows start times by the reader's clock.
fn server_in_a_time_namespace(lab: &Lab) {
    has_time_namespaces();
    let mut watch = Watch::start(lab);
    let child = Inside::server(leave_our_time, PORT);
    watch.sample_until("its process is known", |watch| {
        !watch.listeners(PORT).is_empty() && owner(watch, PORT).is_some()
    });
    watch.during(|| ask_all(&[PORT]));
    watch.sample();
    let seen = watch.listener(PORT);
    is_served_by(seen, child.pid);
    let waits = seen.distributions.accept_wait.as_ref().expect("it is measured");
    assert_eq!(waits.count(), ROUNDS);
    assert!(waits.quantile_ns(1.0) < Some(60_000_000_000), "by one clock");
}

fn owner(watch: &Watch, port: u16) -> Option<u32> {
    Some(watch.listeners(port).first()?.process.as_ref()?.pid)
}

/// listentop's own clocks are days ahead of those of its probes.
fn listentop_in_a_time_namespace(lab: &Lab) {
    has_time_namespaces();
    let child = server(PORT, 16, |listener| serve(&listener));
    let idle = listen(PORT + 1, 16);
    let waiting = connect(PORT + 1);
    let report = Report::start(lab, leave_our_time, || ());
    ask_all(&[PORT]);
    let report = report.end();
    let seen = on_port(&report, PORT);
    let thread = only_thread(seen);
    assert_eq!((&thread["pid"], &seen["process"]["pid"]), (&child.pid().into(), &child.pid().into()));
    assert!(thread["on_cpu_us"].is_u64(), "{thread:#}");
    let below_a_minute = |value: &Value| value.as_u64().is_some_and(|us| us < 60_000_000);
    assert!(below_a_minute(&seen["accept_queue"]["wait_us"]["max"]), "{seen:#}");
    let oldest = &on_port(&report, PORT + 1)["accept_queue"]["oldest_waiting_us"];
    assert!(below_a_minute(oldest) && oldest.as_u64() > Some(0), "{oldest}");
    assert_eq!(coverage(&report, "thread_times").0, "measured");
    drop((idle, waiting));
}

/// Two servers that are process 1 each, seen from outside.
fn servers_in_pid_namespaces(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let children = [PORT, PORT + 1].map(|port| Inside::server(leave_our_pids, port));
    let pids = [children[0].pid, children[1].pid];
    assert_ne!(pids[0], pids[1]);
    watch.sample_until("their processes are known", |watch| {
        [owner(watch, PORT), owner(watch, PORT + 1)] == pids.map(Some)
    });
    watch.during(|| ask_all(&[PORT, PORT + 1]));
    watch.sample_until("they wait", |watch| {
        let waits = |(port, pid): (u16, u32)| {
            let waiters = watch.listener(port).waiters.as_deref().unwrap_or_default();
            matches!(waiters, [one] if (one.pid, one.tid, one.how) == (pid, pid, WaitKind::Accept))
        };
        [(PORT, pids[0]), (PORT + 1, pids[1])].into_iter().all(waits)
    });
    for (port, pid) in [(PORT, pids[0]), (PORT + 1, pids[1])] {
        is_served_by(watch.listener(port), pid);
    }
    // One of them ends, and with it all processes of its namespace: the other one lives.
    let _ = kill(Pid::from_raw(pids[0] as i32), Signal::SIGKILL);
    watch.sample_until("it has closed", |watch| watch.listener(PORT).closed);
    watch.during(|| (0..ROUNDS).for_each(|_| ask(PORT + 1)));
    watch.sample_until("its work goes on", |watch| watch.listener(PORT + 1).total.accepts == Some(2 * ROUNDS));
    assert!(!watch.listener(PORT + 1).threads[0].ended);
    drop(children);
}

/// It sees what a server outside does, but not who that is.
fn listentop_in_a_pid_namespace(lab: &Lab) {
    let outside = server(PORT, 16, |listener| serve(&listener));
    let own_pid = Gate::new();
    let report = Report::start(lab, leave_our_pids, || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        private_mounts();
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).expect("a /proc of its own");
        let inside = server(PORT + 1, 16, |listener| serve(&listener));
        own_pid.send(inside.pid().into());
        wait_until("it listens", || connects(PORT + 1));
        std::mem::forget(inside);
    });
    let own_pid = own_pid.receive();
    ask_all(&[PORT, PORT + 1]);
    let report = report.end();
    let (seen, own) = (on_port(&report, PORT), on_port(&report, PORT + 1));
    let thread = only_thread(seen);
    assert_eq!((&thread["pid"], &thread["tid"], &thread["on_cpu_us"]), (&0.into(), &0.into(), &Value::Null));
    assert_eq!((&seen["process"], &seen["waiters"]), (&Value::Null, &Value::Null), "{seen:#}");
    let thread = only_thread(own);
    assert_eq!((&thread["pid"], &own["process"]["pid"]), (&own_pid.into(), &own_pid.into()), "{own:#}");
    assert!(thread["on_cpu_us"].is_u64(), "{thread:#}");
    for measure in ["owners", "thread_times", "waiters", "descriptors"] {
        let (status, reason) = coverage(&report, measure);
        assert_eq!(status, "sampled", "{measure}: {reason}");
        assert!(reason.contains("outside this PID namespace are not known"), "{measure}: {reason}");
    }
    drop(outside);
}

/// A connection, before anybody measures.
fn connects(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn private_mounts() {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
}

/// The program as an unprivileged user with all capabilities but these.
fn measuring_without(lab: &Lab, missing: &'static [Capability]) -> Measuring {
    let mut command = listentop(&format!("report --for 1h --format json --netns {}", lab.netns));
    let become_nobody = move || {
        let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
        let kept: CapsHashSet = held.into_iter().filter(|capability| !missing.contains(capability)).collect();
        prctl::set_keepcaps(true)?;
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY))?;
        setuid(Uid::from_raw(NOBODY))?;
        for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
            caps::set(None, set, &kept).map_err(io::Error::other)?;
        }
        Ok(())
    };
    // SAFETY: it makes system calls and allocates, as every child of the tests does.
    unsafe { command.pre_exec(become_nobody) };
    Measuring::spawn(command)
}

/// With `hidepid=2` a process of another user is not in /proc. That it lives is known all the same.
fn hidden_processes(lab: &Lab) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    private_mounts();
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=2")).expect("a /proc of its own");
    let ready = Gate::new();
    let child = fork(|| {
        let listener = listen(PORT, 16);
        setgroups(&[]).expect("root may");
        setgid(Gid::from_raw(SOMEBODY)).expect("root may");
        setuid(Uid::from_raw(SOMEBODY)).expect("root may");
        // Another user's child does not keep it.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        ready.open(1);
        serve(&listener);
    });
    ready.pass();
    let hidden = measuring_without(lab, &[Capability::CAP_SYS_PTRACE, Capability::CAP_KILL]);
    let seeing = measuring_without(lab, &[]);
    ask_all(&[PORT]);
    let report = hidden.report();
    let seen = on_port(&report, PORT);
    let thread = only_thread(seen);
    assert_eq!((&thread["pid"], &thread["on_cpu_us"]), (&child.pid().into(), &Value::Null), "{thread:#}");
    assert_eq!((&seen["waiters"], &seen["descriptors"]), (&Value::Null, &Value::Null), "{seen:#}");
    for measure in ["owners", "thread_times", "waiters", "descriptors"] {
        let (status, reason) = coverage(&report, measure);
        assert_eq!(status, "sampled", "{measure}: {reason}");
        assert!(reason.contains("/proc hides their processes (hidepid); CAP_SYS_PTRACE would help"), "{reason}");
    }
    // The right to trace processes is that to see them.
    let report = seeing.report();
    let seen = on_port(&report, PORT);
    assert!(only_thread(seen)["on_cpu_us"].is_u64(), "{seen:#}");
    // The test holds the socket too: its other processes may.
    assert!(seen["process"]["pid"].is_u64(), "{seen:#}");
    assert_eq!(coverage(&report, "thread_times").0, "measured");
    assert!(!coverage(&report, "owners").1.contains("hidepid"));
}

/// The socket is in no process' descriptor table: only the ring's table of files has it.
fn held_by_a_ring(lab: &Lab) {
    // Skips the test where there are none.
    drop(ring());
    let mut watch = Watch::start(lab);
    let child = fork(|| {
        close_inherited();
        let listener = listen(PORT, 16);
        let mut ring = ring();
        ring.submitter().register_files(&[std::os::fd::AsRawFd::as_raw_fd(&listener)]).expect("a table of files");
        drop(listener);
        loop {
            let accept = opcode::Accept::new(types::Fixed(0), std::ptr::null_mut(), std::ptr::null_mut());
            push(&mut ring, &accept.build());
            let connection = complete(&mut ring).result();
            // SAFETY: the kernel has just given it to us.
            let client = Socket::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(connection) });
            if receive(&client, 10) > 0 {
                send_all(&client, b"x");
            }
        }
    });
    watch.sample_until("it listens", |watch| !watch.listeners(PORT).is_empty());
    watch.during(|| ask_all(&[PORT]));
    watch.sample_until("its process is known", |watch| owner(watch, PORT) == Some(child.pid()));
    is_served_by(watch.listener(PORT), child.pid());
    assert!(!watch.listener(PORT).closed);
    watch.sample_until("its ring waits", |watch| {
        let waiters = watch.listener(PORT).waiters.as_deref().unwrap_or_default();
        matches!(waiters, [one] if (one.pid, one.how) == (child.pid(), WaitKind::IoUring))
    });
}
