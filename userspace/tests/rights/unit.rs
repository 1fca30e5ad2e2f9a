//! The systemd units in deploy/: the capabilities that they grant are enough, under those of their restrictions that
//! work without systemd.

use std::{fs, path::Path, process::Command};

use nix::{
    mount::{MsFlags, mount},
    sys::signal::Signal,
};
use test_support::command::NOBODY;

use crate::{
    Test,
    support::{ALL, Elsewhere, Measuring, Program, coverage, enter_namespaces, finished, listener, sleep_ms, threads},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "unit::its_capabilities_are_enough", run: enough },
    Test { name: "unit::the_exporter_has_no_more", run: exporter },
    Test { name: "unit::the_recorders_capabilities_are_enough", run: recorder },
    Test { name: "unit::the_recorder_is_restricted_as_the_report_is", run: restricted },
    Test { name: "unit::systemd_accepts_it", run: accepted },
];

const UNIT: &str = include_str!("../../../deploy/systemd/listentop-report.service");
const RECORDER: &str = include_str!("../../../deploy/systemd/listentop-recorder.service");

const SERVE_UNIT: &str = include_str!("../../../deploy/systemd/listentop-serve.service");

fn setting(name: &str) -> &'static str {
    setting_of(UNIT, name)
}

fn setting_of(unit: &'static str, name: &str) -> &'static str {
    let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit sets {name}"))
}

fn enough() {
    assert_eq!(setting("AmbientCapabilities"), setting("CapabilityBoundingSet"), "no more than it gets");
    assert_eq!(setting("NoNewPrivileges"), "yes");
    let granted: Vec<String> =
        setting("AmbientCapabilities").split(' ').map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect();
    let mut granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    granted.sort_unstable();
    let mut documented = ALL.to_vec();
    documented.sort_unstable();
    assert_eq!(granted, documented);
    // The unit's own command line without the redirection. It is ended by a signal.
    assert!(setting("ExecStart").contains("/usr/local/bin/listentop report --for 60s --format json >>"));
    let program = Program::copy("unit");
    let command = program.with(&granted, "report --for 60s --format json");
    let run = || {
        enter_namespaces();
        // As ProtectSystem=strict does.
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>).expect("a file system that cannot be written");
        let before = Elsewhere::open();
        let measuring = Measuring::spawn(command);
        let after = Elsewhere::open();
        sleep_ms(3000);
        (measuring.report(), before, after)
    };
    // Only this thread sees a read-only file system, so that the copy of the program can be deleted.
    let (report, before, after) = std::thread::scope(|scope| scope.spawn(run).join().expect("a report"));
    for elsewhere in [before, after] {
        let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it is seen");
        assert_eq!(found["process"]["pid"], elsewhere.pid(), "{found:#}");
    }
    for measure in ["enqueued", "accepts", "owners", "reads", "probe_time"] {
        assert_ne!(coverage(&report, measure).0, "unavailable", "{:?}", coverage(&report, measure));
    }
}

/// The recorder writes into its folder although nothing else can be written, and its threads have no more rights than
/// those of a report.
fn recorder() {
    const ARGUMENTS: &str = "/ring --ring 24h --max-size 2G --freeze-on critical";
    let command_line = setting_of(RECORDER, "ExecStart");
    assert_eq!(command_line, format!("/usr/local/bin/listentop record ${{STATE_DIRECTORY}}{ARGUMENTS}"));
    let program = Program::copy("recorder");
    let state = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::chown(state.path(), Some(NOBODY), Some(NOBODY)).expect("it is ours");
    let ring = format!("{}/ring", state.path().display());
    let command = program.with(ALL, &format!("record {}{ARGUMENTS}", state.path().display()));
    let run = || {
        enter_namespaces();
        let of_state = MsFlags::MS_BIND;
        mount(Some(state.path()), state.path(), None::<&str>, of_state, None::<&str>).expect("a mount of its own");
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>).expect("a file system that cannot be written");
        let elsewhere = Elsewhere::open();
        let recording = Measuring::spawn_that_says(command, &format!("recording to {ring}\n"));
        sleep_ms(2500);
        let writing = threads(recording.pid()).into_iter().find(|thread| thread.name == "disk").expect("it writes");
        assert_eq!((writing.set("CapEff"), writing.set("CapPrm")), (0, 0), "writing takes none");
        recording.signal(Signal::SIGTERM);
        assert_eq!(recording.end().status.code(), Some(0));
        let (code, report, said) = finished(program.with(&[], &format!("report --from {ring} --format json")));
        assert_eq!(code, Some(0), "{said}");
        let report = serde_json::from_str(&report).expect("JSON");
        let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it was seen");
        assert_eq!(found["process"]["pid"], elsewhere.pid(), "{found:#}");
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("it records"));
}

