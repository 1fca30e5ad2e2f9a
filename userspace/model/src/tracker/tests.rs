use super::*;
use crate::{
    fixtures::{self, Scene, listener, thread},
    histogram::Histogram,
    history::HISTORY,
    model::{Model, Role},
};

mod course;
mod level;
mod sharing;

const NS: u32 = 4_026_531_840;

fn run(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker.model().clone()
}

fn one() -> Scene {
    let mut l = listener(1, NS, "0.0.0.0:80", 16);
    l.threads = vec![thread(1, 1, "srv")];
    Scene::new(vec![l])
}

/// No rate or share is negative, infinite or no number.
#[track_caller]
fn assert_sane(model: &Model) {
    assert!(model.interval.seconds.is_finite() && model.interval.recent_seconds >= 0.0);
    assert!(model.cost.process_cpu.is_finite() && model.cost.probe_cpu.is_none_or(f64::is_finite));
    for l in &model.listeners {
        let r = &l.rate;
        let rates = [
            r.enqueued,
            r.accepts,
            r.would_block,
            r.accept_failed,
            r.synack_retransmits,
            r.drops,
            r.reads,
            r.read_bytes,
            r.writes,
            r.write_bytes,
        ];
        let history = l.history.points(&model.timeline).flat_map(|p| [p.accepts, p.reads, Some(p.at)]);
        let threads = l
            .threads
            .iter()
            .flat_map(|t| [t.accept_share, t.read_share, Some(t.accepts_per_second), Some(t.reads_per_second)]);
        for rate in rates.into_iter().chain(history).chain(threads).flatten() {
            assert!((0.0..1e12).contains(&rate), "{rate} of {}", l.id);
        }
        assert!(l.threads.iter().all(|t| t.accept_share.is_none_or(|s| s <= 1.0)));
    }
}

#[test]
fn every_fixture_is_sane_after_every_sample() {
    let fixtures =
        [fixtures::quiet(), fixtures::overflow(), fixtures::dead_shard(), fixtures::unavailable(), fixtures::many(200)];
    for samples in fixtures {
        let mut tracker = Tracker::new(&samples[0]);
        assert_sane(tracker.model());
        for sample in &samples[1..] {
            tracker.push(sample);
            assert_sane(tracker.model());
        }
    }
}

#[test]
fn the_first_sample_is_the_baseline() {
    let mut scene = one();
    scene.listener(0).accept(0, 500, 1_000);
    scene.tick(100);
    let l = scene.listener(0);
    l.accept(0, 30, 50);
    l.read(0, 60, 30, 50);
    scene.tick(500);
    let samples = scene.samples();
    let model = run(&samples[1..]);
    let l = &model.listeners[0];
    assert_eq!((l.total.accepts, l.total.reads, l.threads[0].accepts), (Some(30), Some(60), 30));
    assert_eq!(l.distributions.accept_wait.as_ref().unwrap().count(), 30);
    assert_eq!((l.rate.accepts, l.opened_in_interval), (Some(60.0), false));
    assert_eq!(l.threads[0].accepts_per_second, 60.0);
    assert_eq!(model.interval.seconds, 0.5);
}

/// One that was known, and one that is new, each stop to listen and listen again between two samples.
#[test]
fn a_socket_that_listens_again_goes_on_wherever_in_the_sample_it_is() {
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
        let mut first = one().samples().remove(0);
        let known = first.listeners[0].clone();
        let listens = |id, opened_ns, closed, enqueued| {
            let mut l = ListenerSample { id, opened_ns, closed, ..known.clone() };
            l.counts.enqueued = Some(enqueued);
            Arc::new(l)
        };
        first.listeners = Shared::default();
        first.listeners.push(listens(1, None, false, 100));
        let mut second = first.clone();
        let all = [
            listens(1, None, true, 107),
            listens(1, Some(5), true, 2),
            listens(1, Some(7), false, 3),
            listens(2, Some(6), true, 4),
            listens(2, Some(8), false, 5),
        ];
        second.listeners = Shared::default();
        order.iter().for_each(|i| second.listeners.push(all[*i].clone()));
        let mut third = second.clone();
        third.listeners = Shared::default();
        [&all[4], &all[2]].into_iter().for_each(|l| third.listeners.push(l.clone()));
        for samples in [&[first.clone(), second.clone()][..], &[first, second, third]] {
            let model = run(samples);
            let seen = |l: &ListenerModel| (l.id, l.closed, l.opened_in_interval, l.total.enqueued);
            let seen: Vec<_> = model.listeners.iter().map(seen).collect();
            assert_eq!(seen, [(1, false, true, Some(7 + 2 + 3)), (2, false, true, Some(4 + 5))], "{order:?}");
        }
    }
}

