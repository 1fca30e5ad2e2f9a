//! The last minutes of an evidence bundle: all samples as a recording, and what the graphs show as JSON.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    ops::{Range, RangeInclusive},
    path::Path,
};

use listentop_model::{
    history::HistoryPoint,
    model::{ListenerModel, Model},
    words,
};
use listentop_recording::{Start, Writer};
use serde::Serialize;

use crate::past::{Past, follow};

/// How far back a bundle goes, in milliseconds: as far as the dashboard's memory has each second.
pub const SPAN_MS: u64 = 15 * 60_000;
/// Listeners whose course is in the JSON: it takes some 150 bytes for each second of one.
const COURSES: usize = 50;

/// What the source remembers.
pub struct Remembered {
    /// Where it is.
    pub past: Box<dyn Past + Send>,
    /// Which part of it is asked for, in milliseconds since the epoch.
    pub times: RangeInclusive<u64>,
}

impl Remembered {
    /// The last minutes until this moment.
    #[must_use]
    pub fn until(moment: u64, past: Box<dyn Past + Send>) -> Self {
        Self { past, times: moment.saturating_sub(SPAN_MS)..=moment }
    }

    fn places(&self) -> Range<usize> {
        let places = self.past.places();
        let begin = places.clone().find(|place| self.past.time(*place) >= *self.times.start()).unwrap_or(places.end);
        let end = (begin..places.end).rfind(|place| self.past.time(*place) <= *self.times.end());
        begin..end.map_or(begin, |last| last + 1)
    }

    /// Writes the samples as a recording.
    pub(super) fn record(&self, path: &Path, start: Start) -> anyhow::Result<()> {
        let mut writer = Writer::file(path, start, None)?;
        let mut failed = None;
        self.past.read(self.places(), &mut |_, sample| {
            failed = writer.write(sample).err();
            failed.is_none()
        });
        failed.map_or(Ok(()), Err)?;
        Ok(writer.finish()?)
    }

    /// How the listeners were at each sample that `model` shows to matter.
    pub(super) fn courses(&self, model: &Model) -> Vec<Course> {
        let mut courses = of(model, |_| Vec::new());
        let places: HashMap<u64, usize> = courses.iter().enumerate().map(|(at, course)| (course.id, at)).collect();
        let begin = model.interval.start_unix_ms as f64;
        follow(&*self.past, self.places(), &mut |place, then, _| {
            let unix_ms = self.past.time(place);
            for listener in &then.listeners {
                let Some(at) = places.get(&listener.id) else { continue };
                let Some(point) = listener.history.last(1, &then.timeline).next() else { continue };
                let at_seconds = (unix_ms as f64 - begin) / 1e3;
                courses[*at].points.push(Step::of(&HistoryPoint { at: at_seconds, ..point }, unix_ms));
            }
            true
        });
        courses
    }
}

/// The course of a listener.
#[derive(Serialize)]
pub(super) struct Course {
    id: u64,
    address: String,
    points: Vec<Step>,
}

/// How it was at a sample; the fields are those of the model.
#[derive(Serialize)]
struct Step {
    time: String,
    /// Since the beginning of the report's interval; negative before it.
    at_seconds: f64,
    accept_depth: u32,
    accept_peak: Option<u32>,
    syn_depth: Option<u32>,
    drops: Option<u64>,
    accepts_per_second: Option<f64>,
    reads_per_second: Option<f64>,
}

impl Step {
    fn of(point: &HistoryPoint, unix_ms: u64) -> Self {
        Self {
            time: words::utc(unix_ms),
            at_seconds: point.at,
            accept_depth: point.accept_depth,
            accept_peak: point.accept_peak,
            syn_depth: point.syn_depth,
            drops: point.drops,
            accepts_per_second: point.accepts,
            reads_per_second: point.reads,
        }
    }
}

/// What the graphs of a model show: without a memory there is no more.
pub(super) fn shown(model: &Model) -> Vec<Course> {
    let time = |point: &HistoryPoint| model.interval.start_unix_ms + (point.at * 1e3) as u64;
    let points = |listener: &ListenerModel| {
        listener.history.points(&model.timeline).map(|point| Step::of(&point, time(&point))).collect()
    };
    of(model, points)
}

/// Courses of the listeners that did something or are not well, the worst and the busiest first.
fn of(model: &Model, points: impl Fn(&ListenerModel) -> Vec<Step>) -> Vec<Course> {
    let used = |listener: &&ListenerModel| {
        let counts = [listener.total.enqueued, listener.total.accepts, listener.drops.total];
        counts.into_iter().flatten().any(|n| n > 0) || listener.now.accept_depth > 0 || !listener.findings.is_empty()
    };
    let mut listeners: Vec<&ListenerModel> = model.listeners.iter().filter(used).collect();
    let worst = |listener: &ListenerModel| listener.findings.iter().map(|finding| finding.severity).max();
    listeners.sort_by_key(|listener| Reverse((worst(listener), listener.drops.total, listener.total.accepts)));
    let mut seen = HashSet::new();
    let once = listeners.into_iter().filter(|listener| seen.insert(listener.id)).take(COURSES);
    let course = |listener: &ListenerModel| Course {
        id: listener.id,
        address: words::listener_endpoint(listener),
        points: points(listener),
    };
    once.map(course).collect()
}
