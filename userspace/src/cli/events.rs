//! `listentop events`.

use std::{io, os::fd::AsFd as _, path::Path, time::Duration};

use anyhow::Context as _;
use listentop_model::{
    episodes::{Episodes, Event, Happening},
    model::{ListenerModel, Model},
    words::{clean, clean_json, container_in_full, duration, netns, numbered_endpoint, plural, process, utc},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Failure, OK,
    feed::Feed,
    options::{Cli, Events, Lines},
    print,
    recorded::Recorded,
    runtime,
    signals::{self, Ending},
    start,
};
use crate::{
    lab, output,
    rights::sandbox::Allowed,
    say::{charset, say},
};

/// Time between two samples: as for a report.
const SAMPLING: Duration = Duration::from_millis(250);

/// What is printed, in messages.
const EVENTS: &str = "an event";

pub(super) fn run(cli: &Cli, options: &Events) -> Result<u8, Failure> {
    output::check().map_err(|error| Failure::Output(EVENTS, error))?;
    for note in cli.filter.notes() {
        say(format_args!("listentop: {note}"));
    }
    match &options.from {
        Some(_) if options.duration.is_some() && options.part.is_all() => {
            Err(Failure::Usage("--for with --from wants --at, --since or --until".to_owned()))
        }
        Some(path) => recorded(cli, options, path),
        None if !options.part.is_all() => Err(Failure::Usage("--at, --since and --until are for --from".to_owned())),
        None => live(cli, options),
    }
}

fn recorded(cli: &Cli, options: &Events, path: &Path) -> Result<u8, Failure> {
    let recorded = Recorded::open(cli, path, Vec::new())?;
    // All measurements one after the other, unless a part was asked for.
    let parts = if options.part.is_all() {
        recorded.recording.runs().iter().map(|run| run.samples.clone()).collect()
    } else {
        vec![recorded.part(&options.part, options.duration)?]
    };
    for part in parts {
        let mut episodes = Episodes::default();
        let tracker = recorded.follow(part, |_, model| tell(cli, options, model, episodes.push(model)))?;
        tell(cli, options, tracker.model(), episodes.finish())?;
    }
    Ok(OK)
}

fn live(cli: &Cli, options: &Events) -> Result<u8, Failure> {
    cli.filter.check().map_err(Failure::Usage)?;
    let runtime = runtime()?;
    let marks = lab::watch()?;
    let source = lab::marked(start(&cli.probing, &Allowed::default())?.source, marks);
    let feed = Feed::start(source, cli.filter.clone()).context("reading the source failed")?;
    runtime.block_on(watch(cli, options, feed))?;
    signals::restore();
    Ok(OK)
}

/// Prints events until the time is over, a signal comes, or nobody reads them any more.
async fn watch(cli: &Cli, options: &Events, mut feed: Feed) -> Result<(), Failure> {
    let mut ending = Ending::expect().context("signals cannot be handled")?;
    let mut episodes = Episodes::default();
    // Scripts wait for this line before they start their load.
    say("measuring");
    let begin = Instant::now();
    let mut tick = tokio::time::interval_at(begin + SAMPLING, SAMPLING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over = false;
    loop {
        let model = feed.all();
        tell(cli, options, model, episodes.push(model))?;
        if is_unread() {
            return Err(Failure::Output(EVENTS, io::ErrorKind::BrokenPipe.into()));
        }
        if over {
            return tell(cli, options, feed.all(), episodes.finish());
        }
        over = tokio::select! {
            _ = tick.tick() => options.duration.is_some_and(|length| begin.elapsed() >= length),
            () = ending.came() => true,
        };
        feed.advance().context("reading the source failed")?;
    }
}

/// Whether whoever read standard output is gone. Without events nothing is written that would show it.
fn is_unread() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    let gone = PollFlags::POLLERR | PollFlags::POLLNVAL;
    matches!(polled, Ok(1..)) && fds[0].revents().is_some_and(|events| events.intersects(gone))
}

/// Prints those events that pass the filters, in one write each.
fn tell(cli: &Cli, options: &Events, model: &Model, events: Vec<Event>) -> Result<(), Failure> {
    for event in events {
        let listener = listener(&event, model);
        // What concerns all listeners concerns those that are wanted.
        let passes = listener.map_or(event.listener.is_none(), |listener| cli.filter.passes(listener));
        if !cli.filter.is_empty() && !passes {
            continue;
        }
        let line = match options.format {
            Lines::Text => charset().of_text(&clean(&sentence(&event, model))).into_owned(),
            Lines::Json => {
                let line = serde_json::to_string(&Line::of(&event, listener));
                clean_json(&line.context("an event cannot be written as JSON")?).into_owned()
            }
        };
        print(EVENTS, &format!("{line}\n"))?;
    }
    Ok(())
}

