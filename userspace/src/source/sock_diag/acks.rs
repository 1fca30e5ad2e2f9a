//! How many refused final ACKs are in what sockets and namespaces count.
//!
//! A socket's `sk_drops` counts a refused SYN once and a refused final ACK twice; its namespace's ListenDrops counts either
//! once. The difference is the number of refused final ACKs in the namespace, and where one listener refused at a time, it is that
//! listener's. Packets that are ignored because of TCP_DEFER_ACCEPT are in `sk_drops` and in TCPDeferAcceptDrop.
//!
//! A namespace's counters are read after those of its sockets, the first time before: so nothing that happened in between is taken
//! for a final ACK; it is seen the next time.

use std::collections::{HashMap, HashSet};

use listentop_model::sample::NamespaceCounters;

/// The refused final ACKs of one namespace.
#[derive(Debug)]
pub(super) struct Acks {
    /// ListenDrops and TCPDeferAcceptDrop together at the last reading.
    counted: u64,
    /// Refused final ACKs that no listener was given yet; negative while the namespace's counters are ahead of the sockets'.
    left: i64,
    /// Growth of `sk_drops` in the step before that final ACKs may have made still, by cookie.
    before: HashMap<u64, u64>,
}

fn counted(counters: &NamespaceCounters) -> u64 {
    counters.listen_drops + counters.defer_accept_drop
}

impl Acks {
    /// Begins. `before`: the namespace's counters, read before those of its sockets.
    pub(super) fn new(before: &NamespaceCounters) -> Self {
        Self { counted: counted(before), left: 0, before: HashMap::new() }
    }

    /// Takes a step in: the namespace's counters, and by how much `sk_drops` of its listeners grew, by cookie, those that did not left
    /// out. Returns the refused final ACKs that are certain, by cookie. Those of one step may turn up in the next, not later.
    pub(super) fn step(&mut self, counters: &NamespaceCounters, grown: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let now = counted(counters);
        let attempts = now.saturating_sub(self.counted) as i64;
        self.counted = now;
        let left = self.left + grown.iter().map(|(_, by)| *by as i64).sum::<i64>() - attempts;
        let mut fresh: HashMap<u64, u64> = grown.iter().copied().collect();
        let before = std::mem::take(&mut self.before);
        // Each may have had half of its growth at most.
        let most = |cookie: &u64| {
            let growth = [&fresh, &before].map(|growth| growth.get(cookie).copied().unwrap_or(0));
            (growth.into_iter().sum::<u64>() / 2) as i64
        };
        let cookies: HashSet<u64> = fresh.keys().chain(before.keys()).copied().collect();
        let all: i64 = cookies.iter().map(most).sum();
        let least = |cookie: &u64| (left - (all - most(cookie))).clamp(0, most(cookie));
        let certain: Vec<(u64, u64)> =
            cookies.iter().map(|cookie| (*cookie, least(cookie) as u64)).filter(|(_, acks)| *acks > 0).collect();
        for (cookie, acks) in &certain {
            if let Some(growth) = fresh.get_mut(cookie) {
                *growth = growth.saturating_sub(2 * acks);
            }
        }
        fresh.retain(|_, growth| *growth > 1);
        let room = fresh.values().map(|growth| (growth / 2) as i64).sum();
        let given: i64 = certain.iter().map(|(_, acks)| *acks as i64).sum();
        self.left = (left - given).clamp(-attempts, room);
        self.before = fresh;
        certain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(listen_drops: u64, defer_accept_drop: u64) -> NamespaceCounters {
        NamespaceCounters { listen_drops, defer_accept_drop, ..NamespaceCounters::default() }
    }

    #[test]
    fn one_listener_at_a_time_is_exact() {
        let mut acks = Acks::new(&counters(100, 7));
        // 3 SYNs and 12 final ACKs.
        assert_eq!(acks.step(&counters(115, 7), &[(1, 27)]), [(1, 12)]);
        assert_eq!(acks.step(&counters(115, 7), &[]), []);
        // SYNs only, final ACKs only, packets of deferred accepts only.
        assert_eq!(acks.step(&counters(120, 7), &[(2, 5)]), []);
        assert_eq!(acks.step(&counters(120, 7), &[]), []);
        assert_eq!(acks.step(&counters(124, 7), &[(1, 8)]), [(1, 4)]);
        assert_eq!(acks.step(&counters(124, 12), &[(1, 5)]), []);
    }

    #[test]
    fn one_right_behind_another_is_found_out_one_step_later() {
        let mut acks = Acks::new(&counters(0, 0));
        assert_eq!(acks.step(&counters(5, 0), &[(2, 5)]), []);
        // Two of these may have been the other listener's.
        assert_eq!(acks.step(&counters(9, 0), &[(1, 8)]), [(1, 2)]);
        assert_eq!(acks.step(&counters(9, 0), &[]), [(1, 2)]);
        assert_eq!(acks.step(&counters(9, 0), &[]), []);
    }

    #[test]
    fn counters_that_are_ahead_are_caught_up_with() {
        let mut acks = Acks::new(&counters(0, 0));
        // 4 final ACKs, of which the socket shows 3.
        assert_eq!(acks.step(&counters(4, 0), &[(1, 6)]), [(1, 2)]);
        assert_eq!(acks.step(&counters(4, 0), &[(1, 2)]), [(1, 2)]);
        assert_eq!(acks.step(&counters(4, 0), &[]), []);
    }

    #[test]
    fn of_several_at_once_only_what_is_certain() {
        let mut acks = Acks::new(&counters(0, 0));
        let sorted = |mut found: Vec<(u64, u64)>| {
            found.sort_unstable();
            found
        };
        // All final ACKs.
        assert_eq!(sorted(acks.step(&counters(30, 0), &[(1, 20), (2, 40)])), [(1, 10), (2, 20)]);
        // All SYNs.
        assert_eq!(acks.step(&counters(90, 0), &[(1, 20), (2, 40)]), []);
        assert_eq!(acks.step(&counters(90, 0), &[]), []);
        // 25 final ACKs of 30 possible: at least 5 of the one and 15 of the other.
        assert_eq!(sorted(acks.step(&counters(125, 0), &[(1, 20), (2, 40)])), [(1, 5), (2, 15)]);
        assert_eq!(acks.step(&counters(125, 0), &[]), []);
        assert_eq!(acks.step(&counters(135, 0), &[(1, 20)]), [(1, 10)]);
    }

    #[test]
    fn a_listener_that_is_not_seen_makes_nothing_up() {
        let mut acks = Acks::new(&counters(0, 0));
        assert_eq!(acks.step(&counters(1000, 0), &[(1, 20)]), []);
        assert_eq!(acks.step(&counters(1000, 0), &[]), []);
        assert_eq!(acks.step(&counters(1010, 0), &[(1, 20)]), [(1, 10)]);
    }
}
