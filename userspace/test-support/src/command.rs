//! The listentop program itself, run by a test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{SigHandler, Signal, kill, signal},
    unistd::Pid,
};
use serde_json::Value;

use crate::{environment, lab::PORT, wait_until};

/// An unprivileged user and group.
pub const NOBODY: u32 = 65534;

/// The program with these arguments, separated by blanks, and the probes that all tests use. A hangup ends it, also
/// where the tests run under nohup(1).
pub fn listentop(arguments: &str) -> Command {
    let mut command = Command::new(environment::program());
    if let Some(probes) = environment::probes().filter(|_| !arguments.contains("--probes")) {
        command.args(["--probes", &probes]);
    }
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    // Tests that run at the same time have listeners on the same port, in namespaces of their own.
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let of_port = words.windows(2).any(|pair| pair[0] == "--port" && pair[1] == PORT.to_string());
    if of_port && !words.contains(&"--netns") {
        let own = fs::metadata("/proc/thread-self/ns/net").expect("this thread is in one").ino();
        command.args(["--netns", &own.to_string()]);
    }
    let heed = || {
        // SAFETY: no code of ours runs upon the signal.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }?;
        Ok(())
    };
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(heed) };
    command
}

/// A copy of the program that every user may run: the checkout may be out of other users' reach. Dropping it deletes
/// it.
pub struct ProgramCopy {
    directory: PathBuf,
}

impl ProgramCopy {
    /// Makes a copy in a directory of its own, with this name and the process id in its name.
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("listentop-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let copy = Self { directory };
        allow_everybody(&copy.directory);
        fs::copy(environment::program(), copy.path()).expect("a copy of the program");
        allow_everybody(&copy.path());
        copy
    }

    /// The copied program.
    pub fn path(&self) -> PathBuf {
        self.directory.join("listentop")
    }

    /// The copy with these arguments, separated by blanks, in a directory that every user may enter, its output piped.
    pub fn as_is(&self, arguments: &str) -> Command {
        with_arguments(Command::new(self.path()), arguments)
    }

    /// The same, run by an unprivileged user, whose only capabilities are those of the file.
    pub fn as_nobody(&self, arguments: &str) -> Command {
        let mut command = self.as_is(arguments);
        command.uid(NOBODY).gid(NOBODY);
        command
    }
}

impl Drop for ProgramCopy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn allow_everybody(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// A command with these arguments, separated by blanks, in a directory that every user may enter, its output piped.
pub fn with_arguments(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split_whitespace()).current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `listentop report`.
pub struct Measuring {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: BufReader<ChildStderr>,
}

/// The outcome of a program.
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: String,
    /// Its stderr; of a report without the first line, `measuring`.
    pub stderr: String,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // Already gone unless an assertion failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Measuring {
    /// Starts a report with these arguments, and waits until it measures.
    pub fn start(arguments: &str) -> Self {
        Self::spawn(listentop(arguments))
    }

    /// Starts a report by this command, and waits until it measures.
    pub fn spawn(command: Command) -> Self {
        Self::spawn_that_says(command, "measuring\n")
    }

    /// Starts this command, and waits for its first line on stderr, which is to be this.
    pub fn spawn_that_says(mut command: Command, first: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("listentop starts");
        let mut stdout = child.stdout.take().expect("piped");
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("text");
            text
        });
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        // From here on a failure ends the child too.
        let mut measuring = Self { child, stdout: Some(stdout), stderr };
        let mut line = String::new();
        measuring.stderr.read_line(&mut line).expect("text");
        assert_eq!(line, first);
        measuring
    }

    /// The report's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the report a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Waits for the report's end.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        wait_until("listentop ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        // The pipe holds all of it.
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).expect("text");
        let stdout = self.stdout.take().expect("it ends once").join().expect("it was read");
        Ended { status, stdout, stderr }
    }

    /// Ends the report by SIGTERM; its JSON.
    pub fn report(self) -> Value {
        self.signal(Signal::SIGTERM);
        self.end().report()
    }
}

impl Ended {
    /// The JSON report of a program that succeeded and printed nothing else.
    pub fn report(&self) -> Value {
        assert_eq!((self.status.code(), self.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&self.stdout).expect("JSON and nothing else")
    }
}

/// Status and reason of a measure in a JSON report.
pub fn coverage<'a>(report: &'a Value, measure: &str) -> (&'a str, &'a str) {
    let entries = report["coverage"].as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["measure"] == measure).expect("every measure is listed");
    (entry["status"].as_str().expect("a word"), entry["reason"].as_str().unwrap_or_default())
}
