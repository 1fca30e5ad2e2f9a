//! What needs a look at all listeners of a group: shares, patterns and findings.

use std::collections::HashMap;

use crate::{
    model::{GroupId, ListenerModel, Model},
    threads::set_shares,
};

/// Brings shares, patterns and findings up to date.
pub(crate) fn judge(model: &mut Model) {
    let mut groups: HashMap<GroupId, (u64, u64)> = HashMap::new();
    for listener in &model.listeners {
        if let Some(group) = listener.group {
            let (accepts, reads) = work(listener);
            let sums = groups.entry(group).or_default();
            sums.0 += accepts;
            sums.1 += reads;
        }
    }
    for listener in &mut model.listeners {
        let (accepts, reads) = match listener.group {
            Some(group) => groups[&group],
            None => work(listener),
        };
        set_shares(&mut listener.threads, accepts, reads);
    }
}

/// Accepts and reads of a listener, those of threads that found the thread table full included.
fn work(listener: &ListenerModel) -> (u64, u64) {
    let threads = |f: fn(&crate::model::ThreadModel) -> u64| listener.threads.iter().map(f).sum::<u64>();
    let sum = |total: Option<u64>, threads: u64| total.unwrap_or(0).max(threads);
    (sum(listener.total.accepts, threads(|t| t.accepts)), sum(listener.total.reads, threads(|t| t.reads)))
}
