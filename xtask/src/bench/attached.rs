//! What is attached to the kernel while a load runs.

use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Programs;
use super::children::{self, Guarded};
use super::probe_stats;

/// Measures accept wait alone, by hand-written bpftrace.
const ACCEPT_WAIT: &str = include_str!("accept_wait.bt");
/// Programs that it consists of: one per tracepoint.
const ACCEPT_WAIT_PROGRAMS: u64 = 3;
/// How much longer than the load listentop measures, so that the load lies within.
const MARGIN: Duration = Duration::from_secs(1);

/// One side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// Nothing: what two runs differ by on their own.
    Nothing,
    /// listentop as it is.
    Listentop,
    /// Empty programs on the hooks of listentop.
    Empty,
    /// The bpftrace script.
    Bpftrace,
}

impl Tool {
    /// As the report calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing (noise)",
            Self::Listentop => "listentop",
            Self::Empty => "empty programs",
            Self::Bpftrace => "bpftrace, accept wait",
        }
    }

    /// Attaches it for a load of the given length; `None` when there is nothing to attach.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn attach(self, programs: &Programs, length: Duration) -> Result<Option<Attached>> {
        let attached = match self {
            Self::Nothing => return Ok(None),
            Self::Listentop => listentop(&programs.listentop, length, &[]),
            Self::Empty => listentop(&programs.listentop, length, &["--probes", "empty"]),
            Self::Bpftrace => bpftrace(),
        };
        attached.map(Some).with_context(|| self.name())
    }
}

/// A tool that is attached until this is finished or dropped.
pub(super) struct Attached {
    /// Its process.
    pub(super) process: Guarded,
    /// From its start until it said that it measures; `None` where that is not said.
    pub(super) start: Option<Duration>,
    /// bpftrace's stdout: what it has measured.
    result: Option<ChildStdout>,
}

impl Attached {
    /// Lets it end and checks that it did what it is measured for.
    ///
    /// # Errors
    /// When it failed.
    pub(super) fn finish(mut self) -> Result<()> {
        let Some(mut stdout) = self.result.take() else {
            let status = self.process.wait().context("listentop")?;
            ensure!(status.success(), "listentop failed ({status})");
            return Ok(());
        };
        self.process.interrupt().context("bpftrace")?;
        let mut result = String::new();
        stdout.read_to_string(&mut result).context("cannot read from bpftrace")?;
        self.process.wait().context("bpftrace")?;
        ensure!(result.contains("@accept_wait_us:"), "bpftrace measured nothing: {}", result.trim());
        Ok(())
    }
}

fn listentop(listentop: &Path, length: Duration, options: &[&str]) -> Result<Attached> {
    let mut command = children::bound_to_us(listentop);
    command.args(["report", "--format", "json", "--for"]).arg(format!("{}s", (length + MARGIN).as_secs()));
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let stderr = child.stderr.take().context("listentop has no stderr")?;
    let process = Guarded::new(child);
    children::wait_for_line(stderr, |line| line.contains("measuring"))?;
    Ok(Attached { process, start: Some(started.elapsed()), result: None })
}

fn bpftrace() -> Result<Attached> {
    let mut command = children::bound_to_us(Path::new("bpftrace"));
    // bpftrace warns of a limit that newer kernels do not have.
    command.args(["-e", ACCEPT_WAIT]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let result = child.stdout.take();
    let mut process = Guarded::new(child);
    probe_stats::wait_for_programs(&mut process, ACCEPT_WAIT_PROGRAMS)?;
    // Loaded is not yet attached, and bpftrace does not say when it is.
    thread::sleep(Duration::from_millis(500));
    Ok(Attached { process, start: None, result })
}
