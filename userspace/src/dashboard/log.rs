//! What happened since the dashboard started, in bounded memory.

use std::collections::VecDeque;

use listentop_model::{
    episodes::{Episodes, Event},
    model::Model,
    words,
};

/// Events that are kept; of more, the newest.
const KEPT: usize = 1_000;

/// An event, with what its listener was called: it may be gone when the event is looked at.
#[derive(Debug)]
pub(super) struct Entry {
    /// It counts up from 0.
    pub(super) number: u64,
    pub(super) event: Event,
    pub(super) name: String,
}

/// The events.
#[derive(Debug, Default)]
pub(super) struct Log {
    episodes: Episodes,
    /// Oldest first.
    entries: VecDeque<Entry>,
    total: u64,
}

impl Log {
    /// Notes what happened since the model before.
    pub(super) fn push(&mut self, model: &Model) {
        for event in self.episodes.push(model) {
            let listener = model.listeners.iter().find(|listener| Some(listener.id) == event.listener);
            let named = |entry: &Entry| (entry.event.listener == event.listener).then(|| entry.name.clone());
            let name = listener.map(|l| format!("{} {}", words::numbered_endpoint(model, l), words::process(l)));
            let name = match event.listener {
                None => "all listeners".to_owned(),
                Some(_) => name.or_else(|| self.entries.iter().rev().find_map(named)).unwrap_or_default(),
            };
            self.entries.push_back(Entry { number: self.total, event, name });
            self.total += 1;
            if self.entries.len() > KEPT {
                self.entries.pop_front();
            }
        }
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many there were.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// One of them: 0 is the newest.
    pub(super) fn newest(&self, at: usize) -> Option<&Entry> {
        self.entries.get(self.entries.len().checked_sub(at + 1)?)
    }

    /// How many are newer than this one.
    pub(super) fn position(&self, number: u64) -> Option<usize> {
        let newest = self.entries.back()?.number;
        newest.checked_sub(number).map(|at| at as usize).filter(|at| *at < self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, tracker::Tracker};

    use super::*;

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let mut model = Tracker::new(&fixtures::quiet()[0]).model().clone();
        let mut log = Log::default();
        log.push(&model);
        for step in 0..KEPT {
            model.interval.seconds += 1.0;
            model.listeners[0].closed = step % 2 == 0;
            model.listeners[1].closed = step % 2 == 0;
            log.push(&model);
        }
        assert_eq!((log.len(), log.total()), (KEPT, 2 * KEPT as u64));
        let newest = log.newest(0).unwrap().number;
        assert_eq!((newest, log.position(newest)), (2 * KEPT as u64 - 1, Some(0)));
        assert_eq!(log.position(newest - 7), Some(7));
        assert_eq!((log.position(3), log.position(newest + 1)), (None, None));
        assert!(log.newest(KEPT).is_none() && log.newest(KEPT - 1).is_some());
    }
}
