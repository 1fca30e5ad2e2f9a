//! One boot of a virtual machine: qemu, in software alone, so that it runs where machines are virtual themselves.

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

use super::plan::Event;
use crate::process;

const QEMU: &str = "qemu-system-x86_64";

/// When a machine is stopped, whatever it does.
pub(crate) const LIMIT: Duration = Duration::from_mins(30);

/// Everything about the kernel that is the same in each machine.
///
/// It reboots at once when it panics, which ends qemu, and panics when it is in doubt. Mitigations of the processor's
/// leaks multiply the cost of software emulation and protect nothing here. A kernel that preempts itself anywhere does
/// so in the probes too, which take 20 times as long here, and then skips others. Detaching probes waits for the
/// kernel's grace periods, which are no shorter here unless it hurries.
const KERNEL_OPTIONS: &str = "console=ttyS0 panic=-1 oops=panic loglevel=5 mitigations=off tsc=reliable random.trust_cpu=on no_timer_check \
     preempt=voluntary rcupdate.rcu_expedited=1";

/// Everything that the emulator has, as the newest kernels ask for much, but for CMPXCHG16B: qemu 7.2 leaves rubbish in
/// the flags behind it, which an interrupt at that moment makes the kernel trip over (trap flag, direction flag).
const PROCESSOR: &str = "max,cx16=off";

/// A machine to boot.
pub(crate) struct Machine {
    /// The kernel's file.
    pub(crate) kernel: PathBuf,
    /// The file system's archive.
    pub(crate) file_system: PathBuf,
    /// As qemu wants it: `2`, or `2,maxcpus=64`.
    pub(crate) cpus: String,
    /// What its clock counts.
    pub(crate) clock: Clock,
    /// When it is stopped, whatever it does.
    pub(crate) limit: Duration,
    /// Where the kernel's messages go.
    pub(crate) console: PathBuf,
}

/// What a machine's clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Time, as it passes here.
    Time,
    /// Instructions, a nanosecond each; where the machine has nothing to do, the clock goes on to when it has. Of one
    /// CPU only. Chance and the calendar are the same each time, so that the machine does the same each time.
    Instructions,
}

/// How a boot ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It did everything that was planned.
    Complete,
    /// It did not: why.
    Broken(String),
}

/// Fails where there is no qemu.
///
/// # Errors
/// With the remedy.
pub(crate) fn ensure_available() -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the machines run x86_64 programs as this machine builds them, and it builds {} ones",
        std::env::consts::ARCH
    );
    ensure!(
        process::find(QEMU).is_some(),
        "there is no {QEMU} to boot the kernels in: `apt-get install --no-install-recommends qemu-system-x86` brings it"
    );
    Ok(())
}

/// The emulator, ended with its machine or with us.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It is gone already, unless the machine hangs.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots it, and passes on what it tells until it is off or out of time.
    ///
    /// # Errors
    /// When qemu cannot be started.
    pub(crate) fn run(&self, mut told: impl FnMut(Event)) -> Result<End> {
        let mut emulator = Emulator(self.command().spawn().with_context(|| format!("cannot run {QEMU}"))?);
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
                    Ok(event) => told(event),
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(_) => {
                        told(Event::Trouble { what: format!("garbled: {}", String::from_utf8_lossy(&line)) });
                    }
                },
                Err(RecvTimeoutError::Timeout) => {
                    return Ok(End::Broken(format!("it was stopped after {} s", self.limit.as_secs())));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = emulator.0.wait().with_context(|| format!("cannot wait for {QEMU}"))?;
        let console = fs::read(&self.console).unwrap_or_default();
        Ok(match complaint(&String::from_utf8_lossy(&console)) {
            Some(complaint) => End::Broken(complaint),
            None if !status.success() => End::Broken(format!("qemu failed ({status})")),
            None if done => End::Complete,
            None => End::Broken(format!("it went off early: see {}", self.console.display())),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command
            .args(["-accel", "tcg,thread=single", "-cpu", PROCESSOR, "-m", "2048", "-smp", &self.cpus])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-append", KERNEL_OPTIONS])
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
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // SAFETY: a system call, and nothing else, between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        command
    }
}

/// What the kernel itself found to be wrong, from its messages.
fn complaint(console: &str) -> Option<String> {
    const SIGNS: [&str; 5] = ["Kernel panic", "BUG: ", "Oops", "general protection fault", "INFO: task "];
    let line = console.lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign)))?;
    Some(format!("its kernel says: {}", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn what_a_kernel_finds_wrong_is_noticed() {
        let console = "[    1.0] Run /init as init process\r\n[    2.5] BUG: kernel NULL pointer dereference\r\n[    2.6] Oops: 0\r\n";
        assert_eq!(
            complaint(console).as_deref(),
            Some("its kernel says: [    2.5] BUG: kernel NULL pointer dereference")
        );
        let console = "[    9.1] Kernel panic - not syncing: Attempted to kill init!\n";
        assert!(complaint(console).is_some_and(|text| text.contains("Attempted to kill init!")));
        assert_eq!(complaint("[    1.0] Run /init as init process\n[    9.0] reboot: Power down\n"), None);
    }
}