#[test]
fn before_the_second_sample_rates_are_unknown() {
    let model = run(&one().samples());
    assert_eq!(model.interval.recent_seconds, 0.0);
    assert_eq!((model.listeners[0].rate.accepts, model.listeners[0].total.accepts), (None, Some(0)));
}

#[test]
fn an_idle_listener_has_rates_of_zero_and_an_unmeasured_one_has_none() {
    let mut scene = one();
    scene.tick(250);
    assert_eq!(run(&scene.samples()).listeners[0].rate.accepts, Some(0.0));
    assert_eq!(run(&fixtures::unavailable()).listeners[0].rate.accepts, None);
}

#[test]
fn rates_cover_the_last_second_and_then_end() {
    let mut scene = one();
    for tick in 0..12 {
        if tick < 6 {
            scene.listener(0).accept(0, 25, 50);
        }
        scene.tick(250);
    }
    let samples = scene.samples();
    let mut tracker = Tracker::new(&samples[0]);
    let mut rates = Vec::new();
    for sample in &samples[1..] {
        tracker.push(sample);
        let l = &tracker.model().listeners[0];
        rates.push(l.rate.accepts.unwrap());
        let recent = l.recent_distributions.accept_wait.as_ref().unwrap().count() as f64;
        assert_eq!(recent, l.rate.accepts.unwrap() * tracker.model().interval.recent_seconds);
    }
    assert_eq!(rates, [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 75.0, 50.0, 25.0, 0.0, 0.0, 0.0]);
    let l = &tracker.model().listeners[0];
    assert_eq!((l.total.accepts, l.distributions.accept_wait.as_ref().unwrap().count()), (Some(150), 150));
    assert_eq!(l.threads[0].accepts_per_second, 0.0);
}

#[test]
fn samples_at_one_instant_add_to_counts_but_not_to_time() {
    let mut scene = one();
    scene.listener(0).accept(0, 10, 50);
    scene.tick(1000);
    scene.listener(0).accept(0, 5, 50);
    scene.tick(0);
    let model = run(&scene.samples());
    assert_sane(&model);
    let l = &model.listeners[0];
    assert_eq!((model.interval.seconds, model.interval.recent_seconds), (1.0, 1.0));
    assert_eq!((l.total.accepts, l.rate.accepts, l.history.points(&model.timeline).count()), (Some(15), Some(15.0), 1));
}

#[test]
fn a_clock_that_jumps_back_leaves_the_recent_span_alone() {
    let mut scene = one();
    for _ in 0..4 {
        scene.listener(0).accept(0, 10, 50);
        scene.tick(500);
    }
    scene.now.monotonic_ns -= 3_000_000_000;
    scene.listener(0).accept(0, 10, 50);
    scene.tick(500);
    let samples = scene.samples();
    let before = run(&samples[..5]);
    let after = run(&samples);
    assert_sane(&after);
    assert_eq!(after.interval.recent_seconds, before.interval.recent_seconds);
    assert_eq!((after.interval.seconds, after.listeners[0].total.accepts), (2.0, Some(50)));
}

#[test]
fn counters_and_distributions_that_go_backwards_start_a_new_baseline() {
    let mut scene = one();
    scene.listener(0).accept(0, 100, 50);
    scene.tick(250);
    let l = scene.listener(0);
    l.counts.accepts = Some(7);
    l.threads[0].accepts = 7;
    l.distributions.accept_wait = Some(Histogram::of_units([1]));
    scene.tick(250);
    scene.listener(0).accept(0, 3, 50);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_sane(&model);
    let l = &model.listeners[0];
    assert_eq!((l.total.accepts, l.threads[0].accepts), (Some(103), 103));
    assert_eq!(l.distributions.accept_wait.as_ref().unwrap().count(), 103);
}

