//! Whether the threads that read live for one connection each, or serve one after the other.

use super::{
    FITS,
    work::{Worker, share},
};
use crate::{catalogue::thresholds, model::Role};

thresholds! {
    /// Threads that start within this time of each other may have been started together, as a pool.
    TOGETHER_US: u64 = 2_000_000, Micros;
    /// Fewer threads that read one connection each may be a pool of which each member got its first connection.
    MIN_THREADS: u64 = 20, Count;
    /// If no connection was first read in the interval, this many accepts per reader still make the readers a pool.
    ACCEPTS_PER_READER: u64 = 4, Count;
    /// If this share of the threads that read one connection each have ended, they lived for that connection.
    MORTAL: f64 = 0.5, Share;
}

/// What reading threads live for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// One connection each: this many threads, of which so many have ended.
    Connection { threads: u64, ended: u64 },
    /// Many connections each.
    Pool,
    /// It could be either.
    Unclear,
}

/// Judges the threads other than the acceptor that read.
pub(super) fn of(readers: &[&Worker<'_>], accepts: u64) -> Lifetime {
    let sum = |of: fn(&Worker<'_>) -> u64| readers.iter().map(|r| of(r)).sum::<u64>();
    let first = sum(|r| r.first_reads);
    if first == 0 {
        let few = sum(|r| r.number(Role::Reader)) * ACCEPTS_PER_READER <= accepts;
        return if few { Lifetime::Pool } else { Lifetime::Unclear };
    }
    if share(sum(of_several), first) >= FITS {
        return Lifetime::Pool;
    }
    let threads = sum(one_connection);
    if share(threads, first) < FITS || threads < MIN_THREADS {
        return Lifetime::Unclear;
    }
    let ended = sum(|r| if r.ended { one_connection(r) } else { 0 });
    let starts = || readers.iter().filter(|r| r.summed.is_none() && r.first_reads == 1).map(|r| r.key.start_ns);
    let spread = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
    if share(ended, threads) >= MORTAL || spread > TOGETHER_US * 1_000 {
        Lifetime::Connection { threads, ended }
    } else {
        Lifetime::Unclear
    }
}

/// How many of the worker's threads were the first to read exactly one connection.
fn one_connection(worker: &Worker<'_>) -> u64 {
    worker.summed.map_or(u64::from(worker.first_reads == 1), |summed| summed.one_connection)
}

/// Connections that were first read by those of the worker's threads that read several.
fn of_several(worker: &Worker<'_>) -> u64 {
    match worker.summed {
        Some(summed) => worker.first_reads.saturating_sub(summed.one_connection),
        None if worker.first_reads >= 2 => worker.first_reads,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Summed, ThreadKey};

    /// Readers that started together and live, each with so many first reads.
    fn readers(first_reads: impl IntoIterator<Item = u64>) -> Vec<Worker<'static>> {
        let key = ThreadKey { start_ns: 7_000_000_000, ..ThreadKey::default() };
        let reader = |first_reads| Worker { first_reads, reads: 1, key, ..Worker::default() };
        first_reads.into_iter().map(reader).collect()
    }

    fn judge(readers: &[Worker<'_>], accepts: u64) -> Lifetime {
        of(&readers.iter().collect::<Vec<_>>(), accepts)
    }

    /// So many threads that read one connection each; the last started so much later, and the first have ended.
    fn one_each(n: usize, later_ns: u64, ended: usize) -> Lifetime {
        let mut readers = readers(vec![1; n]);
        readers[n - 1].key.start_ns += later_ns;
        readers[..ended].iter_mut().for_each(|r| r.ended = true);
        judge(&readers, 1_000)
    }

    #[test]
    fn without_first_reads_few_readers_are_a_pool() {
        let ten = readers([0; 10]);
        let judged = [36, 39, 40, 44].map(|accepts| judge(&ten, accepts));
        assert_eq!(judged, [Lifetime::Unclear, Lifetime::Unclear, Lifetime::Pool, Lifetime::Pool]);
    }

    #[test]
    fn readers_with_several_connections_are_a_pool() {
        let with =
            |several: u64| judge(&readers([2, several - 2].into_iter().chain(vec![1; 100 - several as usize])), 100);
        assert_eq!([88, 89, 90, 92].map(with), [Lifetime::Unclear, Lifetime::Unclear, Lifetime::Pool, Lifetime::Pool]);
    }

    #[test]
    fn nine_tenths_of_the_connections_have_a_thread_of_their_own() {
        let with = |one: u64| {
            let mut readers = readers([100 - one].into_iter().chain(vec![1; one as usize]));
            readers[1].key.start_ns += 60_000_000_000;
            judge(&readers, 100)
        };
        let own = |threads| Lifetime::Connection { threads, ended: 0 };
        assert_eq!([88, 89, 90, 92].map(with), [Lifetime::Unclear, Lifetime::Unclear, own(90), own(92)]);
    }

    #[test]
    fn twenty_threads_are_enough() {
        let long = 60_000_000_000;
        let own = |threads| Lifetime::Connection { threads, ended: 0 };
        assert_eq!(
            [18, 19, 20, 22].map(|n| one_each(n, long, 0)),
            [Lifetime::Unclear, Lifetime::Unclear, own(20), own(22)]
        );
    }

    #[test]
    fn threads_that_started_within_two_seconds_may_be_a_pool() {
        let judged = [1_900_000_000, 2_000_000_000, 2_000_000_001, 2_100_000_000].map(|ns| one_each(20, ns, 0));
        let own = Lifetime::Connection { threads: 20, ended: 0 };
        assert_eq!(judged, [Lifetime::Unclear, Lifetime::Unclear, own, own]);
    }

    #[test]
    fn threads_of_which_half_have_ended_are_no_pool() {
        let own = |ended| Lifetime::Connection { threads: 40, ended };
        assert_eq!(
            [18, 19, 20, 22].map(|n| one_each(40, 0, n)),
            [Lifetime::Unclear, Lifetime::Unclear, own(20), own(22)]
        );
    }

    /// So many threads that are summed up, of which some read one connection each and the rest `several` together.
    fn summed(threads: u64, one_connection: u64, several: u64) -> Lifetime {
        let summed = Summed { threads, readers: threads, one_connection, ..Summed::default() };
        let (first_reads, reads) = (one_connection + several, threads);
        judge(&[Worker { first_reads, reads, ended: true, summed: Some(summed), ..Worker::default() }], 1_000)
    }

    #[test]
    fn a_sum_counts_as_its_threads() {
        let own = |threads| Lifetime::Connection { threads, ended: threads };
        assert_eq!([19, 20, 935, 20_000].map(|n| summed(n, n, 0)), [Lifetime::Unclear, own(20), own(935), own(20_000)]);
        // Threads with several connections are not taken for one with one.
        assert_eq!([summed(4, 0, 900), summed(13, 9, 91)], [Lifetime::Pool, Lifetime::Pool]);
        assert_eq!([summed(92, 90, 10), summed(92, 89, 11)], [own(90), Lifetime::Unclear]);
        // None was first read in the interval.
        assert_eq!([summed(250, 0, 0), summed(251, 0, 0)], [Lifetime::Pool, Lifetime::Unclear]);
    }
}
