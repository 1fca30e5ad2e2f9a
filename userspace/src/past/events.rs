//! What happened in the past, and the sample that shows it.

use std::ops::Range;

use listentop_model::{
    episodes::{Episodes, Event, Happening},
    model::Model,
    tracker::Tracker,
};

use super::Past;

/// Something that began or ended.
#[derive(Debug)]
pub struct Happened {
    /// The place of the sample that shows it: the first with what began, the last with what ended.
    pub place: usize,
    /// What.
    pub event: Event,
}

/// Follows these samples until `each` returns false. It gets the place of each, its model, and what of all before is
/// known since: an end is known some seconds later than it was.
pub fn follow(past: &dyn Past, places: Range<usize>, each: &mut dyn FnMut(usize, &Model, Vec<Happened>) -> bool) {
    let mut tracker: Option<Tracker> = None;
    let mut episodes = Episodes::default();
    past.read(places.clone(), &mut |place, sample| {
        let tracker = match &mut tracker {
            Some(tracker) => {
                tracker.push(sample);
                tracker
            }
            None => tracker.insert(Tracker::new(sample)),
        };
        let shown = |event: Event| {
            let before = || (places.start..place).rev().find(|place| past.time(*place) <= event.unix_ms);
            let at = if event.happening == Happening::Ended { before().unwrap_or(places.start) } else { place };
            Happened { place: at, event }
        };
        let happened = episodes.push(tracker.model()).into_iter().map(shown).collect();
        each(place, tracker.model(), happened)
    });
}
