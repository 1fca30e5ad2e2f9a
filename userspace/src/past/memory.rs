//! The dashboard's memory: what was measured lately, as a recording that is never written. The older, the thinner.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use listentop_model::sample::Sample;
use listentop_recording::{
    Decoder, Encoder,
    frame::{HEADER, Header},
};

use super::Past;

/// At most one sample in this time, in milliseconds: the first hour takes some MiB.
const SPACING_MS: u64 = 1_000;
/// What is older is thinned out, in milliseconds.
const FRESH_MS: u64 = 15 * 60_000;
/// To one sample in this time, in milliseconds.
const THIN_MS: u64 = 10_000;
/// What is older is forgotten, in milliseconds.
const LONGEST_MS: u64 = 4 * 3_600_000;
/// Samples that are thinned out and forgotten together.
const SEGMENT: usize = 60;
/// Bytes of all together, at most: the oldest go first.
const MOST: usize = 8 << 20;

/// Samples one after the other, the first of them whole.
#[derive(Debug, Default, Clone)]
struct Segment {
    /// Each with its time, in milliseconds since the epoch.
    frames: Vec<(u64, Vec<u8>)>,
    /// Bytes of them.
    size: usize,
    is_thin: bool,
}

impl Segment {
    fn push(&mut self, time: u64, frame: Vec<u8>) {
        self.size += frame.len();
        self.frames.push((time, frame));
    }

    /// Its samples, in order.
    fn samples(&self) -> impl Iterator<Item = Sample> {
        let mut decoder = Decoder::default();
        self.frames.iter().filter_map(move |(_, frame)| {
            let (header, payload) = frame.split_first_chunk::<HEADER>()?;
            // It was made here, and can be read.
            decoder.decode(&Header::parse(header)?, payload).ok().flatten()
        })
    }

    /// The same with fewer samples. Peaks, marks, and listeners that closed, pass to the sample that stays.
    fn thinned(&self) -> Self {
        let mut keeper = Keeper::new(THIN_MS);
        let mut encoder = Encoder::default();
        let mut thin = Self { is_thin: true, ..Self::default() };
        let last = self.frames.last().map(|(time, _)| *time);
        for sample in self.samples() {
            let is_last = Some(sample.unix_ms) == last;
            if let Some(sample) = keeper.take(sample, is_last)
                && let Ok(frame) = encoder.encode(&sample)
            {
                thin.push(sample.unix_ms, frame);
            }
        }
        thin
    }
}

/// Chooses the samples that are kept: one in so much time.
#[derive(Debug)]
struct Keeper {
    spacing_ns: u64,
    last_ns: Option<u64>,
    /// What was left out since.
    left_out: Option<Sample>,
}

impl Keeper {
    const fn new(spacing_ms: u64) -> Self {
        Self { spacing_ns: spacing_ms * 1_000_000, last_ns: None, left_out: None }
    }

    /// The sample with what was left out, if it is to be kept.
    fn take(&mut self, mut sample: Sample, always: bool) -> Option<Sample> {
        if let Some(earlier) = self.left_out.take() {
            merge(&mut sample, &earlier);
        }
        // A little early is early enough: samples are not taken to the millisecond.
        let due = self.last_ns.is_none_or(|last| sample.monotonic_ns + self.spacing_ns / 10 >= last + self.spacing_ns);
        if due || always {
            self.last_ns = Some(sample.monotonic_ns);
            return Some(sample);
        }
        self.left_out = Some(sample);
        None
    }
}

/// Adds to a sample what only the one before it showed.
fn merge(sample: &mut Sample, earlier: &Sample) {
    sample.marks.splice(..0, earlier.marks.iter().cloned());
    // Most samples have the same listeners at the same places; only others need an index.
    let places: OnceCell<HashMap<u64, usize>> = OnceCell::new();
    let place_of = |id: u64| {
        let index = || earlier.listeners.iter().enumerate().map(|(at, listener)| (listener.id, at)).collect();
        places.get_or_init(index).get(&id).copied()
    };
    for at in 0..sample.listeners.len() {
        if is_shared(sample, earlier, at) {
            continue;
        }
        let id = sample.listeners[at].id;
        let same = earlier.listeners.get(at).is_some_and(|before| before.id == id);
        let Some(before) = (if same { Some(at) } else { place_of(id) }) else { continue };
        let mut gauges = sample.listeners[at].gauges;
        gauges.take_peaks(&earlier.listeners[before].gauges);
        // Only then it is copied: others share it.
        if gauges != sample.listeners[at].gauges {
            sample.listeners[at].gauges = gauges;
        }
    }
    for at in 0..earlier.listeners.len() {
        if is_shared(sample, earlier, at) || !earlier.listeners[at].closed {
            continue;
        }
        let closed = &earlier.listeners.handles()[at];
        let is_there = sample.listeners.iter().any(|now| now.id == closed.id && now.opened_ns == closed.opened_ns);
        if !is_there {
            sample.listeners.push(closed.clone());
        }
    }
}

