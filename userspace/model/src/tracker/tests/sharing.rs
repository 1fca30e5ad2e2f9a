//! Listeners that a sample shares with the one before it, because nothing of them changed.

use super::*;

/// The same samples, first with each listener shared with the sample before wherever it is equal, then with none
/// shared.
fn shared_and_apart(samples: &[Sample]) -> (Vec<Sample>, Vec<Sample>) {
    let mut shared: Vec<Sample> = Vec::new();
    let mut last: HashMap<u64, Arc<ListenerSample>> = HashMap::new();
    for sample in samples {
        let mut sample = sample.clone();
        let listeners = sample.listeners.handles().iter().map(|listener| match last.get(&listener.id) {
            Some(last) if last == listener => last.clone(),
            _ => listener.clone(),
        });
        sample.listeners = listeners.collect();
        last = sample.listeners.handles().iter().map(|listener| (listener.id, listener.clone())).collect();
        shared.push(sample);
    }
    let apart = samples.iter().cloned().map(|mut sample| {
        sample.listeners = sample.listeners.iter().cloned().collect();
        sample
    });
    (shared, apart.collect())
}

/// Takes both in and compares the models after each sample; returns the share of listeners that were at rest.
#[track_caller]
fn assert_sharing_makes_no_difference(samples: &[Sample]) -> f64 {
    let (shared, apart) = shared_and_apart(samples);
    let (mut resting, mut tracker) = (Tracker::new(&shared[0]), Tracker::new(&apart[0]));
    let (mut rests, mut all) = (0, 0);
    for (i, (shared, apart)) in shared.iter().zip(&apart).enumerate().skip(1) {
        resting.push(shared);
        tracker.push(apart);
        for (one, other) in resting.model().listeners.iter().zip(tracker.model().listeners.iter()) {
            assert_eq!(one, other, "after sample {i}");
        }
        assert_eq!(resting.model(), tracker.model(), "after sample {i}");
        // What later samples will be judged by is the same too.
        let drops = |tracker: &Tracker| tracker.listeners.iter().map(|l| format!("{:?}", l.drops)).collect::<Vec<_>>();
        assert_eq!(drops(&resting), drops(&tracker), "after sample {i}");
        rests += resting.slots.iter().filter(|slot| slot.is_idle).count();
        all += resting.slots.len();
    }
    rests as f64 / all as f64
}

#[test]
fn listeners_shared_with_the_sample_before_are_left_alone_and_come_out_the_same() {
    let fixtures =
        [fixtures::quiet(), fixtures::overflow(), fixtures::dead_shard(), fixtures::unavailable(), fixtures::many(200)];
    for samples in fixtures {
        assert_sharing_makes_no_difference(&samples);
    }
    let mut scene = Scene::new((0..9).map(|n| listener(n, NS, "0.0.0.0:80", 16)).collect());
    (0..100).for_each(|_| scene.tick(250));
    assert!(assert_sharing_makes_no_difference(&scene.samples()) > 0.9);
    // Having been used once makes no difference, nor have threads that sleep now.
    let mut scene = one();
    scene.tick(250);
    scene.listener(0).accept(0, 3, 50);
    scene.listener(0).read(0, 3, 10, 50);
    (0..100).for_each(|_| scene.tick(250));
    assert!(assert_sharing_makes_no_difference(&scene.samples()) > 0.9);
    // Nor has a finding that has passed. (The first 14 seconds it is recent.)
    let mut scene = one();
    scene.tick(250);
    scene.listener(0).enqueue(17, 17);
    scene.listener(0).refuse(40, 0);
    scene.counters(0).listen_overflows += 40;
    scene.counters(0).listen_drops += 40;
    scene.tick(250);
    scene.listener(0).accept(0, 17, 500_000);
    (0..400).for_each(|_| scene.tick(250));
    let samples = scene.samples();
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|sample| tracker.push(sample));
    assert!(!tracker.model().listeners[0].findings.is_empty(), "it is remembered");
    assert!(assert_sharing_makes_no_difference(&samples) > 0.8);
}

