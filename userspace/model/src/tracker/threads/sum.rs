//! The row of ended threads that are no longer listed one by one.

use super::{Clock, Recent, State, WORK, show, work_of};
use crate::{
    model::ThreadModel,
    sample::{Summed, ThreadKey, ThreadSample},
    summed::Done,
    tracker::Counter,
};

/// Bookkeeping of the sum.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    work: [Counter; WORK],
    /// What the source's sum is known to hold so far.
    last: Summed,
    /// What the threads of the interval were. A thread can turn out to have been another than it seemed, so a number
    /// may have to be taken back.
    summed: [i64; Summed::N],
    recent: Recent,
    /// When there was first something to sum up, in microseconds of the interval.
    known_from_us: u64,
}

impl Sum {
    /// A sum over nothing. `baseline` is what the source had summed up before the interval.
    pub(super) fn new(baseline: Option<&ThreadSample>, clock: &Clock) -> Self {
        let mut sum = Self {
            work: [Counter::default(); WORK],
            last: baseline.map(summed).unwrap_or_default(),
            summed: [0; Summed::N],
            recent: Recent::default(),
            known_from_us: clock.elapsed_ns() / 1000,
        };
        let before = baseline.map_or([0; WORK], work_of);
        for (counter, before) in sum.work.iter_mut().zip(before) {
            counter.read(Some(before), false);
        }
        sum
    }

    fn counts(&self) -> (u64, u64) {
        let sum = |place: usize| self.work[place].sum.unwrap_or(0);
        (sum(super::ACCEPTS), sum(super::READS))
    }

    /// Takes a row in: what the thread did in the interval.
    pub(super) fn take(&mut self, state: &State, model: &ThreadModel) {
        self.recent.take(self.counts(), &state.recent, (model.accepts, model.reads));
        self.work.iter_mut().zip(&state.work).for_each(|(sum, own)| sum.add(own));
        let was = Summed::of(&state.key, done(&state.work.map(|counter| counter.sum.unwrap_or(0))));
        self.summed.iter_mut().zip(was.values()).for_each(|(sum, n)| *sum += n as i64);
    }

    /// The source's sum will hold a thread that had done this at the last reading.
    pub(super) fn expect(&mut self, key: &ThreadKey, work: [u64; WORK]) {
        // A source knows only threads that did something. After a restart the earlier ones are in no sum.
        if work.iter().any(|n| *n > 0) {
            self.work.iter_mut().zip(work).for_each(|(counter, by)| counter.shift(by));
            self.last.add(&Summed::of(key, done(&work)));
        }
    }

    /// Takes the source's sum in.
    pub(super) fn read(&mut self, sample: &ThreadSample, clock: &Clock) {
        let before = self.counts();
        for (counter, now) in self.work.iter_mut().zip(work_of(sample)) {
            counter.read(Some(now), false);
        }
        let now = summed(sample);
        for (sum, (now, last)) in self.summed.iter_mut().zip(now.values().into_iter().zip(self.last.values())) {
            *sum += now as i64 - last as i64;
        }
        self.last = now;
        if self.counts() != before {
            self.recent.begin(clock.step(), before);
        }
    }

    /// The row; `None` while there is nothing in it. `row` is the one before, if there is one.
    pub(super) fn row(&mut self, row: Option<ThreadModel>, clock: &Clock) -> Option<ThreadModel> {
        let summed = Summed::from_values(self.summed.map(|n| u64::try_from(n).unwrap_or(0)));
        let empty = summed.threads == 0 && self.work.iter().all(|counter| counter.sum.unwrap_or(0) == 0);
        if empty {
            return None;
        }
        let mut row = row.unwrap_or_else(|| super::new_model(ThreadKey::default(), &ThreadSample::sum()));
        show(&self.work, &mut row);
        super::roles(&mut row);
        (row.accepts_per_second, row.reads_per_second) = self.recent.rates(self.counts(), clock);
        (row.known_from_us, row.lived_until_us) = (self.known_from_us, Some(self.known_from_us));
        match &mut row.summed {
            Some(shown) => **shown = summed,
            none => *none = Some(Box::new(summed)),
        }
        Some(row)
    }

    /// Measures came or went with the last sample: these counters begin anew.
    pub(super) fn turned(&mut self, which: [bool; WORK]) {
        super::begin_anew(&mut self.work, which);
        self.recent = Recent::default();
    }

    pub(super) fn rests(&self) -> bool {
        self.recent.is_empty()
    }

    /// Its listener was reset: the source sums up anew.
    pub(super) fn restart(&mut self) {
        self.work.iter_mut().for_each(Counter::restart);
        self.last = Summed::default();
    }
}

fn summed(sample: &ThreadSample) -> Summed {
    sample.summed.as_deref().copied().unwrap_or_default()
}

fn done(work: &[u64; WORK]) -> Done {
    Done {
        accepts: work[super::ACCEPTS],
        reads: work[super::READS],
        first_reads: work[super::FIRST_READS],
        writes: work[super::WRITES],
    }
}
