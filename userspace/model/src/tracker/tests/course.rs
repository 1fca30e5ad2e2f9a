//! What follows from one sample to the next.

use super::*;
use crate::sample::{Device, NamespaceCounters};

#[test]
fn host_and_coverage_are_those_of_the_last_sample() {
    let mut scene = one();
    scene.tick(250);
    scene.now.host.cpus = 7;
    scene.now.coverage.truncate(1);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_eq!((model.host.cpus, model.coverage.len()), (7, 1));
}

#[test]
fn what_was_counted_before_the_first_sample_is_the_baseline_though_it_is_known_when_it_opened() {
    let mut first = listener(1, NS, "0.0.0.0:80", 16);
    (first.opened_ns, first.counts.enqueued) = (Some(1), Some(100));
    let mut scene = Scene::new(vec![first]);
    scene.listener(0).enqueue(3, 1);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_eq!((model.listeners[0].total.enqueued, model.listeners[0].opened_in_interval), (Some(3), false));
}

#[test]
fn the_tools_own_cost_is_of_the_recent_span() {
    let mut scene = one();
    scene.tick(500);
    let model = run(&scene.samples());
    // 8 µs of CPU time for each millisecond, 20 runs of 180 ns.
    assert!((model.cost.process_cpu - 0.008).abs() < 1e-9, "{}", model.cost.process_cpu);
    assert!((model.cost.probe_cpu.unwrap() - 0.0036).abs() < 1e-9);
}

#[test]
fn history_has_the_rates_of_each_step() {
    let mut scene = one();
    for (accepts, reads) in [(25, 50), (0, 0), (5, 10)] {
        scene.listener(0).accept(0, accepts, 50);
        scene.listener(0).read(0, reads, 0, 50);
        scene.tick(250);
    }
    let model = run(&scene.samples());
    let rates: Vec<_> = model.listeners[0].history.points(&model.timeline).map(|p| (p.accepts, p.reads)).collect();
    assert_eq!(rates, [(Some(100.0), Some(200.0)), (Some(0.0), Some(0.0)), (Some(20.0), Some(40.0))]);
}

#[test]
fn drops_at_one_instant_add_up_in_history() {
    let mut scene = one();
    for (ms, drops) in [(250, 1), (250, 3), (0, 4)] {
        scene.listener(0).refuse(0, drops);
        scene.counters(0).listen_overflows += drops;
        scene.counters(0).listen_drops += drops;
        scene.tick(ms);
    }
    let model = run(&scene.samples());
    let drops: Vec<_> = model.listeners[0].history.points(&model.timeline).map(|p| p.drops).collect();
    assert_eq!(drops, [Some(1), Some(7)]);
}

#[test]
fn a_measure_that_comes_up_later_has_a_rate_at_once() {
    let mut first = listener(1, NS, "0.0.0.0:80", 16);
    first.counts.writes = None;
    let mut scene = Scene::new(vec![first]);
    scene.tick(1_000);
    scene.tick(1_000);
    scene.listener(0).counts.writes = Some(90);
    scene.tick(1_000);
    let rates: Vec<_> = [2, 3].map(|n| run(&scene.clone().samples()[..=n]).listeners[0].rate.writes).into();
    assert_eq!(rates, [None, Some(0.0)]);
}

#[test]
fn a_namespace_with_a_new_name_passes_it_on_to_its_listeners() {
    let mut scene = one();
    (0..8).for_each(|_| scene.tick(250));
    scene.now.namespaces[0].name = Some("other".to_owned());
    scene.tick(250);
    let mut samples = scene.samples();
    assert_eq!(run(&samples).listeners[0].netns_name.as_deref(), Some("other"));
    // One at rest, too.
    let rests = samples[1].listeners.clone();
    samples[2..].iter_mut().for_each(|sample| sample.listeners = rests.clone());
    assert_eq!(run(&samples).listeners[0].netns_name.as_deref(), Some("other"));
}

#[test]
fn a_listener_that_could_not_be_read_for_a_while_leaves_no_doubt_about_its_namespace() {
    let mut scene = one();
    let known = scene.listener(0).drops.clone();
    let none = crate::sample::DropsSample { socket_drops: None, ack_overflow: None, ack_other: None, ..known.clone() };
    scene.listener(0).drops = none;
    let mut samples = vec![scene.now.clone()];
    for _ in 0..2 {
        scene.tick(250);
        samples.push(scene.now.clone());
    }
    assert_eq!(run(&samples).namespaces[0].unexplained_drops, None);
    scene.listener(0).drops = known;
    scene.tick(250);
    samples.push(scene.now.clone());
    assert_eq!(run(&samples).namespaces[0].unexplained_drops, Some(0));
}

/// The shares are of the whole group: each shard has a quarter and three quarters.
#[test]
fn threads_of_a_group_have_shares_of_the_group() {
    let shard = |id: u32| {
        let mut l = listener(id.into(), NS, "0.0.0.0:80", 16);
        l.reuseport = true;
        l.threads = vec![thread(1, id, "srv")];
        l
    };
    let mut scene = Scene::new(vec![shard(1), shard(2)]);
    for (place, n) in [(0, 1), (1, 3)] {
        scene.listener(place).accept(0, n, 50);
        scene.listener(place).read(0, 2 * n, n, 50);
    }
    scene.tick(250);
    let model = run(&scene.samples());
    let shares = model.listeners.iter().map(|l| (l.threads[0].accept_share, l.threads[0].read_share));
    assert_eq!(shares.collect::<Vec<_>>(), [(Some(0.25), Some(0.25)), (Some(0.75), Some(0.75))]);
}

