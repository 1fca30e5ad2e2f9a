//! `thread_per_connection`: one thread accepts, a new thread reads each connection.

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
    let Lifetime::Connection { threads, ended } = lifetime::of(&readers, work.accepts) else { return None };
    if work.reads < MIN_WORK {
        return None;
    }
    let others = share(work.reads - acceptor.reads, work.reads);
    let evidence = vec![
        format!("{} made {} of {} accepts", acceptor.label(), percent(accepts), grouped(work.accepts)),
        format!("{threads} other threads read one connection each, {ended} of them have ended"),
        format!("they made {} of {} reads", percent(others), grouped(work.reads)),
    ];
    found(PatternName::ThreadPerConnection, accepts.min(others), evidence)
}
