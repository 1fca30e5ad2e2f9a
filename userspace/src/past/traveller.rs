//! The model of any moment of the past, as it was then.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use listentop_model::{model::Model, tracker::Tracker};

use super::{Past, follow};

/// Samples between two trackers that are kept: a step back takes no more than to follow so many.
const BETWEEN: usize = 64;
/// Trackers that are kept at most.
const KEPT: usize = 12;
/// Listeners of all kept trackers together, so that they fit the memory.
const LISTENERS: usize = 12_000;
/// How far an interval begins before a moment, if the past is longer than the next.
const BEFORE_MS: u64 = 15 * 60_000;
/// The longest interval.
const LONGEST_MS: u64 = 2 * 3_600_000;
/// Samples in which an event is looked for at once, backwards.
const WINDOW: usize = 600;

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// So many samples later, or earlier if negative.
    Samples(isize),
    /// So much time later, or earlier if negative, in milliseconds.
    Time(i64),
    /// To a moment, in milliseconds since the epoch: the last sample until then.
    At(u64),
    /// To where something began or ended: the next such moment.
    NextEvent,
    /// The one before.
    PreviousEvent,
}

/// Goes through a past.
#[derive(Debug)]
pub struct Traveller {
    /// Where the interval begins.
    begin: usize,
    /// Where it is.
    place: usize,
    /// How everything was at some places of the interval.
    known: BTreeMap<usize, Tracker>,
}