/// Whether both have the same object at a place: then nothing about it changed, and it need not be looked at.
fn is_shared(sample: &Sample, earlier: &Sample, at: usize) -> bool {
    let (now, before) = (sample.listeners.handles().get(at), earlier.listeners.handles().get(at));
    now.zip(before).is_some_and(|(now, before)| Arc::ptr_eq(now, before))
}

/// What was measured lately.
#[derive(Debug)]
pub struct Memory {
    segments: VecDeque<Segment>,
    /// Samples that were forgotten: places count on.
    forgotten: usize,
    keeper: Keeper,
    encoder: Encoder,
    /// How often places were given to other samples.
    changes: u64,
}

impl Default for Memory {
    fn default() -> Self {
        let keeper = Keeper::new(SPACING_MS);
        Self { segments: VecDeque::new(), forgotten: 0, keeper, encoder: Encoder::default(), changes: 0 }
    }
}

impl Memory {
    /// Takes a sample in.
    pub fn push(&mut self, sample: &Sample) {
        let Some(sample) = self.keeper.take(sample.clone(), false) else { return };
        if self.segments.back().is_none_or(|last| last.frames.len() >= SEGMENT) {
            self.encoder.restart();
            self.segments.push_back(Segment::default());
        }
        // One that is too large is left out, as in a file.
        let Ok(frame) = self.encoder.encode(&sample) else { return };
        if let Some(last) = self.segments.back_mut() {
            last.push(sample.unix_ms, frame);
        }
        self.age(sample.unix_ms);
    }

    /// How often samples got other places.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A copy of what it has from a moment on, in milliseconds since the epoch: for others to read meanwhile.
    #[must_use]
    pub fn part(&self, from: u64) -> Self {
        let old =
            self.segments.iter().take_while(|segment| segment.frames.last().is_some_and(|(time, _)| *time < from));
        let (old, gone) = old.fold((0, 0), |(count, gone), segment| (count + 1, gone + segment.frames.len()));
        let segments = self.segments.iter().skip(old).cloned().collect();
        Self { segments, forgotten: self.forgotten + gone, ..Self::default() }
    }

    /// Thins out what is old, and forgets what is older.
    fn age(&mut self, now_ms: u64) {
        let is_old = |segment: &Segment, age: u64| segment.frames.last().is_none_or(|(time, _)| time + age < now_ms);
        let old = self.segments.iter().position(|segment| !segment.is_thin);
        if let Some(at) = old
            && is_old(&self.segments[at], FRESH_MS)
        {
            let thin = self.segments[at].thinned();
            // Everything after keeps its place.
            self.forgotten += self.segments[at].frames.len() - thin.frames.len();
            self.segments[at] = thin;
            self.changes += 1;
        }
        while self.segments.len() > 1 && (is_old(&self.segments[0], LONGEST_MS) || self.size() > MOST) {
            let gone = self.segments.pop_front();
            self.forgotten += gone.map_or(0, |segment| segment.frames.len());
        }
    }

    /// The frame at a place.
    fn find(&self, place: usize) -> Option<(usize, usize)> {
        let mut at = place.checked_sub(self.forgotten)?;
        for (number, segment) in self.segments.iter().enumerate() {
            if at < segment.frames.len() {
                return Some((number, at));
            }
            at -= segment.frames.len();
        }
        None
    }
}

impl Past for Memory {
    fn places(&self) -> Range<usize> {
        let count: usize = self.segments.iter().map(|segment| segment.frames.len()).sum();
        self.forgotten..self.forgotten + count
    }

    fn time(&self, place: usize) -> u64 {
        self.find(place).map_or(0, |(segment, at)| self.segments[segment].frames[at].0)
    }

    fn read(&self, places: Range<usize>, each: &mut dyn FnMut(usize, &Sample) -> bool) {
        let Some((mut segment, at)) = self.find(places.start.max(self.forgotten)) else { return };
        let mut place = places.start.max(self.forgotten) - at;
        while let Some(current) = self.segments.get(segment) {
            for sample in current.samples() {
                if place >= places.end {
                    return;
                }
                if place >= places.start && !each(place, &sample) {
                    return;
                }
                place += 1;
            }
            segment += 1;
        }
    }
}

