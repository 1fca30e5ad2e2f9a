//! One shard gets far more connections than its share.

use super::Scene;
use crate::{
    model::{Finding, Severity},
    words::grouped,
};

/// Connections per shard below which a random spread is uneven by itself: at 100 a shard with twice its share is ten
/// standard deviations off.
const MIN_PER_SHARD: u64 = 100;
/// Times its fair share.
const UNEVEN: f64 = 2.0;

pub(super) fn find(scene: &Scene<'_>) -> Option<Finding> {
    let (l, group) = (scene.listener, &scene.group?.open);
    let (busiest, enqueued) = group.busiest;
    if busiest != l.id || l.closed || group.enqueued < MIN_PER_SHARD * group.count {
        return None;
    }
    let times = enqueued as f64 * group.count as f64 / group.enqueued as f64;
    // With two shards the busiest has at most twice its share: it has it all.
    if times < UNEVEN.min(group.count as f64 * 0.9) {
        return None;
    }
    Some(Finding {
        id: "shard_imbalance",
        severity: if l.recent_drops.total.unwrap_or(0) > 0 { Severity::Warning } else { Severity::Info },
        summary: format!(
            "This shard got {} of the group's {} connections, {times:.1} times its share of {} shards.",
            grouped(enqueued),
            grouped(group.enqueued),
            group.count
        ),
        evidence: vec![
            ("enqueued", enqueued as f64),
            ("group_enqueued", group.enqueued as f64),
            ("shards", group.count as f64),
            ("times_fair_share", times),
        ],
        advice: "Shards are chosen by a hash over addresses and ports: few clients with few ports, a proxy in front, SO_INCOMING_CPU or \
                 a BPF program make it uneven; so do shards that were opened late. A full shard does not spill over. Check the \
                 selection before adding shards."
            .to_owned(),
    })
}
