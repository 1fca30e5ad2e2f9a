//! What happened: since the dashboard started, or in a whole recording; in bounded memory.

use std::{collections::VecDeque, sync::Arc};

use listentop_model::{episodes::Event, model::Model, words};

/// Events of a run that are kept; of more, the newest.
const KEPT: usize = 1_000;

/// An event, with what its listener was called: it may be gone when the event is looked at.
#[derive(Debug)]
pub(super) struct Entry {
    /// It counts up from 0.
    pub(super) number: u64,
    pub(super) event: Event,
    pub(super) name: String,
    /// The moment that shows it, in milliseconds since the epoch.
    pub(super) moment: u64,
}

/// How far a recording was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    until: u64,
    is_whole: bool,
}

/// The events.
#[derive(Debug, Clone)]
pub struct Log {
    /// By the moments that show them, oldest first.
    entries: VecDeque<Arc<Entry>>,
    total: u64,
    most: usize,
    /// Of a recording: how far it was read.
    reading: Option<Reading>,
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: VecDeque::new(), total: 0, most: KEPT, reading: None }
    }
}

impl Log {
    /// Of a recording, before it is read: as many as `most` events are kept.
    #[must_use]
    pub fn of_recording(most: usize) -> Self {
        Self { most, reading: Some(Reading { until: 0, is_whole: false }), ..Self::default() }
    }

    /// Adds an event that is known as of `model`, and that a moment shows.
    pub fn add(&mut self, model: &Model, event: Event, moment: u64) {
        let listener = model.listeners.iter().find(|listener| Some(listener.id) == event.listener);
        let named = |entry: &Arc<Entry>| (entry.event.listener == event.listener).then(|| entry.name.clone());
        let name = listener.map(|l| format!("{} {}", words::numbered_endpoint(model, l), words::process(l)));
        let name = match event.listener {
            None => "all listeners".to_owned(),
            Some(_) => name.or_else(|| self.entries.iter().rev().find_map(named)).unwrap_or_default(),
        };
        let later = self.entries.iter().rev().take_while(|entry| entry.moment > moment).count();
        let entry = Entry { number: self.total, event, name, moment };
        self.entries.insert(self.entries.len() - later, Arc::new(entry));
        self.total += 1;
        if self.entries.len() > self.most {
            self.entries.pop_front();
        }
    }

    /// Notes until when the recording was read.
    pub fn read_until(&mut self, moment: u64) {
        self.reading = Some(Reading { until: moment, is_whole: false });
    }

    /// Notes that all of the recording was read.
    pub fn end(&mut self) {
        self.reading = Some(Reading { until: self.read(), is_whole: true });
    }

    /// Until when a recording was read, in milliseconds since the epoch.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.reading.map_or(0, |reading| reading.until)
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.reading.is_none_or(|reading| reading.is_whole)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many there were.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// One of them: 0 is the newest.
    pub(super) fn newest(&self, at: usize) -> Option<&Entry> {
        self.entries.get(self.entries.len().checked_sub(at + 1)?).map(|entry| &**entry)
    }

    /// How many are newer than this one.
    pub(super) fn position(&self, number: u64) -> Option<usize> {
        self.entries.iter().rev().position(|entry| entry.number == number)
    }

    /// How many are later than a moment.
    pub(super) fn after(&self, moment: u64) -> usize {
        self.entries.len() - self.entries.partition_point(|entry| entry.moment <= moment)
    }

    /// The moment of the next event, or of the one before.
    #[must_use]
    pub fn neighbour(&self, moment: u64, forwards: bool) -> Option<u64> {
        let at = if forwards {
            self.entries.partition_point(|entry| entry.moment <= moment)
        } else {
            self.entries.partition_point(|entry| entry.moment < moment).checked_sub(1)?
        };
        self.entries.get(at).map(|entry| entry.moment)
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{
        episodes::{Episodes, now_ms},
        fixtures,
        tracker::Tracker,
    };

    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut model = Tracker::new(&fixtures::quiet()[0]).model().clone();
        let (mut log, mut episodes) = (Log::default(), Episodes::default());
        for step in 0..=KEPT {
            let events = episodes.push(&model);
            events.into_iter().for_each(|event| log.add(&model, event, now_ms(&model)));
            model.interval.seconds += 1.0;
            model.listeners[0].closed = step % 2 == 0;
            model.listeners[1].closed = step % 2 == 0;
        }
        assert_eq!((log.len(), log.total()), (KEPT, 2 * KEPT as u64));
        let newest = log.newest(0).unwrap().number;
        assert_eq!((newest, log.position(newest)), (2 * KEPT as u64 - 1, Some(0)));
        assert_eq!(log.position(newest - 7), Some(7));
        assert_eq!((log.position(3), log.position(newest + 1)), (None, None));
        assert!(log.newest(KEPT).is_none() && log.newest(KEPT - 1).is_some());
    }

    #[test]
    fn events_are_in_the_order_of_the_moments_that_show_them() {
        let samples = fixtures::overflow();
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|sample| tracker.push(sample));
        let model = tracker.model();
        let event = Episodes::default().push(model).remove(0);
        let mut log = Log::of_recording(10);
        for moment in [5, 9, 7, 9, 2] {
            log.add(model, event.clone(), moment);
        }
        let moments: Vec<u64> = (0..5).filter_map(|at| log.newest(at)).map(|entry| entry.moment).collect();
        assert_eq!(moments, [9, 9, 7, 5, 2]);
        assert_eq!([log.after(0), log.after(7), log.after(8), log.after(9)], [5, 2, 2, 0]);
        assert_eq!([log.neighbour(5, true), log.neighbour(9, true)], [Some(7), None]);
        assert_eq!(
            [log.neighbour(9, false), log.neighbour(6, false), log.neighbour(2, false)],
            [Some(7), Some(5), None]
        );
        assert!(!log.is_whole());
        log.read_until(9);
        log.end();
        assert!(log.is_whole() && log.read() == 9);
    }
}
