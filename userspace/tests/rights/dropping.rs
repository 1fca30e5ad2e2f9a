//! The capabilities that every thread keeps after the start, and that they are enough.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use caps::Capability::{CAP_BPF, CAP_DAC_READ_SEARCH, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG};

use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::{
    Test,
    screen::Screen,
    support::{
        ALL, Elsewhere, Measuring, Named, Program, Thread, coverage, enter_namespaces, listener, mask, namespace,
        netns, sleep_ms, threads,
    },
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "dropping::as_root", run: as_root },
    Test { name: "dropping::with_capabilities_alone", run: with_capabilities },
    Test { name: "dropping::without_probes", run: without_probes },
    Test { name: "dropping::where_proc_hides_processes", run: hidden_processes },
    Test { name: "dropping::under_the_dashboard", run: under_the_dashboard },
    Test { name: "dropping::what_changing_the_level_keeps", run: changing_the_level },
];

/// Time in which listentop must find a new listener and its owner. It searches for owners twice a second.
const FOUND_MS: u64 = 3000;

fn as_root() {
    let program = Program::copy("root");
    assert_timed(&enough(program.as_root("report --for 1h --format json"), Some(0)));
}

fn with_capabilities() {
    let program = Program::copy("capabilities");
    assert_timed(&enough(program.with(ALL, "report --for 1h --format json"), None));
}

/// Without probes listentop must enter each new namespace.
fn without_probes() {
    let program = Program::copy("without-probes");
    enough(program.as_root("report --for 1h --format json --probes sock_diag"), Some(0));
}

/// Checks that no thread has more capabilities than it needs. `bounding` is the expected bounding set, if it may be
/// changed; `sampling` are the capabilities of the threads that sample.
fn assert_dropped(pid: u32, bounding: Option<u64>, sampling: u64) {
    let threads = threads(pid);
    for thread in &threads {
        let allowed = match thread.name.as_str() {
            "owners" | "waiters" => mask(&[CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE]),
            "names" => mask(&[CAP_DAC_READ_SEARCH]),
            "blame" => mask(&[CAP_BPF, CAP_PERFMON, CAP_DAC_READ_SEARCH]),
            "symbols" | "unwinder" => mask(&[CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYSLOG]),
            "rights" => mask(&[CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN]),
            _ => sampling,
        };
        assert_eq!((thread.set("CapEff"), thread.set("CapPrm")), (allowed, allowed), "{thread:?}");
        assert_eq!((thread.set("CapInh"), thread.set("CapAmb")), (0, 0), "{thread:?}");
        assert!(thread.no_new_privs(), "{thread:?}");
        assert!(bounding.is_none_or(|bounding| thread.set("CapBnd") == bounding), "{thread:?}");
    }
    for name in ["listentop", "owners", "names", "waiters", "rights"] {
        assert!(threads.iter().any(|thread| thread.name == name), "{threads:?}");
    }
}

/// More time than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the program and checks its threads. It must also find later listeners, with owners and counters, in other
/// namespaces too.
fn enough(command: Command, bounding: Option<u64>) -> Value {
    enter_namespaces();
    let home = netns();
    let named = Named::create("without-a-process");
    let before = Elsewhere::open();
    let measuring = Measuring::spawn(command);
    assert_dropped(measuring.pid(), bounding, 0);
    let after = Elsewhere::open();
    sleep_ms(FOUND_MS);
    assert_dropped(measuring.pid(), bounding, 0);
    let report = measuring.report();
    assert_ne!(after.netns, home);
    for elsewhere in [&before, &after] {
        let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it is seen in its namespace");
        assert_eq!(found["process"]["pid"], elsewhere.pid(), "{found:#}");
        assert_eq!(found["process"]["comm"], "sleep");
        let counters = namespace(&report, elsewhere.netns).expect("it has a listener");
        assert_eq!(counters["listen_drops"], 0, "{counters:#}");
    }
    listener(&report, named.netns, named.port).expect("it is seen where no process is");
    let counters = namespace(&report, named.netns).expect("it has a listener");
    assert_eq!((&counters["name"], &counters["listen_drops"]), (&"without-a-process".into(), &0.into()));
    assert_ne!(coverage(&report, "owners").0, "unavailable", "{:?}", coverage(&report, "owners"));
    report
}

