//! The time from the dashboard's start until its first complete frame with listeners, in a pseudo-terminal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::poll::PollTimeout;

use crate::load::Server;
use crate::programs::Programs;
use crate::terminal::Dashboard;

/// The number of starts; their median counts.
const STARTS: usize = 11;
/// A frame is written at once: after this many milliseconds without output it is complete.
const WHOLE: u16 = 30;
const PATIENCE: Duration = Duration::from_secs(10);

/// The times of several starts, on an idle machine with one server.
///
/// # Errors
/// When the dashboard does not start or does not show the server.
pub(crate) fn measure(programs: &Programs, server: &Server) -> Result<Vec<Duration>> {
    (0..STARTS).map(|_| start(programs, server.port()).context("the dashboard's first frame")).collect()
}

fn start(programs: &Programs, port: &str) -> Result<Duration> {
    let begun = Instant::now();
    let mut dashboard = Dashboard::start(&programs.listentop, &[], (80, 24))?;
    let frame = first_frame(&mut dashboard, port, begun)?;
    dashboard.quit()?;
    Ok(frame)
}

/// Reads until the port is drawn and nothing follows. Returns the time of the last output.
fn first_frame(dashboard: &mut Dashboard, port: &str, begun: Instant) -> Result<Duration> {
    let (mut drawn, mut last) = (String::new(), Duration::ZERO);
    loop {
        let whole = drawn.contains(port);
        let patience = if whole { PollTimeout::from(WHOLE) } else { PollTimeout::from(1000_u16) };
        match dashboard.read(patience)? {
            Some(bytes) => {
                last = begun.elapsed();
                drawn.push_str(&bytes);
            }
            None if whole => return Ok(last),
            None if begun.elapsed() > PATIENCE => bail!("port {port} is not shown; it drew: {drawn:?}"),
            None => {}
        }
        if whole && begun.elapsed() > PATIENCE {
            bail!("its output does not end");
        }
    }
}
