//! Recordings on the command line: opening them, and which part of them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use listentop_model::{
    model::Model,
    tracker::Tracker,
    words::{bytes, plural},
};
use listentop_recording::Recording;

use super::{
    Failure,
    moment::{self, Moment, local},
    options::Cli,
    progress::Progress,
};
use crate::{
    rights::sandbox::{self, Allowed},
    say::say,
};

/// How long a part is that begins at a moment.
const AT: Duration = Duration::from_secs(60);

/// Which part of a recording.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Part of a recording")]
pub(super) struct Part {
    /// The minute from this moment on: 03:12 (the last such), 2026-11-29T03:12:30, in UTC with a Z at its end; +10m
    /// from the start, or -5m from the end. With --for, so long instead of a minute
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true, conflicts_with_all = ["since", "until"])]
    pub(super) at: Option<Moment>,
    /// From this moment on
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    pub(super) since: Option<Moment>,
    /// Until this moment
    #[arg(long, value_name = "TIME", value_parser = moment::parse, allow_hyphen_values = true)]
    pub(super) until: Option<Moment>,
}

impl Part {
    /// Whether none was named.
    pub(super) fn is_all(&self) -> bool {
        self.at.is_none() && self.since.is_none() && self.until.is_none()
    }
}

/// The folder of a file that is to be made.
pub(super) fn folder(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new(".")).to_owned()
}

/// A recording that is open.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) recording: Recording,
    path: PathBuf,
}

impl Recorded {
    /// Turns the sandbox on, opens the recording, and reports what of it is damaged. What is read from here on is
    /// somebody else's. `writes`: where files are made later.
    pub(super) fn open(cli: &Cli, path: &Path, writes: Vec<PathBuf>) -> Result<Self, Failure> {
        if !cli.probing.no_sandbox {
            let allowed = Allowed { reads: vec![path.to_owned()], writes, ..Allowed::default() };
            sandbox::confine(&allowed, false);
        }
        Self::read(path)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let mut progress = Progress::start();
        let recording = Recording::open(path, |at, all| {
            progress.show(|| format!("reading {}: {}", path.display(), share(at, all)));
        });
        drop(progress);
        let recording = recording.map_err(anyhow::Error::new)?;
        if !recording.damage().is_none() {
            say(format_args!("listentop: {}: {}", path.display(), recording.damage()));
        }
        if let Some(cut_off) = recording.damage().cut_off() {
            say(format_args!("listentop: {} {cut_off}", path.display()));
        }
        Ok(Self { recording, path: path.to_owned() })
    }

    /// The wall clock of a sample, in milliseconds since the epoch.
    pub(super) fn time(&self, at: usize) -> u64 {
        self.recording.stamp(at).map_or(0, |stamp| stamp.unix_ms)
    }

    /// The wall clock of the first and the last sample of these.
    pub(super) fn span(&self, places: &Range<usize>) -> (u64, u64) {
        (self.time(places.start), self.time(places.end.saturating_sub(1)))
    }

    /// The sample at a moment: the last one before it, or the first of all. That of the last measurement which has it.
    pub(super) fn place(&self, moment: Moment) -> Result<usize, Failure> {
        for run in self.recording.runs().iter().rev() {
            let (start, end) = self.span(&run.samples);
            // From one sample to the next is part of it.
            let slack = run.start.interval_ms.max(1_000);
            if let Some(at) = moment.within(start, end)
                && (start.saturating_sub(slack)..=end.saturating_add(slack)).contains(&at)
            {
                let after = run.samples.clone().find(|place| self.time(*place) > at);
                return Ok(after.unwrap_or(run.samples.end).saturating_sub(1).max(run.samples.start));
            }
        }
        let (start, end) = self.span(&(0..self.recording.len()));
        Err(Failure::Usage(format!(
            "{}: the recording does not have this time: it is from {} to {}",
            self.path.display(),
            local(start),
            local(end)
        )))
    }

