//! Which finding explains which: root causes first, what follows from each under it.

use std::{cmp::Reverse, collections::HashSet};

use super::{ALL, HOLD_US, memory::Remembered};
use crate::model::{Finding, Severity};

/// The findings in order, with the cause of each that has one. What to do about a consequence is what is advised for
/// its cause, so the two never contradict each other.
pub(super) fn arrange(mut all: Vec<Remembered>, now_us: u64, start_unix_ms: u64) -> Vec<Finding> {
    all.sort_by_key(|one| rank(one.found.id));
    let causes: Vec<Option<usize>> = all.iter().map(|one| cause(one, &all, now_us)).collect();
    let mut roots: Vec<Vec<(usize, Option<usize>)>> = Vec::new();
    for root in (0..all.len()).filter(|&i| causes[i].is_none()) {
        let mut block = Vec::new();
        let mut open = vec![(root, None)];
        while let Some((at, parent)) = open.pop() {
            block.push((at, parent));
            // The last one is taken first.
            open.extend((0..all.len()).rev().filter(|&i| causes[i] == Some(at)).map(|i| (i, Some(at))));
        }
        roots.push(block);
    }
    let worst = |block: &[(usize, Option<usize>)]| block.iter().map(|&(i, _)| all[i].found.severity).max();
    roots.sort_by_key(|block| (Reverse(worst(block)), all[block[0].0].until_us.is_some()));
    let unix_ms = |us: i64| (start_unix_ms as i64).saturating_add(us.div_euclid(1_000)).max(0).unsigned_abs();
    let finding = |(at, parent): (usize, Option<usize>)| {
        let Remembered { found, since_us, until_us } = &all[at];
        let follows_from = parent.map(|parent| all[parent].found.id);
        let advice = match follows_from {
            Some(cause) => format!("It follows from {cause}: what is advised there is what helps here."),
            None => found.advice.clone(),
        };
        Finding {
            id: found.id,
            severity: found.severity,
            follows_from,
            since_unix_ms: unix_ms(*since_us),
            until_unix_ms: until_us.map(unix_ms),
            summary: found.summary.clone(),
            evidence: found.evidence.clone(),
            advice,
        }
    };
    roots.into_iter().flatten().map(finding).collect()
}

fn rank(id: &str) -> usize {
    ALL.iter().position(|kind| kind.id == id).unwrap_or(ALL.len())
}

/// The place of the finding that explains this one: the nearest of those that its kind names.
fn cause(one: &Remembered, all: &[Remembered], now_us: u64) -> Option<usize> {
    let kind = ALL.get(rank(one.found.id))?;
    kind.follows_from
        .iter()
        .find_map(|id| all.iter().position(|other| other.found.id == *id && coincide(other, one, now_us as i64)))
}

/// Whether the times of the two fit: what goes on now is explained by what goes on now, or has just passed.
fn coincide(cause: &Remembered, effect: &Remembered, now_us: i64) -> bool {
    let hold = HOLD_US as i64;
    let over = cause.until_us.unwrap_or(now_us);
    match effect.until_us {
        None => over + hold >= now_us,
        Some(until) => cause.since_us <= until + hold && over + hold >= effect.since_us,
    }
}

/// What is wrong with any of several listeners, each with its findings in order. Blocks of a root cause stay together,
/// the worst first. What is the same at several listeners is there once.
pub(crate) fn merge<'a>(listeners: impl Iterator<Item = &'a [Finding]>) -> Vec<Finding> {
    let mut blocks: Vec<Vec<&Finding>> = Vec::new();
    for finding in listeners.flatten() {
        match blocks.last_mut() {
            Some(block) if finding.follows_from.is_some() => block.push(finding),
            _ => blocks.push(vec![finding]),
        }
    }
    let worst = |block: &[&Finding]| block.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info);
    blocks.sort_by_key(|block| (Reverse(worst(block)), block[0].until_unix_ms.is_some()));
    let mut known = HashSet::new();
    let mut all: Vec<&Finding> = blocks.into_iter().flatten().collect();
    all.retain(|&finding| known.insert((finding.id, &finding.summary)));
    all.into_iter().cloned().collect()
}
