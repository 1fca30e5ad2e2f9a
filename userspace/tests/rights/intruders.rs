//! A process of the same user, without capabilities, gets nothing of a listentop that has some: not through any of its
//! threads, by no command, and not from the start on.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::libc;
use test_support::command::NOBODY;

use crate::{
    Test,
    support::{ALL, Program, sleep_ms, threads},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "intruders::no_thread_can_be_traced", run: no_thread },
    Test { name: "intruders::not_even_at_the_start", run: at_the_start },
    Test { name: "intruders::who_has_no_rights_can_be_debugged", run: without_rights },
];

type Attempt = fn(u32) -> io::Result<()>;

/// What an intruder tries with a thread. Each gives the kernel's answer.
const ATTEMPTS: [(&str, Attempt); 5] = [
    ("trace it", trace),
    ("read its memory", memory),
    ("take its descriptors", descriptor),
    ("see where its descriptors lead", link),
    ("read its environment", environment),
];

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn trace(tid: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; a tracee that was seized runs on, and is let go with the thread that traces it.
    answer(unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) })?;
    // SAFETY: as above. Only a stopped tracee can be detached.
    answer(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) })?;
    // SAFETY: waits for a tracee, without a status.
    unsafe { libc::waitpid(tid as i32, std::ptr::null_mut(), libc::__WALL) };
    // SAFETY: as above.
    answer(unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0, 0) })
}

fn memory(tid: u32) -> io::Result<()> {
    fs::File::open(format!("/proc/{tid}/mem")).map(drop)
}

fn descriptor(tid: u32) -> io::Result<()> {
    // SAFETY: takes numbers only. Of a thread that is not the first of its process the kernel says EINVAL or ENOENT.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, 0) };
    answer(process)?;
    // SAFETY: it was just opened, and nobody else knows it.
    let process = unsafe { OwnedFd::from_raw_fd(process as i32) };
    // SAFETY: takes numbers only.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), 0, 0) };
    answer(taken)?;
    // SAFETY: as above.
    drop(unsafe { OwnedFd::from_raw_fd(taken as i32) });
    Ok(())
}

fn link(tid: u32) -> io::Result<()> {
    fs::read_link(format!("/proc/{tid}/fd/0")).map(drop)
}

fn environment(tid: u32) -> io::Result<()> {
    fs::read(format!("/proc/{tid}/environ")).map(drop)
}

/// Does it as a thread of the unprivileged user that has no capability. Only this thread: libc's calls would change
/// all.
fn as_intruder<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let intrude = || {
        for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
            // SAFETY: takes numbers only.
            answer(unsafe { libc::syscall(call, NOBODY, NOBODY, NOBODY) }).expect("we are root");
        }
        work()
    };
    thread::scope(|scope| scope.spawn(intrude).join().expect("it does not fail"))
}

/// What succeeds with these threads.
fn succeeds(tids: &[u32]) -> Vec<&'static str> {
    let one = |(what, attempt): &(&'static str, Attempt)| tids.iter().any(|tid| attempt(*tid).is_ok()).then_some(*what);
    as_intruder(|| ATTEMPTS.iter().filter_map(one).collect())
}

fn tids(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// A process that is ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of the same user that has no rights, and lets everything be done to it. The test shows by it that what
/// fails elsewhere does not fail everywhere.
fn open_to_all() {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    for set in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
        command.arg(format!("{set}=-all"));
    }
    let running = Running(command.args(["sleep", "60"]).stdin(Stdio::null()).spawn().expect("setpriv starts"));
    let name = || fs::read_to_string(format!("/proc/{}/comm", running.0.id())).unwrap_or_default();
    while name() != "sleep\n" {
        sleep_ms(5);
    }
    let succeeds = succeeds(&[running.0.id()]);
    // A security module (Yama) may refuse the first three.
    assert!(succeeds.len() >= 2, "{succeeds:?}");
}

fn no_thread() {
    open_to_all();
    let program = Program::copy("intruders");
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("it is ours");
    let recording = format!("record {}/recording", folder.path().display());
    for (arguments, ready) in [
        ("report --for 1h", "measuring"),
        ("events --for 1h", "measuring"),
        (&recording, "recording"),
        ("serve --web.listen-address 127.0.0.1:0", "serving"),
    ] {
        let mut running = Running(program.with(ALL, arguments).spawn().expect("it starts"));
        let mut said = BufReader::new(running.0.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.starts_with(ready) {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("text"), 0, "'{arguments}' does not say {ready}");
        }
        let pid = running.0.id();
        // What there is to gain: another thread of the same memory has these.
        let rights = threads(pid).into_iter().find(|thread| thread.name == "rights").expect("a thread keeps some");
        assert_ne!(rights.set("CapEff"), 0);
        assert_eq!(succeeds(&tids(pid)), [""; 0], "{arguments}");
    }
}

/// From its first moment to its end.
fn at_the_start() {
    open_to_all();
    let program = Program::copy("intruded");
    for arguments in ["doctor", "report --for 1ms"] {
        let mut command = program.with(ALL, arguments);
        let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
        let mut tries = 0;
        while running.0.try_wait().expect("our child").is_none() {
            assert_eq!(succeeds(&tids(running.0.id())), [""; 0], "'{arguments}', try {tries}");
            tries += 1;
            thread::sleep(Duration::from_micros(200));
        }
        assert!(tries > 20, "'{arguments}' was over after {tries} tries");
    }
}

/// Who starts it without any capability may debug it.
fn without_rights() {
    let program = Program::copy("debugged");
    let mut running = Running(program.with(&[], "report --for 1h").spawn().expect("it starts"));
    let mut said = BufReader::new(running.0.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("measuring") {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("text"), 0, "it does not measure");
    }
    assert!(succeeds(&[running.0.id()]).contains(&"see where its descriptors lead"));
}
