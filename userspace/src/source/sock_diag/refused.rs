//! What a socket's drops consist of, as far as its namespace's counters show.
//!
//! A socket's `sk_drops` counts a refused SYN once and a refused final ACK twice. It also counts packets that are no
//! attempts: those that TCP_DEFER_ACCEPT ignores, and those of clients that give up half-way. The namespace counts each
//! refused attempt once in ListenDrops, and ignored packets in TCPDeferAcceptDrop. The difference gives the final ACKs
//! of all listeners, which are no more than the attempts. Where one listener refused at a time, they are that
//! listener's.
//!
//! A namespace's counters are read after those of its sockets, and the first time before. So what happens in between
//! does not count as a final ACK; it is seen the next time.

use std::collections::HashMap;

use listentop_model::sample::NamespaceCounters;

/// What is certain of the growth of one listener's `sk_drops`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Certain {
    /// Refused final ACKs, two each.
    pub(super) acks: u64,
    /// Packets that were no attempts, one each.
    pub(super) ignored: u64,
}

/// The refused attempts of one namespace.
#[derive(Debug)]
pub(super) struct Refused {
    listen_drops: u64,
    defer_accept_drop: u64,
    /// Attempts in the step before, without the final ACKs that were found.
    attempts: i64,
    /// Ignored packets that are not assigned to a listener yet.
    ignored: i64,
    /// Refused final ACKs that are not assigned to a listener yet. Negative while the namespace's counters are ahead
    /// of the sockets'.
    acks: i64,
    /// Growth in the step before that is not explained yet, by cookie.
    before: HashMap<u64, u64>,
}

impl Refused {
    /// Begins. `before`: the namespace's counters, read before those of its sockets.
    pub(super) fn new(before: &NamespaceCounters) -> Self {
        let NamespaceCounters { listen_drops, defer_accept_drop, .. } = *before;
        Self { listen_drops, defer_accept_drop, attempts: 0, ignored: 0, acks: 0, before: HashMap::new() }
    }

    /// Processes a step: the namespace's counters, and by how much `sk_drops` of its listeners grew, by cookie.
    /// Listeners without growth are left out. Returns what is certain, by cookie. An event of one step may appear
    /// in the next, not later.
    pub(super) fn step(&mut self, counters: &NamespaceCounters, grown: &[(u64, u64)]) -> HashMap<u64, Certain> {
        let growth = |now: u64, last: &mut u64| now.saturating_sub(std::mem::replace(last, now)) as i64;
        let attempts = growth(counters.listen_drops, &mut self.listen_drops);
        let ignored = growth(counters.defer_accept_drop, &mut self.defer_accept_drop);
        let mut open = std::mem::take(&mut self.before);
        for (cookie, by) in grown {
            *open.entry(*cookie).or_default() += by;
        }
        let all: i64 = grown.iter().map(|(_, by)| *by as i64).sum();
        let mut certain: HashMap<u64, Certain> = HashMap::new();
        // Counters that are ahead of the sockets' have the attempts of the next step already.
        let most = self.attempts + attempts;
        let twice = self.acks + all - attempts - ignored;
        let ignored = ignored + (twice - most).max(0);
        let found = distribute(self.ignored + ignored, &mut open, 1);
        self.ignored = found.left.clamp(0, ignored);
        for (cookie, ignored) in found.by_cookie {
            certain.entry(cookie).or_default().ignored = ignored;
        }
        let found = distribute(twice.min(most), &mut open, 2);
        self.attempts = attempts.min(most - (twice.min(most) - found.left));
        for (cookie, acks) in found.by_cookie {
            certain.entry(cookie).or_default().acks = acks;
        }
        for (cookie, by) in grown {
            if let Some(open) = open.get(cookie).filter(|open| **open > 0) {
                self.before.insert(*cookie, *open.min(by));
            }
        }
        let room: i64 = self.before.values().map(|open| (open / 2) as i64).sum();
        self.acks = found.left.clamp(-(attempts + ignored), room);
        certain
    }
}

struct Distributed {
    by_cookie: Vec<(u64, u64)>,
    left: i64,
}

