//! What needs a look at all listeners of a group: shares, patterns and findings.

use std::collections::HashMap;

use super::{listener::Listener, threads::set_shares};
use crate::{
    findings::{self, FindingInput, GroupView},
    model::{GroupId, ListenerModel, Model},
    patterns::{self, Work},
};

/// The members of each group, as places in the model's listeners.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<GroupId, Vec<usize>>);

impl Groups {
    /// Groups the listeners anew: some came, went, changed place or address.
    pub(crate) fn rebuild(&mut self, model: &Model) {
        self.0.clear();
        for (at, listener) in model.listeners.iter().enumerate() {
            if let Some(group) = listener.group {
                self.0.entry(group).or_default().push(at);
            }
        }
    }

    /// Brings shares, patterns and findings up to date where something happened: at one of the listeners `live`, which
    /// is all but those that rest. Adds to `live` the others in the groups concerned.
    pub(crate) fn judge(&self, model: &mut Model, states: &mut [Listener], live: &mut Vec<usize>) {
        let mut stirred: Vec<GroupId> = Vec::new();
        for &at in live.iter() {
            if !states[at].stirs(&model.listeners[at]) {
                continue;
            }
            match model.listeners[at].group {
                Some(group) => stirred.push(group),
                None => judge_one(model, at),
            }
        }
        stirred.sort_unstable();
        stirred.dedup();
        for members in stirred.iter().filter_map(|group| self.0.get(group)) {
            judge_group(model, members);
            live.extend(members);
        }
        live.sort_unstable();
        live.dedup();
        live.iter().for_each(|&at| states[at].judged());
    }
}

fn judge_one(model: &mut Model, at: usize) {
    let listener = &mut model.listeners[at];
    let (accepts, reads) = work(listener);
    set_shares(&mut listener.threads, accepts, reads);
    listener.pattern = patterns::recognise(&Work::of([&*listener]));
    judge_findings(model, at, None);
}

fn judge_group(model: &mut Model, members: &[usize]) {
    let (mut accepts, mut reads) = (0, 0);
    for &at in members {
        let (a, r) = work(&model.listeners[at]);
        accepts += a;
        reads += r;
    }
    let pattern = patterns::recognise(&Work::of(members.iter().map(|&at| &model.listeners[at])));
    let view = view(members.iter().map(|&at| &model.listeners[at]));
    for &at in members {
        if !model.listeners[at].threads.is_empty() {
            set_shares(&mut model.listeners[at].threads, accepts, reads);
        }
        if model.listeners[at].pattern != pattern {
            model.listeners[at].pattern.clone_from(&pattern);
        }
        judge_findings(model, at, view.as_ref());
    }
}

fn judge_findings(model: &mut Model, at: usize, group: Option<&GroupView>) {
    let listener = &model.listeners[at];
    let namespace = model.namespaces.binary_search_by_key(&listener.netns, |n| n.inode).ok();
    let found = findings::find(&FindingInput {
        listener,
        group,
        namespace: namespace.map(|at| &model.namespaces[at]),
        cpus: model.host.cpus,
        interval: model.interval,
        timeline: &model.timeline,
    });
    if model.listeners[at].findings != found {
        model.listeners[at].findings = found;
    }
}

/// A group's figures; `None` with fewer than two open shards.
fn view<'a>(members: impl Iterator<Item = &'a ListenerModel>) -> Option<GroupView> {
    let mut view = GroupView::default();
    for listener in members.filter(|l| !l.closed) {
        view.shards += 1;
        let enqueued = listener.total.enqueued.or(listener.total.accepts).unwrap_or(0);
        view.enqueued += enqueued;
        if enqueued > view.busiest.1 {
            view.busiest = (listener.id, enqueued);
        }
        view.accepts_per_second += listener.rate.accepts.unwrap_or(0.0);
    }
    (view.shards >= 2).then_some(view)
}

/// Accepts and reads of a listener, those of threads that found the thread table full included.
fn work(listener: &ListenerModel) -> (u64, u64) {
    let (accepts, reads) = listener.threads.iter().fold((0, 0), |(a, r), t| (a + t.accepts, r + t.reads));
    (listener.total.accepts.unwrap_or(0).max(accepts), listener.total.reads.unwrap_or(0).max(reads))
}
