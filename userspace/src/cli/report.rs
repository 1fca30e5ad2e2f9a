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
    options::{Cli, Format, Report},
    start, written,
};
use crate::{report, say::say};

/// Time between two samples while a report measures: short enough that a listener's end, a peak's time and the cause of
/// a refused SYN are seen apart from the next.
const SAMPLING: Duration = Duration::from_millis(250);
/// Width of the table where no terminal says how wide it is.
const WIDTH: u16 = 120;

pub(super) fn run(cli: &Cli, options: &Report) -> Result<u8, Failure> {
    let named = cli.filter.check().map_err(Failure::Usage)?;
    let source = start(&cli.probing.options())?;
    let mut feed = Feed::start(source, cli.filter.clone()).context("nothing can be read any more")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(measure(&mut feed, options.duration))?;
    let model = feed.model();
    let remarks = cli.filter.remarks(&model, &named);
    for remark in &remarks {
        say(format_args!("listentop: {remark}"));
    }
    let text = match options.format {
        Format::Json => {
            serde_json::to_string(&report::json(&model)).context("the report cannot be written as JSON")? + "\n"
        }
        Format::Table => report::table(&model, &remarks, usize::from(width(WIDTH))),
    };
    print(&text)
}

/// Samples until the time is over or a signal asks for the end.
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
        feed.advance().context("nothing can be read any more")?;
        if over {
            return Ok(());
        }
    }
}

/// Columns of the terminal that standard output is; `otherwise` if it is none.
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