    /// The samples of a part, which are of one measurement: the one that it begins in, and the last if it begins
    /// nowhere.
    pub(super) fn part(&self, part: &Part, length: Option<Duration>) -> Result<Range<usize>, Failure> {
        let runs = self.recording.runs();
        let begin = part.at.or(part.since).map(|moment| self.place(moment)).transpose()?;
        let end = part.until.map(|moment| self.place(moment)).transpose()?;
        let within = begin.or(end).unwrap_or_else(|| self.recording.len() - 1);
        let run = runs.iter().find(|run| run.samples.contains(&within)).map(|run| run.samples.clone());
        let run = run.unwrap_or(0..self.recording.len());
        let begin = begin.unwrap_or(run.start);
        let end = end.map_or(run.end, |end| (end + 1).min(run.end));
        let length = length.or(part.at.map(|_| AT));
        let end = match length.and_then(|length| u64::try_from(length.as_millis()).ok()) {
            Some(length) => {
                let over = self.time(begin).saturating_add(length);
                (begin..end).find(|place| self.time(*place) > over).unwrap_or(end)
            }
            None => end,
        };
        if begin >= end {
            return Err(Failure::Usage("--since is after --until".to_owned()));
        }
        if runs.len() > 1 && part.is_all() {
            let (from, until) = self.span(&run);
            say(format_args!(
                "listentop: {}: {} measurements; this is the last, from {} to {}. --at, --since and --until choose \
                 another",
                self.path.display(),
                runs.len(),
                local(from),
                local(until)
            ));
        }
        Ok(begin..end)
    }

    /// Follows these samples. `each` gets the model of each sample, and its place.
    pub(super) fn follow(
        &self,
        places: Range<usize>,
        mut each: impl FnMut(usize, &Model) -> Result<(), Failure>,
    ) -> Result<Tracker, Failure> {
        let mut progress = Progress::start();
        let mut samples = self.recording.samples(places.clone());
        let mut tracker: Option<Tracker> = None;
        for (place, sample) in samples.by_ref() {
            let tracker = match &mut tracker {
                Some(tracker) => {
                    tracker.push(&sample);
                    tracker
                }
                None => tracker.insert(Tracker::new(&sample)),
            };
            each(place, tracker.model())?;
            progress.show(|| {
                let (done, all) = (place - places.start, places.len());
                format!("{}: {} of {}", self.path.display(), plural(done as u64, "sample"), all)
            });
        }
        drop(progress);
        if samples.unreadable() > 0 {
            say(format_args!(
                "listentop: {}: {} cannot be read; the rest is read",
                self.path.display(),
                plural(samples.unreadable(), "sample")
            ));
        }
        let none = || Failure::Other(anyhow::anyhow!("{}: none of these samples can be read", self.path.display()));
        tracker.ok_or_else(none)
    }
}

