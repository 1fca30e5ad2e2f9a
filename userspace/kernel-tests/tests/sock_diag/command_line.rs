//! The program without rights, and with `--probes`.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    os::{
        fd::OwnedFd,
        unix::{fs::symlink, process::CommandExt as _},
    },
    process::{Child, Command, Output, Stdio},
};

use listentop_model::coverage::Measure;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::mkfifo,
};
use serde_json::Value;
use test_support::{
    Lab,
    command::ProgramCopy,
    environment,
    lab::PORT,
    sockets::{connect, listen},
};

use crate::{Run, Test};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "command_line::by_name", run: Run::Anywhere(by_name) },
    Test { name: "command_line::probes_by_name_without_rights", run: Run::InLab(probes_without_rights) },
    Test { name: "command_line::without_rights", run: Run::InLab(without_rights) },
    Test { name: "command_line::own_process_without_rights", run: Run::InLab(own_process) },
    Test { name: "command_line::unknown_source", run: Run::Anywhere(unknown) },
    Test { name: "command_line::stderr_that_cannot_be_written", run: Run::Anywhere(unwritable_stderr) },
    Test { name: "command_line::help_that_cannot_be_written", run: Run::Anywhere(unwritable_help) },
    Test { name: "command_line::filters_that_nothing_can_pass", run: Run::Anywhere(impossible_filters) },
    Test { name: "command_line::filters_that_nothing_passed", run: Run::Anywhere(unpassed_filters) },
    Test { name: "command_line::filter_by_name_of_a_namespace", run: Run::InLab(named_namespace) },
    Test { name: "command_line::a_filtered_process_that_ends", run: Run::Anywhere(process_that_ends) },
    Test { name: "command_line::odd_entries_among_named_namespaces", run: Run::InLab(odd_namespaces) },
    Test { name: "command_line::without_bpf", run: Run::Anywhere(without_bpf) },
];

/// The program without probes, and with these arguments, separated by blanks.
pub(crate) fn listentop(arguments: &str) -> Command {
    let mut command = Command::new(environment::program());
    command.args(["--probes", "sock_diag"]).args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &str) -> Output {
    listentop(arguments).output().expect("it runs")
}

/// Runs it as an unprivileged user with these arguments; `stdin` is the only descriptor that it inherits.
fn run_as_nobody(arguments: &str, stdin: Stdio) -> Output {
    ProgramCopy::new("nobody").as_nobody(arguments).stdin(stdin).output().expect("it runs")
}

pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON and nothing else")
}

/// Lines on stderr.
pub(crate) fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

/// Status of a measure, whether it has a `via`, and its reason.
fn coverage(report: &Value, measure: Measure) -> (String, bool, String) {
    let entries = report["coverage"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["measure"] == measure.name()).expect("every measure is listed");
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    (text("status"), entry["via"].is_string(), text("reason"))
}

/// Checks that the coverage of every measure is that of the source without probes, with the reason.
fn assert_sampled(report: &Value, remedy: &str) {
    use Measure::{
        AcceptQueueDepth, Descriptors, DropCause, Drops, HalfOpenConnections, Owners, SynQueueDepth, UnreadConnections,
        Waiters, WaitingConnections,
    };
    for measure in Measure::ALL {
        let (status, via, reason) = coverage(report, *measure);
        match measure {
            AcceptQueueDepth | SynQueueDepth | Drops | DropCause | Waiters | Descriptors | WaitingConnections
            | UnreadConnections | HalfOpenConnections => {
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

/// With `--probes tracepoint` but without rights, one line names what is missing, and listentop ends.
fn probes_without_rights(_: &Lab) {
    for probes in ["tracepoint", "fentry"] {
        let output = run_as_nobody(&format!("report --for 1s --probes {probes}"), Stdio::null());
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(3), 1), "{lines:?}");
        assert!(lines[0].starts_with("listentop: ") && output.stdout.is_empty(), "{lines:?}");
        // On a kernel without BTF the line names BTF instead.
        let btf = std::path::Path::new("/sys/kernel/btf/vmlinux").exists();
        assert!(!btf || lines[0].contains("root") && lines[0].contains("CAP_BPF"), "{lines:?}");
    }
}

/// Without `--probes`, listentop measures what needs no rights, and reports why the rest is missing.
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

    // Only the listeners of its own namespace, without owners, which it may not read.
    let found = report["listeners"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["netns"], &found[0]["port"]), (&lab.netns.into(), &PORT.into()));
    let queue = &found[0]["accept_queue"];
    assert_eq!((&queue["depth"], &queue["limit"]), (&1.into(), &17.into()));
    assert_eq!((&found[0]["process"], &found[0]["holders"]), (&Value::Null, &Value::Null));
    drop((listener, waiting));
}

