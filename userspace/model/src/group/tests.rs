//! What belongs together, and what it adds up to.

use super::*;
use crate::{
    fixtures::{Scene, listener},
    tracker::Tracker,
};

/// Listeners with these ids and ports, all with SO_REUSEPORT.
fn model(listeners: &[(u64, u16)]) -> Model {
    let shard = |&(id, port): &(u64, u16)| {
        let mut shard = listener(id, 4_026_531_840, &format!("127.0.0.1:{port}"), 15);
        shard.reuseport = true;
        shard
    };
    let mut scene = Scene::new(listeners.iter().map(shard).collect());
    scene.tick(1_000);
    let samples = scene.samples();
    let mut tracker = Tracker::new(&samples[0]);
    tracker.push(&samples[1]);
    tracker.model().clone()
}

#[test]
fn two_listeners_at_one_address_are_a_group_and_one_alone_is_not() {
    let model = model(&[(1, 80), (2, 80), (3, 81)]);
    let ids: Vec<String> = model.groups.iter().map(|group| group.id.to_string()).collect();
    assert_eq!(ids, ["tcp/4026531840/127.0.0.1:80"]);
    assert!(model.listeners[2].group.is_some());
}

#[test]
fn listeners_that_are_left_out_leave_their_group() {
    let mut model = model(&[(1, 80), (2, 80), (3, 80)]);
    model.retain(|listener| listener.id != 2);
    assert_eq!(model.listeners.iter().map(|listener| listener.id).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(model.groups[0].shards, [1, 3]);
    model.retain(|listener| listener.id == 3);
    assert!(model.groups.is_empty());
}

#[test]
fn of_shards_with_as_many_connections_the_first_is_the_busiest() {
    let mut shards = [1, 2, 3].map(|id| model(&[(id, 80)]).listeners.remove(0));
    let busiest =
        |shards: &[std::sync::Arc<ListenerModel>; 3]| OpenShards::of(shards.iter().map(|shard| &**shard)).busiest;
    assert_eq!(busiest(&shards), (0, 0), "none has any");
    for (shard, enqueued) in shards.iter_mut().zip([4, 7, 7]) {
        std::sync::Arc::make_mut(shard).total.enqueued = Some(enqueued);
    }
    assert_eq!(busiest(&shards), (2, 7));
}

#[test]
fn a_distribution_is_merged_over_the_shards_that_have_it() {
    let mut model = model(&[(1, 80), (2, 80), (3, 80)]);
    assert_eq!(model.groups[0].distribution(&model, |_| None), None);
    for (place, value) in [(0, 5), (2, 7)] {
        model.listeners[place].distributions.accept_wait = Some(Histogram::of_units([value]));
    }
    model.listeners[1].distributions.accept_wait = None;
    let merged = model.groups[0].distribution(&model, |shard| shard.distributions.accept_wait.as_ref());
    assert_eq!(merged, Some(Histogram::of_units([5, 7])));
}

#[test]
fn how_full_a_queue_is() {
    let fill = |accept_depth, limit| Gauges { accept_depth, limit, ..Gauges::default() }.fill();
    assert_eq!([fill(0, 16), fill(4, 16), fill(24, 16), fill(2, 0)], [0.0, 0.25, 1.5, 2.0]);
}
