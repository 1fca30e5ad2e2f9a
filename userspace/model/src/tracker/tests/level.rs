//! Measures that come and go while the source runs.

use super::*;
use crate::coverage::{Coverage, Measure, Status};

/// What a level below `all` leaves out, in a sample of a listener with a thread.
fn leave_out(sample: &mut Sample) {
    let l = &mut sample.listeners[0];
    (l.counts.accepts, l.counts.aborted, l.distributions.accept_wait) = (None, None, None);
    of_accepts(sample).for_each(|coverage| coverage.status = Status::Unavailable);
}

fn of_accepts(sample: &mut Sample) -> impl Iterator<Item = &mut Coverage> {
    let concerned = |measure| matches!(measure, Measure::Accepts | Measure::AcceptWait);
    sample.coverage.iter_mut().filter(move |coverage| concerned(coverage.measure))
}

/// Ten accepts in each step of 250 ms; they are not measured from the third sample to the fifth.
fn samples() -> Vec<Sample> {
    let mut scene = one();
    for _ in 0..12 {
        scene.listener(0).enqueue(10, 1);
        scene.listener(0).accept(0, 10, 50);
        scene.tick(250);
    }
    let mut samples = scene.samples();
    let (left, came) = (samples[3].monotonic_ns, samples[6].monotonic_ns);
    for (at, sample) in samples.iter_mut().enumerate() {
        let since = [(3, left), (6, came)].into_iter().rev().find(|(from, _)| at >= *from).map(|(_, since)| since);
        of_accepts(sample).for_each(|coverage| coverage.since_ns = since);
        if matches!(at, 3..6) {
            leave_out(sample);
        }
    }
    samples
}

#[test]
fn what_comes_back_begins_anew_and_the_rest_goes_on() {
    let samples = samples();
    let mut tracker = Tracker::new(&samples[0]);
    for (at, sample) in (1_u64..).zip(&samples[1..]) {
        tracker.push(sample);
        let (model, l) = (tracker.model(), &tracker.model().listeners[0]);
        assert_sane(model);
        let accepts = match at {
            ..3 => Some(10 * at),
            3..6 => None,
            _ => Some(10 * (at - 6)),
        };
        assert_eq!(l.total.enqueued, Some(10 * at), "sample {at}: measured all the time");
        assert_eq!(l.total.accepts, accepts, "sample {at}");
        assert_eq!(l.total.aborted.is_some(), accepts.is_some(), "sample {at}: it takes accepts");
        let waits = l.distributions.accept_wait.as_ref().map(Histogram::count);
        assert_eq!(waits, accepts, "sample {at}");
        let by_thread: u64 = l.threads.iter().map(|thread| thread.accepts).sum();
        assert!(accepts.is_none_or(|accepts| accepts == by_thread), "sample {at}: {by_thread} by thread");
        // The recent span is a second: four steps.
        let rate = matches!(at, 1..3 | 10..).then_some(40.0);
        assert_eq!(l.rate.accepts, rate, "sample {at}");
        assert_eq!(l.rate.enqueued, Some(40.0), "sample {at}");
        let recent = l.recent_distributions.accept_wait.as_ref().map(Histogram::count);
        assert!(recent.unwrap_or(0) <= accepts.unwrap_or(0), "sample {at}: {recent:?}");
        let seconds = if at < 3 { at as f64 / 4.0 } else { (at - if at < 6 { 3 } else { 6 }) as f64 / 4.0 };
        assert!((model.seconds_of(Measure::Accepts) - seconds).abs() < 1e-9, "sample {at}");
        assert!((model.seconds_of(Measure::Enqueued) - at as f64 / 4.0).abs() < 1e-9, "sample {at}");
    }
    let model = tracker.model();
    let points: Vec<_> = model.listeners[0].history.points(&model.timeline).map(|point| point.accepts).collect();
    // The point of the step in which it came back is not whole.
    let whole = [Some(40.0); 6];
    assert_eq!(points, [&whole[..2], &[None; 4], &whole].concat());
}

/// What it counted before its level came was partly unseen, also if no sample had it by then.
#[test]
fn a_listener_that_opened_meanwhile_begins_with_its_level() {
    for (first, at_once, then) in [(5, 0, 10), (6, 0, 10), (7, 70, 80)] {
        let mut samples = samples();
        for sample in &mut samples[first..] {
            let mut new = sample.listeners[0].clone();
            (new.id, new.port, new.opened_ns) = (2, 81, Some(1));
            sample.listeners.push(new);
        }
        let accepts = |until: usize| run(&samples[..=until]).listeners[1].total.accepts;
        assert_eq!((accepts(first.max(6)), accepts(first.max(6) + 1)), (Some(at_once), Some(then)), "from {first}");
    }
}
