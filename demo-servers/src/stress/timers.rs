//! Deadlines. Those of equal length expire in the order in which they were set, so a queue for each length is enough.

use std::collections::VecDeque;

/// One connection in one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) token: u64,
    pub(super) serial: u32,
}

/// Deadlines of one kind, CLOCK_MONOTONIC in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Timers(VecDeque<(u64, Ticket)>);

impl Timers {
    /// Adds a deadline, at least as late as the last one.
    pub(super) fn push(&mut self, deadline_ns: u64, ticket: Ticket) {
        // A deadline may be computed from an earlier reading of the clock than the one before.
        let deadline_ns = self.0.back().map_or(deadline_ns, |(last, _)| deadline_ns.max(*last));
        self.0.push_back((deadline_ns, ticket));
    }

    /// The next deadline whose ticket is current.
    pub(super) fn next(&mut self, is_current: impl Fn(Ticket) -> bool) -> Option<u64> {
        while let Some(&(deadline, ticket)) = self.0.front() {
            if is_current(ticket) {
                return Some(deadline);
            }
            self.0.pop_front();
        }
        None
    }

    /// Removes and returns a deadline that has passed, stale or not.
    pub(super) fn expired(&mut self, now_ns: u64) -> Option<(u64, Ticket)> {
        self.0.pop_front_if(|(deadline, _)| *deadline <= now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_tickets_do_not_wake() {
        let mut timers = Timers::default();
        let ticket = |serial| Ticket { token: 1, serial };
        timers.push(10, ticket(1));
        timers.push(20, ticket(2));
        timers.push(19, ticket(3));
        assert_eq!(timers.next(|ticket| ticket.serial > 1), Some(20));
        assert_eq!(timers.expired(19), None);
        assert_eq!(timers.expired(20), Some((20, ticket(2))));
        assert_eq!(timers.expired(20), Some((20, ticket(3))));
        assert_eq!(timers.next(|_| true), None);
    }
}
