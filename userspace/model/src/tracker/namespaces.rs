//! Network namespaces: their counters, and what these say about the listeners in them.

use std::collections::HashMap;

use super::{
    Counter,
    drops::{
        DropTracker,
        attribution::{Cause, Pools},
    },
    growth,
    listener::Listener,
};
use crate::{
    model::{ListenerModel, Model, NamespaceModel},
    sample::{NamespaceCounters, NamespaceId, NamespaceSample, Sample},
};

/// All namespaces seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    by_id: HashMap<NamespaceId, Namespace>,
    /// A sample was taken before.
    begun: bool,
}

#[derive(Debug, Clone, Default)]
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
    /// Refused attempts of all its listeners since the baseline, including listeners that are no longer kept.
    explained: u64,
    /// How many listeners have an unknown number of refused attempts.
    blind: usize,
    /// Refused attempts in the counters beyond those known of all listeners; `None` while the counters are not read.
    room: Option<u64>,
    /// Refused attempts that the counters had at their baseline already.
    before: u64,
}

impl Namespaces {
    /// Takes a sample's namespaces in, finds causes and brings the drops of all listeners up to date. `live` are the
    /// places of the listeners where anything may have been refused. Returns them, together with
    /// those whose namespace changed.
    pub(crate) fn read(
        &mut self,
        sample: &Sample,
        live: &[usize],
        states: &mut [Listener],
        model: &mut Model,
    ) -> Vec<usize> {
        // Most listeners refuse nothing. They are not touched.
        let mut members: HashMap<NamespaceId, Vec<usize>> = HashMap::new();
        for &at in live {
            if !states[at].refuses {
                continue;
            }
            let state = &mut states[at];
            state.returned = state.drops.settle_sum();
            members.entry(model.listeners[at].namespace()).or_default().push(at);
        }
        // Namespaces whose name or counters are new. This concerns all of their listeners.
        let mut turned_up: Vec<NamespaceId> = Vec::new();
        for namespace in self.by_id.values_mut() {
            namespace.readable = false;
        }
        for namespace in &sample.namespaces {
            let members = members.get(&namespace.id).map_or(&[][..], Vec::as_slice);
            let seen: u64 =
                members.iter().map(|&at| states[at].drops.seen.iter().sum::<u64>() + states[at].drops.fresh).sum();
            let entry = self.by_id.entry(namespace.id).or_default();
            if entry.name != namespace.name || (entry.last.is_none() && namespace.counters.is_some()) {
                turned_up.push(namespace.id);
            }
            let seen = entry.explained + seen;
            entry.read(namespace, self.begun.then_some(seen));
        }
        let complete = sample.losses.listeners == 0;
        for (id, members) in &members {
            let namespace = self.by_id.entry(*id).or_default();
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
        for (id, namespace) in &mut self.by_id {
            if namespace.readable && !members.contains_key(id) {
                namespace.pools.settle(&mut [], complete);
            }
        }
        let mut concerned = live.to_vec();
        if !turned_up.is_empty() {
            concerned.extend((0..states.len()).filter(|&at| turned_up.contains(&model.listeners[at].namespace())));
            concerned.sort_unstable();
            concerned.dedup();
        }
        // Known attempts come first: they leave less room for unexplained ones.
        let mut affected: Vec<usize> = concerned.clone();
        affected.retain(|&at| states[at].refuses || turned_up.contains(&model.listeners[at].namespace()));
        for &at in &affected {
            let namespace = self.by_id.entry(model.listeners[at].namespace()).or_default();
            let most = namespace.readable.then_some(0);
            namespace.account(&states[at], &mut model.listeners[at], most);
        }
        for namespace in self.by_id.values_mut() {
            namespace.room = namespace.drops.sum.filter(|_| namespace.readable).map(|drops| {
                let all = drops + namespace.before;
                all.saturating_sub(namespace.explained)
            });
        }
        for &at in &affected {
            let namespace = self.by_id.entry(model.listeners[at].namespace()).or_default();
            namespace.account_unexplained(&mut states[at], &mut model.listeners[at]);
        }
        self.begun = true;
        self.publish(model);
        concerned
    }

    fn publish(&self, model: &mut Model) {
        model.namespaces.clear();
        model.namespaces.extend(self.by_id.iter().map(|(id, n)| NamespaceModel {
            id: *id,
            name: n.name.clone(),
            listen_overflows: n.overflows.sum,
            listen_drops: n.drops.sum,
            unexplained_drops:
                n.drops.sum.filter(|_| n.blind == 0).map(|drops| drops as i64 - n.explained as i64 + n.before as i64),
            syn_queue_full_drops: n.syn_queue_full.sum,
            cookies_sent: n.cookies_sent.sum,
            cookies_failed: n.cookies_failed.sum,
        }));
        model.namespaces.sort_unstable_by_key(|n| n.id);
    }
}

impl Namespace {
    /// Brings a listener's drops, and the sum over all listeners, up to date. `most`: no more can have been refused.
    fn account(&mut self, state: &Listener, listener: &mut ListenerModel, most: Option<u64>) {
        let before = std::mem::replace(&mut listener.drops, state.drops.drops(self.last.is_some(), most));
        self.explained = self.explained + listener.drops.total.unwrap_or(0) - before.total.unwrap_or(0);
    }

    /// The same, with unexplained attempts. `sk_drops` also counts packets that are no attempts, such as a reset for a
    /// connection that has gone. The namespace's counter does not, so it bounds what a listener refused.
    fn account_unexplained(&mut self, state: &mut Listener, listener: &mut ListenerModel) {
        let most = self.room.map(|room| listener.drops.total.unwrap_or(0) + room);
        self.account(state, listener, most);
        let blind = listener.drops.total.is_none();
        self.blind = self.blind + usize::from(blind) - usize::from(std::mem::replace(&mut state.blind, blind));
        if listener.netns_name != self.name {
            listener.netns_name.clone_from(&self.name);
        }
        state.drops.rest();
        state.drops.unread = !self.readable;
        // Attempts that turn out to be another listener's are no longer unexplained here.
        state.refuses = state.drops.pending > 0 || listener.drops.unexplained.is_some_and(|n| n > 0);
    }

    /// Takes these counters as the baseline.
    fn begin(&mut self, counters: NamespaceCounters) {
        self.overflows.read(Some(counters.listen_overflows), false);
        self.drops.read(Some(counters.listen_drops), false);
        self.syn_queue_full.read(Some(counters.req_q_full_drop), false);
        self.cookies_sent.read(Some(counters.syncookies_sent), false);
        self.cookies_failed.read(Some(counters.syncookies_failed), false);
        self.last = Some(counters);
    }

    /// Takes counters in. `seen` is how many refused attempts its listeners saw within the interval; `None` at the
    /// start. Counters that are new have a baseline if they were read before the listeners opened. Otherwise, if they
    /// hold exactly what was seen, they belong to the interval; else they are the baseline.
    fn read(&mut self, sample: &NamespaceSample, seen: Option<u64>) {
        if self.name != sample.name {
            self.name.clone_from(&sample.name);
        }
        let Some(now) = sample.counters else { return };
        self.readable = true;
        if let Some(before) = sample.before_listeners.filter(|_| self.last.is_none() && seen.is_some()) {
            // What the counters have gained since is its listeners', all of which opened within the interval.
            self.begin(before);
        }
        let from_zero = self.last.is_none() && seen == Some(now.listen_drops);
        if self.last.is_none() && !from_zero {
            self.before = seen.unwrap_or(0);
            // Debts to counters that were never read do not pass on to later ones.
            self.pools = Pools::default();
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
