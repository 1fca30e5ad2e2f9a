//! `multi_acceptor`: several threads or processes accept from the same socket.

use super::{Work, found, percent, work::share};
use crate::{
    model::{Pattern, PatternName},
    words::grouped,
};

/// Shares listed in the evidence.
const LISTED: usize = 8;

pub(super) fn fits(work: &Work<'_>) -> Option<Pattern> {
    let acceptors: Vec<_> = work.acceptors().collect();
    if acceptors.len() < 2 {
        return None;
    }
    let mut pids: Vec<u32> = acceptors.iter().map(|w| w.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    let who = match pids.len() {
        1 => format!("{} threads of one process", acceptors.len()),
        n if n == acceptors.len() => format!("{n} processes"),
        n => format!("{} threads of {n} processes", acceptors.len()),
    };
    let mut shares: Vec<_> = acceptors.iter().take(LISTED).map(|w| percent(share(w.accepts, work.accepts))).collect();
    if acceptors.len() > LISTED {
        shares.push("…".to_owned());
    }
    let evidence = vec![
        format!("{who} accept from the same socket"),
        format!("their shares of {} accepts: {}", grouped(work.accepts), shares.join(", ")),
    ];
    let accepted = share(acceptors.iter().map(|w| w.accepts).sum(), work.accepts);
    found(PatternName::MultiAcceptor, accepted, evidence)
}
