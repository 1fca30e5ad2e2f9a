//! `acceptor_readers`: one thread accepts, each connection is then read by one of several others.

use super::{
    MIN_WORK, Work, found,
    lifetime::{self, Lifetime},
    percent,
    work::share,
};
use crate::{
    model::{Pattern, PatternName},
    words::grouped,
};

pub(super) fn fits(work: &Work<'_>) -> Option<Pattern> {
    let (acceptor, accepts) = work.only_acceptor()?;
    let readers = work.other_readers(acceptor);
    if work.reads < MIN_WORK || lifetime::of(&readers, work.accepts) != Lifetime::Pool {
        return None;
    }
    let others = share(work.reads - acceptor.reads, work.reads);
    let evidence = vec![
        format!("{} made {} of {} accepts", acceptor.label(), percent(accepts), grouped(work.accepts)),
        format!("{} other threads made {} of {} reads", readers.len(), percent(others), grouped(work.reads)),
    ];
    found(PatternName::AcceptorReaders, accepts.min(others), evidence)
}
