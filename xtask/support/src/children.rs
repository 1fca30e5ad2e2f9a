//! Child processes that end with the process that started them.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Limit for steps that normally take no noticeable time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command for `program` whose process gets SIGTERM when we end, however that happens. It execs: the process id
/// stays.
#[must_use]
pub fn bound_to_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// A child that is killed when this is dropped, if it still runs.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

impl Guarded {
    /// Guards this child.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self { child }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the kernel knows no such child.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("cannot wait for a child")?.is_none())
    }

    /// Waits for its end, up to a limit.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(|| {
            status = self.child.try_wait().context("cannot wait for a child")?;
            Ok(status.is_some())
        })?;
        status.context("it did not end in time")
    }

    /// Waits for its end, without a limit.
    pub fn wait_quietly(&mut self) {
        // It fails only for a child that was waited for already.
        let _ = self.child.wait();
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// When there is no sh, or the child has ended.
    pub fn interrupt(&self) -> Result<()> {
        let status = Command::new("sh").args(["-c", "kill -INT \"$0\""]).arg(self.pid().to_string()).status();
        status.context("cannot run sh")?.success().then_some(()).context("it cannot be interrupted: it has ended")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = self.child.kill();
        self.wait_quietly();
    }
}

/// Asks again and again until the answer is yes. Returns whether that came in time.
///
/// # Errors
/// As `done`.
pub fn wait_until(mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// Reads lines until `wanted` accepts one, and returns it. The rest is read and dropped, so the writer never blocks.
///
/// # Errors
/// When no such line comes. The message has the lines that came instead.
pub fn wait_for_line(
    stream: impl Read + Send + 'static,
    wanted: impl Fn(&str) -> bool + Send + 'static,
) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens after the wanted line: the receiver is gone.
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut others = Vec::new();
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if wanted(&line) => return Ok(line),
            Ok(line) => others.push(line),
            Err(_) if others.is_empty() => bail!("it ended, or printed nothing in time"),
            Err(_) => bail!("it did not start: {}", others.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{Guarded, bound_to_us, wait_for_line, wait_until};

    #[test]
    fn the_wanted_line_is_found_and_others_are_named() {
        let text = "one\ntwo\nthree\n".as_bytes();
        assert_eq!(wait_for_line(text, |line| line.starts_with("tw")).unwrap(), "two");
        let error = wait_for_line(text, |line| line == "four").unwrap_err().to_string();
        assert_eq!(error, "it did not start: one; two; three");
    }

    #[test]
    fn a_guarded_child_ends_with_its_guard() {
        let child = bound_to_us(Path::new("sleep")).arg("60").stdin(Stdio::null()).spawn().unwrap();
        let guarded = Guarded::new(child);
        let directory = format!("/proc/{}", guarded.pid());
        assert!(Path::new(&directory).exists());
        drop(guarded);
        assert!(!Path::new(&directory).exists());
    }

    #[test]
    fn an_interrupted_child_ends() {
        // A shell starts background jobs with SIGINT ignored, and their children inherit that.
        let mut sleep = Command::new("env");
        sleep.args(["--default-signal=INT", "sleep", "60"]);
        let child = sleep.spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut guarded = Guarded::new(child);
        // env(1) changes that a moment after it was spawned.
        let heeds_interrupts = || {
            let status = std::fs::read_to_string(&status)?;
            let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
            Ok(u64::from_str_radix(ignored.trim(), 16)? & 0b10 == 0)
        };
        assert!(wait_until(heeds_interrupts).unwrap());
        guarded.interrupt().unwrap();
        assert!(!guarded.wait().unwrap().success());
    }
}
