//! What is attached to the kernel while a load runs.

use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};

use crate::probe_stats;
use crate::programs::Programs;
use crate::tool::Tool;
use xtask_support::children::{self, Guarded};

/// A hand-written bpftrace script that measures only the accept wait.
const ACCEPT_WAIT: &str = include_str!("accept_wait.bt");
/// The number of its programs: one per tracepoint.
const ACCEPT_WAIT_PROGRAMS: u64 = 3;
/// `ss` ten times a second, as somebody has it run who looks for a full accept queue.
const SS: &str = "while :; do ss --no-header --listening --tcp --numeric || exit 1; sleep 0.1; done";
/// The switch that traces splice(2), which no load calls. While any system call is traced, the kernel uses its slow
/// exit path for all of them.
const TRACED_CALL: &str = "/sys/kernel/tracing/events/syscalls/sys_exit_splice/enable";

/// Attaches the tool; `None` when there is nothing to attach.
///
/// # Errors
/// When it does not start.
pub(crate) fn attach(tool: Tool, programs: &Programs) -> Result<Option<Attached>> {
    let attached = match tool {
        Tool::Nothing => return Ok(None),
        Tool::Listentop => listentop(&programs.listentop, "report", &[]),
        Tool::Level(level) => listentop(&programs.listentop, "report", &["--measure", level.name()]),
        Tool::Blame => listentop(&programs.listentop, "blame", &[]),
        // It picks the same hooks as listentop.
        Tool::Empty => listentop(&programs.listentop, "report", &["--empty-programs"]),
        Tool::TracedCalls => Attached::traced_calls(),
        Tool::Bpftrace => bpftrace(),
        Tool::Ss => ss(),
    };
    attached.map(Some).with_context(|| tool.name())
}

/// A tool that is attached until this is finished or dropped.
pub(crate) struct Attached {
    /// Its process, if it has one.
    pub(crate) process: Option<Guarded>,
    /// The time from its start until it announced that it measures; `None` for tools without that announcement.
    pub(crate) start: Option<Duration>,
    /// bpftrace's stdout, with its result.
    result: Option<ChildStdout>,
    /// It has no result, and is killed.
    endless: bool,
    /// Ends the tracing of system calls when dropped.
    _traced: Option<Traced>,
}

/// A system call is traced while this lives.
struct Traced;

impl Drop for Traced {
    fn drop(&mut self) {
        // Writing it has worked before.
        let _ = fs::write(TRACED_CALL, "0");
    }
}

impl Attached {
    /// Ends it and checks that it measured something.
    ///
    /// # Errors
    /// When it failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        ensure!(process.is_running()?, "it ended before its load did");
        if self.endless {
            return Ok(());
        }
        process.interrupt()?;
        let mut result = String::new();
        if let Some(stdout) = &mut self.result {
            stdout.read_to_string(&mut result).context("cannot read from bpftrace")?;
        }
        let status = process.wait()?;
        match self.result {
            Some(_) => ensure!(result.contains("@accept_wait_us:"), "bpftrace measured nothing: {}", result.trim()),
            None => ensure!(status.success(), "listentop failed ({status})"),
        }
        Ok(())
    }

    fn of(process: Option<Guarded>) -> Self {
        Self { process, start: None, result: None, endless: false, _traced: None }
    }

    fn traced_calls() -> Result<Self> {
        let refused = |error: io::Error| anyhow::anyhow!("{TRACED_CALL} cannot be written: {error}");
        fs::write(TRACED_CALL, "1").map_err(refused)?;
        Ok(Self { _traced: Some(Traced), ..Self::of(None) })
    }
}

fn listentop(listentop: &Path, subcommand: &str, options: &[&str]) -> Result<Attached> {
    let mut command = children::bound_to_us(listentop);
    // The bench interrupts it long before.
    command.args([subcommand, "--format", "json", "--for", "5m"]);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let stderr = child.stderr.take().context("listentop has no stderr")?;
    let process = Guarded::new(child);
    children::wait_for_line(stderr, |line| line.contains("measuring"))?;
    Ok(Attached { start: Some(started.elapsed()), ..Attached::of(Some(process)) })
}

fn bpftrace() -> Result<Attached> {
    let mut command = children::bound_to_us(Path::new("bpftrace"));
    // Its stderr: bpftrace warns of a limit that newer kernels lack.
    command.args(["-e", ACCEPT_WAIT]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot run setpriv (of util-linux)")?;
    let result = child.stdout.take();
    let mut process = Guarded::new(child);
    probe_stats::wait_for_programs(&mut process, ACCEPT_WAIT_PROGRAMS)?;
    // The programs are loaded, but perhaps not attached yet, and bpftrace does not say when.
    thread::sleep(Duration::from_millis(500));
    Ok(Attached { result, ..Attached::of(Some(process)) })
}

fn ss() -> Result<Attached> {
    let mut command = children::bound_to_us(Path::new("sh"));
    command.args(["-c", SS]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let process = Guarded::new(command.spawn().context("cannot run setpriv (of util-linux)")?);
    Ok(Attached { endless: true, ..Attached::of(Some(process)) })
}