/// What is not about the folder or the restart is the same in both units.
fn restricted() {
    let settings = |unit: &'static str| {
        let service =
            unit.split("[Service]").nth(1).and_then(|rest| rest.split("[Install]").next()).expect("a service");
        let lines = service.lines().filter(|line| !line.starts_with('#') && line.contains('='));
        let own = ["Type", "ExecStart", "TimeoutStartSec", "Logs", "Restart=", "RestartSec", "State", "Nice"];
        let lines = lines.filter(|line| !own.iter().any(|name| line.starts_with(name)));
        lines.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(settings(UNIT), settings(RECORDER));
    assert!(settings(UNIT).len() > 20);
}

/// The unit of the exporter grants and restricts the same, but that it may answer on loopback.
fn exporter() {
    const DIFFERENT: [&str; 12] = [
        "Description",
        "After",
        "Type",
        "EnvironmentFile",
        "ExecStart",
        "Restart",
        "RestartSec",
        "UMask",
        "Nice",
        "IPAddressAllow",
        "RestrictAddressFamilies",
        "WantedBy",
    ];
    let settings = |unit: &'static str| {
        let lines = unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        lines.map(|(name, _)| name).filter(|name| !DIFFERENT.contains(name)).collect::<Vec<_>>()
    };
    for name in settings(SERVE_UNIT) {
        assert_eq!(setting_of(SERVE_UNIT, name), setting(name), "{name}");
    }
    let of_report = ["TimeoutStartSec", "LogsDirectory", "LogsDirectoryMode"];
    for name in settings(UNIT).into_iter().filter(|name| !of_report.contains(name)) {
        assert!(settings(SERVE_UNIT).contains(&name), "{name} is missing");
    }
    assert_eq!(setting_of(SERVE_UNIT, "IPAddressAllow"), "localhost");
    let families = setting_of(SERVE_UNIT, "RestrictAddressFamilies");
    assert_eq!(families, format!("AF_INET AF_INET6 {}", setting("RestrictAddressFamilies")));
    assert_eq!(setting_of(SERVE_UNIT, "ExecStart"), "/usr/local/bin/listentop serve $LISTENTOP_OPTIONS");
}

/// systemd-analyze accepts the unit, if systemd is installed.
fn accepted() {
    const ANALYZE: &str = "/usr/bin/systemd-analyze";
    if !fs::exists(ANALYZE).expect("it can be seen") {
        test_harness::skip(format!("there is no {ANALYZE} to check the units with: install the package systemd"));
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    // It looks for the program, too: where the build has it, it is.
    let copies = tempfile::tempdir().expect("a folder");
    let program = test_support::environment::program();
    let mut verify = Command::new(ANALYZE);
    verify.arg("verify");
    for unit in
        ["listentop-report.service", "listentop-report.timer", "listentop-recorder.service", "listentop-serve.service"]
    {
        let text = fs::read_to_string(directory.join(unit)).expect("it is there");
        let text = text.replace("ExecStart=/usr/local/bin/listentop", &format!("ExecStart={}", program.display()));
        fs::write(copies.path().join(unit), text).expect("it is written");
        verify.arg(copies.path().join(unit));
    }
    let output = verify.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("listentop-"), "{said}");
}
