//! What a thread did at each of the last steps.

use std::collections::VecDeque;

use super::{HISTORY, Timeline};

/// What a thread did in a step, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ThreadRates {
    /// Connections that it accepted.
    pub accepts: f32,
    /// Its reads of accepted connections.
    pub reads: f32,
    /// Its writes to them.
    pub writes: f32,
}

/// The same at each step since it did something and is followed: of a listener, the threads that did most are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThreadHistory(VecDeque<(u64, Option<ThreadRates>)>);

impl ThreadHistory {
    /// Notes a step; `None`: it is not known. Numbers go up. Steps that are left out were like the one before them.
    /// Nothing begins with a step in which it did nothing: so idle threads need not be looked at.
    pub(crate) fn push(&mut self, step: u64, rates: Option<ThreadRates>) {
        let last = self.0.back().and_then(|(_, last)| *last);
        if last == rates || last.is_none() && rates == Some(ThreadRates::default()) {
            return;
        }
        self.0.push_back((step, rates));
        while self.0.get(1).is_some_and(|(second, _)| second + HISTORY as u64 <= step + 1) {
            self.0.pop_front();
        }
    }

    /// Whether anything is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All steps, oldest first: seconds since the start of the interval, and what it did, where that is known.
    pub fn points<'a>(&'a self, timeline: &'a Timeline) -> impl Iterator<Item = (f64, Option<ThreadRates>)> + 'a {
        let first = self.0.front().map_or(timeline.end(), |(step, _)| (*step).max(timeline.first));
        let mut at = 0;
        (first..timeline.end()).map(move |step| {
            while self.0.get(at + 1).is_some_and(|(next, _)| *next <= step) {
                at += 1;
            }
            (timeline.when(step), self.0.get(at).and_then(|(_, rates)| *rates))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(accepts: f32) -> Option<ThreadRates> {
        Some(ThreadRates { accepts, ..ThreadRates::default() })
    }

    fn drawn(history: &ThreadHistory, timeline: &Timeline) -> Vec<(f64, Option<f32>)> {
        history.points(timeline).map(|(at, rates)| (at, rates.map(|rates| rates.accepts))).collect()
    }

    #[test]
    fn steps_that_are_left_out_were_like_the_one_before() {
        let mut timeline = Timeline::default();
        (1..=6).for_each(|step| timeline.advance(step, step as f64));
        let mut history = ThreadHistory::default();
        assert!(drawn(&history, &timeline).is_empty());
        history.push(2, accepts(3.0));
        history.push(3, accepts(3.0));
        history.push(5, None);
        history.push(6, accepts(1.0));
        assert_eq!(history.0.len(), 3);
        let expected = [(2.0, Some(3.0)), (3.0, Some(3.0)), (4.0, Some(3.0)), (5.0, None), (6.0, Some(1.0))];
        assert_eq!(drawn(&history, &timeline), expected);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut timeline, mut history) = (Timeline::default(), ThreadHistory::default());
        for step in 1..=1_000 {
            timeline.advance(step, step as f64);
            history.push(step, accepts(step as f32));
        }
        assert_eq!(history.0.len(), HISTORY);
        let drawn = drawn(&history, &timeline);
        assert_eq!(
            (drawn.len(), drawn[0], drawn[HISTORY - 1]),
            (HISTORY, (761.0, Some(761.0)), (1_000.0, Some(1_000.0)))
        );
    }
}
