//! Whether the threads that read live for one connection each, or serve one after the other.

use super::{
    FITS,
    work::{Worker, share},
};
use crate::catalogue::thresholds;

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
    Connection { threads: usize, ended: usize },
    /// Many connections each.
    Pool,
    /// It could be either.
    Unclear,
}

/// Judges the threads other than the acceptor that read.
pub(super) fn of(readers: &[&Worker<'_>], accepts: u64) -> Lifetime {
    let first: u64 = readers.iter().map(|r| r.first_reads).sum();
    if first == 0 {
        let few = readers.len() as u64 * ACCEPTS_PER_READER <= accepts;
        return if few { Lifetime::Pool } else { Lifetime::Unclear };
    }
    let by = |f: fn(u64) -> bool| share(readers.iter().map(|r| r.first_reads).filter(|n| f(*n)).sum(), first);
    if by(|n| n >= 2) >= FITS {
        return Lifetime::Pool;
    }
    let one: Vec<_> = readers.iter().filter(|r| r.first_reads == 1).collect();
    if by(|n| n == 1) < FITS || (one.len() as u64) < MIN_THREADS {
        return Lifetime::Unclear;
    }
    let ended = one.iter().filter(|r| r.ended).count();
    let starts = || one.iter().map(|r| r.start_ns);
    let spread = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
    if share(ended as u64, one.len() as u64) >= MORTAL || spread > TOGETHER_US * 1_000 {
        Lifetime::Connection { threads: one.len(), ended }
    } else {
        Lifetime::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers that started together and live, each with so many first reads.
    fn readers(first_reads: impl IntoIterator<Item = u64>) -> Vec<Worker<'static>> {
        let reader = |first_reads| Worker { first_reads, reads: 1, start_ns: 7_000_000_000, ..Worker::default() };
        first_reads.into_iter().map(reader).collect()
    }

    fn judge(readers: &[Worker<'_>], accepts: u64) -> Lifetime {
        of(&readers.iter().collect::<Vec<_>>(), accepts)
    }

    /// So many threads that read one connection each; the last started so much later, and the first have ended.
    fn one_each(n: usize, later_ns: u64, ended: usize) -> Lifetime {
        let mut readers = readers(vec![1; n]);
        readers[n - 1].start_ns += later_ns;
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
            readers[1].start_ns += 60_000_000_000;
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
}