/// What a memory takes, for messages and tests.
impl Memory {
    /// Bytes of its samples.
    #[must_use]
    pub fn size(&self) -> usize {
        self.segments.iter().map(|segment| segment.size + size_of::<Segment>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use listentop_model::{fixtures, sample::MarkSample, tracker::Tracker};

    use super::*;

    /// Samples of some listeners, four in a second, with a peak in one of four and accepts in each.
    fn samples(count: u64) -> impl Iterator<Item = Sample> {
        let first = fixtures::quiet().pop().expect("there is one");
        (0..count).map(move |n| {
            let mut sample = first.clone();
            sample.monotonic_ns += n * 250_000_000;
            sample.unix_ms += n * 250;
            for listener in sample.listeners.iter_mut().skip(1) {
                listener.counts.accepts = Some(n * 3);
                listener.gauges.accept_peak = Some(if n % 4 == 1 { 77 } else { 2 });
            }
            sample
        })
    }

    fn memory(count: u64) -> Memory {
        let mut memory = Memory::default();
        samples(count).for_each(|sample| memory.push(&sample));
        memory
    }

    #[test]
    fn it_has_a_sample_each_second_with_the_peaks_of_all() {
        let memory = memory(400);
        assert_eq!(memory.places(), 0..100);
        let mut found = Vec::new();
        memory.read(0..usize::MAX, &mut |place, sample| {
            assert_eq!((place, memory.time(place)), (found.len(), sample.unix_ms));
            found.push(sample.clone());
            true
        });
        assert_eq!(found.len(), 100);
        for (n, sample) in found.iter().enumerate() {
            assert_eq!(sample.listeners[1].counts.accepts, Some(n as u64 * 12));
            assert_eq!(sample.listeners[1].gauges.accept_peak, Some(if n == 0 { 2 } else { 77 }));
        }
        let mut some = Vec::new();
        memory.read(62..65, &mut |place, sample| {
            some.push((place, sample.unix_ms));
            place < 63
        });
        assert_eq!(some, [(62, found[62].unix_ms), (63, found[63].unix_ms)]);
    }

    #[test]
    fn no_mark_is_left_out() {
        let mut memory = Memory::default();
        // Half an hour: the first part of it is thinned out.
        for (n, mut sample) in (0..).zip(samples(7_200)) {
            if n % 7 == 0 {
                let (monotonic_ns, what) = (sample.monotonic_ns - 1, n.to_string());
                sample.marks = vec![MarkSample { monotonic_ns, what, netns: 1, port: None }];
            }
            memory.push(&sample);
        }
        let (mut found, mut kept) = (Vec::new(), 0);
        memory.read(0..usize::MAX, &mut |_, sample| {
            found.extend(sample.marks.iter().map(|mark| mark.what.parse::<u64>().expect("a number")));
            kept += 1;
            true
        });
        assert!(kept < 1_800, "{kept} samples: it is thinned out");
        // All but those of the samples that wait for the next one that is kept.
        assert_eq!(found, (0..7_197).step_by(7).collect::<Vec<u64>>());
    }

    #[test]
    fn a_model_of_the_memory_is_the_model_of_then() {
        let memory = memory(400);
        let mut live: Option<Tracker> = None;
        for sample in samples(397) {
            match &mut live {
                Some(tracker) => tracker.push(&sample),
                None => live = Some(Tracker::new(&sample)),
            }
        }
        let live = live.expect("there are samples").model().clone();
        let mut traveller = super::super::Traveller::at(&memory, 99);
        let past = traveller.model(&memory).expect("it can be read");
        assert_eq!(
            (past.interval.seconds, past.interval.start_unix_ms),
            (live.interval.seconds, live.interval.start_unix_ms)
        );
        for (one, other) in past.listeners.iter().zip(&live.listeners) {
            assert_eq!((one.id, one.total, one.now.accept_peak), (other.id, other.total, other.now.accept_peak));
        }
    }

    #[test]
    fn what_is_old_is_thinner_and_what_is_older_is_gone() {
        let mut memory = Memory::default();
        let (mut last, mut first) = (0, None);
        // Five hours, a sample every two seconds.
        for (n, mut sample) in (0..).zip(samples(5 * 1_800)) {
            sample.monotonic_ns += n * 1_750_000_000;
            sample.unix_ms += n * 1_750;
            last = sample.unix_ms;
            memory.push(&sample);
            first.get_or_insert(last);
        }
        let places = memory.places();
        assert!(memory.size() <= MOST && memory.changes() > 100, "{places:?}, {}", memory.size());
        // A segment at a time.
        let oldest = memory.time(places.start);
        assert!(
            Some(oldest) > first && (LONGEST_MS..LONGEST_MS + 700_000).contains(&(last - oldest)),
            "{}",
            last - oldest
        );
        let fresh = places.clone().filter(|place| memory.time(*place) + FRESH_MS >= last).count();
        let old = places.len() - fresh;
        assert!((450..520).contains(&fresh) && (1_300..1_500).contains(&old), "{fresh}, {old}");
        let mut count = 0;
        memory.read(places.clone(), &mut |place, _| {
            assert_eq!(place, places.start + count);
            count += 1;
            true
        });
        assert_eq!(count, places.len());
    }

    #[test]
    fn listeners_that_closed_in_between_have_closed() {
        let mut memory = Memory::default();
        let all: Vec<Sample> = samples(12).collect();
        for (n, mut sample) in all.into_iter().enumerate() {
            if n == 5 {
                sample.listeners[0].closed = true;
            } else if n > 5 {
                sample.listeners.remove(0);
            }
            memory.push(&sample);
        }
        let mut closed = Vec::new();
        memory.read(memory.places(), &mut |place, sample| {
            closed.push((place, sample.listeners.iter().filter(|listener| listener.closed).count()));
            true
        });
        assert_eq!(closed, [(0, 0), (1, 0), (2, 1)]);
    }
}
