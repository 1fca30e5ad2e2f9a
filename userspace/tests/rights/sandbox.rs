//! What a running listentop cannot do any more, tried as root: so nothing but the sandbox refuses it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use listentop::rights::sandbox::{Allowed, Sandbox, confine};
use nix::{
    libc,
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork, pipe},
};

use crate::{
    Test,
    support::{Program, finished, sleep_ms, threads},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "sandbox::refuses_what_nothing_needs", run: refuses },
    Test { name: "sandbox::allows_what_was_asked_for", run: allows },
    Test { name: "sandbox::a_level_may_change_and_no_more", run: changes_level },
    Test { name: "sandbox::says_where_there_is_no_landlock", run: without_landlock },
    Test { name: "sandbox::is_on_in_every_thread_of_every_command", run: every_command },
    Test { name: "sandbox::doctor_says_what_is_on", run: doctor },
];

/// What is tried, and whether it succeeds.
type Attempt = (&'static str, fn(&Path) -> io::Result<()>);

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: takes numbers only. The process ends soon, and its descriptors with it.
    answer(unsafe { libc::socket(family, kind, protocol) }.into())
}

/// Changes no id: whether the call may be made.
fn set_no_user() -> io::Result<()> {
    // SAFETY: takes numbers only.
    answer(unsafe { libc::syscall(libc::SYS_setresuid, -1, -1, -1) })
}

/// A BPF program that returns 0, for sockets.
fn load_program() -> io::Result<()> {
    // mov r0, 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    // prog_type (socket filter), insn_cnt, insns, license.
    let attributes: [u64; 16] = {
        let mut attributes = [0; 16];
        attributes[0] = 1 | 2 << 32;
        attributes[1] = instructions.as_ptr() as u64;
        attributes[2] = license.as_ptr() as u64;
        attributes
    };
    // SAFETY: BPF_PROG_LOAD reads the attributes and what they point to, which outlives the call.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, 5, attributes.as_ptr(), size_of_val(&attributes)) };
    answer(loaded)?;
    // SAFETY: it was just opened.
    unsafe { libc::close(loaded as i32) };
    Ok(())
}

/// In order, because what one leaves the next may need. The path is that of a folder with a file `secret`.
const ATTEMPTS: [Attempt; 13] = [
    ("run a program", |_| Command::new("/bin/true").stdin(Stdio::null()).status().map(drop)),
    ("listen", |_| TcpListener::bind("127.0.0.1:0").map(drop)),
    ("raw packets", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("speak to daemons", |_| socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)),
    ("load a program into the kernel", |_| load_program()),
    ("mount", |at| {
        use nix::mount::{MsFlags, mount};
        mount(Some(at), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(nix::mount::umount(at)?)
    }),
    ("read files", |at| fs::read(at.join("secret")).map(drop)),
    ("write files", |at| fs::write(at.join("new"), "x")),
    ("rename files", |at| fs::rename(at.join("secret"), at.join("other"))),
    ("delete files", |at| fs::remove_file(at.join("other"))),
    ("make links", |at| std::os::unix::fs::symlink("/etc/shadow", at.join("link"))),
    ("become another user", |_| set_no_user()),
    ("enter a namespace of its own", |_| Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS)?)),
];

/// What it goes on doing.
const NEEDED: [Attempt; 5] = [
    ("read /proc", |_| fs::read("/proc/1/stat").map(drop)),
    ("read /sys", |_| fs::read("/sys/kernel/btf/vmlinux").map(drop)),
    ("netlink", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG)),
    ("sockets to ask a namespace by", |_| std::os::unix::net::UnixDatagram::unbound().map(drop)),
    ("threads", |_| std::thread::Builder::new().spawn(|| {}).map(|thread| thread.join().expect("it ends"))),
];

