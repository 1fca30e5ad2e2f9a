//! Acceptors that did not live together. A server that is reloaded, or replaces its workers after so many connections,
//! has many acceptors in the interval, but not at a time. One that took over from another counts as one with it.

use super::{
    agree, plural,
    work::{Earlier, Worker},
};
use crate::{catalogue::thresholds, model::Accepting};

thresholds! {
    /// An acceptor may go on for so long after its successor began: servers start the new process before they end the
    /// old one.
    HANDOVER_US: u64 = 1_000_000, Micros;
    /// Two that accepted together for more than this part of the shorter one's time did not follow one another.
    OVERLAP: f64 = 0.3, Share;
    /// An acceptor that lives and has stopped accepting, as one that drains does, would have got so many accepts since.
    MISSED: u64 = 10, Count;
    /// And its successor started so much later than itself: those that start together wait together.
    APART_US: u64 = 2_000_000, Micros;
    /// The end of a thread shows with such a delay.
    SEEN_US: u64 = 1_000_000, Micros;
}

/// The workers, where acceptors that followed one another are one, with the name of the last.
pub(super) fn merged(mut workers: Vec<Worker<'_>>) -> Vec<Worker<'_>> {
    let successors = successors(&workers);
    let mut gone = vec![false; workers.len()];
    // From the first on: a successor then has the work of all before it when its own successor takes it over.
    for (place, successor) in successors {
        let before = std::mem::take(&mut workers[place]);
        gone[place] = true;
        workers[successor].succeed(before);
    }
    let mut gone = gone.into_iter();
    workers.retain(|_| gone.next() == Some(false));
    spread(workers)
}

/// Who took over from whom, in the order of time: places of both.
fn successors(workers: &[Worker<'_>]) -> Vec<(usize, usize)> {
    let mut acceptors: Vec<(usize, Accepting)> = (workers.iter().enumerate())
        .filter(|(_, w)| w.accepts > 0 && w.summed.is_none())
        .filter_map(|(place, w)| Some((place, w.accepting?)))
        .collect();
    acceptors.sort_by_key(|(place, at)| (at.from_us, workers[*place].key.start_ns, *place));
    let last_start = acceptors.last().map_or(0, |(_, at)| at.from_us);
    // Those whose place may be taken. A living one that accepted after all others had begun has not stopped.
    let mut free: Vec<(usize, Accepting)> = Vec::new();
    let mut pairs = Vec::new();
    let acceptors = &acceptors[..];
    for &(place, at) in acceptors {
        let next = &workers[place];
        let takes = |(before, was): &(usize, Accepting)| {
            let before = &workers[*before];
            // One that lived on may only have been idle.
            let gone_us = before.closed_us.or(before.ended.then_some(before.lived_until_us));
            let gone = gone_us.is_some_and(|gone_us| gone_us <= at.from_us + HANDOVER_US + SEEN_US);
            let apart_ns = if gone { 0 } else { APART_US * 1_000 };
            next.key.start_ns > before.key.start_ns + apart_ns
                && hands_over(was, &at, next.ended)
                && (gone || misses(was, before, acceptors, workers))
        };
        // Of several, the one that stopped last.
        let latest = (0..free.len()).filter(|&i| takes(&free[i])).max_by_key(|&i| free[i].1.until_us);
        if let Some(latest) = latest {
            pairs.push((free.swap_remove(latest).0, place));
        }
        if next.ended || next.closed_us.is_some() || at.ending_us <= last_start + HANDOVER_US {
            free.push((place, at));
        }
    }
    pairs
}

/// Whether the times allow that the second took over from the first.
fn hands_over(first: &Accepting, second: &Accepting, second_ended: bool) -> bool {
    let at_most = first.until_us.saturating_sub(second.from_us);
    let at_least = first.ending_us.saturating_sub(second.begun_us);
    let length = |at: &Accepting| at.until_us - at.from_us;
    // One that goes on has not shown how long it will.
    let shorter = if second_ended { length(first).min(length(second)) } else { length(first) };
    at_most == 0 || at_least <= HANDOVER_US && at_most as f64 <= OVERLAP * shorter as f64
}

/// Whether a living acceptor has stopped: others that came later accepted so much since that it would have got some.
fn misses(at: &Accepting, one: &Worker<'_>, acceptors: &[(usize, Accepting)], workers: &[Worker<'_>]) -> bool {
    let later = (acceptors.iter())
        .filter(|(_, other)| other.begun_us + HANDOVER_US >= at.until_us)
        .map(|(place, _)| &workers[*place])
        .filter(|other| other.key.start_ns > one.key.start_ns + APART_US * 1_000);
    let (count, accepts) = later.fold((0, 0), |(count, accepts), other| (count + 1, accepts + other.accepts));
    accepts >= MISSED * (count + 1)
}

/// Gives the work of acceptors that are known by their sum only to those that are known one by one. All of the sum have
/// ended, and the others show how many there are at a time.
fn spread(mut workers: Vec<Worker<'_>>) -> Vec<Worker<'_>> {
    let of_sums = |w: &Worker<'_>| w.summed.is_some_and(|summed| summed.acceptors > 0);
    let (sums, mut rest): (Vec<_>, Vec<_>) = workers.drain(..).partition(of_sums);
    // The parts of sums without acceptors, or without others, are empty.
    rest.retain(|w| w.summed.is_none_or(|summed| summed.threads > 0));
    for sum in sums {
        let accepting = |w: &Worker<'_>| w.accepts > 0 && w.summed.is_none();
        let of_shard = |w: &Worker<'_>| accepting(w) && w.main_shard.0 == sum.main_shard.0;
        let same_shard = rest.iter().any(of_shard);
        let heirs = |w: &Worker<'_>| if same_shard { of_shard(w) } else { accepting(w) };
        let whole: u64 = rest.iter().filter(|w| heirs(w)).map(|w| w.accepts).sum();
        if whole == 0 {
            rest.push(sum);
            continue;
        }
        let mut left = sum.clone();
        let heirs: Vec<usize> = (0..rest.len()).filter(|&i| heirs(&rest[i])).collect();
        for &heir in heirs.iter().rev() {
            let heir_share = if heir == heirs[0] { None } else { Some((rest[heir].accepts, whole)) };
            rest[heir].inherit(&sum, &mut left, heir_share);
        }
    }
    rest
}

impl Worker<'_> {
    /// Takes over the work of the one before it.
    fn succeed(&mut self, before: Self) {
        self.accepts += before.accepts;
        self.would_block += before.would_block;
        self.reads += before.reads;
        self.first_reads += before.first_reads;
        self.writes += before.writes;
        // A shard of its own may have gone with it.
        self.main_shard.1 += before.main_shard.1;
        self.earlier.threads += 1 + before.earlier.threads;
        self.earlier.processes += before.earlier.processes;
        self.earlier.pids.extend(before.earlier.pids);
        if before.key.pid != self.key.pid {
            self.earlier.pids.insert(before.key.pid);
        }
        self.earlier.pids.remove(&self.key.pid);
    }

    /// Takes its part of a sum: that of its accepts among the heirs', or all that is left.
    fn inherit(&mut self, sum: &Self, left: &mut Self, part: Option<(u64, u64)>) {
        let take = |of: u64, left: &mut u64| {
            let taken =
                part.map_or(*left, |(own, whole)| (u128::from(of) * u128::from(own) / u128::from(whole)) as u64);
            *left -= taken;
            taken
        };
        let accepts = take(sum.accepts, &mut left.accepts);
        self.accepts += accepts;
        self.would_block += take(sum.would_block, &mut left.would_block);
        self.reads += take(sum.reads, &mut left.reads);
        self.first_reads += take(sum.first_reads, &mut left.first_reads);
        self.writes += take(sum.writes, &mut left.writes);
        if self.main_shard.0 == sum.main_shard.0 {
            self.main_shard.1 += accepts;
        }
        if part.is_none()
            && let Some(summed) = sum.summed
        {
            self.earlier.threads += summed.threads;
            self.earlier.processes += summed.processes;
        }
    }
}

/// What is said about those that others took over from; `None` if there are none.
pub(super) fn evidence<'w, 'a: 'w>(acceptors: impl Iterator<Item = &'w Worker<'a>>) -> Option<String> {
    let mut earlier = Earlier::default();
    for acceptor in acceptors {
        earlier.threads += acceptor.earlier.threads;
        earlier.processes += acceptor.earlier.processes;
        earlier.pids.extend(&acceptor.earlier.pids);
    }
    let processes = earlier.pids.len() as u64 + earlier.processes;
    let (n, who) = match processes {
        0 => (earlier.threads, plural(earlier.threads, "earlier thread")),
        n if n >= earlier.threads => (n, plural(n, "earlier process")),
        n => (earlier.threads, format!("{} of {}", plural(earlier.threads, "thread"), plural(n, "earlier process"))),
    };
    (earlier.threads > 0).then(|| {
        let their = agree(n, "its place was", "their places were");
        format!("{who} had stopped accepting before, and {their} taken: a restart, a reload or a change of workers")
    })
}

#[cfg(test)]
mod tests;
