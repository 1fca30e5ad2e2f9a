//! `single_thread`: one thread accepts, reads and writes.

use super::{MIN_WORK, Work, found, percent, work::share};
use crate::{
    model::{Pattern, PatternName},
    words::grouped,
};

pub(super) fn fits(work: &Work<'_>) -> Option<Pattern> {
    let (thread, accepts) = work.only_acceptor()?;
    // Where writes are not measured, another thread may write the answers.
    if !work.reads_measured || !work.writes_measured || work.reads < MIN_WORK {
        return None;
    }
    let reads = share(thread.reads, work.reads);
    let writes = if work.writes > 0 { share(thread.writes, work.writes) } else { 1.0 };
    if reads < super::FITS || writes < super::FITS {
        return None;
    }
    let mut evidence = vec![
        format!("{} made {} of {} accepts", thread.label(), percent(accepts), grouped(work.accepts)),
        format!("it made {} of {} reads", percent(reads), grouped(work.reads)),
    ];
    evidence.push(match work.writes {
        0 => "no writes were seen".to_owned(),
        n => format!("it made {} of {} writes", percent(writes), grouped(n)),
    });
    found(PatternName::SingleThread, accepts.min(reads).min(writes), evidence)
}