impl Traveller {
    /// At this place.
    #[must_use]
    pub fn at(past: &dyn Past, place: usize) -> Self {
        let mut traveller = Self { begin: 0, place, known: BTreeMap::new() };
        traveller.begin = traveller.beginning(past);
        traveller
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> usize {
        self.place
    }

    /// Where the interval of a moment begins: at the start of the past, unless that is long ago.
    fn beginning(&self, past: &dyn Past) -> usize {
        let (first, now) = (past.places().start, past.time(self.place));
        if now.saturating_sub(past.time(first)) <= LONGEST_MS {
            return first;
        }
        let from = now.saturating_sub(BEFORE_MS);
        (first..self.place).find(|place| past.time(*place) >= from).unwrap_or(self.place)
    }

    /// Goes somewhere; whether that is somewhere else.
    pub fn go(&mut self, past: &dyn Past, turn: Turn) -> bool {
        let places = past.places();
        let last = places.end.saturating_sub(1);
        let before = self.place;
        self.place = match turn {
            Turn::Samples(count) => self.place.saturating_add_signed(count),
            Turn::Time(ms) => {
                let to = past.time(self.place).saturating_add_signed(ms);
                if ms < 0 {
                    (places.start..self.place).rev().find(|place| past.time(*place) <= to).unwrap_or(places.start)
                } else {
                    (self.place..places.end).find(|place| past.time(*place) >= to).unwrap_or(last)
                }
            }
            Turn::At(moment) => places.clone().rev().find(|place| past.time(*place) <= moment).unwrap_or(places.start),
            Turn::NextEvent => self.next_event(past).unwrap_or(self.place),
            Turn::PreviousEvent => self.previous_event(past).unwrap_or(self.place),
        }
        .clamp(places.start, last);
        if self.place != before {
            let is_far = past.time(self.place).saturating_sub(past.time(self.begin)) > LONGEST_MS;
            if self.place < self.begin || self.begin < places.start || is_far {
                self.begin = self.beginning(past);
                self.known.clear();
            }
        }
        self.place != before
    }

    /// The model of the place; `None` if nothing up to there can be read.
    pub fn model(&mut self, past: &dyn Past) -> Option<Arc<Model>> {
        // What the past has forgotten meanwhile cannot begin an interval.
        if self.begin < past.places().start {
            self.place = self.place.max(past.places().start);
            self.begin = self.beginning(past);
            self.known.clear();
        }
        let nearest = self.known.range(..=self.place).next_back().map(|(place, _)| *place);
        // One at a place in between is for the next step alone, and need not be copied.
        let mut tracker = nearest.and_then(|place| match place % BETWEEN {
            0 => self.known.get(&place).cloned(),
            _ => self.known.remove(&place),
        });
        let next = nearest.map_or(self.begin, |place| place + 1);
        let known = &mut self.known;
        past.read(next..self.place + 1, &mut |place, sample| {
            match &mut tracker {
                Some(tracker) => tracker.push(sample),
                None => tracker = Some(Tracker::new(sample)),
            }
            if place % BETWEEN == 0
                && let Some(tracker) = &tracker
            {
                known.insert(place, tracker.clone());
            }
            true
        });
        let tracker = tracker?;
        let model = Arc::new(tracker.model().clone());
        self.keep(tracker);
        Some(model)
    }

    /// Keeps the tracker of the place, for the next step, and forgets those that are furthest away.
    fn keep(&mut self, tracker: Tracker) {
        let most = (LISTENERS / tracker.model().listeners.len().max(1)).clamp(1, KEPT);
        self.known.retain(|place, _| place % BETWEEN == 0);
        self.known.insert(self.place, tracker);
        while self.known.len() > most {
            let distance = |place: &&usize| place.abs_diff(self.place);
            let Some(furthest) = self.known.keys().max_by_key(distance).copied() else { break };
            self.known.remove(&furthest);
        }
    }

    /// The place of the first event after this one.
    fn next_event(&self, past: &dyn Past) -> Option<usize> {
        let from = self.place.saturating_sub(WINDOW).max(past.places().start);
        events(past, from..past.places().end, &mut |place| place > self.place)
            .into_iter()
            .find(|place| *place > self.place)
    }

    /// The place of the last event before this one.
    fn previous_event(&self, past: &dyn Past) -> Option<usize> {
        let first = past.places().start;
        let mut end = self.place;
        while end > first {
            let begin = end.saturating_sub(WINDOW).max(first);
            // What holds at the beginning of a window seems to begin there: a window before shows whether it did.
            let from = begin.saturating_sub(WINDOW / 4).max(first);
            let found = events(past, from..end, &mut |_| false);
            if let Some(place) =
                found.into_iter().rfind(|place| *place < self.place && (*place > from || from == first))
            {
                return Some(place);
            }
            end = begin;
        }
        None
    }
}

/// The places among these that show where something began, got worse or ended, until `enough` says so of one.
fn events(past: &dyn Past, places: Range<usize>, enough: &mut dyn FnMut(usize) -> bool) -> Vec<usize> {
    let mut found = Vec::new();
    follow(past, places, &mut |_, _, happened| {
        found.extend(happened.into_iter().map(|happened| happened.place));
        !found.iter().any(|place| enough(*place))
    });
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, sample::Sample};

    use super::*;

    /// A past in memory, without any bound.
    pub(crate) struct Plain(pub(crate) Vec<Sample>);

    impl Past for Plain {
        fn places(&self) -> Range<usize> {
            0..self.0.len()
        }

        fn time(&self, place: usize) -> u64 {
            self.0[place].unix_ms
        }

        fn read(&self, places: Range<usize>, each: &mut dyn FnMut(usize, &Sample) -> bool) {
            for (place, sample) in self.0.iter().enumerate().take(places.end).skip(places.start) {
                if !each(place, sample) {
                    return;
                }
            }
        }
    }

