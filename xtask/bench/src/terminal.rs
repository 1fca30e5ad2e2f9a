//! The dashboard in a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};

use xtask_support::children::{self, Guarded};

/// A dashboard and its terminal.
pub(crate) struct Dashboard {
    process: Guarded,
    terminal: File,
}

impl Dashboard {
    /// Starts listentop in a terminal of this size, as the leader of its own session.
    ///
    /// # Errors
    /// When there is no terminal, or util-linux is missing.
    pub(crate) fn start(listentop: &Path, arguments: &[&str], (columns, rows): (u16, u16)) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).context("no pseudo-terminal")?;
        let mut command = children::bound_to_us(Path::new("setsid"));
        command.arg("--ctty").arg(listentop).args(arguments).env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let end = || slave.try_clone().context("no descriptor");
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        let process = Guarded::new(command.spawn().context("cannot run setpriv (of util-linux)")?);
        Ok(Self { process, terminal: File::from(master) })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The next output; `None` if there was none in time, or the program has ended.
    ///
    /// # Errors
    /// When poll(2) fails.
    pub(crate) fn read(&mut self, patience: PollTimeout) -> Result<Option<String>> {
        let mut entries = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        poll(&mut entries, patience).context("poll")?;
        if !entries[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
            return Ok(None);
        }
        let mut bytes = vec![0; 65_536];
        // Reading fails after the program has ended.
        let Ok(count @ 1..) = self.terminal.read(&mut bytes) else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&bytes[..count]).into_owned()))
    }

    /// Quits it with the key `q`.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn quit(mut self) -> Result<ExitStatus> {
        self.terminal.write_all(b"q").context("cannot send it a key")?;
        // Somebody must read what it draws until its end.
        while self.read(PollTimeout::from(1000_u16))?.is_some() {}
        self.process.wait()
    }
}
