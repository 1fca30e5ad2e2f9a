//! The dashboard with attached probes, in a pseudo-terminal.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use listentop_model::coverage::Measure;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{OpenptyResult, Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{ControlFlags, InputFlags, LocalFlags, OutputFlags, tcgetattr},
    },
    unistd::Pid,
};
use test_support::{
    Lab, Test,
    command::listentop,
    environment::patience,
    lab::PORT,
    sockets::{accept, attempt, connect, give_up_refused, listen, receive, send_all},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "dashboard::quit_by_key", needs: NEEDS, run: quit_by_key },
    Test { name: "dashboard::ended_by_signals", needs: NEEDS, run: ended_by_signals },
    Test { name: "dashboard::log_of_the_probes", needs: NEEDS, run: log_of_the_probes },
];

const ENTER_ALTERNATE: &str = "\x1b[?1049h";
const LEAVE_ALTERNATE: &str = "\x1b[?1049l";

/// A terminal's modes, without the control characters that the kernel does not set.
type Modes = (InputFlags, OutputFlags, ControlFlags, LocalFlags, Vec<u8>);

fn modes(terminal: &OwnedFd) -> Modes {
    /// Linux's own NCCS. C libraries have a larger one.
    const CONTROL_CHARACTERS: usize = 19;
    let modes = tcgetattr(terminal).expect("its modes");
    let characters = modes.control_chars[..CONTROL_CHARACTERS].to_vec();
    (modes.input_flags, modes.output_flags, modes.control_flags, modes.local_flags, characters)
}

/// A terminal of 80 columns and 24 rows in which the dashboard runs.
struct Session {
    master: File,
    slave: OwnedFd,
    before: Modes,
    child: Child,
    output: String,
}

impl Session {
    /// Starts the dashboard on the listeners of one namespace.
    fn start(netns: u32) -> Self {
        Self::start_with(netns, "", None)
    }

    /// The same with more arguments, and with stderr in a file.
    fn start_with(netns: u32, arguments: &str, errors: Option<File>) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a pseudo-terminal");
        let before = modes(&slave);
        let end = || slave.try_clone().expect("a descriptor");
        let mut command = listentop(&format!("--netns {netns} --refresh 100ms {arguments}"));
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").stdin(end()).stdout(end());
        command.stderr(errors.map_or_else(|| Stdio::from(end()), Stdio::from));
        let raw = master.as_raw_fd();
        // SAFETY: only async-signal-safe calls between fork and exec, on descriptors that are open there.
        unsafe {
            command.pre_exec(move || {
                libc::close(raw);
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("listentop starts");
        Self { master: master.into(), slave, before, child, output: String::new() }
    }

    fn read(&mut self, patience: Duration) {
        let mut entries = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        poll(&mut entries, PollTimeout::try_from(patience).expect("short")).expect("poll");
        if entries[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
            let mut bytes = vec![0; 65_536];
            let count = self.master.read(&mut bytes).unwrap_or(0);
            self.output.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// Reads until `text` was drawn.
    fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.output.contains(text) {
            assert!(start.elapsed() < patience(), "no {text:?} in:\n{}", self.output);
            self.read(Duration::from_millis(50));
        }
    }

    /// Types these keys. Discards what was drawn before.
    fn send(&mut self, keys: &str) {
        self.output.clear();
        self.master.write_all(keys.as_bytes()).expect("it reads keys");
    }

    /// Resizes the terminal, which sends the dashboard a signal.
    fn resize(&mut self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.output.clear();
        // SAFETY: the size outlives the call, which reads it.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0, "TIOCSWINSZ: {}", std::io::Error::last_os_error());
    }

    /// Checks that the dashboard ends with this code and restores the terminal.
    fn assert_end(mut self, code: i32) {
        let start = Instant::now();
        let status = loop {
            self.read(Duration::from_millis(20));
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            assert!(start.elapsed() < patience(), "it does not end; last output:\n{}", self.output);
        };
        self.read(Duration::from_millis(20));
        assert_eq!(status.code(), Some(code), "{status:?}, output:\n{}", self.output);
        let leave = self.output.rfind(LEAVE_ALTERNATE).expect("it leaves the alternate screen");
        assert!(self.output[leave..].contains("\x1b[?25h"), "the cursor stays hidden");
        assert_eq!(modes(&self.slave), self.before, "the terminal's modes are not as before");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Already gone unless an assertion failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn started(lab: &Lab) -> Session {
    shown(Session::start(lab.netns))
}

fn shown(mut session: Session) -> Session {
    session.wait_for(&PORT.to_string());
    assert!(session.output.contains(ENTER_ALTERNATE));
    let modes = tcgetattr(&session.slave).expect("its modes");
    assert!(!modes.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON), "not in raw mode");
    session
}

/// The listener is drawn; its view opens and shows findings; the key `q` ends the dashboard.
fn quit_by_key(lab: &Lab) {
    let listener = listen(PORT, 3);
    let mut session = started(lab);
    let client = connect(PORT);
    let server = accept(&listener).expect("a connection");
    send_all(&client, b"hello");
    receive(&server, 10);
    session.send("\r");
    session.wait_for("ACCEPTORS");
    // A finding that only the current load can cause.
    let waiting = give_up_refused((0..20).map(|_| attempt(PORT)).collect());
    session.output.clear();
    session.wait_for("overflow");
    // It draws everything at the new size, and the first key afterwards works.
    session.resize(200, 60);
    session.wait_for("Distributions");
    session.send("q");
    session.assert_end(0);
    drop(waiting);
}

fn ended_by_signals(lab: &Lab) {
    let _listener = listen(PORT, 3);
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let mut session = started(lab);
        session.output.clear();
        kill(Pid::from_raw(session.child.id() as i32), signal).expect("it runs");
        session.assert_end(code);
    }
}

/// The probes' log is not written over the dashboard: stderr must be redirected, or the dashboard does not start.
fn log_of_the_probes(lab: &Lab) {
    let mut session = Session::start_with(lab.netns, "--log-probes", None);
    session.wait_for("2>FILE");
    assert!(!session.output.contains(ENTER_ALTERNATE), "{}", session.output);
    assert_eq!(session.child.wait().expect("our child").code(), Some(1));

    let _listener = listen(PORT, 3);
    let (errors, path) = nix::unistd::mkstemp(&std::env::temp_dir().join("listentop-XXXXXX")).expect("a file");
    nix::unistd::unlink(&path).expect("it is ours");
    let mut errors = File::from(errors);
    let mut session = shown(Session::start_with(lab.netns, "--log-probes", errors.try_clone().ok()));
    // What has closed is shown, too.
    session.send("x");
    drop(listen(PORT + 1, 3));
    session.wait_for(&(PORT + 1).to_string());
    session.send("q");
    assert!(!session.output.contains("probe: "), "{}", session.output);
    session.assert_end(0);
    let mut text = String::new();
    errors.rewind().expect("a file");
    errors.read_to_string(&mut text).expect("text");
    assert!(text.contains("probe: listening: ") && text.contains("probe: listens no more: "), "{text}");
}