#[test]
fn listeners_appear_and_vanish() {
    let mut scene = one();
    scene.tick(250);
    let mut opened = listener(2, NS, "0.0.0.0:81", 16);
    opened.opened_ns = Some(scene.now.monotonic_ns + 1);
    opened.threads = vec![thread(2, 2, "new")];
    opened.accept(0, 8, 50);
    let mut found = listener(3, NS, "0.0.0.0:79", 16);
    found.threads = vec![thread(3, 3, "old")];
    found.accept(0, 800, 50);
    scene.now.listeners.extend([opened, found]);
    scene.tick(250);
    scene.listener(1).accept(0, 2, 50);
    scene.listener(2).accept(0, 4, 50);
    scene.tick(250);
    scene.now.listeners.remove(0); // without a word
    scene.listener(0).accept(0, 1, 50);
    scene.listener(0).closed = true;
    scene.tick(250);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_sane(&model);
    let seen: Vec<_> =
        model.listeners.iter().map(|l| (l.port, l.closed, l.opened_in_interval, l.total.accepts.unwrap())).collect();
    // One that was there before the probes counts from when it was found.
    assert_eq!(seen, [(79, false, false, 4), (80, true, false, 0), (81, true, true, 11)]);
    assert_eq!(model.listeners[0].threads[0].accepts, 4);
    assert_eq!(model.listeners[2].threads[0].accepts, 11);
    assert_eq!(model.listeners[2].distributions.accept_wait.as_ref().unwrap().count(), 11);
    let points: Vec<_> = model.listeners.iter().map(|l| l.history.points(&model.timeline).count()).collect();
    assert_eq!(points, [4, 4, 3], "history ends with the listener");
}

#[test]
fn a_socket_that_listens_again_counts_on() {
    let mut scene = one();
    scene.listener(0).accept(0, 40, 50);
    scene.listener(0).closed = true;
    scene.tick(250);
    scene.tick(250);
    let mut again = listener(1, NS, "0.0.0.0:80", 32);
    again.opened_ns = Some(scene.now.monotonic_ns);
    again.threads = vec![thread(1, 1, "srv")];
    again.accept(0, 60, 50);
    scene.now.listeners.push(again);
    scene.tick(250);
    scene.listener(0).accept(0, 1, 50);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_sane(&model);
    let l = &model.listeners[0];
    assert_eq!((model.listeners.len(), l.closed, l.opened_in_interval, l.now.limit), (1, false, true, 33));
    assert_eq!((l.total.accepts, l.threads[0].accepts), (Some(101), 101));
    assert_eq!(l.distributions.accept_wait.as_ref().unwrap().count(), 101);
}

#[test]
fn peaks_are_kept_and_never_below_the_depth() {
    let mut scene = one();
    scene.listener(0).enqueue(9, 9);
    scene.tick(250);
    for _ in 0..6 {
        scene.listener(0).gauges.accept_depth = 2;
        scene.listener(0).gauges.accept_peak = Some(0);
        scene.tick(250);
    }
    let model = run(&scene.samples());
    let now = &model.listeners[0].now;
    assert_eq!((now.accept_peak, now.recent_accept_peak, now.accept_depth), (Some(9), Some(2), 2));
    let polled = run(&fixtures::unavailable());
    assert_eq!(polled.listeners[0].now.accept_peak, None);
}

