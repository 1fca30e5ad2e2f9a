//! One shard of a group does not accept while the others do.

use super::{Scene, hung_acceptor::hung_us, plural};
use crate::model::{Finding, Severity};

pub(super) fn is_dead(scene: &Scene<'_>) -> bool {
    scene.group.is_some_and(|g| g.open.accepts_per_second > 0.0) && hung_us(scene.listener).is_some()
}

pub(super) fn find(scene: &Scene<'_>) -> Option<Finding> {
    let (l, group) = (scene.listener, &scene.group?.open);
    if !is_dead(scene) {
        return None;
    }
    let refused = l.drops.total.unwrap_or(0);
    Some(Finding {
        id: "dead_shard",
        severity: Severity::Critical,
        summary: format!(
            "This shard accepts nothing while the {} accept {:.0} connections per second; {} wait in it.",
            plural(group.count - 1, "other"),
            group.accepts_per_second,
            plural(u64::from(l.now.accept_depth), "connection")
        ),
        evidence: vec![
            ("shards", group.count as f64),
            ("group_accepts_per_second", group.accepts_per_second),
            ("depth", f64::from(l.now.accept_depth)),
            ("oldest_waiting_ms", super::ms(l.now.oldest_waiting_us.unwrap_or(0))),
            ("refused", refused as f64),
        ],
        advice: "The kernel spreads clients over shards by hash and never moves them: this shard's clients are lost until its thread \
                 accepts again, or its listener closes (with net.ipv4.tcp_migrate_req=1 those that wait then move to another \
                 shard). Look where its thread is stuck. More shards or a larger backlog do not help these clients."
            .to_owned(),
    })
}
