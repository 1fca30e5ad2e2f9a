//! Each pair of the table of causes: both findings are there, the one follows from the other, and nothing contradicts.

use super::{
    ALL, Memory, find,
    support::{Case, durations},
};
use crate::{
    fixtures::{thread_state, waiter},
    model::{Finding, Role},
    sample::{Descriptors, WaitKind, Waiter},
};

/// Makes this finding appear in a case, whatever else is there.
fn make(case: &mut Case, id: &str) {
    let l = &mut case.listener;
    let waits = |l: &mut crate::model::ListenerModel| {
        l.now.accept_depth = 4;
        l.now.oldest_waiting_us = Some(1_500_000);
    };
    match id {
        "accept_errors" => {
            l.total.accept_failed = Some(3);
            case.observe(1);
        }
        "cpu_starved_acceptor" => {
            l.threads[0].accept_share = Some(1.0);
            l.threads[0].on_cpu_us = Some(1_000_000);
            l.threads[0].run_queue_us = Some(5_000_000);
        }
        "acceptor_gone" => {
            waits(l);
            l.waiters = Some(Vec::new());
            l.opened_in_interval = true;
        }
        "dead_shard" => {
            waits(l);
            case.shard();
        }
        "acceptor_paused" => {
            waits(l);
            l.threads[0].accepts = l.threads[0].accepts.max(9);
            l.threads[0].state = Some(thread_state('S', "ep_poll", "epoll_wait"));
            l.waiters = Some(Vec::new());
        }
        "hung_acceptor" => waits(l),
        "acceptor_imbalance" => {
            for thread in &mut l.threads {
                thread.accepts = if thread.tid == 1 { 9_000 } else { 100 };
                thread.on_cpu_us = Some(0);
            }
            case.observe(3);
            case.listener.threads[0].on_cpu_us = Some(3_000_000);
        }
        "shard_imbalance" => {
            let busiest = (l.id, 900);
            let open = case.shard();
            (open.busiest, open.enqueued) = (busiest, 1_000);
        }
        "busy_acceptor" => {
            waits(l);
            l.threads[0].accepts = l.threads[0].accepts.max(9);
            l.threads[0].reads_per_second = 9.0;
        }
        "hung_reader" => {
            l.now.queued_bytes = Some(300);
            l.now.oldest_unread_us = Some(1_500_000);
        }
        "backlog_small" => {
            l.now.accept_peak = Some(l.now.limit);
            l.distributions.accept_wait = durations(&[(100, 10)]);
            case.depths([0, 0, 2, 0]);
        }
        "accept_queue_overflow" => l.drops.accept_queue_full_on_syn = Some(3),
        "syn_queue_overflow" => l.drops.syn_queue_full = Some(3),
        "syn_backlog_reserve" => {
            l.drops.other = Some(20);
            l.now.syn_peak = Some(97);
            case.namespace.as_mut().expect("its namespace").cookies_sent = Some(0);
        }
        "refused_otherwise" => {
            l.drops.other = Some(20);
            l.now.syn_peak = Some(3);
        }
        "refused_unexplained" => {
            l.drops.unexplained = Some(20);
            l.drops.total = Some(40);
        }
        "connections_lost_on_close" => l.total.aborted = Some(28),
        "slow_accept" => l.recent_distributions.accept_wait = durations(&[(90_000, 30)]),
        "dead_on_accept" => {
            l.total.client_closed = Some(30);
            l.total.client_reset = Some(5);
            l.total.accepts = Some(50);
            l.distributions.client_gone_wait = durations(&[(200_000, 35)]);
        }
        "slow_reader" => l.recent_distributions.residency = durations(&[(200_000, 30)]),
        "descriptors_low" => l.descriptors = Some(Descriptors { pid: 1, open: 99, soft_limit: 100 }),
        "would_block_storm" => {
            l.rate.would_block = Some(900.0);
            for thread in &mut l.threads {
                thread.would_block = 9;
                thread.roles = vec![Role::Acceptor];
            }
            l.waiters = Some(vec![waiter(1, WaitKind::Epoll)]);
        }
        other => panic!("{other} has no case"),
    }
}

fn found(ids: &[&str]) -> Vec<Finding> {
    let mut case = Case::new();
    ids.iter().for_each(|id| make(&mut case, id));
    find(&case.input(), &mut Memory::default())
}

#[test]
fn every_finding_can_be_made_alone_and_is_its_own_root_cause() {
    for kind in ALL {
        let found = found(&[kind.id]);
        let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.follows_from)).collect();
        assert_eq!(ids, [(kind.id, None)]);
    }
}

#[test]
fn each_consequence_follows_from_each_of_its_causes() {
    let mut pairs = 0;
    for effect in ALL {
        for cause in effect.follows_from {
            let found = found(&[cause, effect.id]);
            let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.follows_from)).collect();
            assert_eq!(ids, [(*cause, None), (effect.id, Some(*cause))]);
            assert_eq!(found[1].advice, format!("It follows from {cause}: what is advised there is what helps here."));
            assert!(found[0].advice.len() > 60, "{}", found[0].advice);
            pairs += 1;
        }
    }
    assert!(pairs > 50, "{pairs}");
}

