//! What is kept of the past.

use super::*;
use crate::fixtures::{Scene, listener};

/// Listeners that are left of so many that closed, beside one that is open.
fn left(closed: u64) -> usize {
    let all = (0..=closed).map(|id| listener(1 + id, 4_026_531_840, "127.0.0.1:9", 16)).collect();
    let mut scene = Scene::new(all);
    scene.now.listeners.retain(|l| l.id == 1);
    scene.tick(250);
    let samples = scene.samples();
    let mut tracker = Tracker::new(&samples[0]);
    tracker.push(&samples[1]);
    tracker.model().listeners.iter().filter(|l| l.closed).count()
}

#[test]
fn closed_listeners_are_kept_up_to_a_number() {
    // A thousand are kept. With one more, a tenth of that number goes too.
    assert_eq!([950, 1_000, 1_001, 1_050].map(left), [950, 1_000, 900, 900]);
}
