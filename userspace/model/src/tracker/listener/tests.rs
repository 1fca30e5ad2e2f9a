//! One listener, sample by sample.

use super::*;
use crate::{
    fixtures::{listener, process, thread},
    model::{Finding, Severity},
};

/// A listener that was seen once, with all patterns and findings up to date, and its sample.
fn begun() -> (Listener, ListenerModel, ListenerSample) {
    let mut sample = listener(1, 4_026_531_840, "127.0.0.1:80", 16);
    sample.threads = vec![thread(1, 1, "srv")];
    let (mut state, model) = Listener::new(&sample, false, &Clock::new(0), 1);
    state.judged();
    (state, model, sample)
}

#[test]
fn what_waits_or_was_found_is_looked_at_again() {
    let dirty = |change: fn(&mut ListenerModel)| {
        let (state, mut model, _) = begun();
        change(&mut model);
        [false, true].map(|closed| {
            model.closed = closed;
            state.is_dirty(&model)
        })
    };
    assert_eq!(dirty(|_| {}), [false, false]);
    assert_eq!(dirty(|model| model.now.accept_depth = 1), [true, false]);
    assert_eq!(dirty(|model| model.now.queued_bytes = Some(0)), [false, false]);
    assert_eq!(dirty(|model| model.now.queued_bytes = Some(1)), [true, false]);
    let finding = |model: &mut ListenerModel| {
        model.findings.push(Finding {
            id: "x",
            severity: Severity::Info,
            follows_from: None,
            since_unix_ms: 0,
            until_unix_ms: None,
            summary: String::new(),
            evidence: Vec::new(),
            advice: String::new(),
        });
    };
    assert_eq!(dirty(finding), [true, false]);
}

#[test]
fn a_listener_that_vanishes_is_looked_at_once_more() {
    let (mut state, mut model, _) = begun();
    let clock = Clock::new(0);
    state.vanish(&mut model, &clock);
    assert!(model.closed && state.is_dirty(&model));
    state.judged();
    state.vanish(&mut model, &clock);
    assert!(!state.is_dirty(&model));
    // What is to be looked at for another reason still is.
    state.dirty = true;
    state.vanish(&mut model, &clock);
    assert!(state.is_dirty(&model));
}

#[test]
fn the_holder_of_a_closed_listener_is_kept() {
    let course = [
        (process(1, "old"), false, process(1, "old")),
        (process(2, "new"), false, process(2, "new")),
        (None, true, process(2, "new")),
        (process(3, "last"), true, process(3, "last")),
        (None, false, None),
    ];
    let (mut state, mut model, mut sample) = begun();
    for (number, (process, closed, expected)) in (2..).zip(course) {
        (sample.process, sample.closed) = (process, closed);
        state.read(&mut model, &sample, &Clock::new(0), number);
        assert_eq!(model.process, expected, "sample {number}");
    }
}

/// Enqueued connections of a listener that counted 5 at first, then 7 after `closed` and with `opened_ns`.
fn enqueued(closed: bool, first_ns: Option<u64>, opened_ns: Option<u64>) -> Option<u64> {
    let mut sample = listener(1, 4_026_531_840, "127.0.0.1:80", 16);
    (sample.opened_ns, sample.counts.enqueued) = (first_ns, Some(5));
    let (mut state, mut model) = Listener::new(&sample, false, &Clock::new(0), 1);
    model.closed = closed;
    (sample.opened_ns, sample.counts.enqueued) = (opened_ns, Some(7));
    state.read(&mut model, &sample, &Clock::new(0), 2);
    model.total.enqueued
}

#[test]
fn only_a_closed_socket_that_listens_later_counts_anew() {
    assert_eq!(enqueued(true, Some(8), Some(9)), Some(7));
    assert_eq!(enqueued(true, None, Some(9)), Some(7));
    assert_eq!(enqueued(true, Some(9), Some(9)), Some(2), "it was only missing from a sample");
    assert_eq!(enqueued(true, Some(9), None), Some(2));
    assert_eq!(enqueued(true, Some(9), Some(8)), Some(2));
    assert_eq!(enqueued(false, Some(8), Some(9)), Some(2), "its counters go on");
}
