use super::*;
use crate::{fixtures, model::Model, sample::Sample};

fn run(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    for sample in &samples[1..] {
        tracker.push(sample);
    }
    tracker.model().clone()
}

#[test]
fn the_overflow_fixture_adds_up() {
    let model = run(&fixtures::overflow());
    let l = &model.listeners[0];
    assert_eq!(l.drops.accept_queue_full_on_syn, Some(14 * 30));
    assert_eq!(l.drops.accept_queue_full_on_ack, Some(14 * 8));
    assert_eq!((l.drops.total, l.drops.unexplained), (Some(14 * 38), Some(0)));
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
    assert_eq!(l.history.len(), 16);
}
