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
    assert!(!tracker.is_steady() && tracker.retold, "clients are not all seen any more");
}
