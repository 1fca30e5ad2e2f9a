//! One shard gets far more connections than its share.

use super::{FindingInput, FindingKind, Found};
use crate::{catalogue::thresholds, model::Severity, words::prose::grouped};

thresholds! {
    /// Connections per shard, on average. With fewer, a random spread is uneven by itself; at 100 a shard with twice
    /// its share is ten standard deviations off.
    MIN_PER_SHARD: u64 = 100, Count;
    /// Times its equal share: more than a hash over many clients gives any shard by chance.
    UNEVEN: f64 = 2.0, Times;
    /// Of two shards the busiest has at most twice its share, if it has all connections. This share of all is enough.
    OF_TWO: f64 = 0.9, Share;
}

pub(super) const KIND: FindingKind = FindingKind {
    id: "shard_imbalance",
    meaning: "One shard does most of the work, so the group does less than its threads could.",
    when: "The busiest shard received {UNEVEN} times its equal share, or {OF_TWO} of all connections to two shards. On average \
           each shard received at least {MIN_PER_SHARD}. Only the busiest shard has this finding.",
    severity: "warning if that shard refused attempts in the recent span, else info",
    follows_from: &[],
    thresholds: THRESHOLDS,
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let (l, group) = (input.listener, &input.group?.open);
    let (busiest, enqueued) = group.busiest;
    if busiest != l.id || l.closed || group.enqueued < MIN_PER_SHARD * group.count {
        return None;
    }
    let times = enqueued as f64 * group.count as f64 / group.enqueued as f64;
    if times < UNEVEN.min(group.count as f64 * OF_TWO) {
        return None;
    }
    Some(Found::new(
        &KIND,
        if l.recent_drops.total.unwrap_or(0) > 0 { Severity::Warning } else { Severity::Info },
        format!(
            "This shard received {} of the group's {} connections: {times:.1} times an equal share among {} shards.",
            grouped(enqueued),
            grouped(group.enqueued),
            group.count
        ),
        vec![
            ("enqueued", enqueued as f64),
            ("group_enqueued", group.enqueued as f64),
            ("shards", group.count as f64),
            ("times_fair_share", times),
        ],
        "The kernel chooses shards by a hash over addresses and ports. The spread is uneven with few clients that use few \
                 ports, behind a proxy, with SO_INCOMING_CPU or a BPF program, and if shards were opened late. A full shard does \
                 not spill over into others. Check how shards are chosen before you add some.",
    ))
}

#[cfg(test)]
mod tests {
    use super::{
        super::support::{Case, INFO, NONE, WARNING, severities},
        *,
    };
    use crate::group::OpenShards;

    /// This listener, the busiest of so many shards, got `mine` of all connections.
    fn busiest(case: &mut Case, (count, mine, all): (u64, u64, u64)) {
        let busiest = (case.listener.id, mine);
        *case.shard() = OpenShards { count, enqueued: all, busiest, accepts_per_second: 1.0 };
    }

    #[test]
    fn twice_its_share_is_uneven() {
        let found = severities(&KIND, busiest, [(4, 475, 1_000), (4, 499, 1_000), (4, 500, 1_000), (4, 525, 1_000)]);
        assert_eq!(found, [NONE, NONE, INFO, INFO]);
    }

    #[test]
    fn of_two_shards_it_has_nine_tenths_of_all() {
        let found = severities(&KIND, busiest, [(2, 850, 1_000), (2, 899, 1_000), (2, 900, 1_000), (2, 950, 1_000)]);
        assert_eq!(found, [NONE, NONE, INFO, INFO]);
    }

    #[test]
    fn a_hundred_connections_per_shard_are_needed() {
        let found = severities(&KIND, busiest, [(4, 380, 380), (4, 399, 399), (4, 400, 400), (4, 420, 420)]);
        assert_eq!(found, [NONE, NONE, INFO, INFO]);
    }

    #[test]
    fn it_is_a_warning_if_the_shard_refuses_attempts() {
        let refused = severities(
            &KIND,
            |case, refused| {
                busiest(case, (4, 900, 1_000));
                case.listener.recent_drops.total = refused;
            },
            [None, Some(0), Some(1)],
        );
        assert_eq!(refused, [INFO, INFO, WARNING]);
    }

    #[test]
    fn other_shards_and_closed_ones_have_none() {
        let mut case = Case::with(|case| busiest(case, (4, 900, 1_000)));
        case.listener.closed = true;
        assert_eq!(case.find(&KIND), None);
        case.listener.closed = false;
        assert!(case.find(&KIND).is_some());
        case.listener.id += 1;
        assert_eq!(case.find(&KIND), None);
        case.group = None;
        assert_eq!(case.find(&KIND), None);
    }

    #[test]
    fn what_it_reports() {
        let found = Case::with(|case| busiest(case, (3, 1_200, 1_500))).find(&KIND).unwrap();
        assert_eq!(
            found.summary,
            "This shard received 1,200 of the group's 1,500 connections: 2.4 times an equal share among 3 shards."
        );
        let figures = [("enqueued", 1_200.0), ("group_enqueued", 1_500.0), ("shards", 3.0), ("times_fair_share", 2.4)];
        assert_eq!(found.evidence, figures);
    }
}