#[test]
fn history_is_bounded_and_has_a_point_per_step_for_idle_listeners_too() {
    let mut scene = Scene::new(vec![listener(1, NS, "0.0.0.0:80", 16), listener(2, NS, "0.0.0.0:81", 16)]);
    for _ in 0..HISTORY + 20 {
        scene.listener(0).enqueue(1, 1);
        scene.tick(250);
    }
    let model = run(&scene.samples());
    for listener in &model.listeners {
        let at: Vec<f64> = listener.history.points(&model.timeline).map(|p| p.at).collect();
        assert_eq!((at.len(), at.last()), (HISTORY, Some(&65.0)));
        assert!(at.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn threads_have_roles_shares_and_times() {
    let mut scene = one();
    scene.tick(250);
    scene.listener(0).threads.push(thread(1, 2, "reader"));
    for _ in 0..4 {
        let l = scene.listener(0);
        l.accept(0, 10, 50);
        l.read(1, 30, 10, 50);
        l.threads[0].on_cpu_ns = l.threads[0].on_cpu_ns.map(|ns| ns + 50_000_000);
        scene.tick(250);
    }
    scene.listener(0).threads[1].ended = true;
    scene.tick(250);
    scene.listener(0).threads.remove(1);
    scene.tick(250);
    let model = run(&scene.samples());
    let [acceptor, reader] = &model.listeners[0].threads[..] else { panic!("two threads") };
    assert_eq!((&acceptor.roles[..], &reader.roles[..]), (&[Role::Acceptor][..], &[Role::Reader][..]));
    assert_eq!((acceptor.accept_share, acceptor.read_share, reader.read_share), (Some(1.0), Some(0.0), Some(1.0)));
    assert_eq!((reader.ended, reader.reads, reader.first_reads, acceptor.ended), (true, 120, 40, false));
    let of = |t: &crate::model::ThreadModel| {
        [t.on_cpu_us, t.run_queue_us, t.blocked_us(&model.interval)].map(Option::unwrap)
    };
    let [cpu, queue, blocked] = of(acceptor);
    assert_eq!((cpu, queue), (200_000 + 40 * 30, 40 * 2));
    assert_eq!(cpu + queue + blocked, 1_750_000, "all of the interval");
    // Seen from 0.5 s on, last alive at 1.25 s.
    assert_eq!(of(reader).iter().sum::<u64>(), 750_000);
}

#[test]
fn a_thread_seen_once_has_no_times_yet_and_one_without_schedstat_never() {
    let mut scene = one();
    let mut blind = thread(1, 9, "blind");
    (blind.on_cpu_ns, blind.run_queue_ns) = (None, None);
    scene.tick(250);
    scene.listener(0).threads.extend([thread(1, 2, "new"), blind]);
    scene.tick(250);
    let once = run(&scene.clone().samples());
    let times = |m: &Model, tid| {
        let t = m.listeners[0].threads.iter().find(|t| t.tid == tid).unwrap();
        (t.on_cpu_us, t.run_queue_us, t.blocked_us(&m.interval))
    };
    assert_eq!(times(&once, 2), (None, None, None));
    scene.tick(250);
    let twice = run(&scene.samples());
    assert_eq!(times(&twice, 2), (Some(0), Some(0), Some(250_000)));
    assert_eq!(times(&twice, 9), (None, None, None));
}

#[test]
fn a_thread_id_used_again_is_another_thread() {
    let mut scene = one();
    scene.listener(0).accept(0, 10, 50);
    scene.tick(250);
    let mut next = thread(1, 1, "next");
    next.start_ns += 1;
    scene.listener(0).threads = vec![next];
    scene.listener(0).accept(0, 4, 50);
    scene.tick(250);
    let model = run(&scene.samples());
    let seen: Vec<_> = model.listeners[0].threads.iter().map(|t| (&t.comm[..], t.accepts, t.ended)).collect();
    assert_eq!(seen, [("srv", 10, true), ("next", 4, false)]);
}

#[test]
fn threads_and_listeners_without_end_do_not_fill_the_memory() {
    let mut scene = one();
    for step in 0..60u32 {
        let l = scene.listener(0);
        l.threads.truncate(1);
        for i in 0..50 {
            l.threads.push(thread(1, 100 + step * 50 + i, "conn"));
            l.threads[i as usize + 1].reads = 1;
        }
        scene.now.listeners.retain(|l| l.id == 1);
        for i in 0..50 {
            let mut short = listener(10 + u64::from(step * 50 + i), NS, "127.0.0.1:9", 16);
            short.opened_ns = Some(scene.now.monotonic_ns);
            short.closed = true;
            short.drops.socket_drops = Some(1);
            scene.now.listeners.push(short);
        }
        scene.counters(0).listen_drops += 50;
        scene.tick(250);
    }
    let model = run(&scene.samples());
    assert!(model.listeners.len() <= 1 + CLOSED_KEPT && model.listeners.len() > CLOSED_KEPT / 2);
    let threads = model.listeners.iter().map(|l| l.threads.len()).max().unwrap();
    assert!((300..700).contains(&threads), "{threads}");
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0), "what was forgotten still counts");
}

#[test]
fn the_tools_own_cost_is_of_the_interval() {
    let model = run(&fixtures::quiet());
    assert_eq!((model.cost.probe_runs, model.cost.probe_ns), (Some(80_000), Some(80_000 * 180)));
    assert!((model.cost.cpu_seconds - 0.032).abs() < 1e-9 && (model.cost.process_cpu - 0.008).abs() < 1e-9);
    assert!((model.cost.probe_cpu.unwrap() - 0.0036).abs() < 1e-9);
    assert_eq!(run(&fixtures::unavailable()).cost.probe_cpu, None);
}

#[test]
fn listeners_are_in_order() {
    let model = run(&fixtures::many(100));
    assert!(model.listeners.iter().is_sorted_by_key(|l| (l.netns, l.port, l.address, l.id)));
    assert_eq!(model.listeners.len(), 100);
    assert!(model.listeners.iter().all(|l| l.netns_name.is_some()));
}
