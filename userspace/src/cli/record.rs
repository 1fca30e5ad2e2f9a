//! `listentop record`.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, anyhow};
use listentop_model::{
    episodes::{Episodes, Event, Happening},
    sample::Sample,
    tracker::Tracker,
    words::{bytes, grouped, plural},
};
use listentop_recording::{Notice, Ring, Start, WriteError, Writer};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Failure, OK,
    events::sentence,
    moment::{local, now_ms},
    options::{Cli, FreezeOn, Record},
    progress::Progress,
    report::left,
    runtime,
    signals::Ending,
    start,
};
use crate::{lab, say::say, source::Source};

/// What is kept before and after a finding begins, worsens or ends, in milliseconds.
const AROUND_MS: u64 = 5 * 60_000;

pub(super) fn run(cli: &Cli, options: &Record) -> Result<u8, Failure> {
    if options.freeze_on.is_some() && options.ring.is_none() {
        return Err(Failure::Usage("--freeze-on is for --ring: without a ring everything stays".to_owned()));
    }
    let runtime = runtime()?;
    // First, while there are all rights to make it, and before anything is attached.
    let mut writer = open(options)?;
    let marks = lab::watch()?;
    let mut source = lab::marked(start(&cli.probing.options())?.source, marks);
    writer.describe(source.name(), options.every);
    let recorder =
        Recorder { writer, path: &options.file, freezer: options.freeze_on.map(Freezer::new), began: None, written: 0 };
    runtime.block_on(recorder.run(&mut *source, options))
}

/// Makes the file, or opens the ring.
fn open(options: &Record) -> Result<Writer, Failure> {
    let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let about = Start { machine, ..Start::new(concat!("listentop ", env!("CARGO_PKG_VERSION")).to_owned(), now_ms()) };
    let writer = match options.ring {
        Some(length) => {
            let span_ms = milliseconds(length);
            Writer::ring(&options.file, about, ring(span_ms, options.freeze_on.is_some()), options.max_size)
        }
        None => Writer::file(&options.file, about, options.max_size),
    };
    let path = options.file.display();
    Ok(writer.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow!("{path}: it is there already: give another name, or delete it. Nothing is overwritten")
        }
        _ => anyhow::Error::new(error).context(path.to_string()),
    })?)
}

