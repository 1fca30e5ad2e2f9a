//! The dashboard with attached probes, in a pseudo-terminal.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
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
    process::{Gate, fork},
    sleep_ms,
    sockets::{accept, attempt, connect, give_up_refused, listen, receive, send_all},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "dashboard::quit_by_key", needs: NEEDS, run: quit_by_key },
    Test { name: "dashboard::ended_by_signals", needs: NEEDS, run: ended_by_signals },
    Test { name: "dashboard::level_by_key", needs: NEEDS, run: level_by_key },
    Test { name: "dashboard::log_of_the_probes", needs: NEEDS, run: log_of_the_probes },
    Test { name: "dashboard::blame_while_its_view_is_open", needs: NEEDS, run: blame_while_open },
    Test { name: "dashboard::blame_while_a_critical_finding_lasts", needs: NEEDS, run: blame_by_itself },
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
        let command = listentop(&format!("--netns {netns} --refresh 100ms {arguments}"));
        Self::spawn(command, errors)
    }

    fn spawn(mut command: Command, errors: Option<File>) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).expect("a pseudo-terminal");
        let before = modes(&slave);
        let end = || slave.try_clone().expect("a descriptor");
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

    /// Has all drawn anew, again and again, until a text is on the screen: of a change only the cells that differ are
    /// drawn.
    fn redraw_until(&mut self, text: &str) {
        let start = Instant::now();
        for columns in [120, 121].into_iter().cycle() {
            self.resize(columns, 40);
            let drawn = Instant::now();
            while drawn.elapsed() < Duration::from_millis(500) {
                self.read(Duration::from_millis(50));
            }
            if self.output.contains(text) {
                return;
            }
            assert!(start.elapsed() < patience(), "no {text:?} in:\n{}", self.output);
        }
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

/// Keys and the menu change how much is measured, inside the sandbox and without capabilities; the screen says so.
fn level_by_key(lab: &Lab) {
    let listener = listen(PORT, 16);
    let mut session = shown(Session::start_with(lab.netns, "--measure queues", None));
    for (key, said) in [("D", ": queues"), ("U", ": accepts"), ("U", ": all"), ("D", ": accepts")] {
        session.send(key);
        // Of the last line only the cells that differ are drawn: its end does.
        session.wait_for(said);
        drop((connect(PORT), accept(&listener)));
    }
    // The menu: one up is the lowest level.
    session.send("M");
    session.redraw_until("(measured now)");
    session.send("k\r");
    session.wait_for(": queues");
    session.send("M4");
    session.redraw_until("measure accepts");
    session.send("c");
    session.redraw_until("not measured since");
    session.send("q");
    session.assert_end(0);
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

/// Descriptors of BPF programs and links, and of performance events, that a process has open.
fn hooks(pid: u32) -> usize {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let is_hook = |link: &Path| {
        let link = link.to_string_lossy();
        ["bpf-prog", "bpf_link", "bpf-link", "perf_event"].iter().any(|kind| link.contains(kind))
    };
    links.filter(|link| is_hook(link)).count()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < patience(), "not {what}");
        sleep_ms(50);
    }
}

/// The report in the only evidence bundle below a folder, once it is written.
fn report_in(folder: &Path) -> Option<serde_json::Value> {
    let bundle = std::fs::read_dir(folder).expect("a folder").flatten().next()?;
    serde_json::from_slice(&std::fs::read(bundle.path().join("report.json")).ok()?).ok()
}

#[inline(never)]
fn sleeps_in_a_function() {
    loop {
        sleep_ms(20);
        std::hint::black_box(());
    }
}

/// A server whose only thread accepts one connection, and then sleeps in a function of its own for ever.
fn sleeper() -> test_support::process::Forked {
    let ready = Gate::new();
    let server = fork(|| {
        let listener = listen(PORT, 16);
        ready.open(1);
        let _accepted = accept(&listener);
        sleeps_in_a_function();
    });
    ready.pass();
    server
}

/// The view names the function in which the acceptor sleeps, with its share. Nothing is attached before it opens, nor
/// when it has closed.
fn blame_while_open(lab: &Lab) {
    let server = sleeper();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = listentop(&format!("--netns {} --refresh 100ms", lab.netns));
    command.current_dir(folder.path());
    let mut session = shown(Session::spawn(command, None));
    let pid = session.child.id();
    let before = hooks(pid);
    // It is seen accepting the first: nobody is blamed where no thread was.
    let _clients: Vec<_> = (0..4).map(|_| connect(PORT)).collect();
    sleep_ms(500);
    session.send("8");
    session.redraw_until("sleeps_in_a_function");
    assert!(hooks(pid) > before + 4, "{} after {before}", hooks(pid));
    // Begun anew: what is charged from here on is three connections' waiting.
    session.send("a");
    let begin = Instant::now();
    sleep_ms(1_500);
    session.send("w");
    let mut report = None;
    until("written", || {
        session.read(Duration::from_millis(10));
        report = report_in(folder.path());
        report.is_some()
    });
    let most = begin.elapsed().as_micros() as f64;
    let blame = &report.expect("it is written")["listeners"][0]["blame"];
    let number = |name: &str| blame[name].as_f64().unwrap_or_else(|| panic!("{name}: {blame:#}"));
    let (watched, total) = (number("watched_us"), number("total_wait_us"));
    assert!((1e6..=most).contains(&watched), "{watched} µs of {most}");
    assert!((total / watched - 3.0).abs() < 0.1, "three connections wait: {total} in {watched} µs");
    assert!(number("asleep_us") / total > 0.9, "{blame:#}");
    assert!(blame["summary"].as_str().is_some_and(|text| text.contains("slept in")), "{blame:#}");
    let top = &blame["stacks"][0];
    let frames: Vec<&str> = top["frames"].as_array().expect("a list").iter().filter_map(|it| it.as_str()).collect();
    assert!(frames.iter().any(|frame| frame.ends_with("sleeps_in_a_function")), "{frames:?}");
    assert!(top["share"].as_f64().is_some_and(|share| share > 0.8), "{top:#}");
    // Back: all is detached.
    session.send("\x1b");
    until("detached", || {
        session.read(Duration::from_millis(10));
        hooks(pid) == before
    });
    // And once more.
    session.send("8");
    session.redraw_until("sleeps_in_a_function");
    session.send("q");
    session.assert_end(0);
    drop(server);
}

/// With `--blame-on critical` the finding says what the acceptor does, and nothing is attached once it has passed.
fn blame_by_itself(lab: &Lab) {
    let server = sleeper();
    let mut session = shown(Session::start_with(lab.netns, "--blame-on critical", None));
    let pid = session.child.id();
    sleep_ms(500);
    let before = hooks(pid);
    session.send("\r");
    session.wait_for("ACCEPTORS");
    let clients: Vec<_> = (0..4).map(|_| connect(PORT)).collect();
    session.redraw_until("slept in");
    assert!(hooks(pid) > before + 4, "{} after {before}", hooks(pid));
    drop((server, clients));
    until("detached", || {
        session.read(Duration::from_millis(10));
        hooks(pid) == before
    });
    session.send("q");
    session.assert_end(0);
}
