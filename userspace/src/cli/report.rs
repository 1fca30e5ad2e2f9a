//! `listentop report`.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use lab_control::FromLab;
use listentop_model::{
    model::Model,
    words::{clock, listener_endpoint},
};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Failure, NOTHING_PASSED, OK,
    feed::Feed,
    options::{Cli, Report},
    print,
    progress::Progress,
    recorded::Recorded,
    runtime,
    signals::{self, Ending},
    start,
};
use crate::{
    lab::{self, Lab},
    output,
    report::{self, Story},
    rights::sandbox::Allowed,
    say::{charset, say},
};

/// How long is measured, unless it is said.
const DURATION: Duration = Duration::from_secs(10);
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
    for note in cli.filter.notes() {
        say(format_args!("listentop: {note}"));
    }
    match &options.from {
        Some(_) if options.connections.is_some() => Err(Failure::Usage(
            "--connections is for measuring: a recording holds what 'record --connections' listed".to_owned(),
        )),
        Some(path) => recorded(cli, options, path),
        None if !options.part.is_all() => Err(Failure::Usage("--at, --since and --until are for --from".to_owned())),
        None => live(cli, options),
    }
}

fn live(cli: &Cli, options: &Report) -> Result<u8, Failure> {
    let named = cli.filter.check().map_err(Failure::Usage)?;
    let runtime = runtime()?;
    let mut lab = Lab::of_environment()?;
    let mut source = start(&cli.probing, &Allowed::default())?.source;
    source.list_connections(options.connections.unwrap_or(0));
    let mut feed = Feed::start(source, cli.filter.clone()).context("reading the source failed")?;
    let mut story = options.format.is_story.then(Story::default);
    runtime.block_on(measure(&mut feed, options, story.as_mut(), &mut lab))?;
    // From here on a signal ends the program as usual.
    signals::restore();
    let model = feed.model();
    let remarks = cli.filter.remarks(&model, &named);
    write(cli, options, &model, &remarks, story)
}

/// The report of a part of a recording.
fn recorded(cli: &Cli, options: &Report, path: &Path) -> Result<u8, Failure> {
    let recorded = Recorded::open(cli, path, Vec::new())?;
    let places = recorded.part(&options.part, options.duration)?;
    let mut story = options.format.is_story.then(Story::default);
    let tracker = recorded.follow(places, |_, model| {
        if let Some(story) = &mut story {
            story.push(&filtered(cli, model));
        }
        Ok(())
    })?;
    let model = filtered(cli, tracker.model()).into_owned();
    let remarks = cli.filter.remarks(&model, &[]);
    write(cli, options, &model, &remarks, story)
}

/// The model as the filters leave it.
fn filtered<'a>(cli: &Cli, model: &'a Model) -> Cow<'a, Model> {
    if cli.filter.is_empty() {
        return Cow::Borrowed(model);
    }
    let mut model = model.clone();
    cli.filter.apply(&mut model);
    Cow::Owned(model)
}

fn write(cli: &Cli, options: &Report, model: &Model, remarks: &[String], story: Option<Story>) -> Result<u8, Failure> {
    for remark in remarks {
        say(format_args!("listentop: {remark}"));
    }
    let story = story.map(Story::finish);
    let page = report::Page { remarks, width: usize::from(width(WIDTH)), charset: charset(), story: story.as_ref() };
    print(REPORT, &(options.format.write)(model, &page)?)?;
    Ok(if cli.filter.passed_nothing(model) { NOTHING_PASSED } else { OK })
}

/// Samples until the time is over, or a signal arrives. A lab gets what was measured so far when it asks.
async fn measure(
    feed: &mut Feed,
    options: &Report,
    mut story: Option<&mut Story>,
    lab: &mut Option<Lab>,
) -> anyhow::Result<()> {
    let mut ending = Ending::expect()?;
    let mut progress = Progress::start();
    // Scripts wait for this line before they start their load.
    say("measuring");
    let begin = Instant::now();
    let end = begin + options.duration.unwrap_or(DURATION);
    let mut tick = tokio::time::interval_at(begin + SAMPLING, SAMPLING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Some(story) = &mut story {
        story.push(&feed.model());
    }
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
            () = ending.came() => true,
        };
        if over && let Some(per_listener) = options.connections {
            // What is listed is of the end, also where lists are not made for every sample.
            feed.list_connections(per_listener);
        }
        feed.advance().context("reading the source failed")?;
        if let (Some(number), Some(lab)) = (asked, &*lab) {
            lab.report(number, &feed.model()).context("the lab takes no report")?;
        }
        if let Some(story) = &mut story {
            story.push(&feed.model());
        }
        if over {
            return Ok(());
        }
        progress.show(|| format!("{} left{}", left(end), worst(&feed.model())));
    }
}

/// The time until then, in words.
pub(super) fn left(end: Instant) -> String {
    clock(end.saturating_duration_since(Instant::now()).as_secs_f64())
}

/// The worst finding so far, in words.
pub(super) fn worst(model: &Model) -> String {
    let findings = model.listeners.iter().flat_map(|listener| listener.findings.iter().map(move |f| (listener, f)));
    let worst = findings.max_by_key(|(_, finding)| (finding.until_unix_ms.is_none(), finding.severity));
    worst.map_or_else(
        || ": nothing found so far".to_owned(),
        |(listener, finding)| format!(": {} {}, {}", finding.severity, finding.id, listener_endpoint(listener)),
    )
}

/// Columns of the terminal on standard output; `otherwise` if it is not a terminal.
pub(super) fn width(otherwise: u16) -> u16 {
    if io::stdout().is_terminal() {
        crossterm::terminal::size().map_or(otherwise, |(columns, _)| columns)
    } else {
        otherwise
    }
}
