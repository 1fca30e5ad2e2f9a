//! Refused attempts of a listener, by cause.
//!
//! Probes see each refused final ACK. Refused SYNs appear only in the socket's `sk_drops`, which counts other packets
//! too: they are the remainder. The namespace's counters show their cause (see [`attribution`]). The counters are not
//! read at one instant, so a remainder can be wrong for a moment. Everything here therefore works on sums since the
//! baseline, never on single differences: later readings correct earlier ones.

pub(crate) mod attribution;

use self::attribution::{CAUSES, Cause};
use super::Counter;
use crate::{model::Drops, sample::ListenerSample};

/// A racing accept can hide the last few connections from the peak. So a queue counts as nearly full if its peak is
/// within this part of the limit: one in so many.
const MARGIN: u64 = 4;

/// One listener's refused attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct DropTracker {
    socket: Counter,
    ack_overflow: Counter,
    /// As above, with a SYN cookie: `sk_drops` counts these once.
    cookie_ack_overflow: Counter,
    ack_other: Counter,
    not_attempts: Counter,
    /// Refused SYNs by [`Cause`], where probes see each.
    syn: [Counter; CAUSES],
    clients: Counter,
    clients_cover_syn: bool,
    /// Whether the accept queue came near its limit, in this step and in the one before.
    near_full: [bool; 2],
    /// The namespace's counters could not be read in the last step.
    pub(crate) unread: bool,
    /// Which of the totals are known.
    known: [bool; 3],
    /// That changed in this step.
    pub(crate) newly_known: bool,
    backlog: u32,
    /// The same sample once more would leave all this as it is.
    steady: bool,
    /// Inferred refused SYNs whose cause was found, by [`Cause`].
    found: [u64; CAUSES],
    /// Inferred refused SYNs whose cause cannot be found.
    ambiguous: u64,
    /// Inferred refused SYNs whose cause may be found with the namespace's next counters.
    pub(crate) pending: u64,
    /// What this step added to `pending`.
    pub(crate) fresh: u64,
    /// Refused attempts that probes saw in this step, by the namespace counter that they explain.
    pub(crate) seen: [u64; CAUSES],
}

impl DropTracker {
    /// Takes a sample in; true if anything was refused or might have been.
    pub(crate) fn read(&mut self, sample: &ListenerSample, from_zero: bool) -> bool {
        let drops = &sample.drops;
        let queue = &sample.gauges;
        let limit = u64::from(queue.backlog.min(if self.backlog == 0 { u32::MAX } else { self.backlog })) + 1;
        let same_backlog = std::mem::replace(&mut self.backlog, queue.backlog) == queue.backlog;
        let near =
            queue.accept_peak.is_none_or(|peak| u64::from(peak.max(queue.accept_depth)) + 1 + limit / MARGIN >= limit);
        // What is pending may be of any step since the namespace's counters were read last.
        self.near_full = [near, self.near_full[0] || (self.unread && self.near_full[1])];

        let mut grown = self.socket.read(drops.socket_drops, from_zero);
        let ack_overflow = self.ack_overflow.read(drops.ack_overflow, from_zero);
        let cookie_ack_overflow = self.cookie_ack_overflow.read(drops.cookie_ack_overflow, from_zero);
        let ack_other = self.ack_other.read(drops.ack_other, from_zero);
        grown += self.not_attempts.read(drops.not_attempts, from_zero);
        grown += self.clients.read(drops.clients, from_zero);
        self.newly_known = self.clients_cover_syn != drops.clients_cover_syn;
        self.clients_cover_syn = drops.clients_cover_syn;
        let given = [drops.syn_accept_queue_full, drops.syn_queue_full, drops.syn_other];
        let acks = [ack_overflow + cookie_ack_overflow, 0, ack_other];
        // A socket that listens again is read twice in a step.
        for (((counter, now), acks), seen) in self.syn.iter_mut().zip(given).zip(acks).zip(&mut self.seen) {
            *seen += acks + counter.read(now, from_zero);
        }
        // Figures can become known although nothing was refused: a measure became available, or all clients are now
        // seen.
        let known = [self.socket.sum, self.ack_overflow.sum, self.clients.sum].map(|sum| sum.is_some());
        self.newly_known |= known != std::mem::replace(&mut self.known, known);
        self.steady = same_backlog && self.near_full[0] == self.near_full[1] && !self.newly_known;
        grown + self.seen.iter().sum::<u64>() > 0
    }

    /// Its socket listens again: counters start from zero.
    pub(crate) fn restart(&mut self) {
        let acks = [&mut self.ack_overflow, &mut self.cookie_ack_overflow, &mut self.ack_other];
        for counter in acks.into_iter().chain([&mut self.socket, &mut self.not_attempts]) {
            counter.restart();
        }
        self.syn.iter_mut().for_each(Counter::restart);
        self.clients.restart();
    }

    /// Whether the same sample once more would leave everything as it is.
    pub(crate) fn is_steady(&self) -> bool {
        self.steady
    }

    /// No sample of it in this step.
    pub(crate) fn rest(&mut self) {
        self.seen = [0; CAUSES];
        self.fresh = 0;
    }

