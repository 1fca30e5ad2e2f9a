//! Counts the instructions for a connection and for a request, with listentop attached and without.
//!
//! `cargo xtask bench --instructions` starts it in a virtual machine whose clock counts instructions, a nanosecond
//! each.

use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use listentop_guest::counted::{Attached, Counted, Hooks, Work};
use xtask_support::children::{self, Guarded};

/// Wait before the first run: the kernel still has work after its boot.
const COMING_UP: Duration = Duration::from_secs(5);
/// The load runs this long before it is counted: the kernel's caches, such as slabs, fill.
const SETTLING: Duration = Duration::from_millis(100);
/// Length of a run: some 3,000 connections, or 9,000 requests. Longer runs differ as much from each other.
const LENGTH: Duration = Duration::from_millis(250);
/// Runs of each kind. The kernel's work differs between connections; the host takes the mean.
const RUNS: usize = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vm-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    thread::sleep(COMING_UP);
    ensure_counting()?;
    let hooks = Hooks::ALL.into_iter().flat_map(|hooks| [Attached::Empty(hooks), Attached::Listentop(hooks)]);
    let all: Vec<Attached> = [Attached::Nothing].into_iter().chain(hooks).collect();
    for work in Work::ALL {
        let server = Server::start(work)?;
        for attached in all.iter().copied() {
            let _listentop = attach(attached)?;
            server.load(SETTLING)?;
            for _ in 0..RUNS {
                let instructions = 1e9 / server.load(LENGTH)?;
                println!("{}", serde_json::to_string(&Counted { work, attached, instructions })?);
            }
        }
    }
    Ok(())
}

/// Makes sure that the clock counts instructions.
fn ensure_counting() -> Result<()> {
    const TURNS: u32 = 10_000_000;
    let start = Instant::now();
    // SAFETY: two instructions that change one register.
    unsafe {
        std::arch::asm!("2:", "dec {turns:e}", "jnz 2b", turns = inout(reg) TURNS => _, options(nomem, nostack));
    }
    let (took, expected) = (start.elapsed().as_secs_f64(), f64::from(TURNS) * 2e-9);
    // Interrupts add some.
    ensure!(
        (expected * 0.99..expected * 1.05).contains(&took),
        "this machine's clock does not count instructions: {took} s instead of {expected} s"
    );
    Ok(())
}

/// Attaches the programs until the returned process is dropped. The process is stopped: only its probes run.
fn attach(attached: Attached) -> Result<Option<Guarded>> {
    let (hooks, empty) = match attached {
        Attached::Nothing => return Ok(None),
        Attached::Empty(hooks) => (hooks, true),
        Attached::Listentop(hooks) => (hooks, false),
    };
    let mut command = Command::new("/bin/listentop");
    command.args(["report", "--for", "1h", "--format", "json", "--probes", &hooks.to_string()]);
    if empty {
        command.arg("--empty-programs");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().context("listentop has no stderr")?;
    let process = Guarded::new(child);
    children::wait_for_line(stderr, |line| line.contains("measuring")).context("listentop")?;
    kill(Pid::from_raw(process.pid().cast_signed()), Signal::SIGSTOP)?;
    Ok(Some(process))
}

/// A demo server that listens; it ends when this is dropped.
struct Server {
    _process: Guarded,
    work: Work,
}

/// Its port.
const PORT: &str = "7999";

impl Server {
    fn start(work: Work) -> Result<Self> {
        let mut command = Command::new("/bin/demo-server");
        command.args(["--pattern", "single_thread", "--address", "127.0.0.1", "--port", PORT, "--backlog", "4096"]);
        if work == Work::Connect {
            command.arg("--close-on-accept");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("demo-server has no stdout")?;
        let process = Guarded::new(child);
        children::wait_for_line(stdout, |line| line.contains("\"ready\"")).context("demo-server")?;
        Ok(Self { _process: process, work })
    }

    /// Runs the load and returns its operations per second.
    fn load(&self, length: Duration) -> Result<f64> {
        let mode = match self.work {
            Work::Connect => "connect",
            Work::Requests => "keepalive",
        };
        let mut command = Command::new("/bin/storm");
        command.args(["--mode", mode, "--connections", "16", "--target", &format!("127.0.0.1:{PORT}")]);
        command.args(["--for", &length.as_secs_f64().to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output()?;
        ensure!(output.status.success(), "storm failed ({})", output.status);
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).context("storm's result is not JSON")?;
        let per_second = result["per_second"].as_f64().filter(|per_second| *per_second > 0.0);
        per_second.with_context(|| format!("storm got nothing done: {result}"))
    }
}
