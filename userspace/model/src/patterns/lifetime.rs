//! Whether the threads that read live for one connection each, or serve one after the other.

use super::work::{Worker, share};

/// Threads that start within this time of each other may have been started together, as a pool.
const TOGETHER_NS: u64 = 2_000_000_000;
/// Fewer threads that read one connection each may be a pool of which each member got its first.
const MIN_THREADS: usize = 20;

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
        // No connection began to be read within the interval; far fewer readers than connections are a pool all the
        // same.
        return if (readers.len() as u64) * 4 <= accepts { Lifetime::Pool } else { Lifetime::Unclear };
    }
    let by = |f: fn(u64) -> bool| share(readers.iter().map(|r| r.first_reads).filter(|n| f(*n)).sum(), first);
    if by(|n| n >= 2) >= super::FITS {
        return Lifetime::Pool;
    }
    let one: Vec<_> = readers.iter().filter(|r| r.first_reads == 1).collect();
    if by(|n| n == 1) < super::FITS || one.len() < MIN_THREADS {
        return Lifetime::Unclear;
    }
    let ended = one.iter().filter(|r| r.ended).count();
    let starts = || one.iter().map(|r| r.start_ns);
    let spread = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
    if ended * 2 >= one.len() || spread > TOGETHER_NS {
        Lifetime::Connection { threads: one.len(), ended }
    } else {
        Lifetime::Unclear
    }
}