/// How a ring of this length is divided. Little goes at once, and what is kept is kept by whole segments.
fn ring(span_ms: u64, is_frozen: bool) -> Ring {
    let longest = if is_frozen { AROUND_MS } else { 30 * 60_000 };
    Ring { span_ms, segment_ms: (span_ms / 24).clamp(1_000, longest) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A recording at work.
struct Recorder<'a> {
    writer: Writer,
    path: &'a Path,
    freezer: Option<Freezer>,
    /// The time of the first sample.
    began: Option<Instant>,
    written: u64,
}

impl Recorder<'_> {
    /// Writes samples until the time is over, a signal comes, or nothing more can be written.
    async fn run(mut self, source: &mut dyn Source, options: &Record) -> Result<u8, Failure> {
        let mut ending = Ending::expect().context("signals cannot be handled")?;
        let mut progress = Progress::start();
        let begin = *self.began.insert(Instant::now());
        let end = options.duration.map(|length| begin + length);
        let mut tick = tokio::time::interval_at(begin + options.every, options.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            let sample = match source.sample() {
                Ok(sample) => sample,
                Err(error) => break Err(anyhow::Error::new(error).context("reading the source failed").into()),
            };
            match self.take(&sample) {
                Ok(()) => {}
                Err(WriteError::Limit) => {
                    say(format_args!("listentop: {}: it is as large as --max-size allows", self.path.display()));
                    break Ok(OK);
                }
                Err(error) => break Err(anyhow!("{}: {error}: the recording ends", self.path.display()).into()),
            }
            if self.written == 1 {
                // Scripts wait for this line before they start their load.
                say(format_args!("recording to {}", self.path.display()));
            }
            if end.is_some_and(|end| end <= Instant::now()) {
                break Ok(OK);
            }
            progress.show(|| self.state(end));
            let over = tokio::select! {
                _ = tick.tick() => false,
                () = sleep_until(end) => false,
                () = ending.came() => true,
            };
            if over {
                break Ok(OK);
            }
        };
        drop(progress);
        let (size, written, path) = (self.writer.size(), self.written, self.path.display().to_string());
        let finished = self.writer.finish().with_context(|| format!("{path}: the end cannot be written"));
        if written > 0 {
            say(format_args!("listentop: {path}: {} recorded, {}", plural(written, "sample"), bytes(size)));
        }
        finished?;
        outcome
    }

    /// Writes a sample, and says what happened to the ring.
    fn take(&mut self, sample: &Sample) -> Result<(), WriteError> {
        if let Some(freezer) = &mut self.freezer {
            for event in freezer.push(sample) {
                let (from, until) = (event.unix_ms.saturating_sub(AROUND_MS), event.unix_ms.saturating_add(AROUND_MS));
                self.writer.keep(from, until);
            }
        }
        let written = self.writer.write(sample);
        for notice in self.writer.take_notices() {
            let path = self.path.display();
            match notice {
                Notice::Shrunk(until) => {
                    say(format_args!("listentop: {path}: the disk is full: what was before {} is gone", local(until)));
                }
                Notice::KeptGone(until) => say(format_args!(
                    "listentop: {path}: no room for all that was kept: what was kept before {} is gone",
                    local(until)
                )),
            }
        }
        written?;
        self.written += 1;
        Ok(())
    }

    fn state(&self, end: Option<Instant>) -> String {
        let (samples, size) = (grouped(self.written), bytes(self.writer.size()));
        let end = end.map_or_else(String::new, |end| format!(", {} left", left(end)));
        format!("{}: {samples} samples, {size}{end}", self.path.display())
    }
}

/// Until then; for ever if there is no end.
async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Notices what is to be kept.
struct Freezer {
    on: FreezeOn,
    tracker: Option<Tracker>,
    episodes: Episodes,
}

impl Freezer {
    fn new(on: FreezeOn) -> Self {
        Self { on, tracker: None, episodes: Episodes::default() }
    }

    /// What of a sample is to be kept, with a line about each beginning.
    fn push(&mut self, sample: &Sample) -> Vec<Event> {
        let tracker = match &mut self.tracker {
            Some(tracker) => {
                tracker.push(sample);
                tracker
            }
            None => self.tracker.insert(Tracker::new(sample)),
        };
        let mut events = self.episodes.push(tracker.model());
        let least = self.on.severity();
        events.retain(|event| event.finding.as_ref().is_some_and(|finding| finding.severity >= least));
        for event in events.iter().filter(|event| event.happening != Happening::Ended) {
            say(format_args!("listentop: kept: {}", sentence(event, tracker.model())));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_small_parts_of_the_ring() {
        let hour = 3_600_000;
        for (span, frozen, segment) in [
            (24 * hour, false, 30 * 60_000),
            (24 * hour, true, 5 * 60_000),
            (hour, false, hour / 24),
            (hour, true, hour / 24),
            (2_000, false, 1_000),
        ] {
            assert_eq!(ring(span, frozen).segment_ms, segment, "{span} {frozen}");
        }
    }

    #[test]
    fn the_freezer_wants_what_is_bad_enough() {
        let samples = listentop_model::fixtures::overflow();
        let of = |on| {
            let mut freezer = Freezer::new(on);
            samples.iter().flat_map(|sample| freezer.push(sample)).count()
        };
        let (critical, warning) = (of(FreezeOn::Critical), of(FreezeOn::Warning));
        assert!(critical >= 1 && warning >= critical, "{critical}, {warning}");
        let mut freezer = Freezer::new(FreezeOn::Critical);
        let calm = listentop_model::fixtures::quiet();
        assert_eq!(calm.iter().flat_map(|sample| freezer.push(sample)).count(), 0);
    }
}