/// Only the threads are counted: their sum is the whole.
#[test]
fn without_the_listeners_counters_shares_are_of_what_its_threads_did() {
    let mut scene = one();
    let l = scene.listener(0);
    l.threads.push(thread(1, 2, "srv"));
    (l.counts.accepts, l.counts.reads) = (None, None);
    scene.tick(250);
    for (place, n) in [(0, 3), (1, 5)] {
        scene.listener(0).accept(place, n, 50);
        scene.listener(0).read(place, 3 * n, n, 50);
    }
    scene.tick(250);
    let model = run(&scene.samples()[1..]);
    let shares = model.listeners[0].threads.iter().map(|t| (t.accept_share, t.read_share));
    assert_eq!(shares.collect::<Vec<_>>(), [(Some(0.625), Some(0.625)), (Some(0.375), Some(0.375))]);
}

/// A listener that was busy once and is shared with the sample before is not touched any more.
#[test]
fn a_listener_at_rest_is_left_alone_after_it_was_busy() {
    let mut scene = one();
    scene.listener(0).accept(0, 3, 50);
    (0..12).for_each(|_| scene.tick(250));
    let mut samples = scene.samples();
    let rests = samples[1].listeners.clone();
    samples[2..].iter_mut().for_each(|sample| sample.listeners = rests.clone());
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..11].iter().for_each(|sample| tracker.push(sample));
    let before = tracker.model().listeners.handles()[0].clone();
    samples[11..].iter().for_each(|sample| tracker.push(sample));
    assert!(Arc::ptr_eq(&before, &tracker.model().listeners.handles()[0]));
}

/// A sample has one socket twice, because it stopped to listen and listens again, and lacks another one: it is as long
/// as there are listeners.
#[test]
fn a_listener_that_is_missing_is_closed_though_another_is_there_twice() {
    let mut scene = Scene::new((1..=2).map(|id| listener(id, NS, &format!("0.0.0.0:{id}"), 16)).collect());
    scene.tick(250);
    let mut again = scene.now.listeners[0].clone();
    again.opened_ns = Some(scene.now.monotonic_ns);
    scene.listener(0).closed = true;
    scene.now.listeners.retain(|listener| listener.id == 1);
    scene.now.listeners.push(again);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_eq!(model.listeners.iter().map(|l| (l.id, l.closed)).collect::<Vec<_>>(), [(1, false), (2, true)]);
}

#[test]
fn an_inode_number_that_is_used_again_is_another_namespace() {
    let mut first = listener(1, NS, "0.0.0.0:80", 16);
    first.net_cookie = Some(10);
    first.reuseport = true;
    let mut scene = Scene::new(vec![first]);
    scene.now.namespaces[0].id.cookie = Some(10);
    let mut second = scene.now.listeners[0].clone();
    let mut samples = vec![scene.now.clone()];
    for (listener, drops) in [(None, 5), (None, 0)].into_iter().chain([(Some(()), 3), (None, 0)]) {
        if listener.is_some() {
            // The first namespace is gone; the second one's counters began with 0.
            (second.id, second.net_cookie, second.opened_ns) = (2, Some(11), Some(scene.now.monotonic_ns));
            scene.now.listeners = vec![second.clone()].into();
            scene.now.namespaces[0].id.cookie = Some(11);
            *scene.counters(0) = NamespaceCounters::default();
        }
        scene.listener(0).refuse(0, drops);
        scene.counters(0).listen_overflows += drops;
        scene.counters(0).listen_drops += drops;
        scene.now.monotonic_ns += 250_000_000;
        samples.push(scene.now.clone());
    }
    let model = run(&samples);
    let seen: Vec<_> = model.listeners.iter().map(|l| (l.id, l.closed, l.drops.total, l.group)).collect();
    assert_eq!((seen[0].0, seen[0].1, seen[0].2), (1, true, Some(5)));
    assert_eq!((seen[1].0, seen[1].1, seen[1].2), (2, false, Some(3)));
    assert_ne!(seen[0].3, seen[1].3, "they are no shards of one group");
    let namespaces: Vec<_> =
        model.namespaces.iter().map(|n| (n.id.cookie, n.listen_drops, n.unexplained_drops)).collect();
    assert_eq!(namespaces, [(Some(10), Some(5), Some(0)), (Some(11), Some(3), Some(0))]);
}

#[test]
fn shards_are_on_the_same_device() {
    let on = |id, device: Option<Device>| {
        let mut listener = listener(id, NS, "0.0.0.0:80", 16);
        (listener.reuseport, listener.device) = (true, device);
        listener
    };
    let (lo, other) = (Some(Device::new(1, b"lo")), Some(Device::new(2, b"lo2")));
    let scene = Scene::new(vec![on(5, lo), on(1, other), on(4, None), on(2, other), on(3, lo)]);
    let model = run(&scene.samples());
    let groups: Vec<_> = model.groups.iter().map(|g| (g.id.to_string(), g.shards.clone())).collect();
    let named = |device: &str| format!("tcp/{NS}/0.0.0.0{device}:80");
    assert_eq!(groups, [(named("%lo"), vec![3, 5]), (named("%lo2"), vec![1, 2])]);
    assert_eq!(model.listeners.iter().map(|l| l.id).collect::<Vec<_>>(), [4, 3, 5, 1, 2]);
    assert_eq!(model.groups[0].sum.device, lo);
}
