//! What waits to be sent: the newest requests, in order, up to a size and an age.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// The most bytes that wait. It is memory that is there only while the collector is not.
const MOST: usize = 16 << 20;
/// How long a request may wait. Backends refuse what is much older than what they have.
const OLDEST: Duration = Duration::from_mins(5);

/// A request, encoded.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    /// Data points in it.
    pub(super) points: u64,
    /// When they were measured.
    pub(super) at: Instant,
}

/// The requests that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl Queue {
    /// Adds a request, and makes room for it: the points of those that had to go.
    pub(super) fn push(&mut self, batch: Batch) -> u64 {
        let mut lost = 0;
        while self.bytes + batch.body.len() > MOST {
            let Some(oldest) = self.pop() else { break };
            lost += oldest.points;
        }
        self.bytes += batch.body.len();
        self.batches.push_back(batch);
        lost
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.body.len();
        Some(batch)
    }

    /// Puts one back that was not taken, in front: its points, if it had to go.
    pub(super) fn put_back(&mut self, batch: Batch) -> u64 {
        if self.bytes + batch.body.len() > MOST {
            return batch.points;
        }
        self.bytes += batch.body.len();
        self.batches.push_front(batch);
        0
    }

    /// Drops what is too old: its points.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        while self.batches.front().is_some_and(|batch| now.saturating_duration_since(batch.at) > OLDEST) {
            lost += self.pop().map_or(0, |batch| batch.points);
        }
        lost
    }

    /// All points that wait.
    #[cfg(test)]
    pub(super) fn points(&self) -> u64 {
        self.batches.iter().map(|batch| batch.points).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(size: usize, points: u64, at: Instant) -> Batch {
        Batch { body: vec![0; size].into(), points, at }
    }

    #[test]
    fn the_newest_stay_and_what_goes_is_counted() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for points in 1..=16 {
            assert_eq!(queue.push(batch(1 << 20, points, now)), 0);
        }
        assert_eq!(queue.push(batch((1 << 20) + 1, 17, now)), 1 + 2, "two make room");
        assert_eq!(queue.points(), (3..=17).sum::<u64>());
        let taken = queue.pop().expect("there are some");
        assert_eq!(taken.points, 3, "the oldest first");
        assert_eq!(queue.put_back(taken), 0);
        let taken = queue.pop().expect("there are some");
        assert_eq!(queue.push(batch(2 << 20, 18, now)), 4);
        assert_eq!(queue.put_back(taken), 3, "its room is taken");
        assert_eq!(queue.pop().map(|batch| batch.points), Some(5));
    }

    #[test]
    fn what_is_too_old_goes() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push(batch(10, 5, now));
        queue.push(batch(10, 7, now + Duration::from_mins(2)));
        assert_eq!(queue.expire(now + Duration::from_mins(5)), 0);
        assert_eq!(queue.expire(now + Duration::from_secs(301)), 5);
        assert_eq!(queue.points(), 7);
        assert_eq!((queue.expire(now + Duration::from_mins(60)), queue.bytes), (7, 0));
        assert!(queue.pop().is_none());
    }
}