    /// Whether refused SYNs are seen one by one.
    fn probed(&self) -> bool {
        self.syn.iter().all(|c| c.sum.is_some())
    }

    /// The number of refused SYNs: `sk_drops` less everything else that it counts. `None` if a part of that is unknown.
    fn inferred(&self) -> Option<u64> {
        let acks = self.ack_overflow.sum? + self.ack_other.sum.unwrap_or(0);
        let once = self.cookie_ack_overflow.sum.unwrap_or(0) + self.not_attempts.sum.unwrap_or(0);
        Some(self.socket.sum?.saturating_sub(2 * acks).saturating_sub(once))
    }

    /// Brings `pending` up to date. If fewer were refused than assumed, returns by how much each cause was too high.
    pub(crate) fn settle_sum(&mut self) -> [u64; CAUSES] {
        let mut returned = [0; CAUSES];
        self.fresh = 0;
        if self.probed() {
            return returned;
        }
        let now = self.inferred().unwrap_or(0);
        let known = self.found.iter().sum::<u64>() + self.ambiguous + self.pending;
        self.fresh = now.saturating_sub(known);
        self.pending += self.fresh;
        let mut excess = known.saturating_sub(now);
        let mut take = |from: &mut u64| {
            let taken = excess.min(*from);
            *from -= taken;
            excess -= taken;
            taken
        };
        take(&mut self.pending);
        take(&mut self.ambiguous);
        for (found, returned) in self.found.iter_mut().zip(&mut returned) {
            *returned = take(found);
        }
        returned
    }

    /// Whether SYNs may have been refused for this cause in this step or the one before. Only the accept queue's depth
    /// is known well enough to rule a cause out.
    pub(crate) fn capable(&self, cause: Cause) -> bool {
        cause != Cause::AcceptQueueFull || self.near_full.contains(&true)
    }

    /// The cause of `n` pending ones was found.
    pub(crate) fn found(&mut self, cause: Cause, n: u64) {
        let n = n.min(self.pending);
        self.pending -= n;
        self.found[cause as usize] += n;
    }

    /// Gives up on all pending ones but `keep`.
    pub(crate) fn give_up(&mut self, keep: u64) {
        let given_up = self.pending.saturating_sub(keep);
        self.pending -= given_up;
        self.ambiguous += given_up;
    }

    /// The drops since the baseline. `counters`: the namespace's counters could be read; `most`: the namespace's
    /// counters allow no more than this, apart from attempts that probes saw.
    pub(crate) fn drops(&self, counters: bool, most: Option<u64>) -> Drops {
        // If no probe shows refused final ACKs, the known number is itself a bound.
        let limited = |unexplained: u64, known: u64| match most.filter(|_| self.ack_other.sum.is_some()) {
            Some(most) => unexplained.min(most.saturating_sub(known)),
            None => unexplained,
        };
        let ack = self.ack_overflow.sum.map(|ack| ack + self.cookie_ack_overflow.sum.unwrap_or(0));
        let ack_other = self.ack_other.sum.unwrap_or(0);
        let mut drops = Drops { accept_queue_full_on_ack: ack, ..Default::default() };
        let mut syn_drops = None;
        if self.probed() {
            let [queue, syn_queue, other] = self.syn.map(|c| c.sum.unwrap_or(0));
            let seen = queue + syn_queue + other;
            let unexplained = self.inferred().unwrap_or(0).saturating_sub(seen);
            let unexplained = limited(unexplained, seen + ack.unwrap_or(0) + ack_other);
            drops.accept_queue_full_on_syn = Some(queue);
            drops.syn_queue_full = Some(syn_queue);
            drops.other = Some(other + ack_other);
            drops.unexplained = Some(unexplained);
            drops.total = Some(seen + unexplained + ack.unwrap_or(0) + ack_other);
            syn_drops = Some(seen + unexplained);
        } else if let (Some(_), Some(ack)) = (self.inferred(), ack) {
            let [queue, syn_queue, other] = self.found;
            let found = queue + syn_queue + other;
            let unexplained = limited(self.ambiguous + self.pending, found + ack + ack_other);
            let syn = found + unexplained;
            // With nothing refused there is nothing to find out.
            let if_known = |n| (counters || syn == 0).then_some(n);
            drops.accept_queue_full_on_syn = if_known(queue);
            drops.syn_queue_full = if_known(syn_queue);
            drops.other = if_known(other + ack_other).or((ack_other > 0).then_some(ack_other));
            drops.unexplained = Some(unexplained);
            drops.total = Some(syn + ack + ack_other);
            syn_drops = Some(syn);
        } else if let Some(socket) = self.socket.sum {
            // No probe saw the final ACKs, which count twice: an upper bound, as the coverage says.
            let bound = limited(socket.saturating_sub(self.not_attempts.sum.unwrap_or(0)), 0);
            drops.total = Some(bound);
            drops.unexplained = Some(bound);
            syn_drops = Some(bound);
        } else if ack_other > 0 {
            drops.other = Some(ack_other);
        }
        if self.clients_cover_syn || syn_drops == Some(0) {
            drops.clients = self.clients.sum;
        }
        drops
    }
}

#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth_tests;
