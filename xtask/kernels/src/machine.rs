//! One boot of a virtual machine. qemu emulates it in software, so it runs inside virtual machines too.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::architecture::Architecture;
use listentop_guest::plan::Event;
use xtask_support::process;

/// A machine that runs longer is stopped.
pub const LIMIT: Duration = Duration::from_mins(50);

/// Kernel options of every machine.
///
/// - The kernel panics on every oops, and reboots at once after a panic, which ends qemu.
/// - Mitigations of processor faults multiply the cost of software emulation and protect nothing here.
/// - Preemption is voluntary: a fully preemptible kernel would preempt probes, which take 20 times as long here, and
///   then skip others.
/// - Detaching probes waits for the kernel's grace periods: expedited ones are shorter.
const KERNEL_OPTIONS: &str = "panic=-1 oops=panic loglevel=5 mitigations=off random.trust_cpu=on preempt=voluntary \
     rcupdate.rcu_expedited=1";

/// A machine to boot.
pub struct Machine {
    /// What it runs.
    pub architecture: Architecture,
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The file system's archive.
    pub file_system: PathBuf,
    /// In the syntax of qemu: `2`, or `2,maxcpus=64`.
    pub cpus: String,
    /// What its clock counts.
    pub clock: Clock,
    /// It is stopped when it runs longer.
    pub limit: Duration,
    /// The file for the kernel's messages.
    pub console: PathBuf,
}

/// What a machine's clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Time, as it passes here.
    Time,
    /// Instructions, a nanosecond each. While the machine is idle the clock jumps to the next event. This needs a
    /// single CPU. Random numbers and the date are the same in every boot, so every boot does the same.
    Instructions,
}

/// How a boot ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It finished its plan.
    Complete,
    /// It did not; the reason.
    Broken(String),
}

/// Checks that qemu is there.
///
/// # Errors
/// When it is not; the message has the remedy.
pub fn ensure_available(architecture: Architecture) -> Result<()> {
    let (qemu, package) = (architecture.emulator(), architecture.package());
    ensure!(
        process::find(qemu).is_some(),
        "there is no {qemu} to boot the kernels in: `apt-get install --no-install-recommends {package}` installs it"
    );
    Ok(())
}

/// The same for a machine with programs that are built for this machine's own architecture.
///
/// # Errors
/// Likewise, and when that is another architecture.
pub fn ensure_runs_own(architecture: Architecture) -> Result<()> {
    ensure!(
        std::env::consts::ARCH == architecture.name(),
        "the virtual machine runs {architecture} programs, but this machine builds {} ones",
        std::env::consts::ARCH
    );
    ensure_available(architecture)
}

/// The emulator; it ends when this is dropped.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already, unless the machine hangs.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots it and passes its events on, until it is off or out of time.
    ///
    /// # Errors
    /// When qemu cannot be started.
    pub fn run(&self, mut report: impl FnMut(Event)) -> Result<End> {
        let qemu = self.architecture.emulator();
        let mut emulator = Emulator(self.command().spawn().with_context(|| format!("cannot run {qemu}"))?);
        let events = emulator.0.stdout.take().context("qemu has no stdout")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(events).split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let mut done = false;
        loop {
            match lines.recv_timeout(self.limit.saturating_sub(start.elapsed())) {
                Ok(line) => match serde_json::from_slice(line.trim_ascii()) {
                    Ok(Event::Done) => done = true,
                    Ok(event) => report(event),
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(_) => {
                        report(Event::Trouble { what: format!("garbled: {}", String::from_utf8_lossy(&line)) });
                    }
                },
                Err(RecvTimeoutError::Timeout) => {
                    return Ok(End::Broken(format!("it was stopped after {} s", self.limit.as_secs())));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = emulator.0.wait().with_context(|| format!("cannot wait for {qemu}"))?;
        let console = fs::read(&self.console).unwrap_or_default();
        Ok(match complaint(&String::from_utf8_lossy(&console)) {
            Some(complaint) => End::Broken(complaint),
            None if !status.success() => End::Broken(format!("qemu failed ({status})")),
            None if done => End::Complete,
            None => End::Broken(format!("it powered off early: see {}", self.console.display())),
        })
    }

    fn command(&self) -> Command {
        let architecture = self.architecture;
        let mut command = Command::new(architecture.emulator());
        command
            .args(architecture.machine())
            .args(["-accel", "tcg,thread=single", "-m", "2048", "-smp", &self.cpus])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-append", &format!("{} {KERNEL_OPTIONS}", architecture.kernel_options())])
            .args(match self.clock {
                Clock::Time => &[][..],
                Clock::Instructions => {
                    &["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01T00:00:00,clock=vm"]
                }
            })
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.file_system)
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(architecture.events())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // SAFETY: between fork and exec the closure makes one system call and nothing else.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        command
    }
}

/// The first sign of a crash in the kernel's messages.
fn complaint(console: &str) -> Option<String> {
    const SIGNS: [&str; 5] = ["Kernel panic", "BUG: ", "Oops", "general protection fault", "INFO: task "];
    let line = console.lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign)))?;
    Some(format!("its kernel reports: {}", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn a_crash_is_found_in_the_messages() {
        let console = "[    1.0] Run /init as init process\r\n[    2.5] BUG: kernel NULL pointer dereference\r\n[    2.6] Oops: 0\r\n";
        assert_eq!(
            complaint(console).as_deref(),
            Some("its kernel reports: [    2.5] BUG: kernel NULL pointer dereference")
        );
        let console = "[    9.1] Kernel panic - not syncing: Attempted to kill init!\n";
        assert!(complaint(console).is_some_and(|text| text.contains("Attempted to kill init!")));
        assert_eq!(complaint("[    1.0] Run /init as init process\n[    9.0] reboot: Power down\n"), None);
    }
}
