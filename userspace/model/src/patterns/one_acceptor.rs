//! Work in which one thread does all the accepting: the condition that six patterns share.

use super::{
    MIN_WORK, Work, percent, succession,
    work::{Worker, share},
};
use crate::words::prose::grouped;

/// The thread that accepts, at a listener where enough is read to see who reads.
pub(super) struct OneAcceptor<'w, 'a> {
    work: &'w Work<'a>,
    pub(super) thread: &'w Worker<'a>,
    /// Its share of the accepts.
    pub(super) accepts: f64,
}

impl<'w, 'a> OneAcceptor<'w, 'a> {
    /// `None` if several threads accept, or too few reads were seen.
    pub(super) fn of(work: &'w Work<'a>) -> Option<Self> {
        let (thread, accepts) = work.only_acceptor()?;
        (work.reads >= MIN_WORK).then_some(Self { work, thread, accepts })
    }

    /// The threads that read, except this one.
    pub(super) fn other_readers(&self) -> Vec<&'w Worker<'a>> {
        self.work.other_readers(self.thread)
    }

    /// The share of the reads that other threads made.
    pub(super) fn others_reads(&self) -> f64 {
        share(self.work.reads - self.thread.reads, self.work.reads)
    }

    /// The first pieces of evidence.
    pub(super) fn evidence(&self) -> Vec<String> {
        let (share, all) = (percent(self.accepts), grouped(self.work.accepts));
        let mut evidence = vec![format!("{} made {share} of {all} accepts", self.thread.label())];
        evidence.extend(succession::evidence([self.thread].into_iter()));
        evidence
    }
}