    /// An overflow that begins after a while and passes.
    fn incident() -> Plain {
        let mut samples = fixtures::overflow();
        let first = samples[0].clone();
        let calm = |sample: &Sample, ms: u64| {
            let mut next = sample.clone();
            next.monotonic_ns += ms * 1_000_000;
            next.unix_ms += ms;
            for listener in &mut next.listeners {
                listener.gauges.accept_depth = 0;
                listener.gauges.accept_peak = Some(0);
                listener.gauges.oldest_waiting_us = Some(0);
            }
            next
        };
        let mut all: Vec<Sample> = (0..150).map(|n| calm(&first, n * 1_000)).collect();
        samples.iter_mut().for_each(|sample| {
            sample.monotonic_ns += 150_000_000_000;
            sample.unix_ms += 150_000;
        });
        all.append(&mut samples);
        let last = all.last().expect("there is one").clone();
        all.extend((1..200).map(|n| calm(&last, n * 1_000)));
        Plain(all)
    }

    fn plain(past: &Plain, place: usize) -> Model {
        let mut tracker = Tracker::new(&past.0[0]);
        past.0[1..=place].iter().for_each(|sample| tracker.push(sample));
        tracker.model().clone()
    }

    #[test]
    fn each_moment_is_as_it_was() {
        let past = incident();
        let mut traveller = Traveller::at(&past, 0);
        let last = past.0.len() - 1;
        for (turn, place) in [
            (Turn::Samples(1), 1),
            (Turn::Samples(160), 161),
            (Turn::Samples(-1), 160),
            (Turn::Samples(-1), 159),
            (Turn::Samples(1_000), last),
            (Turn::Samples(-7), last - 7),
            (Turn::Time(-100_000), last - 107),
            (Turn::Time(7_000), last - 100),
            (Turn::At(past.0[40].unix_ms + 999), 40),
            (Turn::At(past.0[41].unix_ms), 41),
            (Turn::At(0), 0),
        ] {
            assert!(traveller.go(&past, turn), "{turn:?}");
            assert_eq!(traveller.place(), place, "{turn:?}");
            assert_eq!(*traveller.model(&past).expect("it can be read"), plain(&past, place), "{turn:?}");
            assert!(traveller.known.len() <= KEPT);
        }
        assert!(!traveller.go(&past, Turn::Samples(-1)), "it is at the start");
    }

    #[test]
    fn events_are_found_in_both_directions() {
        let past = incident();
        let places = events(&past, past.places(), &mut |_| false);
        assert!(places.len() >= 3 && places.iter().all(|place| (150..260).contains(place)), "{places:?}");
        let mut traveller = Traveller::at(&past, 0);
        for place in &places {
            assert!(traveller.go(&past, Turn::NextEvent));
            assert_eq!(traveller.place(), *place);
        }
        assert!(!traveller.go(&past, Turn::NextEvent), "there is no other");
        for place in places.iter().rev().skip(1) {
            assert!(traveller.go(&past, Turn::PreviousEvent));
            assert_eq!(traveller.place(), *place);
        }
        assert!(!traveller.go(&past, Turn::PreviousEvent));
        let mut traveller = Traveller::at(&past, past.0.len() - 1);
        assert!(traveller.go(&past, Turn::PreviousEvent));
        assert_eq!(Some(&traveller.place()), places.last());
    }

    #[test]
    fn a_long_past_has_intervals_of_bounded_length() {
        let first = fixtures::quiet().remove(0);
        let minute = |n: u64| Sample {
            unix_ms: first.unix_ms + n * 60_000,
            monotonic_ns: first.monotonic_ns + n * 60_000_000_000,
            ..first.clone()
        };
        let past = Plain((0..600).map(minute).collect());
        let mut traveller = Traveller::at(&past, 500);
        let seconds = |traveller: &mut Traveller| traveller.model(&past).expect("it can be read").interval.seconds;
        assert_eq!(seconds(&mut traveller), 15.0 * 60.0);
        traveller.go(&past, Turn::Samples(30));
        assert_eq!(seconds(&mut traveller), 45.0 * 60.0, "it goes on");
        traveller.go(&past, Turn::Samples(-60));
        assert_eq!(seconds(&mut traveller), 15.0 * 60.0);
        traveller.go(&past, Turn::Samples(-400));
        assert_eq!(seconds(&mut traveller), 70.0 * 60.0, "from the start");
    }
}
