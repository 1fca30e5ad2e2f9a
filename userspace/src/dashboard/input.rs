//! Keys, read by a thread of their own.
//!
//! Not by `crossterm::event::EventStream`: when the terminal goes away, its reader spins for ever on the thread that
//! polls it, and the loop could not even handle a signal. Here crossterm reads only what poll(2) reports.
//!
//! What was typed before the dashboard took the terminal is read, too. The terminal has made a line feed of each Enter
//! then, which would be Ctrl-J.

use std::{
    fs::File,
    io::{self, IsTerminal, PipeReader, PipeWriter},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tokio::sync::mpsc;

/// How long crossterm waits for the input that poll(2) reported. Without any time it does not look.
const GLANCE: Duration = Duration::from_millis(1);

/// The thread, and what it reads. Dropping it ends the thread.
pub(super) struct Input {
    events: mpsc::UnboundedReceiver<io::Result<Event>>,
    /// Closing it wakes the thread up.
    _stop: PipeWriter,
}

impl Input {
    /// Begins to read the terminal.
    ///
    /// # Errors
    /// There is no terminal to read from, or no thread can be started.
    pub(super) fn start() -> io::Result<Self> {
        let terminal = terminal()?;
        let early = waiting(&terminal);
        let (stopped, stop) = io::pipe()?;
        let (sender, events) = mpsc::unbounded_channel();
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            if let Err(error) = read(&terminal, early, &stopped, &sender) {
                // Nobody listens once the dashboard has ended.
                let _ = sender.send(Err(error));
            }
        })?;
        Ok(Self { events, _stop: stop })
    }

    /// The next event; `None` when the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<io::Result<Event>> {
        self.events.recv().await
    }

    /// An event that has arrived already.
    pub(super) fn ready(&mut self) -> Option<Event> {
        self.events.try_recv().ok()?.ok()
    }
}

/// The terminal that crossterm reads: standard input, or /dev/tty if standard input is not a terminal.
fn terminal() -> io::Result<OwnedFd> {
    if io::stdin().is_terminal() {
        io::stdin().as_fd().try_clone_to_owned()
    } else {
        Ok(File::open("/dev/tty")?.into())
    }
}

/// Bytes that wait to be read.
fn waiting(terminal: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: it writes one number, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// What was typed, as if the terminal had been ours: see the module.
fn as_typed(event: Event) -> Event {
    if event == Event::Key(KeyEvent::new(KeyCode::Char('j'), KeyModifiers::CONTROL)) {
        return Event::Key(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE));
    }
    event
}

/// Reads until the other side stops, or the terminal goes away. `early` bytes were typed before it was ours.
fn read(
    terminal: &OwnedFd,
    mut early: usize,
    stopped: &PipeReader,
    sender: &mpsc::UnboundedSender<io::Result<Event>>,
) -> io::Result<()> {
    loop {
        let mut fds =
            [PollFd::new(terminal.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result?,
        };
        let events = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::POLLERR);
        if !events(&fds[1]).is_empty() || events(&fds[0]).intersects(super::terminal::GONE) {
            return Ok(());
        }
        while event::poll(GLANCE)? {
            let event = event::read()?;
            // A key has a byte at least.
            let event = if early > 0 { as_typed(event) } else { event };
            early = early.saturating_sub(1);
            if sender.send(Ok(event)).is_err() {
                return Ok(());
            }
        }
    }
}
