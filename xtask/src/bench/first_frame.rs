//! From the start of the dashboard until its first whole frame with listeners in it, in a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};

use super::Programs;
use super::children::{self, Guarded};
use super::load::Server;

/// Starts whose median counts.
const STARTS: usize = 11;
/// A frame is written at once; after so long without output it is whole.
const WHOLE: u16 = 30;
const PATIENCE: Duration = Duration::from_secs(10);

/// The time of each of several starts, on an idle machine with one server.
///
/// # Errors
/// When the dashboard does not start or does not show the server.
pub(super) fn measure(programs: &Programs, server: &Server) -> Result<Vec<Duration>> {
    (0..STARTS).map(|_| start(programs, &server.port()).context("the dashboard's first frame")).collect()
}

fn start(programs: &Programs, port: &str) -> Result<Duration> {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(Some(&size), None).context("no pseudo-terminal")?;
    // A session of its own, whose terminal this is.
    let mut command = children::bound_to_us(std::path::Path::new("setsid"));
    command.arg("--ctty").arg(&programs.listentop).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let end = || slave.try_clone().context("no descriptor");
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    let begun = Instant::now();
    let mut process = Guarded::new(command.spawn().context("cannot run setpriv (of util-linux)")?);
    drop((command, slave));
    let mut terminal = File::from(master);
    let frame = first_frame(&mut terminal, port, begun)?;
    terminal.write_all(b"q").context("it reads no keys")?;
    // What it draws while it ends has to go somewhere.
    while read(&mut terminal, PollTimeout::from(1000_u16))?.is_some() {}
    process.wait()?;
    Ok(frame)
}

/// Reads until the port has been drawn and nothing follows; when the last of it came.
fn first_frame(terminal: &mut File, port: &str, begun: Instant) -> Result<Duration> {
    let (mut drawn, mut last) = (String::new(), Duration::ZERO);
    loop {
        let whole = drawn.contains(port);
        let patience = if whole { PollTimeout::from(WHOLE) } else { PollTimeout::from(1000_u16) };
        match read(terminal, patience)? {
            Some(bytes) => {
                last = begun.elapsed();
                drawn.push_str(&String::from_utf8_lossy(&bytes));
            }
            None if whole => return Ok(last),
            None if begun.elapsed() > PATIENCE => bail!("port {port} is not shown; it drew: {drawn:?}"),
            None => {}
        }
        if whole && begun.elapsed() > PATIENCE {
            bail!("it draws without end");
        }
    }
}

/// What was drawn next; `None` if nothing was in time, or nothing can be any more.
fn read(terminal: &mut File, patience: PollTimeout) -> Result<Option<Vec<u8>>> {
    let mut entries = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
    poll(&mut entries, patience).context("poll")?;
    if !entries[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
        return Ok(None);
    }
    let mut bytes = vec![0; 65_536];
    // The terminal of a program that has ended reports an error.
    let Ok(count @ 1..) = terminal.read(&mut bytes) else { return Ok(None) };
    bytes.truncate(count);
    Ok(Some(bytes))
}
