//! `process_per_connection`: one process accepts, a new process reads each connection.

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
    let readers: Vec<_> = work.other_readers(acceptor).into_iter().filter(|r| r.pid != acceptor.pid).collect();
    let Lifetime::Connection { threads, ended } = lifetime::of(&readers, work.accepts) else { return None };
    if work.reads < MIN_WORK {
        return None;
    }
    let mut pids: Vec<u32> = readers.iter().map(|r| r.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let others = share(readers.iter().map(|r| r.reads).sum(), work.reads);
    let alone = share(pids.len() as u64, readers.len() as u64);
    let evidence = vec![
        format!("{} made {} of {} accepts", acceptor.label(), percent(accepts), grouped(work.accepts)),
        format!("{threads} other processes read one connection each, {ended} of them have ended"),
        format!("they made {} of {} reads", percent(others), grouped(work.reads)),
    ];
    found(PatternName::ProcessPerConnection, accepts.min(others).min(alone), evidence)
}
