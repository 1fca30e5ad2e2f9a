//! One listener's counters of drops, reading by reading.

use super::*;
use crate::{fixtures::listener, sample::DropsSample};

/// A tracker that has read a listener once, all counters at 0, and the listener.
fn begun() -> (DropTracker, ListenerSample) {
    let mut l = listener(1, 4_026_531_840, "127.0.0.1:1", 16);
    l.drops.cookie_ack_overflow = Some(0);
    l.drops.clients_cover_syn = true;
    let mut tracker = DropTracker::default();
    assert!(!tracker.read(&l, false));
    (tracker, l)
}

#[test]
fn each_counter_that_grows_is_a_reason_to_look() {
    let changes: [fn(&mut DropsSample); 6] = [
        |d| d.socket_drops = Some(1),
        |d| d.ack_overflow = Some(1),
        |d| d.cookie_ack_overflow = Some(1),
        |d| d.ack_other = Some(1),
        |d| d.not_attempts = Some(1),
        |d| d.clients = Some(1),
    ];
    for change in changes {
        let (mut tracker, mut l) = begun();
        assert!(!tracker.read(&l, false));
        change(&mut l.drops);
        assert!(tracker.read(&l, false), "{:?}", l.drops);
    }
}

#[test]
fn refused_final_acks_explain_the_namespaces_counters() {
    let (mut tracker, mut l) = begun();
    (l.drops.ack_overflow, l.drops.cookie_ack_overflow, l.drops.ack_other) = (Some(2), Some(3), Some(4));
    tracker.read(&l, false);
    assert_eq!(tracker.seen, [5, 0, 4]);
    tracker.rest();
    assert_eq!(tracker.seen, [0; CAUSES]);
}

#[test]
fn a_socket_that_listens_again_counts_from_zero() {
    let (mut tracker, mut l) = begun();
    let set = |l: &mut ListenerSample, n| {
        l.drops = DropsSample {
            socket_drops: Some(10 * n),
            ack_overflow: Some(n),
            cookie_ack_overflow: Some(n),
            ack_other: Some(n),
            not_attempts: Some(n),
            clients: Some(n),
            clients_cover_syn: true,
            ..l.drops
        };
    };
    let mut sum = 0;
    for n in [100, 3] {
        set(&mut l, n);
        tracker.read(&l, false);
        tracker.settle_sum();
        tracker.restart();
        sum += n;
        // Ten of the socket: two each for two final ACKs, one each for a cookie's and for what is no attempt.
        let drops = tracker.drops(true, None);
        assert_eq!((drops.accept_queue_full_on_ack, drops.unexplained), (Some(2 * sum), Some(4 * sum)));
        assert_eq!((drops.other, drops.total, drops.clients), (Some(sum), Some(7 * sum), Some(sum)));
    }
}

#[test]
fn it_is_steady_when_nothing_about_the_queue_changes() {
    let (mut tracker, mut l) = begun();
    assert!(!tracker.is_steady(), "what can be read is new");
    tracker.read(&l, false);
    assert!(tracker.is_steady());
    l.gauges.backlog = 20;
    tracker.read(&l, false);
    assert!(!tracker.is_steady(), "another backlog");
    tracker.read(&l, false);
    assert!(tracker.is_steady());
    l.gauges.accept_peak = Some(20);
    tracker.read(&l, false);
    assert!(!tracker.is_steady(), "nearly full");
    tracker.read(&l, false);
    assert!(tracker.is_steady());
    l.drops.clients_cover_syn = false;
    tracker.read(&l, false);
    assert!(!tracker.is_steady() && tracker.newly_known, "clients are not all seen any more");
}

#[test]
fn what_turns_out_wrong_is_taken_back_once() {
    let (mut tracker, mut l) = begun();
    l.drops.socket_drops = Some(9);
    tracker.read(&l, false);
    tracker.settle_sum();
    tracker.found(Cause::SynQueueFull, 2);
    tracker.give_up(2);
    assert_eq!((tracker.found, tracker.ambiguous, tracker.pending), ([0, 2, 0], 5, 2));
    for (not_attempts, found, ambiguous, pending) in [(1, 2, 5, 1), (4, 2, 3, 0), (8, 1, 0, 0)] {
        l.drops.not_attempts = Some(not_attempts);
        tracker.read(&l, false);
        let returned = tracker.settle_sum();
        assert_eq!((tracker.found, tracker.ambiguous, tracker.pending), ([0, found, 0], ambiguous, pending));
        assert_eq!(returned, [0, u64::from(found == 1), 0]);
    }
}

/// A listener whose refused SYNs a probe sees one by one, after these were refused.
fn probed(change: fn(&mut DropsSample)) -> DropTracker {
    let (mut tracker, mut l) = begun();
    let zero = Some(0);
    l.drops.clients_cover_syn = false;
    (l.drops.syn_accept_queue_full, l.drops.syn_queue_full, l.drops.syn_other) = (zero, zero, zero);
    tracker.read(&l, false);
    change(&mut l.drops);
    tracker.read(&l, false);
    tracker
}

#[test]
fn the_namespaces_bound_is_for_all_attempts_together() {
    let tracker = probed(|d| {
        d.socket_drops = Some(40);
        (d.syn_queue_full, d.ack_overflow, d.ack_other) = (Some(1), Some(2), Some(3));
    });
    // 40 of the socket: two each for five final ACKs, one for a SYN; 29 are left.
    let drops = |most| {
        let drops = tracker.drops(true, most);
        (drops.unexplained, drops.total)
    };
    assert_eq!(drops(None), (Some(29), Some(35)));
    assert_eq!(drops(Some(10)), (Some(4), Some(10)));
    assert_eq!(drops(Some(6)), (Some(0), Some(6)));
}

#[test]
fn clients_are_unknown_once_a_syn_was_refused() {
    let clients = |change: fn(&mut DropsSample)| probed(change).drops(true, None).clients;
    assert_eq!(clients(|d| d.clients = Some(2)), Some(2));
    assert_eq!(clients(|d| d.socket_drops = Some(1)), None, "unexplained");
    assert_eq!(clients(|d| (d.socket_drops, d.syn_queue_full) = (Some(1), Some(1))), None, "seen");
    assert_eq!(clients(|d| (d.socket_drops, d.syn_queue_full) = (Some(2), Some(1))), None, "one of each");
}

#[test]
fn final_acks_that_were_refused_for_another_reason_are_known_without_causes_of_syns() {
    let (mut tracker, mut l) = begun();
    let mut other = |socket_drops, ack_other| {
        (l.drops.socket_drops, l.drops.ack_other) = (Some(socket_drops), Some(ack_other));
        tracker.read(&l, false);
        tracker.settle_sum();
        tracker.drops(false, None).other
    };
    assert_eq!([other(0, 0), other(1, 0), other(7, 3)], [Some(0), None, Some(3)]);
}

#[test]
fn final_acks_that_were_refused_for_another_reason_are_known_though_nothing_else_is() {
    let mut l = listener(1, 4_026_531_840, "127.0.0.1:1", 16);
    l.drops = DropsSample { ack_other: Some(0), ..DropsSample::default() };
    let mut tracker = DropTracker::default();
    let mut other = |ack_other| {
        l.drops.ack_other = Some(ack_other);
        tracker.read(&l, false);
        tracker.drops(true, None)
    };
    assert_eq!(other(0), Drops::default());
    assert_eq!(other(3), Drops { other: Some(3), ..Drops::default() });
}