fn assert_timed(report: &Value) {
    assert_ne!(coverage(report, "probe_time").0, "unavailable", "{:?}", coverage(report, "probe_time"));
    assert!(report["own_cost"]["probe_runs"].is_u64());
}

/// With `hidepid` a thread of another user would look as if it had ended, so the capability to see it is kept.
fn hidden_processes() {
    enter_namespaces();
    let hide = Some("hidepid=2");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), hide).expect("a /proc of our own");
    let program = Program::copy("hidden");
    let arguments = "report --for 1h --format json";
    // Group 0 sees all processes even so (`gid=` of the mount).
    for (command, kept) in [(program.as_root(arguments), 0), (program.with(ALL, arguments), mask(&[CAP_SYS_PTRACE]))] {
        let elsewhere = Elsewhere::open();
        let measuring = Measuring::spawn(command);
        assert_dropped(measuring.pid(), None, kept);
        sleep_ms(FOUND_MS);
        let report = measuring.report();
        let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it is seen");
        assert_eq!(found["process"]["comm"], "sleep", "{found:#}");
    }
}

/// The dashboard has separate threads for sampling and drawing. Unless it never blames, two more keep what that takes.
/// No other may attach probes: a second filter of system calls is on it.
fn under_the_dashboard() {
    let number = |thread: &Thread| thread.field("Seccomp_filters").parse::<i64>().expect("a number");
    let own = number(&threads(std::process::id())[0]);
    let later = |threads: &[Thread]| {
        let filters = |name: &str| threads.iter().find(|it| it.name == name).map(|it| number(it) - own);
        ["listentop", "source", "rights", "blame", "symbols"].map(filters)
    };
    let with_blame = dashboard("top", later);
    assert_eq!(with_blame, [Some(2), Some(2), Some(2), Some(1), Some(1)]);
    assert_eq!(dashboard("top --blame-on never", later), [Some(1), Some(1), Some(1), None, None]);
}

/// Starts the dashboard, checks its threads, and looks at them.
fn dashboard<T>(arguments: &str, look: impl FnOnce(&[Thread]) -> T) -> T {
    let terminal =
        nix::pty::openpty(Some(&nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }), None);
    let terminal = terminal.expect("a pseudo-terminal");
    let program = Program::copy("dashboard");
    let mut command = program.as_root(arguments);
    command.stdin(terminal.slave.try_clone().expect("open"));
    command.stdout(Stdio::from(terminal.slave));
    let mut child = command.spawn().expect("it starts");
    // The command holds the terminal open too.
    drop(command);
    let mut screen = std::fs::File::from(terminal.master);
    // Its output must be read. This thread ends when the program ends.
    let reader = std::thread::spawn(move || io::copy(&mut screen, &mut io::sink()));
    let sampling = || threads(child.id()).iter().any(|thread| thread.name == "source");
    let begin = Instant::now();
    while !sampling() {
        assert!(begin.elapsed() < PATIENCE, "it does not sample");
        sleep_ms(20);
    }
    assert_dropped(child.id(), Some(0), 0);
    let seen = look(&threads(child.id()));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // The result is EIO, because the other side is closed.
    let _ = reader.join().expect("the reader does not fail");
    seen
}

/// Without CAP_SYS_ADMIN one thread of the dashboard keeps CAP_PERFMON for raising the level. A report keeps nothing
/// for that.
fn changing_the_level() {
    const RIGHTS: &[&str] = &["bpf", "perfmon", "dac_read_search"];
    let program = Program::copy("level");
    let kept = |pid: u32| {
        let threads = threads(pid);
        let rights = threads.iter().find(|thread| thread.name == "rights").expect("it is there").set("CapPrm");
        for thread in threads.iter().filter(|thread| thread.name != "rights") {
            let most = mask(&[CAP_DAC_READ_SEARCH]);
            assert_eq!(thread.set("CapPrm") & !most, 0, "{thread:?}");
        }
        rights
    };
    let measuring = Measuring::spawn(program.with(RIGHTS, "report --for 1h --format json"));
    assert_eq!(kept(measuring.pid()), mask(&[CAP_DAC_READ_SEARCH]));
    drop(measuring);

    let mut screen = Screen::of(program.with(RIGHTS, "top --measure queues --blame-on never"));
    screen.until("queues");
    screen.until("quit");
    assert_eq!(kept(screen.pid()), mask(&[CAP_DAC_READ_SEARCH, CAP_PERFMON]));
}
