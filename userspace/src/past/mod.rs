//! The past: samples that are still there, in a recording or in the dashboard's memory, and the model of any moment.

mod events;
mod memory;
mod traveller;

use std::ops::Range;

use listentop_model::sample::Sample;
use listentop_recording::Recording;

pub use self::{
    events::{Happened, follow},
    memory::Memory,
    traveller::{Traveller, Turn},
};

/// Samples in the order of time, by their places from 0 on.
pub trait Past {
    /// Its samples: those of one measurement.
    fn places(&self) -> Range<usize>;

    /// The wall clock of one, in milliseconds since the epoch.
    fn time(&self, place: usize) -> u64;

    /// Reads these, in order, until `each` returns false. What cannot be read is left out.
    fn read(&self, places: Range<usize>, each: &mut dyn FnMut(usize, &Sample) -> bool);
}

impl<T: Past + ?Sized> Past for std::sync::Arc<T> {
    fn places(&self) -> Range<usize> {
        (**self).places()
    }

    fn time(&self, place: usize) -> u64 {
        (**self).time(place)
    }

    fn read(&self, places: Range<usize>, each: &mut dyn FnMut(usize, &Sample) -> bool) {
        (**self).read(places, each);
    }
}

/// A measurement of a recording.
#[derive(Debug)]
pub struct Recorded {
    /// The recording.
    pub recording: Recording,
    /// The measurement's samples.
    pub places: Range<usize>,
}

impl Past for Recorded {
    fn places(&self) -> Range<usize> {
        self.places.clone()
    }

    fn time(&self, place: usize) -> u64 {
        self.recording.stamp(place).map_or(0, |stamp| stamp.unix_ms)
    }

    fn read(&self, places: Range<usize>, each: &mut dyn FnMut(usize, &Sample) -> bool) {
        for (place, sample) in self.recording.samples(places) {
            if !each(place, &sample) {
                return;
            }
        }
    }
}
