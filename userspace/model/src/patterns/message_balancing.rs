//! `message_balancing`: one thread accepts and reads everything, other threads do the work and write the answers.

use super::{FITS, MIN_WORK, Work, found, percent, work::share};
use crate::{
    model::{Pattern, PatternName},
    words::grouped,
};

pub(super) fn fits(work: &Work<'_>) -> Option<Pattern> {
    let (thread, accepts) = work.only_acceptor()?;
    if work.reads < MIN_WORK || work.writes < MIN_WORK {
        return None;
    }
    let reads = share(thread.reads, work.reads);
    let others = share(work.writes - thread.writes, work.writes);
    if reads < FITS || others < FITS {
        return None;
    }
    let writers = work.workers.iter().filter(|w| w.writes > 0 && !std::ptr::eq(*w, thread)).count();
    let evidence = vec![
        format!("{} made {} of {} accepts", thread.label(), percent(accepts), grouped(work.accepts)),
        format!("it made {} of {} reads", percent(reads), grouped(work.reads)),
        format!("{writers} other threads made {} of {} writes", percent(others), grouped(work.writes)),
    ];
    found(PatternName::MessageBalancing, accepts.min(reads).min(others), evidence)
}