fn listener<'a>(event: &Event, model: &'a Model) -> Option<&'a ListenerModel> {
    model.listeners.iter().find(|listener| Some(listener.id) == event.listener)
}

/// An event in a line.
pub(super) fn sentence(event: &Event, model: &Model) -> String {
    let place = match listener(event, model) {
        Some(listener) => {
            let netns = netns(listener);
            let netns = match container_in_full(listener) {
                container if !container.is_empty() => format!(" in {container}"),
                _ if netns == "host" => String::new(),
                _ => format!(" netns {netns}"),
            };
            format!("{} {}{netns}", numbered_endpoint(model, listener), process(listener))
        }
        None => event.listener.map_or_else(|| "all listeners".to_owned(), |id| format!("listener {id}")),
    };
    // In the order in which it is known; what was done on purpose is known at once.
    let time = utc(if event.mark.is_some() { event.unix_ms } else { event.known_ms });
    if let Some(mark) = &event.mark {
        return format!("{time} mark {place}: {mark}");
    }
    let Some(finding) = &event.finding else {
        let what = if event.happening == Happening::Opened { "opened" } else { "closed" };
        return format!("{time} {what} {place}");
    };
    let (severity, id) = (finding.severity, finding.id);
    match event.happening {
        Happening::Ended => {
            let length = event.unix_ms.saturating_sub(finding.since_unix_ms).saturating_mul(1000);
            let refused = finding.totals.refused.filter(|refused| *refused > 0);
            let refused =
                refused.map_or_else(String::new, |refused| format!(", {} refused", plural(refused, "attempt")));
            let deepest = format!(", accept queue up to {}", finding.totals.deepest);
            let times = if finding.times > 1 { format!(", {} times", finding.times) } else { String::new() };
            let until = utc(event.unix_ms);
            format!(
                "{time} ended {severity} {id} {place}: until {until}, after {}{times}{refused}{deepest}",
                duration(length)
            )
        }
        Happening::Worsened => format!("{time} worse {severity} {id} {place}: {}", finding.summary),
        _ => {
            let since = utc(event.unix_ms);
            format!("{time} began {severity} {id} {place} since {since}: {}", finding.summary)
        }
    }
}

/// An event as JSON: docs/schema.md describes the fields.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    known: String,
    event: Happening,
    listener: Option<Place<'a>>,
    finding: Option<Finding<'a>>,
    mark: Option<&'a str>,
}

#[derive(Serialize)]
struct Place<'a> {
    id: u64,
    netns: Option<u32>,
    netns_name: Option<&'a str>,
    protocol: Option<&'static str>,
    address: Option<std::net::IpAddr>,
    port: Option<u16>,
    device: Option<String>,
    process: Option<&'a listentop_model::sample::Process>,
}

#[derive(Serialize)]
struct Finding<'a> {
    id: &'static str,
    severity: &'static str,
    follows_from: Option<&'static str>,
    since: String,
    summary: &'a str,
    seconds: f64,
    refused: Option<u64>,
    accepted: Option<u64>,
    deepest: u32,
    times: u64,
}

impl<'a> Line<'a> {
    fn of(event: &'a Event, listener: Option<&'a ListenerModel>) -> Self {
        let listener = event.listener.map(|id| Place {
            id,
            netns: listener.map(|l| l.netns),
            netns_name: listener.and_then(|l| l.netns_name.as_deref()),
            protocol: listener.map(|l| l.protocol.name()),
            address: listener.map(|l| l.address),
            port: listener.map(|l| l.port),
            device: listener.and_then(|l| l.device).map(|device| device.name().to_owned()),
            process: listener.and_then(|l| l.process.as_ref()),
        });
        let finding = event.finding.as_ref().map(|finding| Finding {
            id: finding.id,
            severity: finding.severity.name(),
            follows_from: finding.follows_from,
            since: utc(finding.since_unix_ms),
            summary: &finding.summary,
            seconds: event.unix_ms.saturating_sub(finding.since_unix_ms) as f64 / 1e3,
            refused: finding.totals.refused,
            accepted: finding.totals.accepted,
            deepest: finding.totals.deepest,
            times: finding.times,
        });
        let mark = event.mark.as_deref();
        Self { time: utc(event.unix_ms), known: utc(event.known_ms), event: event.happening, listener, finding, mark }
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, sample::MarkSample, tracker::Tracker};

