//! Network namespaces: their counters, and what these say about the listeners in them.

use std::collections::HashMap;

use super::{Counter, growth, listener::Listener};
use crate::{
    drops::{
        DropTracker,
        attribution::{Cause, Pools},
    },
    model::{ListenerModel, Model, NamespaceModel},
    sample::{NamespaceCounters, NamespaceSample, Sample},
};

/// All namespaces seen, by inode.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    by_inode: HashMap<u32, Namespace>,
    /// A sample was taken before.
    begun: bool,
}

#[derive(Debug, Default)]
struct Namespace {
    name: Option<String>,
    last: Option<NamespaceCounters>,
    overflows: Counter,
    drops: Counter,
    syn_queue_full: Counter,
    cookies_sent: Counter,
    cookies_failed: Counter,
    pools: Pools,
    /// The counters were read in this sample.
    readable: bool,
    /// Refused attempts of all its listeners since the baseline, and whether that of any is unknown.
    explained: u64,
    blind: bool,
    /// Those of closed listeners that are kept no longer.
    forgotten: u64,
    /// Those that the counters had at their baseline already.
    before: u64,
}

impl Namespaces {
    /// Takes a sample's namespaces in, finds causes and brings the drops of all listeners up to date.
    pub(crate) fn read(&mut self, sample: &Sample, states: &mut [Listener], model: &mut Model) {
        for state in &mut *states {
            state.returned = state.drops.settle_sum();
        }
        let mut members: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, (state, listener)) in states.iter().zip(&model.listeners).enumerate() {
            if state.drops.pending > 0 || state.drops.seen != [0; 3] || state.returned != [0; 3] {
                members.entry(listener.netns).or_default().push(at);
            }
        }
        for namespace in self.by_inode.values_mut() {
            namespace.readable = false;
        }
        for namespace in &sample.namespaces {
            let members = members.get(&namespace.inode).map_or(&[][..], Vec::as_slice);
            let new = self.begun && !self.by_inode.contains_key(&namespace.inode);
            let seen: u64 =
                members.iter().map(|&at| states[at].drops.seen.iter().sum::<u64>() + states[at].drops.fresh).sum();
            self.by_inode.entry(namespace.inode).or_default().read(namespace, new.then_some(seen));
        }
        let complete = sample.losses.listeners == 0;
        for (inode, members) in &members {
            let namespace = self.by_inode.entry(*inode).or_default();
            for &at in members {
                let state = &states[at];
                for (i, cause) in [Cause::AcceptQueueFull, Cause::SynQueueFull, Cause::Other].into_iter().enumerate() {
                    namespace.pools.add(cause, state.returned[i] as i64 - state.drops.seen[i] as i64);
                }
            }
            if namespace.readable {
                let mut members = members.iter().copied().peekable();
                let mut trackers: Vec<&mut DropTracker> = states
                    .iter_mut()
                    .enumerate()
                    .filter_map(|(at, state)| members.next_if_eq(&at).map(|_| &mut state.drops))
                    .collect();
                namespace.pools.settle(&mut trackers, complete);
            }
        }
        for (inode, namespace) in &mut self.by_inode {
            if namespace.readable && !members.contains_key(inode) {
                namespace.pools.settle(&mut [], complete);
            }
            namespace.explained = namespace.forgotten;
            namespace.blind = false;
        }
        for (state, listener) in states.iter_mut().zip(&mut model.listeners) {
            let namespace = self.by_inode.entry(listener.netns).or_default();
            listener.drops = state.drops.drops(namespace.last.is_some());
            match listener.drops.total {
                Some(total) => namespace.explained += total,
                None => namespace.blind = true,
            }
            if listener.netns_name != namespace.name {
                listener.netns_name.clone_from(&namespace.name);
            }
            state.drops.rest();
        }
        self.begun = true;
        self.publish(model);
    }

    /// A closed listener is kept no longer; its drops still count.
    pub(crate) fn forget(&mut self, listener: &ListenerModel) {
        if let Some(namespace) = self.by_inode.get_mut(&listener.netns) {
            namespace.forgotten += listener.drops.total.unwrap_or(0);
        }
    }

    fn publish(&self, model: &mut Model) {
        model.namespaces.clear();
        model.namespaces.extend(self.by_inode.iter().map(|(inode, n)| NamespaceModel {
            inode: *inode,
            name: n.name.clone(),
            listen_overflows: n.overflows.sum,
            listen_drops: n.drops.sum,
            unexplained_drops:
                n.drops.sum.filter(|_| !n.blind).map(|drops| drops as i64 - n.explained as i64 + n.before as i64),
            syn_queue_full_drops: n.syn_queue_full.sum,
            cookies_sent: n.cookies_sent.sum,
            cookies_failed: n.cookies_failed.sum,
        }));
        model.namespaces.sort_unstable_by_key(|n| n.inode);
    }
}

impl Namespace {
    /// Takes counters in. `new`: it turned up within the interval, and its listeners saw this many refused attempts since
    /// they opened. If that is what the kernel counted, all of it belongs to the interval; otherwise it is the baseline.
    fn read(&mut self, sample: &NamespaceSample, new: Option<u64>) {
        if self.name != sample.name {
            self.name.clone_from(&sample.name);
        }
        let Some(now) = sample.counters else { return };
        self.readable = true;
        let from_zero = self.last.is_none() && new == Some(now.listen_drops);
        if self.last.is_none() && !from_zero {
            self.before = new.unwrap_or(0);
        }
        let last = |f: fn(&NamespaceCounters) -> u64| self.last.as_ref().map(f);
        let grown = |f: fn(&NamespaceCounters) -> u64| growth(last(f), Some(f(&now)), from_zero) as i64;
        let (overflows, drops, full) =
            (grown(|c| c.listen_overflows), grown(|c| c.listen_drops), grown(|c| c.req_q_full_drop));
        self.pools.add(Cause::AcceptQueueFull, overflows);
        self.pools.add(Cause::SynQueueFull, full);
        self.pools.add(Cause::Other, drops - overflows - full);
        self.overflows.read(Some(now.listen_overflows), from_zero);
        self.drops.read(Some(now.listen_drops), from_zero);
        self.syn_queue_full.read(Some(now.req_q_full_drop), from_zero);
        self.cookies_sent.read(Some(now.syncookies_sent), from_zero);
        self.cookies_failed.read(Some(now.syncookies_failed), from_zero);
        self.last = Some(now);
    }
}
