//! Keys, read by a thread of their own.
//!
//! Not by `crossterm::event::EventStream`: when the terminal goes away, its reader spins for ever on the thread that
//! polls it, and the loop could not even handle a signal. Here crossterm reads only what poll(2) reports.

use std::{
    fs::File,
    io::{self, IsTerminal, PipeReader, PipeWriter},
    os::fd::{AsFd, OwnedFd},
    thread,
    time::Duration,
};

use crossterm::event::{self, Event};
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
        let (stopped, stop) = io::pipe()?;
        let (sender, events) = mpsc::unbounded_channel();
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            if let Err(error) = read(&terminal, &stopped, &sender) {
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

/// Reads until the other side stops, or the terminal goes away.
fn read(terminal: &OwnedFd, stopped: &PipeReader, sender: &mpsc::UnboundedSender<io::Result<Event>>) -> io::Result<()> {
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
            if sender.send(Ok(event::read()?)).is_err() {
                return Ok(());
            }
        }
    }
}