/// A user may read the descriptors of their own processes.
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

fn full() -> File {
    File::create("/dev/full").expect("every Linux has it")
}

/// If stderr cannot be written, messages are lost, and everything else works as usual.
fn unwritable_stderr() {
    for (arguments, code) in [
        ("report --for 100ms --format json", 0),
        ("report --for 100ms --comm nobody", 5),
        ("report --for nothing", 2),
        ("report --pid 4194304", 2),
        ("top", 1),
    ] {
        let output = listentop(arguments).stderr(full()).output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{arguments}");
        if code == 0 {
            assert_sampled(&report(&output), "--probes auto");
        }
    }
    let both = listentop("report --for 100ms").stdout(full()).stderr(full()).status().expect("it runs");
    assert_eq!(both.code(), Some(1));
}

fn unwritable_help() {
    for arguments in ["--help", "--version", "report --help", "doctor --help"] {
        let output = listentop(arguments).stdout(full()).stderr(Stdio::piped()).output().expect("it runs");
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(1), 1), "{arguments}: {lines:?}");
        assert!(lines[0].starts_with("listentop: standard output cannot be written: No space left"), "{lines:?}");
    }
}

/// A process or namespace that a filter names must exist at the start.
fn impossible_filters() {
    let thread = std::thread::spawn(|| {
        let tid = nix::unistd::gettid();
        let output = run(&format!("report --for 1h --pid {tid}"));
        (tid, output)
    });
    let (tid, of_thread) = thread.join().expect("it runs");
    let process = format!("--pid {tid}: that is a thread; its process is --pid {}", std::process::id());
    for (output, says) in [
        (run("report --for 1h --pid 4194304"), "--pid 4194304: there is no such process"),
        (run("--pid 4194304 report --for 1h --port 80"), "--pid 4194304: there is no such process"),
        (of_thread, process.as_str()),
        (run("report --for 1h --netns nosuch"), "--netns nosuch: neither /run/netns nor a process"),
        (run("report --for 1h --netns 1"), "--netns 1: neither /run/netns nor a process"),
    ] {
        let lines = lines(&output);
        assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{lines:?}");
        assert!(lines[0].starts_with(&format!("listentop: {says}")) && output.stdout.is_empty(), "{lines:?}");
    }
}

/// If no listener passes the filters, listentop says so and repeats them, and its exit status is one of its own.
fn unpassed_filters() {
    for filter in ["--port 1", "--comm nobody", "--port 1 --comm nobody"] {
        let said = format!("no listener passed the filter: {filter}");
        let output = run(&format!("report --for 100ms {filter}"));
        assert_eq!(
            (output.status.code(), lines(&output)),
            (Some(5), vec!["measuring".to_owned(), format!("listentop: {said}")])
        );
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(table.contains(&format!("({said})")) && !table.contains("(no listener)"), "{table}");
        let output = run(&format!("report --for 100ms --format json {filter}"));
        assert_eq!((output.status.code(), lines(&output).len()), (Some(5), 2));
        assert_eq!(report(&output)["listeners"].as_array().map(Vec::len), Some(0));
    }
}

/// Gives the test's own network namespace a name, `blue`, in a mount namespace of its own.
fn name_namespace() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a /run of our own");
    fs::create_dir("/run/netns").expect("an empty /run");
    fs::write("/run/netns/blue", "").expect("a place for it");
    mount(Some("/proc/thread-self/ns/net"), "/run/netns/blue", none, MsFlags::MS_BIND, none).expect("a name for it");
}

/// A name in /run/netns, in a mount namespace of the test's own.
fn named_namespace(lab: &Lab) {
    name_namespace();
    let listener = listen(PORT, 16);
    for filter in ["blue", &lab.netns.to_string()] {
        let output = run(&format!("report --for 100ms --format json --netns {filter}"));
        assert_eq!((output.status.code(), lines(&output).len()), (Some(0), 1), "{:?}", lines(&output));
        let report = report(&output);
        let found = report["listeners"].as_array().expect("a list");
        assert_eq!((found.len(), &found[0]["netns_name"], &found[0]["port"]), (1, &"blue".into(), &PORT.into()));
    }
    drop(listener);
}

