//! One shard of a group does not accept while the others do.

use super::{FindingInput, FindingKind, Found, agree, likely::Likely, ms, plural, stall};
use crate::model::Severity;

pub(super) const KIND: FindingKind = FindingKind {
    id: "dead_shard",
    meaning: "The kernel goes on sending clients to this shard, where nobody serves them. It takes the place of \
              `hung_acceptor` and `acceptor_gone`.",
    when: "The conditions of `hung_acceptor` or `acceptor_gone` hold, and other shards of the group accept.",
    severity: "critical",
    follows_from: &[],
    thresholds: &[],
    find,
};

fn find(input: &FindingInput<'_>) -> Option<Found> {
    let (l, group) = (input.listener, &input.group?.open);
    if !input.is_dead_shard() {
        return None;
    }
    let refused = l.drops.total.unwrap_or(0);
    let (others, waiting) = (group.count - 1, u64::from(l.now.accept_depth));
    let (oldest, rate) = (l.now.oldest_waiting_us.unwrap_or(0), group.accepts_per_second);
    let (shards, connections) = (plural(others, "other shard"), plural(waiting, "connection"));
    let thread = input.acceptors().next();
    let likely = Likely::of(input);
    let [state, was] = match (thread.and_then(stall::whereabouts), thread, &likely) {
        (Some(place), Some(t), _) => ["is", "was"].map(|verb| format!(" {} {verb} {place}.", stall::name(t))),
        (_, _, Some(likely)) => likely.state(),
        _ => [String::new(), String::new()],
    };
    let advice = format!(
        "Find out where its thread is stuck. {} The kernel assigns clients to shards by hash and never moves them: this shard's \
         clients get no service until its thread accepts again or its listener closes. With net.ipv4.tcp_migrate_req=1 a \
         closing listener's waiting connections move to another shard. More shards or a larger backlog do not help these \
         clients.",
        match (thread, &likely) {
            (Some(t), _) => stall::look(t),
            (None, Some(likely)) => likely.look(),
            (None, None) => stall::look_at_owner(l),
        }
    );
    let mut evidence = vec![
        ("shards", group.count as f64),
        ("group_accepts_per_second", rate),
        ("depth", f64::from(l.now.accept_depth)),
        ("oldest_waiting_ms", ms(oldest)),
        ("refused", refused as f64),
    ];
    evidence.extend(likely.as_ref().map(Likely::evidence));
    Some(
        Found::new(
            &KIND,
            Severity::Critical,
            format!(
                "This shard accepts nothing, while {shards} {} {rate:.0} connections per second. {connections} {} in its queue.{state}",
                agree(others, "accepts", "accept"),
                agree(waiting, "waits", "wait"),
            ),
            evidence,
            advice.clone(),
        )
        .lasting(oldest)
        .remembered(
            oldest as f64,
            format!(
                "This shard accepted nothing, while {shards} accepted {rate:.0} connections per second. {connections} waited in its \
                 queue.{was}"
            ),
            advice,
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::{hung_acceptor, support::Case},
        *,
    };

    fn dead(depth: u32, shards: u64) -> Case {
        Case::with(|case| {
            case.listener.now.accept_depth = depth;
            case.listener.now.oldest_waiting_us = Some(1_500_000);
            case.listener.drops.total = Some(3);
            case.shard().count = shards;
        })
    }

    #[test]
    fn what_it_reports() {
        let found = dead(4, 4).find(&KIND).unwrap();
        assert_eq!((found.id, found.severity), ("dead_shard", Severity::Critical));
        assert_eq!(
            found.summary,
            "This shard accepts nothing, while 3 other shards accept 240 connections per second. 4 connections wait in \
             its queue."
        );
        let figures = [
            ("shards", 4.0),
            ("group_accepts_per_second", 240.0),
            ("depth", 4.0),
            ("oldest_waiting_ms", 1_500.0),
            ("refused", 3.0),
        ];
        assert_eq!(found.evidence, figures);
    }

    #[test]
    fn verbs_agree_with_one() {
        assert_eq!(
            dead(1, 2).find(&KIND).unwrap().summary,
            "This shard accepts nothing, while 1 other shard accepts 240 connections per second. 1 connection waits in \
             its queue."
        );
    }

    #[test]
    fn it_takes_the_place_of_a_hung_acceptor() {
        let mut case = dead(4, 4);
        assert_eq!(case.find(&hung_acceptor::KIND), None);
        case.shard().accepts_per_second = 0.0;
        assert_eq!(case.find(&KIND), None, "no shard accepts");
        assert!(case.find(&hung_acceptor::KIND).is_some());
        case.group = None;
        assert_eq!(case.find(&KIND), None, "it is no shard");
        assert!(case.find(&hung_acceptor::KIND).is_some());
    }

    #[test]
    fn a_shard_at_which_connections_do_not_wait_long_is_alive() {
        let mut case = dead(4, 4);
        case.listener.now.oldest_waiting_us = Some(1_000_000);
        assert_eq!(case.find(&KIND), None);
    }
}