/// How much of it is done.
fn share(at: u64, all: u64) -> String {
    format!("{} of {}", bytes(at), bytes(all))
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, sample::Sample, words::Charset};
    use listentop_recording::{Start, Writer};

    use super::*;
    use crate::report::{FORMATS, Page, Story};

    /// A recording of these samples.
    fn record(path: &Path, samples: &[Sample], run: u64) {
        let mut writer = Writer::file(path, Start::new("a test".to_owned(), run), None).expect("it can be made");
        samples.iter().for_each(|sample| writer.write(sample).expect("there is room"));
        writer.finish().expect("it is written");
    }

    /// What every format makes of it.
    fn reports(model: &Model, story: &Story) -> Vec<String> {
        let page = Page { remarks: &[], width: 120, charset: Charset::Unicode, story: Some(story) };
        FORMATS.iter().map(|format| (format.write)(model, &page).expect("it can be written")).collect()
    }

    #[test]
    fn a_recorded_interval_gives_the_report_of_the_live_one() {
        let recorded = include_str!("../../tests/recorded/patterns.jsonl").lines();
        let real = recorded.map(|line| serde_json::from_str(line).expect("a sample")).collect();
        let machines: [Vec<Sample>; 7] = [
            real,
            fixtures::quiet(),
            fixtures::overflow(),
            fixtures::dead_shard(),
            fixtures::per_connection(),
            fixtures::distinct(),
            fixtures::unavailable(),
        ];
        let place = tempfile::tempdir().expect("a folder");
        for (number, samples) in machines.iter().enumerate() {
            let mut tracker = Tracker::new(&samples[0]);
            let mut story = Story::default();
            story.push(tracker.model());
            for sample in &samples[1..] {
                tracker.push(sample);
                story.push(tracker.model());
            }
            let live = reports(tracker.model(), &story.finish());

            let path = place.path().join(number.to_string());
            record(&path, samples, 1);
            let recorded = Recorded::read(&path).expect("it is one");
            let all = recorded.part(&Part::default(), None).expect("it has samples");
            let mut story = Story::default();
            let tracker = recorded.follow(all, |_, model| {
                story.push(model);
                Ok(())
            });
            let again = reports(tracker.expect("it can be read").model(), &story.finish());
            assert_eq!(live, again, "machine {number}");
        }
    }

    /// A recording of 100 seconds, from 2026-11-29T00:00:00Z on.
    fn hundred(path: &Path) -> Recorded {
        let first = fixtures::overflow().remove(0);
        let second = |n: u64| Sample {
            unix_ms: 1_795_910_400_000 + n * 1_000,
            monotonic_ns: first.monotonic_ns + n * 1_000_000_000,
            ..first.clone()
        };
        record(path, &(0..100).map(second).collect::<Vec<_>>(), 1);
        Recorded::read(path).expect("it is one")
    }

    #[test]
    fn a_part_is_between_its_moments() {
        let place = tempfile::tempdir().expect("a folder");
        let recorded = hundred(&place.path().join("one"));
        let part = |at: Option<&str>, since: Option<&str>, until: Option<&str>, length: Option<u64>| {
            let moment = |text: Option<&str>| text.map(|text| moment::parse(text).expect("a moment"));
            let part = Part { at: moment(at), since: moment(since), until: moment(until) };
            recorded.part(&part, length.map(Duration::from_secs)).map_err(|error| error.to_string())
        };
        assert_eq!(part(None, None, None, None), Ok(0..100));
        assert_eq!(part(Some("00:00:30Z"), None, None, None), Ok(30..91));
        assert_eq!(part(Some("00:01Z"), None, None, None), Ok(60..100), "until the end");
        assert_eq!(part(Some("+10s"), None, None, Some(5)), Ok(10..16));
        assert_eq!(part(None, Some("+20s"), Some("-9s"), None), Ok(20..91));
        assert_eq!(part(None, Some("+20.5s"), None, Some(1)), Ok(20..22), "the sample before that moment");
        assert_eq!(part(None, None, Some("+3s"), None), Ok(0..4));
        let error = part(None, Some("+20s"), Some("+10s"), None).expect_err("it is empty");
        assert!(error.contains("--since is after --until"), "{error}");
        for outside in ["00:02Z", "2026-11-28T23:59Z", "+110s"] {
            let error = part(Some(outside), None, None, None).expect_err(outside);
            assert!(error.contains("does not have this time: it is from "), "{error}");
        }
    }

    #[test]
    fn of_several_measurements_one_is_taken() {
        let place = tempfile::tempdir().expect("a folder");
        let bounds = listentop_recording::Ring { span_ms: 3_600_000, segment_ms: 30_000 };
        let samples = hundred(&place.path().join("one"));
        let samples: Vec<Sample> = samples.recording.samples(0..100).map(|(_, sample)| sample).collect();
        let path = place.path().join("ring");
        for (run, part) in [(1, 0..40), (2, 50..100)] {
            let start = Start::new("a test".to_owned(), run);
            let mut writer = Writer::ring(&path, start, bounds, None).expect("it can be opened");
            samples[part].iter().for_each(|sample| writer.write(sample).expect("there is room"));
            writer.finish().expect("it is written");
        }
        let recorded = Recorded::read(&path).expect("it is one");
        let of = |since: Option<&str>| {
            let since = since.map(|text| moment::parse(text).expect("a moment"));
            recorded.part(&Part { since, ..Part::default() }, None).expect("it has that")
        };
        assert_eq!((of(None), of(Some("00:00:20Z")), of(Some("00:01:00Z"))), (40..90, 20..40, 50..90));
    }
}
