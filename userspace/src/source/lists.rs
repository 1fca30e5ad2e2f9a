//! Lists of connections, added to the samples of their listeners.

use std::collections::{HashMap, HashSet};

use listentop_model::{
    connections::{Actor, ConnectionLists, keep_longest},
    sample::ListenerSample,
    shared::Shared,
};

use super::owners::Scan;

/// The process that holds the socket with this inode, as far as a scan has shown; 0: none has it.
pub(super) fn holder(scan: &Scan, inode: u64) -> Option<Actor> {
    let holders = scan.holders.get(&inode).filter(|_| inode != 0)?;
    let process = holders.iter().find_map(|pid| scan.processes.get(pid))?;
    Some(Actor { pid: process.pid, tid: None, comm: process.comm.clone() })
}

/// Adds lists to the samples of their listeners, by cookie; of all of them the longest waiting connections stay. What
/// waits for a listener of which none is listed is counted.
pub(super) fn add_to_samples(mut lists: HashMap<u64, ConnectionLists>, samples: &mut Shared<ListenerSample>) {
    for sample in samples.iter().filter(|sample| !sample.closed) {
        let depths = (sample.gauges.accept_depth, sample.gauges.syn_depth.unwrap_or(0));
        if depths == (0, 0) {
            continue;
        }
        let found = lists.entry(sample.id).or_default();
        for (list, depth) in [(&mut found.waiting, depths.0), (&mut found.half_open, depths.1)] {
            if list.total == 0 {
                list.total = depth.into();
            }
        }
    }
    keep_longest(lists.values_mut());
    let listed: HashSet<u64> = lists.keys().copied().collect();
    for sample in samples.iter_mut_where(|sample| !sample.closed && listed.contains(&sample.id)) {
        sample.connections = lists.remove(&sample.id);
    }
}
