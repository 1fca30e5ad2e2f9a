//! The systemd unit in deploy/: the capabilities that it grants are enough, under those of its restrictions that work
//! without systemd.

use std::{fs, path::Path, process::Command};

use nix::mount::{MsFlags, mount};

use crate::{
    Test,
    support::{ALL, Elsewhere, Measuring, Program, coverage, enter_namespaces, listener, sleep_ms},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "unit::its_capabilities_are_enough", run: enough },
    Test { name: "unit::the_exporter_has_no_more", run: exporter },
    Test { name: "unit::systemd_accepts_it", run: accepted },
];

const UNIT: &str = include_str!("../../../deploy/systemd/listentop-report.service");

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
    let copies = std::env::temp_dir().join(format!("listentop-units-{}", std::process::id()));
    fs::create_dir_all(&copies).expect("a folder");
    let mut verify = Command::new(ANALYZE);
    verify.arg("verify");
    for unit in ["listentop-report.service", "listentop-report.timer", "listentop-serve.service"] {
        // The program is installed nowhere: another takes its place.
        let text = fs::read_to_string(directory.join(unit)).expect("the unit");
        let text = text.replace("ExecStart=/usr/local/bin/listentop", "ExecStart=/bin/true");
        fs::write(copies.join(unit), text).expect("a copy");
        verify.arg(copies.join(unit));
    }
    let output = verify.output().expect("it runs");
    fs::remove_dir_all(&copies).expect("it is ours");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("listentop"), "{said}");
}
