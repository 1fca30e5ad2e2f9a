//! What is computed from all listeners of a group: shares, patterns, findings and sums.

use std::{collections::HashMap, sync::Arc};

use super::{listener::Listener, threads::set_shares};
use crate::{
    findings::{self, FindingInput},
    model::{GroupId, GroupModel, ListenerModel, Model},
    patterns::{self, Work},
};

/// The members of each group. A listener with SO_REUSEPORT that is alone at its address is here, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(HashMap<GroupId, Members>);

#[derive(Debug, Clone, Default)]
struct Members {
    /// Places in the model's listeners.
    listeners: Vec<usize>,
    /// Place in the model's groups, if it has two members at least.
    group: Option<usize>,
}

impl Groups {
    /// Recomputes the groups, after some listeners came, went, or changed place or address.
    pub(crate) fn rebuild(&mut self, model: &mut Model) {
        self.0.clear();
        for (at, listener) in model.listeners.iter().enumerate() {
            if let Some(group) = listener.group {
                self.0.entry(group).or_default().listeners.push(at);
            }
        }
        model.regroup();
        for (at, group) in model.groups.iter().enumerate() {
            self.0.entry(group.id).or_default().group = Some(at);
        }
    }

    /// Updates sums, shares, patterns and findings of the groups in which something happened. `live` are the listeners
    /// that are not idle. Adds the other members of their groups to `live`.
    pub(crate) fn judge(&self, model: &mut Model, states: &mut [Listener], live: &mut Vec<usize>) {
        // Each group with a live listener, and whether its patterns and findings may have changed.
        let mut concerned: Vec<(GroupId, bool)> = Vec::new();
        for &at in live.iter() {
            let is_dirty = states[at].is_dirty(&model.listeners[at]);
            match model.listeners[at].group {
                Some(group) => concerned.push((group, !is_dirty)),
                None if is_dirty => judge_one(model, states, at),
                None => {}
            }
        }
        // One entry per group stays: a dirty one if there is any.
        concerned.sort_unstable();
        concerned.dedup_by_key(|(group, _)| *group);
        for (group, still) in concerned {
            let Some(members) = self.0.get(&group) else { continue };
            if let Some(at) = members.group {
                let sum = GroupModel::new(group, &members.listeners, &model.listeners);
                model.groups.handles_mut()[at] = Arc::new(sum);
            }
            if !still {
                judge_group(model, states, members);
                live.extend(&members.listeners);
            }
            if let Some(at) = members.group {
                let Model { groups, listeners, .. } = &mut *model;
                groups[at].take_findings(listeners);
            }
        }
        live.sort_unstable();
        live.dedup();
        live.iter().for_each(|&at| states[at].judged());
    }
}

fn judge_one(model: &mut Model, states: &mut [Listener], at: usize) {
    let listener = &mut model.listeners[at];
    let (accepts, reads) = work(listener);
    set_shares(&mut listener.threads, accepts, reads);
    listener.pattern = patterns::recognise(&Work::of([&*listener]));
    judge_findings(model, &mut states[at], at, None);
}

fn judge_group(model: &mut Model, states: &mut [Listener], members: &Members) {
    let (mut accepts, mut reads) = (0, 0);
    for &at in &members.listeners {
        let (a, r) = work(&model.listeners[at]);
        accepts += a;
        reads += r;
    }
    let pattern = patterns::recognise(&Work::of(members.listeners.iter().map(|&at| &model.listeners[at])));
    for &at in &members.listeners {
        if !model.listeners[at].threads.is_empty() {
            set_shares(&mut model.listeners[at].threads, accepts, reads);
        }
        if model.listeners[at].pattern != pattern {
            model.listeners[at].pattern.clone_from(&pattern);
        }
        judge_findings(model, &mut states[at], at, members.group);
    }
}

/// Looks for findings at a listener; `group` is the place of its group.
fn judge_findings(model: &mut Model, state: &mut Listener, at: usize, group: Option<usize>) {
    let listener = &model.listeners[at];
    let blamed = model.blame.as_ref().and_then(|blame| blame.of(&[listener.id]));
    let namespace = model.namespaces.binary_search_by_key(&listener.namespace(), |n| n.id).ok();
    state.activity.observe(listener, (model.interval.seconds * 1e6).round() as u64);
    let input = FindingInput {
        listener,
        group: group.map(|at| &model.groups[at]).filter(|group| group.open.count >= 2),
        namespace: namespace.map(|at| &model.namespaces[at]),
        cpus: model.host.cpus,
        interval: model.interval,
        timeline: &model.timeline,
        activity: &state.activity,
        blamed: blamed.as_ref(),
        memory: &findings::NOTHING,
        found: &[],
    };
    let found = findings::find(&input, &mut state.findings);
    if model.listeners[at].findings != found {
        model.listeners[at].findings = found;
    }
}

/// Accepts and reads of a listener, those of threads that found the thread table full included.
fn work(listener: &ListenerModel) -> (u64, u64) {
    let (accepts, reads) = listener.threads.iter().fold((0, 0), |(a, r), t| (a + t.accepts, r + t.reads));
    (listener.total.accepts.unwrap_or(0).max(accepts), listener.total.reads.unwrap_or(0).max(reads))
}
