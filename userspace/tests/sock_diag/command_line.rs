//! The program without rights, and with a source that is asked for by name.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    process::{Command, Output, Stdio},
};

use listentop_model::coverage::Measure;
use serde_json::Value;

use crate::{
    Run, Test, environment,
    lab::{Lab, PORT},
    sockets::{connect, listen},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "command_line::by_name", run: Run::Anywhere(by_name) },
    Test { name: "command_line::probes_by_name_without_rights", run: Run::InLab(probes_without_rights) },
    Test { name: "command_line::without_rights", run: Run::InLab(without_rights) },
    Test { name: "command_line::own_process_without_rights", run: Run::InLab(own_process) },
    Test { name: "command_line::unknown_source", run: Run::Anywhere(unknown) },
];

/// As nobody, with these arguments; `stdin` is the only descriptor that it is given.
fn run_as_nobody(arguments: &str, stdin: Stdio) -> Output {
    // The checkout may be out of this user's reach.
    let directory = std::env::temp_dir().join(format!("listentop-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("anybody may enter it");
    let copy = directory.join("listentop");
    fs::copy(environment::program(), &copy).expect("a copy of the program");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("anybody may run it");
    let mut command = Command::new(&copy);
    command.args(arguments.split_whitespace()).uid(65534).gid(65534).current_dir("/").stdin(stdin);
    let output = command.output();
    fs::remove_dir_all(&directory).expect("the copy goes");
    output.expect("it runs")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// Lines on stderr.
fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

/// (status, via, reason) of each measure.
fn coverage(report: &Value, measure: Measure) -> (String, bool, String) {
    let entries = report["coverage"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["measure"] == measure.name()).expect("every measure is listed");
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    (text("status"), entry["via"].is_string(), text("reason"))
}

/// Every measure says where it comes from and what it lacks, and none claims more than it can.
fn assert_sampled(report: &Value, remedy: &str) {
    use Measure::{AcceptQueueDepth, DropCause, Drops, Owners, SynQueueDepth};
    for measure in Measure::ALL {
        let (status, via, reason) = coverage(report, *measure);
        match measure {
            AcceptQueueDepth | SynQueueDepth | Drops | DropCause => {
                assert_eq!((status.as_str(), via), ("sampled", true), "{measure}");
                assert!(!reason.is_empty(), "{measure}");
            }
            Owners => assert!(via && status != "unavailable", "{measure}"),
            _ => {
                assert_eq!((status.as_str(), via), ("unavailable", false), "{measure}");
                assert!(reason.starts_with("needs probes") && reason.contains(remedy), "{measure}: {reason}");
            }
        }
    }
    for listener in report["listeners"].as_array().expect("a list") {
        let unknown = [
            &listener["accept_queue"]["peak"],
            &listener["accept_queue"]["enqueued"],
            &listener["accept_queue"]["oldest_waiting_us"],
            &listener["accept_queue"]["wait_us"],
            &listener["syn_queue"]["requests"],
            &listener["syn_queue"]["handshake_us"],
            &listener["drops"]["clients"],
            &listener["accepts"]["total"],
            &listener["connections"]["open"],
            &listener["reads"]["count"],
            &listener["writes"]["bytes"],
        ];
        assert!(unknown.iter().all(|value| value.is_null()), "{listener:#}");
    }
}

fn by_name() {
    let output = Command::new(environment::program())
        .args(["report", "--for", "200ms", "--format", "json", "--probes", "sock_diag"])
        .output()
        .expect("it runs");
    assert_eq!((output.status.code(), lines(&output)), (Some(0), vec!["measuring".to_owned()]));
    assert_sampled(&report(&output), "--probes auto");
}

/// Probes that are asked for by name and may not be loaded: one line names what is missing, and nothing else is done
/// instead.
fn probes_without_rights(_: &Lab) {
    for probes in ["tracepoint", "fentry"] {
        let output = run_as_nobody(&format!("report --for 1s --probes {probes}"), Stdio::null());
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(3), 1), "{lines:?}");
        assert!(lines[0].starts_with("listentop: ") && output.stdout.is_empty(), "{lines:?}");
        // Without BTF that is what is missing.
        let btf = std::path::Path::new("/sys/kernel/btf/vmlinux").exists();
        assert!(!btf || lines[0].contains("root") && lines[0].contains("CAP_BPF"), "{lines:?}");
    }
}

/// Without a wish, what needs no rights is measured, and it is said why it is not more.
fn without_rights(lab: &Lab) {
    let listener = listen(PORT, 16);
    let waiting = connect(PORT);
    let output = run_as_nobody("report --for 300ms --format json", Stdio::null());
    let lines = lines(&output);
    assert_eq!((output.status.code(), lines.len(), lines[1].as_str()), (Some(0), 2, "measuring"), "{lines:?}");
    assert!(lines[0].starts_with("listentop: ") && lines[0].contains("sampled"), "{lines:?}");
    let report = report(&output);
    assert_sampled(&report, "");
    if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        assert!(lines[0].contains("root") && lines[0].contains("CAP_BPF"), "{lines:?}");
        assert_sampled(&report, "CAP_BPF");
    }
    let (_, _, depth) = coverage(&report, Measure::AcceptQueueDepth);
    assert!(depth.contains("CAP_SYS_ADMIN"), "{depth}");
    let (owners, _, reason) = coverage(&report, Measure::Owners);
    assert!(owners == "sampled" && reason.contains("CAP_SYS_PTRACE"), "{reason}");

    // Its own namespace's listeners and no others, each without the owner that it may not see.
    let found = report["listeners"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["netns"], &found[0]["port"]), (&lab.netns.into(), &PORT.into()));
    let queue = &found[0]["accept_queue"];
    assert_eq!((&queue["depth"], &queue["limit"]), (&1.into(), &17.into()));
    assert_eq!((&found[0]["process"], &found[0]["holders"]), (&Value::Null, &Value::Null));
    drop((listener, waiting));
}

/// The descriptors of one's own processes may be read.
fn own_process(_: &Lab) {
    let listener = listen(PORT, 16);
    let stdin = Stdio::from(OwnedFd::from(listener.try_clone().expect("another descriptor")));
    let output = run_as_nobody("report --for 300ms --format json", stdin);
    let report = report(&output);
    let found = &report["listeners"][0];
    assert_eq!((&found["process"]["comm"], &found["holders"]), (&"listentop".into(), &1.into()), "{found:#}");
    drop(listener);
}

fn unknown() {
    let output = Command::new(environment::program()).args(["report", "--probes", "netlink"]).output();
    let output = output.expect("it runs");
    let lines = lines(&output);
    assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{lines:?}");
    assert!(lines[0].contains("netlink") && output.stdout.is_empty(), "{lines:?}");
}
