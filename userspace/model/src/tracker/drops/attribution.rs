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
const ALL: [Cause; CAUSES] = [Cause::AcceptQueueFull, Cause::SynQueueFull, Cause::Other];

/// Refused SYNs of one namespace whose listener is not known yet, by cause.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// Left over; negative while the namespace's counters lag behind what probes saw.
    left: [i64; CAUSES],
    /// Added in the step under way.
    fresh: [i64; CAUSES],
    /// The step before ended with more than one answer.
    undecided: bool,
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
    /// attempts fit one step later. What does not fit then never will.
    pub(crate) fn settle(&mut self, listeners: &mut [&mut DropTracker], complete: bool) {
        for (left, fresh) in self.left.iter_mut().zip(self.fresh) {
            *left += fresh;
        }
        while self.find(listeners, complete && !self.stale) {}
        let pending = listeners.iter().filter(|l| l.pending > 0).count();
        let causes = self.left.iter().filter(|left| **left > 0).count();
        let decided = pending == 0 || causes < 2;
        let exact = self.left.iter().sum::<i64>() == listeners.iter().map(|l| l.pending as i64).sum::<i64>();
        let give_up = !decided && (pending > 1 || exact || self.undecided);
        self.stale = give_up && !exact;
        self.undecided = !decided;
        for listener in listeners {
            listener.give_up(if give_up { 0 } else { listener.fresh });
        }
        for (left, fresh) in self.left.iter_mut().zip(self.fresh) {
            *left = if give_up && exact { 0 } else { (*left).clamp(fresh.min(0), fresh.max(0)) };
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
    fn one_listener_gets_another_step_to_be_decided_and_several_do_not() {
        let (mut pools_of_one, mut one, mut idle) = (pools([2, 2, 0]), pending(3, true), pending(0, true));
        pools_of_one.settle(&mut [&mut one, &mut idle], true);
        assert_eq!(outcome(&one), ([1, 1, 0], 0, 1), "two of the three are certain");
        assert_eq!((pools_of_one.left, pools_of_one.undecided, pools_of_one.stale), ([1, 1, 0], true, false));
        pools_of_one.settle(&mut [&mut one, &mut idle], true);
        assert_eq!(outcome(&one), ([1, 1, 0], 1, 0));
        assert_eq!((pools_of_one.left, pools_of_one.undecided, pools_of_one.stale), ([0, 0, 0], true, true));

        let (mut pools, mut first, mut second) = (pools([2, 2, 0]), pending(1, true), pending(1, true));
        pools.settle(&mut [&mut first, &mut second], true);
        assert_eq!([outcome(&first), outcome(&second)], [([0, 0, 0], 1, 0); 2]);
        assert_eq!((pools.left, pools.undecided, pools.stale), ([2, 2, 0], true, true));
        // What is left may be nobody's: it is not given to the one that has more than that.
        let mut late = pending(5, true);
        pools.settle(&mut [&mut late], true);
        assert_eq!(late.found, [0, 0, 0]);
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