/// Runs this in a process of its own, and returns what it says.
fn elsewhere(work: impl FnOnce() -> String) -> String {
    let (reader, writer) = pipe().expect("a pipe");
    // SAFETY: the tests run one after the other, and no other thread holds a lock that the child needs.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Child => {
            let said = work();
            let _ = fs::File::from(writer).write_all(said.as_bytes());
            // SAFETY: ends the child without what would run at the end of the tests.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let said = io::read_to_string(fs::File::from(reader)).expect("text");
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            said
        }
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("secret"), "x").expect("written");
    folder
}

/// What of these succeeds.
fn succeeds(attempts: &[Attempt], at: &Path) -> Vec<&'static str> {
    attempts.iter().filter(|(_, attempt)| attempt(at).is_ok()).map(|(what, _)| *what).collect()
}

fn names(attempts: &[Attempt]) -> String {
    attempts.iter().map(|(what, _)| *what).collect::<Vec<_>>().join(", ")
}

fn refuses() {
    let outside = folder();
    // A filter of the tests' own surroundings must not be what refuses.
    let free = elsewhere(|| succeeds(&ATTEMPTS, outside.path()).join(", "));
    assert_eq!(free, names(&ATTEMPTS));
    let outside = folder();
    let confined = elsewhere(|| {
        let sandbox = confine(&Allowed::default(), false);
        assert_eq!(*sandbox, Sandbox { calls: Ok(()), files: Ok(()) });
        [succeeds(&ATTEMPTS, outside.path()), succeeds(&NEEDED, outside.path())].concat().join(", ")
    });
    assert_eq!(confined, names(&NEEDED));
}

fn allows() {
    let (inside, outside) = (folder(), folder());
    let (writes, readable) = (vec![inside.path().to_owned()], folder());
    let at = |place: &tempfile::TempDir| place.path().to_owned();
    let (inside, outside): (PathBuf, PathBuf) = (at(&inside), at(&outside));
    let confined = elsewhere(|| {
        let reads = vec![readable.path().to_owned()];
        // Only a thread that was there before may attach probes.
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let before = std::thread::spawn(move || {
            gone.recv().expect("it is told");
            succeeds(&ATTEMPTS[..6], Path::new("/nowhere")).join(", ")
        });
        confine(&Allowed { reads, writes, connects: true, attaches: true, ..Allowed::default() }, false);
        let files = |at: &Path| succeeds(&ATTEMPTS[6..], at).join(", ");
        go.send(()).expect("it waits");
        let before = before.join().expect("it does not fail");
        let here = succeeds(&ATTEMPTS, &inside).join(", ");
        format!("{here}; {}; {}; before: {before}", files(readable.path()), files(&outside))
    });
    assert_eq!(
        confined,
        "listen, speak to daemons, read files, write files, rename files, delete files; read files; ; \
         before: listen, speak to daemons, load a program into the kernel"
    );
}

/// Whether the filter lets a call through: what it refuses has EPERM for an answer.
fn passes(result: libc::c_long) -> io::Result<()> {
    match answer(result) {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Ok(()),
        answered => answered,
    }
}

/// bpf(2), with an attribute whose first words are these.
fn bpf(command: libc::c_long, words: [u64; 2]) -> io::Result<()> {
    let mut attributes = [0_u64; 16];
    attributes[..2].copy_from_slice(&words);
    // SAFETY: the attribute outlives the call.
    passes(unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) })
}

/// perf_event_open(2) of a tracepoint that there is not.
fn perf_event(process: i32, cpu: i32, group: i32, flags: u64) -> io::Result<()> {
    // type (tracepoint), size, config.
    let mut attributes = [0_u64; 16];
    (attributes[0], attributes[1]) = (2 | 128 << 32, u64::MAX);
    // SAFETY: as above.
    passes(unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), process, cpu, group, flags) })
}

/// What changing the level takes.
const TO_CHANGE: [Attempt; 2] = [
    // No program has the descriptor.
    ("attach what is loaded", |_| bpf(17, [0, u64::from(u32::MAX)])),
    ("count a tracepoint for a program", |_| perf_event(-1, 0, -1, 8)),
];

