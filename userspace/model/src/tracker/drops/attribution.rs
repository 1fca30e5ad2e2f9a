//! Assigns causes to the refused SYNs of each listener.
//!
//! The kernel counts refused SYNs by cause for the whole namespace, and without cause for each listener. If only one
//! assignment is possible, it is used. Otherwise only the certain part is assigned, and the rest stays unexplained.
//! Nothing is guessed.

use super::DropTracker;

/// Causes of a refused SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    AcceptQueueFull = 0,
    SynQueueFull = 1,
    Other = 2,
}

/// Number of causes.
pub(crate) const CAUSES: usize = 3;
/// A listener that refuses alone is undecided without progress for so many steps at most, which is five seconds of a
/// report. What is pending is its own, so time decides it; unless the pools hold what it will never claim.
const PATIENCE: u32 = 20;
const ALL: [Cause; CAUSES] = [Cause::AcceptQueueFull, Cause::SynQueueFull, Cause::Other];

/// Refused SYNs of one namespace whose listener is not known yet, by cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pools {
    /// Left over; negative while the namespace's counters lag behind what probes saw.
    left: [i64; CAUSES],
    /// Added in the step under way.
    fresh: [i64; CAUSES],
    /// So many steps have ended with more than one answer, one after the other, and found nothing.
    undecided: u32,
    /// The step before gave up on some that had not all arrived: the pools may hold what no listener will claim.
    stale: bool,
}

impl Pools {
    /// Adds refused SYNs of a cause; takes away those that a probe saw.
    pub(crate) fn add(&mut self, cause: Cause, n: i64) {
        self.fresh[cause as usize] += n;
    }

    /// Ends a step: finds causes for what is pending. `complete`: all listeners of the namespace are tracked.
    ///
    /// The counters of one sample are read one after another, so they can disagree about the latest attempts. Such
    /// attempts fit one step later. Under load the next ones disagree then: a listener that refuses alone keeps them
    /// for up to [`PATIENCE`] steps without progress. Of several, what does not fit after a step never will.
    pub(crate) fn settle(&mut self, listeners: &mut [&mut DropTracker], complete: bool) {
        for (left, fresh) in self.left.iter_mut().zip(self.fresh) {
            *left += fresh;
        }
        let mut found = false;
        while self.find(listeners, complete && !self.stale) {
            found = true;
        }
        let pending = listeners.iter().filter(|l| l.pending > 0).count();
        let causes = self.left.iter().filter(|left| **left > 0).count();
        let decided = pending == 0 || causes < 2;
        let exact = self.left.iter().sum::<i64>() == listeners.iter().map(|l| l.pending as i64).sum::<i64>();
        let alone = complete && !self.stale && pending == 1;
        self.undecided = match decided {
            true => 0,
            false if alone && found => 1,
            false => self.undecided + 1,
        };
        let give_up = !decided && (pending > 1 || exact || self.undecided > if alone { PATIENCE } else { 1 });
        let wait = !decided && !give_up && alone;
        self.stale = give_up && !exact;
        for listener in listeners {
            listener.give_up(match (give_up, wait) {
                (true, _) => 0,
                (false, true) => listener.pending,
                (false, false) => listener.fresh,
            });
        }
        for (left, fresh) in self.left.iter_mut().zip(self.fresh) {
            *left = match (give_up && exact, wait) {
                (true, _) => 0,
                (false, true) => *left,
                (false, false) => (*left).clamp(fresh.min(0), fresh.max(0)),
            };
        }
        self.fresh = [0; CAUSES];
    }