#[test]
fn causes_come_before_what_follows_from_them() {
    let place = |id: &str| ALL.iter().position(|kind| kind.id == id).unwrap_or_else(|| panic!("{id} is no finding"));
    for (at, kind) in ALL.iter().enumerate() {
        for cause in kind.follows_from {
            assert!(place(cause) < at, "{cause} comes after {}", kind.id);
        }
    }
}

#[test]
fn a_chain_hangs_together_and_the_nearest_cause_is_named() {
    let found =
        found(&["cpu_starved_acceptor", "busy_acceptor", "accept_queue_overflow", "syn_queue_overflow", "slow_reader"]);
    let seen: Vec<_> = (0..found.len()).map(|at| (found[at].id, crate::model::depth(&found, at))).collect();
    assert_eq!(
        seen,
        [
            ("cpu_starved_acceptor", 0),
            ("busy_acceptor", 1),
            ("accept_queue_overflow", 2),
            ("syn_queue_overflow", 3),
            ("slow_reader", 1)
        ]
    );
}

#[test]
fn what_has_no_common_cause_stands_side_by_side() {
    let found = found(&["would_block_storm", "slow_reader", "connections_lost_on_close"]);
    let ids: Vec<_> = found.iter().map(|finding| (finding.id, finding.follows_from)).collect();
    assert_eq!(ids, [("would_block_storm", None), ("connections_lost_on_close", None), ("slow_reader", None)]);
}

/// A stall has one name, and what is known of it later counts.
#[test]
fn a_stall_that_gets_another_name_leaves_no_trace_of_the_first() {
    let mut memory = Memory::default();
    let mut case = Case::new();
    let at = |case: &mut Case, memory: &mut Memory, seconds: f64, oldest_us: u64| {
        case.interval.seconds = seconds;
        case.listener.now.oldest_waiting_us = Some(oldest_us);
        find(&case.input(), memory).into_iter().map(|f| (f.id, f.until_unix_ms.is_some())).collect::<Vec<_>>()
    };
    make(&mut case, "busy_acceptor");
    assert_eq!(at(&mut case, &mut memory, 10.0, 9_500_000), [("busy_acceptor", false)]);
    case.listener.threads[0].reads_per_second = 0.0;
    assert_eq!(at(&mut case, &mut memory, 12.0, 11_500_000), [("busy_acceptor", false)], "it may pause");
    assert_eq!(at(&mut case, &mut memory, 16.5, 16_000_000), [("hung_acceptor", false)]);
    make(&mut case, "acceptor_paused");
    assert_eq!(at(&mut case, &mut memory, 17.0, 16_500_000), [("hung_acceptor", false)], "nobody knows how it waited");
    let left = Waiter { waits: false, polls: Some(false), ..waiter(1, WaitKind::Epoll) };
    case.listener.waiters = Some(vec![left]);
    assert_eq!(at(&mut case, &mut memory, 17.5, 17_000_000), [("acceptor_paused", false)]);
    // It works again, on those that came meanwhile.
    make(&mut case, "busy_acceptor");
    case.listener.waiters = None;
    case.listener.threads[0].state = None;
    case.listener.rate.accepts = Some(2.0);
    assert_eq!(at(&mut case, &mut memory, 18.0, 1_100_000), [("acceptor_paused", true)]);
    let later = at(&mut case, &mut memory, 24.0, 1_100_000);
    assert_eq!(later, [("busy_acceptor", false), ("acceptor_paused", true)], "these came later");
}

/// What passed long ago explains nothing that goes on now.
#[test]
fn a_cause_that_has_passed_explains_what_was_then() {
    let mut memory = Memory::default();
    let mut case = Case::new();
    let at = |case: &mut Case, memory: &mut Memory, seconds: f64| {
        case.interval.seconds = seconds;
        find(&case.input(), memory)
            .into_iter()
            .map(|f| (f.id, f.follows_from, f.until_unix_ms.is_some()))
            .collect::<Vec<_>>()
    };
    make(&mut case, "hung_acceptor");
    assert_eq!(at(&mut case, &mut memory, 10.0), [("hung_acceptor", None, false)]);
    case.listener.now.oldest_waiting_us = Some(0);
    make(&mut case, "slow_accept");
    let soon = [("hung_acceptor", None, true), ("slow_accept", Some("hung_acceptor"), false)];
    assert_eq!(at(&mut case, &mut memory, 14.0), soon);
    let late = at(&mut case, &mut memory, 60.0);
    assert_eq!(late, [("hung_acceptor", None, true), ("slow_accept", None, false)]);
    case.listener.recent_distributions.accept_wait = None;
    assert_eq!(at(&mut case, &mut memory, 61.0)[0], ("hung_acceptor", None, true));
}
