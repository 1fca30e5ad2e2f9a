//! `listentop report`.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior},
};

use super::{
    Failure, OK,
    feed::Feed,
    options::{Cli, Report},
    start, written,
};
use crate::{report, say::say};

/// Time between two samples of a report: short enough to separate the end of a listener, the time of a peak and the
/// cause of a refused SYN from the next.
const SAMPLING: Duration = Duration::from_millis(250);
/// Width of the table if standard output is not a terminal.
const WIDTH: u16 = 120;

pub(super) fn run(cli: &Cli, options: &Report) -> Result<u8, Failure> {
    let named = cli.filter.check().map_err(Failure::Usage)?;
    let source = start(&cli.probing.options())?;
    let mut feed = Feed::start(source, cli.filter.clone()).context("reading the source failed")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(measure(&mut feed, options.duration))?;
    let model = feed.model();
    let remarks = cli.filter.remarks(&model, &named);
    for remark in &remarks {
        say(format_args!("listentop: {remark}"));
    }
    let page = report::Page { remarks: &remarks, width: usize::from(width(WIDTH)) };
    print(&(options.format.write)(&model, &page)?)
}

/// Samples until the time is over, or SIGINT or SIGTERM arrives.
async fn measure(feed: &mut Feed, duration: Duration) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Scripts wait for this line before they start their load.
    say("measuring");
    let end = Instant::now() + duration;
    let mut tick = tokio::time::interval_at(Instant::now() + SAMPLING, SAMPLING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let over = tokio::select! {
            _ = tick.tick() => false,
            () = tokio::time::sleep_until(end) => true,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        feed.advance().context("reading the source failed")?;
        if over {
            return Ok(());
        }
    }
}

/// Columns of the terminal on standard output; `otherwise` if it is not a terminal.
pub(super) fn width(otherwise: u16) -> u16 {
    if io::stdout().is_terminal() {
        crossterm::terminal::size().map_or(otherwise, |(columns, _)| columns)
    } else {
        otherwise
    }
}

/// Writes a report.
pub(super) fn print(text: &str) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush())).context("the report cannot be written")?;
    Ok(OK)
}
