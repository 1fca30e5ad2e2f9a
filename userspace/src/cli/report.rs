//! `listentop report`.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::Context as _;
use lab_control::FromLab;
use listentop_model::words::losses;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use tokio::{
    signal::unix,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Failure, NOTHING_PASSED, OK,
    feed::Feed,
    options::{Cli, Report},
    print, runtime, start,
};
use crate::{
    lab::{self, Lab},
    output, report,
    say::{charset, say},
};

/// Time between two samples of a report: short enough to separate the end of a listener, the time of a peak and the
/// cause of a refused SYN from the next.
const SAMPLING: Duration = Duration::from_millis(250);
/// Width of the table if standard output is not a terminal.
const WIDTH: u16 = 120;

/// What is printed, in messages.
const REPORT: &str = "the report";

pub(super) fn run(cli: &Cli, options: &Report) -> Result<u8, Failure> {
    // Before the time is spent.
    output::check().map_err(|error| Failure::Output(REPORT, error))?;
    let named = cli.filter.check().map_err(Failure::Usage)?;
    for note in cli.filter.notes() {
        say(format_args!("listentop: {note}"));
    }
    let runtime = runtime()?;
    let mut lab = Lab::of_environment()?;
    let source = start(&cli.probing.options())?.source;
    let mut feed = Feed::start(source, cli.filter.clone()).context("reading the source failed")?;
    runtime.block_on(measure(&mut feed, options.duration, &mut lab))?;
    // From here on a signal ends the program as usual: a reader that takes nothing must not make it deaf.
    endings().into_iter().for_each(restore);
    let model = feed.model();
    let mut remarks = cli.filter.remarks(&model, &named);
    if !cli.filter.is_empty() && !losses::of(&model.losses).is_empty() {
        remarks.push("losses are counted for the whole machine, not only for what the filter passes".to_owned());
    }
    for remark in &remarks {
        say(format_args!("listentop: {remark}"));
    }
    let page = report::Page { remarks: &remarks, width: usize::from(width(WIDTH)), charset: charset() };
    print(REPORT, &(options.format.write)(&model, &page)?)?;
    Ok(if cli.filter.passed_nothing(&model) { NOTHING_PASSED } else { OK })
}

/// The signals that end the measuring, upon which the report is printed. SIGHUP too, unless nohup(1) has it ignored:
/// the terminal is gone, but the report may go to a file.
fn endings() -> Vec<Signal> {
    let ignored = |signal: Signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: it asks only, and fills `action` if it returns 0.
        let handler = unsafe {
            (libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) == 0)
                .then(|| action.assume_init().sa_sigaction)
        };
        handler == Some(libc::SIG_IGN)
    };
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    signals.into_iter().filter(|&signal| signal != Signal::SIGHUP || !ignored(signal)).collect()
}

/// Has a signal end the program, as it does at the start.
fn restore(signal: Signal) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no code of ours runs in the default action.
    let _ = unsafe { sigaction(signal, &default) };
}

/// Samples until the time is over, or one of these signals arrives. A lab gets what was measured so far when it asks.
async fn measure(feed: &mut Feed, duration: Duration, lab: &mut Option<Lab>) -> anyhow::Result<()> {
    let (sender, mut ended) = tokio::sync::mpsc::channel::<()>(1);
    for signal in endings() {
        let mut signals = unix::signal(unix::SignalKind::from_raw(signal as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            signals.recv().await;
            // One is enough.
            let _ = sender.try_send(());
        });
    }
    // Scripts wait for this line before they start their load.
    say("measuring");
    let end = Instant::now() + duration;
    let mut tick = tokio::time::interval_at(Instant::now() + SAMPLING, SAMPLING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut asked = None;
        let over = tokio::select! {
            _ = tick.tick() => false,
            message = lab::next(lab) => match message {
                FromLab::Report { number } => {
                    asked = Some(number);
                    false
                }
                _ => continue,
            },
            () = tokio::time::sleep_until(end) => true,
            _ = ended.recv() => true,
        };
        feed.advance().context("reading the source failed")?;
        if let (Some(number), Some(lab)) = (asked, &*lab) {
            lab.report(number, &feed.model()).context("the lab takes no report")?;
        }
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