#[test]
fn a_listener_that_comes_or_goes_disturbs_no_other() {
    let mut scene = Scene::new((10..20).map(|n| listener(n, NS, &format!("0.0.0.0:{}", 80 + n), 16)).collect());
    (0..4).for_each(|_| scene.tick(250));
    let mut new = listener(1, NS + 1, "0.0.0.0:1", 16);
    new.opened_ns = Some(scene.now.monotonic_ns);
    let old = std::mem::take(&mut scene.now.listeners);
    scene.now.listeners.push(new);
    scene.now.listeners.extend(old.handles().iter().cloned());
    let mut namespace = scene.now.namespaces[0].clone();
    namespace.id.inode += 1;
    scene.now.namespaces.push(namespace);
    scene.tick(250);
    scene.now.listeners.remove(0);
    scene.tick(250);
    let (shared, _) = shared_and_apart(&scene.samples());
    let mut tracker = Tracker::new(&shared[0]);
    for (i, sample) in shared.iter().enumerate().skip(1) {
        let before = tracker.model().clone();
        tracker.push(sample);
        let same = |old: &&Arc<_>| tracker.model().listeners.handles().iter().any(|new| Arc::ptr_eq(old, new));
        let same = before.listeners.handles().iter().filter(same).count();
        assert!(i < 3 || same >= 10, "{same} after sample {i}");
    }
    assert_eq!(tracker.model().listeners.len(), 11);
}

#[test]
fn at_random_courses_too() {
    let mut rested = 0.0;
    for seed in 1..=60_u64 {
        let mut state = seed;
        let mut random = move |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut listeners: Vec<ListenerSample> =
            (1..=8).map(|id| listener(id, NS + (id % 2) as u32, &format!("0.0.0.0:{}", 80 + id / 3), 4)).collect();
        listeners.iter_mut().skip(3).for_each(|l| l.reuseport = true);
        listeners.iter_mut().take(6).for_each(|l| l.threads = vec![thread(1, 1, "one"), thread(1, 2, "two")]);
        let mut scene = Scene::new(listeners);
        for _ in 0..150 {
            let place = random(8) as usize;
            if place < scene.now.listeners.len() && random(4) == 0 {
                let l = scene.listener(place);
                match random(24) {
                    0 => l.enqueue(2, 3),
                    1 => l.gauges.accept_depth = random(6) as u32,
                    2 => l.gauges.accept_depth = 0,
                    3 => l.gauges.backlog = random(9) as u32,
                    4 => l.refuse(1, random(2)),
                    5 => l.gauges.syn_depth = Some(random(3) as u32),
                    6 => l.holders.push(random(5) as u32),
                    7 => l.counts.accepts = l.counts.accepts.map(|n| n + 3),
                    8 => l.closed = true,
                    9 => l.gauges.queued_bytes = Some(random(2) * 100),
                    10 => l.port = 80 + random(3) as u16,
                    11 => l.reuseport = !l.reuseport,
                    12 => l.drops.clients_cover_syn = true,
                    13 => l.counts.would_block = Some(random(9)),
                    14 => l.gauges.accept_peak = Some(2 + random(3) as u32),
                    15 => l.threads.push(thread(2, random(4) as u32 + 1, "late")),
                    16 => drop(l.threads.pop()),
                    17 => l.threads.iter_mut().for_each(|t| t.ended = random(2) == 0),
                    18 if !l.threads.is_empty() => match random(3) {
                        0 => l.accept(0, 2, 50),
                        1 => l.read(0, 3, 10, 50),
                        _ => {
                            l.threads[0].on_cpu_ns = l.threads[0].on_cpu_ns.map(|ns| ns + 50_000_000);
                            l.threads[0].would_block += 1;
                        }
                    },
                    _ => l.refuse(1 + random(2), 0),
                }
            }
            match random(30) {
                // Counters that are read later than the sockets, or of which the listener is not sampled.
                0 | 5 | 6 => scene.counters(1).listen_drops += 1,
                7 | 8 => {
                    scene.counters(1).listen_drops += 1;
                    scene.counters(1).listen_overflows += 1;
                }
                1 => scene.now.namespaces[1].name = Some(format!("lab{}", random(9))),
                2 => scene.now.namespaces[0].counters = None,
                4 => scene.now.namespaces[0].counters = scene.now.namespaces[1].counters,
                3 => scene.now.listeners.push(listener(100 + random(3), NS, "127.0.0.1:99", 4)),
                _ => {}
            }
            let mut ids = HashSet::new();
            scene.now.listeners.retain(|l| ids.insert(l.id));
            scene.tick([250, 250, 250, 0, 1_500][random(5) as usize]);
        }
        let samples = scene.samples();
        rested += assert_sharing_makes_no_difference(&samples);
    }
    assert!(rested > 1.0, "{rested}");
}
