//! Bursts that an accept queue refused, and the backlog that would have held them.

use crate::model::{Drops, Gauges};

/// Refusals that go on for longer are no burst: the queue would have overflowed with any backlog. It is also when
/// clients begin to try again (the first retransmission of a SYN), so that attempts are no clients.
const LONGEST_NS: u64 = 1_000_000_000;

/// The refusals of one listener, as episodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Bursts {
    /// Refused attempts so far.
    refused: u64,
    /// Distinct clients among them, where each was seen.
    clients: Option<u64>,
    episode: Option<Episode>,
}

/// From the first refusal to when the queue has drained.
#[derive(Debug, Clone)]
struct Episode {
    attempts: u64,
    clients: Option<u64>,
    /// From the first to the last refusal, rounded up to whole steps.
    lasted_ns: u64,
    /// How long it is since the last refusal.
    quiet_ns: u64,
    /// The fullest that the queue can have been.
    held: u32,
}

impl Bursts {
    /// Takes in a step. Returns the backlog that would have held a burst, when one has ended.
    pub(super) fn step(&mut self, now: &Gauges, drops: &Drops, step_ns: u64) -> Option<u32> {
        let sum = drops.accept_queue_full_on_syn.unwrap_or(0) + drops.accept_queue_full_on_ack.unwrap_or(0);
        // An inferred cause may be taken back.
        let attempts = sum.saturating_sub(self.refused);
        let clients = drops.clients.zip(self.clients).map(|(now, before)| now.saturating_sub(before));
        (self.refused, self.clients) = (sum.max(self.refused), drops.clients.or(self.clients));
        if attempts == 0 {
            let episode = self.episode.as_mut()?;
            episode.quiet_ns += step_ns;
            // Half empty: the acceptors have caught up. A queue that stays nearly full is overloaded, not hit by a
            // burst.
            return if now.accept_depth <= now.limit / 2 { self.episode.take()?.needed() } else { None };
        }
        let episode =
            self.episode.get_or_insert(Episode { attempts: 0, clients: Some(0), lasted_ns: 0, quiet_ns: 0, held: 0 });
        episode.attempts += attempts;
        episode.clients = episode.clients.zip(clients).map(|(sum, more)| sum + more);
        episode.lasted_ns += std::mem::take(&mut episode.quiet_ns) + step_ns;
        episode.held = episode.held.max(now.accept_peak.unwrap_or(0)).max(now.limit);
        None
    }

    /// Whether another step without refusals would change nothing.
    pub(super) fn is_over(&self) -> bool {
        self.episode.is_none()
    }
}

impl Episode {
    fn needed(self) -> Option<u32> {
        if self.lasted_ns > LONGEST_NS {
            return None;
        }
        let refused = self.clients.filter(|clients| *clients > 0).unwrap_or(self.attempts);
        // A backlog of n admits n + 1.
        Some(u32::try_from(u64::from(self.held) + refused).unwrap_or(u32::MAX) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 250_000_000;

    fn step(bursts: &mut Bursts, depth: u32, refused: u64, clients: Option<u64>) -> Option<u32> {
        let now = Gauges { accept_depth: depth, limit: 9, backlog: 8, ..Gauges::default() };
        let drops = Drops { accept_queue_full_on_syn: Some(refused), clients, ..Drops::default() };
        bursts.step(&now, &drops, STEP)
    }

    #[test]
    fn a_burst_needs_what_waited_and_what_was_refused() {
        let mut bursts = Bursts::default();
        assert_eq!(step(&mut bursts, 9, 31, None), None);
        assert!(!bursts.is_over());
        assert_eq!(step(&mut bursts, 5, 31, None), None, "not drained yet");
        assert_eq!(step(&mut bursts, 4, 31, None), Some(39), "9 and 31 are 40, which a backlog of 39 admits");
        assert!(bursts.is_over());
        assert_eq!(step(&mut bursts, 0, 31, None), None);
    }

    #[test]
    fn clients_that_tried_again_count_once() {
        let mut bursts = Bursts::default();
        assert_eq!(step(&mut bursts, 0, 0, Some(0)), None);
        assert_eq!(step(&mut bursts, 9, 60, Some(20)), None);
        assert_eq!(step(&mut bursts, 0, 60, Some(20)), Some(28));
    }

    #[test]
    fn an_overload_is_no_burst() {
        let mut bursts = Bursts::default();
        for n in 1..=4 {
            assert_eq!(step(&mut bursts, 9, n * 10, None), None);
        }
        assert_eq!(step(&mut bursts, 0, 40, None), Some(48), "four steps are one second");
        let mut bursts = Bursts::default();
        for n in 1..=5 {
            assert_eq!(step(&mut bursts, 9, n * 10, None), None);
        }
        assert_eq!(step(&mut bursts, 0, 50, None), None);
        // Now and then a refusal, while the queue stays nearly full.
        let mut bursts = Bursts::default();
        for n in 1..=4 {
            assert_eq!(step(&mut bursts, 9, n, None), None);
            assert_eq!(step(&mut bursts, 8, n, None), None);
        }
        assert_eq!(step(&mut bursts, 0, 4, None), None);
        assert!(bursts.is_over());
    }
}
