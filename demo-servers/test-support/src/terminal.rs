//! A lab with a dashboard, in a pseudo-terminal.

use crate::lab::{descendants, names};
use crate::{eventually, program};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The escape sequence by which a dashboard enters its screen.
pub const ENTER: &str = "\x1b[?1049h";
/// The escape sequence by which a dashboard leaves its screen.
pub const LEAVE: &str = "\x1b[?1049l";

/// A shell in a terminal. It runs a lab and prints its exit status. With the lab as the terminal's first process, the
/// terminal would hang up at the lab's end, and there would be nothing to restore.
pub struct Session {
    shell: Child,
    slave: OwnedFd,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reads: Arc<AtomicBool>,
}

impl Session {
    /// Starts a lab with these options, and this program as listentop. It asks for no prediction.
    pub fn start(options: &str, listentop: &Path) -> Self {
        Self::start_asking(&format!("{options} --no-quiz"), listentop)
    }

    /// The same, and a lesson that is named asks for a prediction.
    pub fn start_asking(options: &str, listentop: &Path) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "\"$0\" \"$@\"; echo \"[code $?]\"; exec sleep 100"]).arg(program("lab"));
        command.args(options.split_whitespace()).arg("--listentop").arg(listentop).env("TERM", "xterm-256color");
        for stream in [Command::stdin, Command::stdout, Command::stderr] {
            stream(&mut command, Stdio::from(pty.slave.try_clone().unwrap()));
        }
        // SAFETY: setsid and ioctl are system calls and async-signal-safe; stdin is the terminal.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            })
        };
        let shell = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reads = Arc::new(AtomicBool::new(true));
        let (mut master, seen, reading) = (File::from(pty.master), Arc::clone(&shown), Arc::clone(&reads));
        let keyboard = master.try_clone().unwrap();
        // The slave stays open here, so this thread ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = master.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
                while !reading.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Self { shell, slave: pty.slave, keyboard, shown, reads }
    }

    /// Types a text.
    pub fn type_text(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// The lab's process.
    pub fn lab(&self) -> i32 {
        let find = || {
            let pids = descendants(self.shell.id() as i32);
            pids.iter().copied().zip(names(&pids)).find(|(_, name)| name == "lab").map(|(pid, _)| pid)
        };
        eventually("the lab runs", || find().is_some());
        find().expect("it runs")
    }

    /// Sends the lab a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.lab()), signal).unwrap();
    }

    /// Reads nothing any more: the terminal takes nothing as soon as it is full.
    pub fn stop_reading(&self) {
        self.reads.store(false, Ordering::Relaxed);
    }

    /// Reads again.
    pub fn go_on_reading(&self) {
        self.reads.store(true, Ordering::Relaxed);
    }

    /// Everything that was written to the terminal so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Waits until this was written to the terminal.
    pub fn wait_for(&self, text: &str) {
        eventually(text, || self.shown().contains(text));
    }

    /// Waits for the lab's end. Returns its exit status as a shell reports it.
    pub fn end(&self) -> i32 {
        let code = || Some(self.shown().rsplit_once("[code ")?.1.split_once(']')?.0.parse().unwrap());
        eventually("the lab ends", || code().is_some());
        code().expect("it has ended")
    }

    /// Whether the terminal edits and echoes lines, as it does before a dashboard starts.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Checks that a dashboard's screen was entered, left again, and the cursor shown. Returns what was written
    /// afterwards.
    pub fn after_dashboard(&self) -> String {
        let shown = self.shown();
        let entered = shown.rfind(ENTER).unwrap_or_else(|| panic!("there was no dashboard: {shown}"));
        let left = shown.rfind(LEAVE).filter(|left| entered < *left);
        let after = left.map_or_else(|| panic!("it was not left: {shown}"), |left| shown[left..].to_owned());
        let hidden = shown.rfind("\x1b[?25l").unwrap_or(0);
        assert!(shown.rfind("\x1b[?25h").is_some_and(|visible| hidden < visible), "no cursor: {shown}");
        after
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