    /// Gives each listener what is certain for it; true if that was anything.
    ///
    /// If the listeners have at least as many as the pools, each one in a pool belongs to one of these listeners. So a
    /// listener has at least what the others cannot have taken from the pool. If the pools have at least as many, each
    /// pending one is in a pool. So a cause has at least what the other pools cannot explain.
    fn find(&mut self, listeners: &mut [&mut DropTracker], complete: bool) -> bool {
        let pools = self.left.map(|n| n.max(0) as u64);
        let in_pools: u64 = pools.iter().sum();
        let pending: u64 = listeners.iter().map(|l| l.pending).sum();
        if in_pools == 0 || pending == 0 {
            return false;
        }
        let capable = ALL.map(|c| listeners.iter().filter(|l| l.capable(c)).map(|l| l.pending).sum::<u64>());
        let mut found = false;
        for listener in listeners {
            let own = listener.pending;
            let mine = ALL.map(|c| if listener.capable(c) { pools[c as usize] } else { 0 });
            let all_mine: u64 = mine.iter().sum();
            for cause in ALL {
                let pool = mine[cause as usize];
                if pool == 0 {
                    continue;
                }
                let mut certain = 0;
                if complete && pending >= in_pools {
                    certain = pool.saturating_sub(capable[cause as usize] - own);
                }
                if pending <= in_pools {
                    certain = certain.max(own.saturating_sub(all_mine - pool));
                }
                let n = certain.min(listener.pending).min(self.left[cause as usize].max(0) as u64);
                listener.found(cause, n);
                self.left[cause as usize] -= n as i64;
                found |= n > 0;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener with this many pending, all of them new; `full`: its accept queue may have been.
    fn pending(n: u64, full: bool) -> DropTracker {
        DropTracker { pending: n, fresh: n, near_full: [full; 2], ..DropTracker::default() }
    }

    fn pools(counts: [i64; CAUSES]) -> Pools {
        let mut pools = Pools::default();
        ALL.into_iter().zip(counts).for_each(|(cause, n)| pools.add(cause, n));
        pools
    }

    /// (found, ambiguous, pending)
    fn outcome(listener: &DropTracker) -> ([u64; CAUSES], u64, u64) {
        (listener.found, listener.ambiguous, listener.pending)
    }

    #[test]
    fn a_listener_alone_gets_time_to_be_decided_and_several_do_not() {
        let (mut pools_of_one, mut one, mut idle) = (pools([2, 2, 0]), pending(3, true), pending(0, true));
        for step in 1..=PATIENCE {
            pools_of_one.settle(&mut [&mut one, &mut idle], true);
            assert_eq!(outcome(&one), ([1, 1, 0], 0, 1), "two of the three are certain");
            assert_eq!((pools_of_one.left, pools_of_one.undecided, pools_of_one.stale), ([1, 1, 0], step, false));
        }
        pools_of_one.settle(&mut [&mut one, &mut idle], true);
        assert_eq!(outcome(&one), ([1, 1, 0], 1, 0));
        assert_eq!((pools_of_one.left, pools_of_one.stale), ([0, 0, 0], true));

        let (mut pools, mut first, mut second) = (pools([2, 2, 0]), pending(1, true), pending(1, true));
        pools.settle(&mut [&mut first, &mut second], true);
        assert_eq!([outcome(&first), outcome(&second)], [([0, 0, 0], 1, 0); 2]);
        assert_eq!((pools.left, pools.undecided, pools.stale), ([2, 2, 0], 1, true));
        // What is left may be nobody's: it is not given to the one that has more than that.
        let mut late = pending(5, true);
        pools.settle(&mut [&mut late], true);
        assert_eq!(late.found, [0, 0, 0]);
    }

    #[test]
    fn counters_that_lag_behind_in_every_step_leave_nothing_unexplained() {
        // In each step 50 and 14 are refused. The namespace's counters are read later than the socket's, so they have
        // 5 of each more, and they had before.
        let (mut steady, mut one) = (Pools::default(), pending(0, true));
        for step in 0..100 {
            let ahead = if step == 0 { 5 } else { 0 };
            steady.add(Cause::AcceptQueueFull, 50 + ahead);
            steady.add(Cause::SynQueueFull, 14 + ahead);
            (one.pending, one.fresh) = (one.pending + 64, 64);
            steady.settle(&mut [&mut one], true);
            assert!(one.pending <= 10 && one.ambiguous == 0, "step {step}: {one:?}");
        }
        steady.add(Cause::AcceptQueueFull, -5);
        steady.add(Cause::SynQueueFull, -5);
        steady.settle(&mut [&mut one], true);
        assert_eq!(outcome(&one), ([5_000, 1_400, 0], 0, 0));
    }

    #[test]
    fn what_is_exact_but_undecided_leaves_nothing_behind() {
        let (mut pools, mut first, mut second) = (pools([1, 1, 0]), pending(1, true), pending(1, true));
        pools.settle(&mut [&mut first, &mut second], true);
        assert_eq!([outcome(&first), outcome(&second)], [([0, 0, 0], 1, 0); 2]);
        assert_eq!((pools.left, pools.stale), ([0, 0, 0], false));
    }

    #[test]
    fn what_is_found_for_one_listener_may_decide_another() {
        let (mut pools, mut first, mut second) = (pools([1, 1, 0]), pending(1, true), pending(2, false));
        pools.settle(&mut [&mut first, &mut second], true);
        assert_eq!((first.found, second.found), ([1, 0, 0], [0, 1, 0]));
    }

    #[test]
    fn with_listeners_that_are_not_tracked_more_pending_than_counted_decide_nothing() {
        let (mut pools, mut one) = (pools([1, 0, 0]), pending(2, true));
        pools.settle(&mut [&mut one], false);
        assert_eq!(one.found, [0, 0, 0]);
    }
}
