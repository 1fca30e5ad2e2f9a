//! A pseudo-terminal with the dashboard in it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};

/// The environment variable that holds what the child does.
pub(crate) const MODE: &str = "LISTENTOP_TEST_DASHBOARD";
/// Longer than a loaded machine takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const ENTER_ALTERNATE: &str = "\x1b[?1049h";
pub(crate) const LEAVE_ALTERNATE: &str = "\x1b[?1049l";
pub(crate) const SHOW_CURSOR: &str = "\x1b[?25h";

/// A terminal with the dashboard in it.
pub(crate) struct Session {
    pub(crate) master: Option<File>,
    pub(crate) slave: OwnedFd,
    pub(crate) before: Termios,
    pub(crate) child: Child,
    pub(crate) output: String,
}

impl Session {
    /// This test binary as its own child, which does what `mode` names.
    pub(crate) fn start(mode: &str, size: (u16, u16), controlling: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]).env(MODE, mode);
        Self::of(command, size, controlling)
    }

    /// The program itself, without probes: that runs everywhere, and as anybody.
    pub(crate) fn program(arguments: &[&str], size: (u16, u16), no_color: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_listentop"));
        command.args(["--probes", "sock_diag"]).args(arguments).env_remove("NO_COLOR");
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        Self::of(command, size, true)
    }

    /// The same on a terminal of this type, in this locale.
    pub(crate) fn on_terminal(term: &str, locale: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_listentop"));
        command.args(["--probes", "sock_diag"]).env_remove("NO_COLOR").env("TERM", term).env("LC_ALL", locale);
        Self::of(command, (120, 40), true)
    }

    pub(crate) fn of(mut command: Command, (columns, rows): (u16, u16), controlling: bool) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let end = || slave.try_clone().unwrap();
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        command.stdin(end()).stdout(end()).stderr(end());
        let raw = master.as_raw_fd();
        // SAFETY: only async-signal-safe calls between fork and exec, on descriptors that are open there.
        unsafe {
            command.pre_exec(move || {
                libc::close(raw);
                if libc::setsid() < 0 || (controlling && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0) {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Self { master: Some(master.into()), slave, before, child, output: String::new() }
    }

    /// Reads until `text` was shown.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.output.contains(text) {
            assert!(start.elapsed() < PATIENCE, "no {text:?} in:\n{}", self.output);
            self.read(Duration::from_millis(100));
        }
    }

    pub(crate) fn read(&mut self, patience: Duration) {
        let Some(master) = &mut self.master else { return };
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(master), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap();
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
            let mut bytes = vec![0; 65_536];
            let count = master.read(&mut bytes).unwrap_or(0);
            self.output.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// Types, and forgets what was shown before.
    pub(crate) fn send(&mut self, keys: &str) {
        self.output.clear();
        self.master.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.output.clear();
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16) {
        self.output.clear();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open and `size` is what TIOCSWINSZ reads.
        let set = unsafe { libc::ioctl(self.master.as_ref().unwrap().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(set, 0);
    }

    /// Waits for the end; the status.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            self.read(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().unwrap() {
                self.read(Duration::from_millis(20));
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end; last output:\n{}", self.output);
        }
    }

    /// The end has this code, and left the terminal as it was.
    pub(crate) fn assert_end(mut self, code: i32) {
        let status = self.end();
        assert_eq!(status.code(), Some(code), "{status:?} (signal {:?}), output:\n{}", status.signal(), self.output);
        let leave = self.output.rfind(LEAVE_ALTERNATE).expect("it leaves the alternate screen");
        assert!(self.output[leave..].contains(SHOW_CURSOR), "the cursor stays hidden");
        assert!(!self.output[leave..].contains("coverage"), "it draws after giving the screen back");
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before, "the terminal's modes are not as before");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Already gone unless an assertion failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session that shows the overview.
pub(crate) fn started() -> Session {
    let mut session = Session::start("show", (80, 24), true);
    session.wait_for("quit");
    assert!(session.output.contains(ENTER_ALTERNATE));
    let modes = tcgetattr(&session.slave).unwrap();
    assert!(!modes.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON), "not in raw mode");
    session
}
