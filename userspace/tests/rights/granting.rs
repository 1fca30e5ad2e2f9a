//! What each capability permits, and how listentop reports a missing one.

use std::process::Command;

use serde_json::Value;

use crate::{
    Test,
    support::{Elsewhere, Measuring, Program, coverage, enter_namespaces, finished, listen, listener, netns, sleep_ms},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "granting::the_missing_one_is_named", run: the_missing_one_is_named },
    Test { name: "granting::two_suffice_for_probes", run: two_suffice },
    Test { name: "granting::owners_need_two_more", run: owners },
    Test { name: "granting::other_namespaces_need_one_more", run: other_namespaces },
    Test { name: "granting::by_setcap", run: by_setcap },
];

const REPORT: &str = "report --for 1h --format json --probes tracepoint";

fn the_missing_one_is_named() {
    let program = Program::copy("missing");
    for (capabilities, named, unnamed) in [
        (&["bpf"][..], "CAP_PERFMON", "CAP_BPF"),
        (&["perfmon"], "CAP_BPF", "CAP_PERFMON"),
        (&[], "CAP_BPF and CAP_PERFMON", "CAP_SYS_ADMIN"),
    ] {
        let (code, stdout, stderr) = finished(program.with(capabilities, "report --for 1s --probes tracepoint"));
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{capabilities:?}: {stderr}");
        assert!(stderr.contains(named) && !stderr.contains(unnamed), "{capabilities:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// A short report about two listeners: one of our own, and one of another user in another namespace.
fn observe(command: Command) -> (Value, (u64, u16), Elsewhere) {
    enter_namespaces();
    let (socket, port) = listen();
    let here = (netns(), port);
    let elsewhere = Elsewhere::open();
    let measuring = Measuring::spawn(command);
    sleep_ms(1500);
    let report = measuring.report();
    drop(socket);
    (report, here, elsewhere)
}

fn two_suffice() {
    let program = Program::copy("two");
    let (report, (netns, port), elsewhere) = observe(program.with(&["bpf", "perfmon"], REPORT));
    let found = listener(&report, netns, port).expect("our own namespace needs no right");
    // Accepts are seen by tracepoints of system calls, whose files these two do not let it read on every machine.
    let (status, reason) = coverage(&report, "enqueued");
    if coverage(&report, "accepts").0 == "measured" {
        assert_eq!((status, reason), ("measured", ""));
    } else {
        assert_eq!(status, "sampled");
        assert!(reason.contains("are not told from accepted ones"), "{reason}");
    }
    // Root holds this socket: the owner may be unknown.
    assert!(found["process"].is_null(), "{found:#}");
    let (status, reason) = coverage(&report, "owners");
    assert_eq!(status, "sampled");
    assert!(reason.contains("CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH would help"), "{reason}");
    let (status, reason) = coverage(&report, "probe_time");
    assert_eq!(status, "unavailable");
    assert!(reason.contains("CAP_SYS_ADMIN would help"), "{reason}");
    assert!(report["own_cost"]["probe_ns"].is_null());
    assert!(listener(&report, elsewhere.netns, elsewhere.port).is_none(), "it may not be looked for there");
    let (status, reason) = coverage(&report, "accept_queue_depth");
    assert_eq!(status, "sampled");
    assert!(reason.contains("not all seen; CAP_SYS_ADMIN and CAP_SYS_PTRACE would help"), "{reason}");
    let (status, reason) = coverage(&report, "drops");
    assert!(status == "measured" || reason.contains("CAP_SYSLOG"), "{reason}");
}

fn owners() {
    // Neither is enough alone.
    let program = Program::copy("owners");
    for (capabilities, lacking) in [
        (&["bpf", "perfmon", "sys_ptrace"][..], Some("CAP_DAC_READ_SEARCH would help")),
        (&["bpf", "perfmon", "dac_read_search"], Some("CAP_SYS_PTRACE would help")),
        (&["bpf", "perfmon", "sys_ptrace", "dac_read_search"], None),
    ] {
        let command = program.with(capabilities, REPORT);
        let (report, (netns, port), _) =
            std::thread::scope(|scope| scope.spawn(|| observe(command)).join().expect("a report"));
        let found = listener(&report, netns, port).expect("our own namespace needs no right");
        let (status, reason) = coverage(&report, "owners");
        match lacking {
            Some(lacking) => {
                assert!(found["process"].is_null(), "{capabilities:?}: {found:#}");
                assert_eq!(status, "sampled");
                assert!(reason.ends_with(lacking), "{capabilities:?}: {reason}");
            }
            None => assert_eq!(found["process"]["pid"], std::process::id(), "{reason}"),
        }
    }
}

fn other_namespaces() {
    let program = Program::copy("namespaces");
    let capabilities = ["bpf", "perfmon", "sys_ptrace", "dac_read_search", "sys_admin"];
    let (report, _, elsewhere) = observe(program.with(&capabilities, REPORT));
    let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it was there before");
    assert_eq!(found["process"]["pid"], elsewhere.pid());
    assert_eq!(coverage(&report, "accept_queue_depth"), ("measured", ""));
    assert_ne!(coverage(&report, "probe_time").0, "unavailable");
    assert_ne!(coverage(&report, "accepts").0, "unavailable", "{:?}", coverage(&report, "accepts"));
}

/// The setcap line of docs/rights.md and README.md, on a copy that an unprivileged user then runs.
fn by_setcap() {
    let document = include_str!("../../../docs/rights.md");
    let line = document.lines().find(|line| line.trim_start().starts_with("sudo setcap ")).expect("it is documented");
    assert!(include_str!("../../../README.md").lines().any(|other| other == line), "README.md: {line}");
    let capabilities = line.split_whitespace().nth(2).expect("its capabilities").trim_matches('\'');
    let names = capabilities.strip_suffix("=ep").expect("effective and permitted").to_uppercase();
    let names = names.split(',').map(|name| name.parse::<caps::Capability>().expect("a capability"));
    let program = Program::copy("setcap");
    program.grant(&names.collect::<Vec<_>>());
    let (report, (netns, port), elsewhere) = observe(program.as_nobody(REPORT));
    let found = listener(&report, netns, port).expect("it is seen");
    assert_eq!(found["process"]["pid"], std::process::id());
    let found = listener(&report, elsewhere.netns, elsewhere.port).expect("it was there before");
    assert_eq!(found["process"]["pid"], elsewhere.pid());
    for measure in ["enqueued", "accepts", "owners", "probe_time"] {
        assert_ne!(coverage(&report, measure).0, "unavailable", "{:?}", coverage(&report, measure));
    }
}