/// A report about the only process that holds a listener, which is killed meanwhile.
fn process_that_ends() {
    let listener = listen(PORT, 16);
    let stdin = Stdio::from(OwnedFd::from(listener));
    let mut holder = Command::new("sleep").arg("1000").stdin(stdin).spawn().expect("every Linux has it");
    let mut command = listentop(&format!("report --for 1s --pid {}", holder.id()));
    let mut reporting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut stderr = BufReader::new(reporting.stderr.take().expect("piped"));
    let mut first = String::new();
    stderr.read_line(&mut first).expect("text");
    // By now the report has seen the process and its listener.
    std::thread::sleep(std::time::Duration::from_millis(300));
    end(&mut holder);
    let (mut rest, mut table) = (String::new(), String::new());
    stderr.read_to_string(&mut rest).expect("text");
    reporting.stdout.take().expect("piped").read_to_string(&mut table).expect("text");
    let said = format!("process {} ended while it was measured", holder.id());
    assert_eq!(reporting.wait().expect("our child").code(), Some(0), "{rest}");
    assert_eq!((first.as_str(), rest), ("measuring\n", format!("listentop: {said}\n")));
    assert!(table.contains(&format!("({said})")), "{table}");
    let row = table.lines().find(|line| line.contains(&format!(":{PORT} "))).expect("its listener has a row");
    assert!(row.contains(&format!("sleep[{}]", holder.id())) && row.contains("closed"), "{row}");
}

pub(crate) fn end(child: &mut Child) {
    child.kill().expect("it runs");
    child.wait().expect("our child");
}

/// What is no network namespace under /run/netns is skipped: it neither makes listentop wait nor is taken for one.
fn odd_namespaces(lab: &Lab) {
    name_namespace();
    mkfifo("/run/netns/fifo", Mode::S_IRWXU).expect("a FIFO");
    fs::write("/run/netns/file", "").expect("a file");
    fs::create_dir("/run/netns/directory").expect("a directory");
    for (target, link) in [
        ("/etc/passwd", "link"),
        ("/run/netns/fifo", "link-to-fifo"),
        ("/nowhere", "dangling"),
        ("/dev/zero", "device"),
        ("/proc/self/ns/mnt", "other-type"),
        // As some use it to name a container's.
        ("/proc/self/ns/net", "link-to-blue"),
    ] {
        symlink(target, format!("/run/netns/{link}")).expect("a link");
    }
    let listener = listen(PORT, 16);
    let within = |arguments: &str| {
        let mut child = listentop(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        test_support::wait_until("it ends", || child.try_wait().expect("our child").is_some());
        child.wait_with_output().expect("it has ended")
    };
    for name in ["blue", "link-to-blue"] {
        let output = within(&format!("report --for 100ms --format json --netns {name}"));
        // One namespace has two names here, and is shown by one.
        let code = output.status.code();
        if code == Some(0) {
            let report = report(&output);
            assert_eq!(report["listeners"][0]["netns"], lab.netns);
            let (_, _, reason) = coverage(&report, Measure::AcceptQueueDepth);
            assert!(!reason.contains("could not be entered"), "{reason}");
        } else {
            assert_eq!(code, Some(2), "{:?}", lines(&output));
        }
    }
    for name in ["fifo", "file", "directory", "link", "link-to-fifo", "dangling", "device", "other-type"] {
        let output = within(&format!("report --for 100ms --netns {name}"));
        assert_eq!((output.status.code(), lines(&output).len()), (Some(2), 1), "{name}: {:?}", lines(&output));
    }
    drop(listener);
}

/// bpf(2) fails with ENOSYS: as in a kernel without it, or under the seccomp filter of some containers.
fn without_bpf() {
    for (probes, code) in [("auto", 0), ("tracepoint", 3)] {
        let mut command = Command::new(environment::program());
        command.args(["report", "--for", "100ms", "--format", "json", "--probes", probes]).stdin(Stdio::null());
        // SAFETY: there are only system calls between fork and exec.
        unsafe { command.pre_exec(refuse_bpf) };
        let output = command.output().expect("it runs");
        let lines = lines(&output);
        assert_eq!(output.status.code(), Some(code), "{lines:?}");
        // On a kernel without BTF the line names BTF instead.
        if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            let says = ["there is no bpf(2) here", "CONFIG_BPF_SYSCALL", "seccomp"];
            assert!(
                lines[0].starts_with("listentop: ") && says.iter().all(|says| lines[0].contains(says)),
                "{lines:?}"
            );
        }
        assert_eq!(lines.len(), if code == 0 { 2 } else { 1 }, "{lines:?}");
        if code == 0 {
            assert_sampled(&report(&output), "needs probes");
        }
    }
}

/// Makes bpf(2) fail with ENOSYS for this process, also after exec.
fn refuse_bpf() -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first field of struct seccomp_data.
    let program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_bpf as u32) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which outlives the calls.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) < 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
