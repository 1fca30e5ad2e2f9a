//! What needs a look at all listeners of a group: shares, patterns and findings.

use std::collections::HashMap;

use super::listener::Listener;
use crate::{
    findings::{self, GroupView},
    model::{GroupId, ListenerModel, Model},
    patterns::{self, Work},
    threads::set_shares,
};

/// Brings shares, patterns and findings up to date, for the listeners where something happened.
pub(crate) fn judge(model: &mut Model, states: &mut [Listener]) {
    let mut groups: HashMap<GroupId, Vec<usize>> = HashMap::new();
    for (at, state) in states.iter().enumerate() {
        match model.listeners[at].group {
            Some(group) => groups.entry(group).or_default().push(at),
            None if state.stirs(&model.listeners[at]) => judge_one(model, at),
            None => {}
        }
    }
    for members in groups.values() {
        if members.iter().any(|&at| states[at].stirs(&model.listeners[at])) {
            judge_group(model, members);
        }
    }
    states.iter_mut().for_each(Listener::judged);
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
        let listener = &mut model.listeners[at];
        set_shares(&mut listener.threads, accepts, reads);
        listener.pattern.clone_from(&pattern);
        judge_findings(model, at, view.as_ref());
    }
}

fn judge_findings(model: &mut Model, at: usize, group: Option<&GroupView>) {
    let listener = &model.listeners[at];
    let namespace = model.namespaces.binary_search_by_key(&listener.netns, |n| n.inode).ok();
    let found = findings::find(&findings::Scene {
        listener,
        group,
        namespace: namespace.map(|at| &model.namespaces[at]),
        cpus: model.host.cpus,
        interval: model.interval,
    });
    model.listeners[at].findings = found;
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
