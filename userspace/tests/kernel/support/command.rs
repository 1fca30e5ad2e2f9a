//! The listentop program itself.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{environment, wait_until};

/// The program with these arguments, separated by blanks.
pub(crate) fn listentop(arguments: &str) -> Command {
    let mut command = Command::new(environment::program());
    if let Some(probes) = environment::probes().filter(|_| !arguments.contains("--probes")) {
        command.args(["--probes", &probes]);
    }
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// A report that measures.
pub(crate) struct Measuring {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: BufReader<std::process::ChildStderr>,
}

/// What a program did.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // Already gone unless an assertion failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Measuring {
    /// Starts a report and waits until it measures.
    pub(crate) fn start(arguments: &str) -> Self {
        let mut child =
            listentop(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("listentop starts");
        let mut stdout = child.stdout.take().expect("piped");
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("text");
            text
        });
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        assert_eq!(line, "measuring\n");
        Self { child, stdout: Some(stdout), stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    pub(crate) fn end(mut self) -> Ended {
        let mut status = None;
        wait_until("listentop ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        // Its last words: they fit the pipe.
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).expect("text");
        let stdout = self.stdout.take().expect("it ends once").join().expect("it was read");
        Ended { status, stdout, stderr }
    }
}