/// What is near to it.
const NEAR: [Attempt; 7] = [
    ("load a program", |_| load_program()),
    ("make a map", |_| bpf(0, [2 | 4 << 32, 4 | 1 << 32])),
    ("attach anywhere", |_| bpf(28, [u64::MAX, u64::MAX])),
    ("watch a process", |_| perf_event(1, -1, -1, 8)),
    ("watch itself", |_| perf_event(0, -1, -1, 8)),
    ("watch another CPU", |_| perf_event(-1, 1, -1, 8)),
    ("watch in a group", |_| perf_event(-1, 0, 0, 8)),
];

fn changes_level() {
    let everything = [names(&TO_CHANGE), names(&NEAR)].join(", ");
    let tried = |allowed: Option<Allowed>| {
        elsewhere(|| {
            allowed.iter().for_each(|allowed| _ = confine(allowed, false));
            [succeeds(&TO_CHANGE, Path::new("/")), succeeds(&NEAR, Path::new("/"))].concat().join(", ")
        })
    };
    // A filter of the tests' own surroundings must not be what refuses.
    assert_eq!(tried(None), everything);
    assert_eq!(tried(Some(Allowed::default())), "");
    assert_eq!(tried(Some(Allowed { changes_level: true, ..Allowed::default() })), names(&TO_CHANGE));
}

/// As on Linux 5.10: the call does not exist.
fn without_landlock() {
    let said = elsewhere(|| {
        let rules = [(444, vec![])].into_iter().collect();
        let arch = std::env::consts::ARCH.try_into().expect("one that is known");
        let filter = seccompiler::SeccompFilter::new(
            rules,
            seccompiler::SeccompAction::Allow,
            seccompiler::SeccompAction::Errno(libc::ENOSYS as u32),
            arch,
        );
        let program: seccompiler::BpfProgram = filter.expect("valid").try_into().expect("valid");
        seccompiler::apply_filter(&program).expect("it may be");
        let sandbox = confine(&Allowed::default(), false);
        assert_eq!(sandbox.calls, Ok(()));
        sandbox.files.clone().expect_err("there is none")
    });
    assert!(said.contains("5.13"), "{said}");
}

/// A process that is ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn every_command() {
    let program = Program::copy("sandbox");
    let folder = tempfile::tempdir().expect("a folder");
    let recordings = ["file", "ring --ring 1h"].map(|rest| format!("record {}/{rest}", folder.path().display()));
    let own = threads(std::process::id())[0].field("Seccomp");
    for (arguments, ready) in [
        ("report --for 1h", "measuring"),
        ("report --for 1h --probes sock_diag", "measuring"),
        ("events --for 1h", "measuring"),
        (recordings[0].as_str(), "recording"),
        (&recordings[1], "recording"),
        ("serve --web.listen-address 127.0.0.1:0", "serving"),
    ] {
        for (option, expected) in [("", "2"), (" --no-sandbox", own.as_str())] {
            let _ = fs::remove_file(folder.path().join("file"));
            let mut running = Running(program.as_root(&format!("{arguments}{option}")).spawn().expect("it starts"));
            let mut said = BufReader::new(running.0.stderr.take().expect("piped"));
            let mut line = String::new();
            while !line.starts_with(ready) {
                line.clear();
                assert_ne!(said.read_line(&mut line).expect("text"), 0, "'{arguments}' does not say {ready}");
            }
            sleep_ms(300);
            let threads = threads(running.0.id());
            assert!(threads.len() > 3, "{threads:?}");
            for thread in threads {
                assert_eq!(thread.field("Seccomp"), expected, "'{arguments}{option}': {thread:?}");
            }
        }
    }
}

fn doctor() {
    let program = Program::copy("sandboxed");
    let (_, stdout, stderr) = finished(program.as_root("doctor --format json"));
    let diagnosis: serde_json::Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"));
    let facts = diagnosis["machine"].as_array().expect("a list");
    let fact = facts.iter().find(|fact| fact["name"] == "sandbox").expect("it is one");
    assert_eq!((&fact["value"], &fact["effect"]), (&"seccomp, landlock".into(), &serde_json::Value::Null));
}