/// Assigns to every listener those of the `left` events that can be no other's. Each event adds `weight` to `sk_drops`.
/// What is assigned is taken off what is `open`.
fn distribute(left: i64, open: &mut HashMap<u64, u64>, weight: u64) -> Distributed {
    let all: i64 = open.values().map(|open| (open / weight) as i64).sum();
    let mut found = Distributed { by_cookie: Vec::new(), left };
    for (cookie, open) in open {
        let most = (*open / weight) as i64;
        let least = (left - (all - most)).clamp(0, most);
        if least > 0 {
            found.by_cookie.push((*cookie, least as u64));
            found.left -= least;
            *open -= weight * least as u64;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(listen_drops: u64, defer_accept_drop: u64) -> NamespaceCounters {
        NamespaceCounters { listen_drops, defer_accept_drop, ..NamespaceCounters::default() }
    }

    /// Refused final ACKs by cookie, after a step.
    fn acks(refused: &mut Refused, counters: &NamespaceCounters, grown: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let certain = refused.step(counters, grown).into_iter().map(|(cookie, certain)| (cookie, certain.acks));
        let mut found: Vec<(u64, u64)> = certain.filter(|(_, acks)| *acks > 0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn one_listener_at_a_time_is_exact() {
        let mut refused = Refused::new(&counters(100, 7));
        // 3 SYNs and 12 final ACKs.
        assert_eq!(acks(&mut refused, &counters(115, 7), &[(1, 27)]), [(1, 12)]);
        assert_eq!(acks(&mut refused, &counters(115, 7), &[]), []);
        // SYNs only, final ACKs only, packets of deferred accepts only.
        assert_eq!(acks(&mut refused, &counters(120, 7), &[(2, 5)]), []);
        assert_eq!(acks(&mut refused, &counters(120, 7), &[]), []);
        assert_eq!(acks(&mut refused, &counters(124, 7), &[(1, 8)]), [(1, 4)]);
        assert_eq!(acks(&mut refused, &counters(124, 12), &[(1, 5)]), []);
    }

    #[test]
    fn one_right_behind_another_is_found_out_one_step_later() {
        let mut refused = Refused::new(&counters(0, 0));
        assert_eq!(acks(&mut refused, &counters(5, 0), &[(2, 5)]), []);
        // Two of these may have been the other listener's.
        assert_eq!(acks(&mut refused, &counters(9, 0), &[(1, 8)]), [(1, 2)]);
        assert_eq!(acks(&mut refused, &counters(9, 0), &[]), [(1, 2)]);
        assert_eq!(acks(&mut refused, &counters(9, 0), &[]), []);
    }

    #[test]
    fn counters_that_are_ahead_are_caught_up_with() {
        let mut refused = Refused::new(&counters(0, 0));
        // 4 final ACKs, of which the socket shows 3.
        assert_eq!(acks(&mut refused, &counters(4, 0), &[(1, 6)]), [(1, 2)]);
        assert_eq!(acks(&mut refused, &counters(4, 0), &[(1, 2)]), [(1, 2)]);
        assert_eq!(acks(&mut refused, &counters(4, 0), &[]), []);
    }

    #[test]
    fn of_several_at_once_only_what_is_certain() {
        let mut refused = Refused::new(&counters(0, 0));
        // All final ACKs.
        assert_eq!(acks(&mut refused, &counters(30, 0), &[(1, 20), (2, 40)]), [(1, 10), (2, 20)]);
        // All SYNs.
        assert_eq!(acks(&mut refused, &counters(90, 0), &[(1, 20), (2, 40)]), []);
        assert_eq!(acks(&mut refused, &counters(90, 0), &[]), []);
        // 25 final ACKs of 30 possible: at least 5 of the one and 15 of the other.
        assert_eq!(acks(&mut refused, &counters(125, 0), &[(1, 20), (2, 40)]), [(1, 5), (2, 15)]);
        assert_eq!(acks(&mut refused, &counters(125, 0), &[]), []);
        assert_eq!(acks(&mut refused, &counters(135, 0), &[(1, 20)]), [(1, 10)]);
    }

    #[test]
    fn a_listener_that_is_not_seen_makes_nothing_up() {
        let mut refused = Refused::new(&counters(0, 0));
        assert_eq!(acks(&mut refused, &counters(1000, 0), &[(1, 20)]), []);
        assert_eq!(acks(&mut refused, &counters(1000, 0), &[]), []);
        assert_eq!(acks(&mut refused, &counters(1010, 0), &[(1, 20)]), [(1, 10)]);
    }

    #[test]
    fn ignored_packets_are_no_attempts() {
        let mut refused = Refused::new(&counters(10, 5));
        let step = refused.step(&counters(10, 8), &[(1, 3)]);
        assert_eq!(step[&1], Certain { acks: 0, ignored: 3 });
        // 2 SYNs, 4 final ACKs and 1 ignored packet.
        let step = refused.step(&counters(16, 9), &[(1, 11)]);
        assert_eq!(step[&1], Certain { acks: 4, ignored: 1 });
        // Of two listeners that may have ignored one, neither is certain.
        assert_eq!(refused.step(&counters(16, 9), &[]), HashMap::new());
        assert_eq!(refused.step(&counters(19, 10), &[(1, 2), (2, 2)]), HashMap::new());
    }

    #[test]
    fn clients_that_give_up_are_no_attempts() {
        let mut refused = Refused::new(&counters(0, 0));
        assert_eq!(refused.step(&counters(0, 0), &[(1, 6)])[&1], Certain { acks: 0, ignored: 6 });
        // 2 final ACKs, and 10 packets more.
        assert_eq!(refused.step(&counters(2, 0), &[(1, 14)])[&1], Certain { acks: 2, ignored: 10 });
        assert_eq!(refused.step(&counters(2, 0), &[(1, 1)])[&1], Certain { acks: 0, ignored: 1 });
    }
}
