//! What waits to be sent: the newest requests, in order, up to a size and an age.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// The most bytes that wait, unless one push is larger. It is memory that is there only while the collector is not.
/// With the usual --max-series a push has about half of it at most.
const MOST: usize = 32 << 20;
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
    /// Adds a request, and makes room for it by dropping older pushes: the points that had to go.
    pub(super) fn push(&mut self, batch: Batch) -> u64 {
        let mut lost = 0;
        while self.bytes + batch.body.len() > MOST && self.batches.front().is_some_and(|oldest| oldest.at < batch.at) {
            lost += self.pop().map_or(0, |oldest| oldest.points);
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

    /// Puts one back that was not taken, in front: its points, if a newer push has its room.
    pub(super) fn put_back(&mut self, batch: Batch) -> u64 {
        let newer = self.batches.back().is_some_and(|newest| newest.at > batch.at);
        if newer && self.bytes + batch.body.len() > MOST {
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
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        let mut queue = Queue::default();
        for points in 1..=32 {
            assert_eq!(queue.push(batch(1 << 20, points, at(points))), 0);
        }
        assert_eq!(queue.push(batch((1 << 20) + 1, 33, at(33))), 1 + 2, "two make room");
        assert_eq!(queue.points(), (3..=33).sum::<u64>());
        let taken = queue.pop().expect("there are some");
        assert_eq!(taken.points, 3, "the oldest first");
        assert_eq!(queue.put_back(taken), 0);
        let taken = queue.pop().expect("there are some");
        assert_eq!(queue.push(batch(2 << 20, 34, at(34))), 4);
        assert_eq!(queue.put_back(taken), 3, "its room is taken");
        assert_eq!(queue.pop().map(|batch| batch.points), Some(5));
    }

    #[test]
    fn a_push_makes_no_room_for_itself() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for points in 1..=100 {
            assert_eq!(queue.push(batch(1 << 20, points, now)), 0);
        }
        let taken = queue.pop().expect("there are some");
        assert_eq!((queue.put_back(taken), queue.points()), (0, 5050), "all of it is there");
        let next = now + Duration::from_secs(1);
        assert_eq!(queue.push(batch(1 << 20, 7, next)), (1..=69).sum::<u64>(), "an older one gives way");
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