    use super::*;

    /// Each line begins with a time that is not before that of the line above it, though a finding may have begun, or
    /// ended, before something that was printed already.
    #[test]
    fn lines_are_in_the_order_of_their_times() {
        let mut samples = fixtures::overflow();
        let last = samples[samples.len() - 1].clone();
        samples.extend((1..20).map(|second| {
            let mut next = last.clone();
            (next.monotonic_ns, next.unix_ms) =
                (next.monotonic_ns + second * 1_000_000_000, next.unix_ms + second * 1_000);
            // Something is printed while what ends is not known to have ended.
            let mark = MarkSample { monotonic_ns: next.monotonic_ns, what: "here".to_owned(), netns: 1, port: None };
            next.marks = vec![mark];
            for listener in &mut next.listeners {
                listener.gauges.accept_depth = 0;
                listener.gauges.oldest_waiting_us = Some(0);
            }
            next
        }));
        let mut tracker = Tracker::new(&samples[0]);
        let mut episodes = Episodes::default();
        let mut lines: Vec<String> = Vec::new();
        let mut were: Vec<u64> = Vec::new();
        let mut say = |events: Vec<Event>, model: &Model| {
            were.extend(events.iter().map(|event| event.unix_ms));
            lines.extend(events.iter().map(|event| sentence(event, model)));
        };
        say(episodes.push(tracker.model()), tracker.model());
        for sample in &samples[1..] {
            tracker.push(sample);
            say(episodes.push(tracker.model()), tracker.model());
        }
        say(episodes.finish(), tracker.model());
        let times: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(times.len() > 3 && times.is_sorted(), "{lines:#?}");
        assert!(!were.is_sorted(), "otherwise this shows nothing");
    }

    #[test]
    fn an_event_is_a_line_as_text_and_as_json() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        let mut episodes = Episodes::default();
        let mut events = episodes.push(tracker.model());
        for sample in &samples[1..] {
            tracker.push(sample);
            events.extend(episodes.push(tracker.model()));
        }
        let model = tracker.model();
        let overflow =
            events.iter().find(|event| event.finding.as_ref().is_some_and(|f| f.id == "accept_queue_overflow"));
        let began = overflow.expect("it overflows").clone();
        let text = sentence(&began, model);
        let start =
            format!("{} began critical accept_queue_overflow 0.0.0.0:8080 demo-server[2201]", utc(began.known_ms));
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains(&format!(" since {}: ", utc(began.unix_ms))), "{text}");
        let json = serde_json::to_value(Line::of(&began, listener(&began, model))).expect("JSON");
        assert_eq!((&json["event"], &json["listener"]["port"]), (&"finding_began".into(), &8080.into()), "{json:#}");
        assert_eq!(json["finding"]["id"], "accept_queue_overflow");
        let totals = began.finding.clone().map(|finding| {
            let mut finding = finding;
            finding.totals.refused = Some(1_234);
            finding.totals.deepest = 129;
            finding.times = 6;
            finding
        });
        let ended =
            Event { happening: Happening::Ended, unix_ms: began.unix_ms + 2_500, finding: totals, ..began.clone() };
        let text = sentence(&ended, model);
        assert!(text.ends_with(", after 2.5s, 6 times, 1,234 attempts refused, accept queue up to 129"), "{text}");
        assert!(text.contains(&format!(": until {}, after", utc(ended.unix_ms))), "{text}");
        let opened = Event { happening: Happening::Opened, finding: None, ..began };
        assert!(sentence(&opened, model).contains(" opened 0.0.0.0:8080 "), "{}", sentence(&opened, model));
        let gone = Event { listener: Some(1), ..opened };
        assert!(sentence(&gone, model).ends_with("opened listener 1"));
        let json = serde_json::to_value(Line::of(&gone, None)).expect("JSON");
        assert_eq!((&json["listener"]["id"], &json["listener"]["port"]), (&1.into(), &serde_json::Value::Null));
        let mark = Some("stall a".to_owned());
        let done = Event { happening: Happening::Marked, listener: None, mark, ..gone };
        assert!(sentence(&done, model).ends_with(" mark all listeners: stall a"), "{}", sentence(&done, model));
        let json = serde_json::to_value(Line::of(&done, None)).expect("JSON");
        assert_eq!((&json["listener"], &json["mark"]), (&serde_json::Value::Null, &"stall a".into()));
    }
}
