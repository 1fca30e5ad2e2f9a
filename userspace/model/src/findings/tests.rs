//! From samples to findings.

use super::{agree, plural};
use crate::{
    fixtures::{self, Scene, listener, thread},
    model::{Finding, Severity},
    sample::{ListenerSample, Sample},
    tracker::Tracker,
};

const NS: u32 = 4_026_531_840;

fn findings(samples: &[Sample], place: usize) -> Vec<Finding> {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker.model().listeners[place].findings.clone()
}

/// A listener (backlog 16, four threads) does `step(listener, tick)` in each of eight quarters of a second.
fn of(step: impl Fn(&mut ListenerSample, u64)) -> Vec<Finding> {
    run(8, step)
}

/// The same for so many quarters.
fn run(ticks: u64, step: impl Fn(&mut ListenerSample, u64)) -> Vec<Finding> {
    let mut l = listener(1, NS, "0.0.0.0:80", 16);
    l.threads = (1..5).map(|tid| thread(1, tid, "srv")).collect();
    let mut scene = Scene::new(vec![l]);
    for tick in 0..ticks {
        step(scene.listener(0), tick);
        scene.tick(250);
    }
    findings(&scene.samples(), 0)
}

fn ids(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|f| f.id).collect()
}

/// Accepts and reads at ease.
fn ease(l: &mut ListenerSample) {
    l.enqueue(30, 2);
    l.accept(0, 30, 60);
    l.read(0, 60, 30, 50);
    l.write(0, 60);
}

#[test]
fn a_listener_at_ease_has_none() {
    assert_eq!(ids(&of(|l, _| ease(l))), [""; 0]);
    let quiet = fixtures::quiet();
    (0..3).for_each(|place| assert_eq!(ids(&findings(&quiet, place)), [""; 0]));
}

#[test]
fn an_idle_or_unmeasured_listener_has_none() {
    assert_eq!(ids(&of(|_, _| {})), [""; 0]);
    let unavailable = fixtures::unavailable();
    (0..2).for_each(|place| assert_eq!(ids(&findings(&unavailable, place)), [""; 0]));
}

#[test]
fn overflow_is_critical_while_it_lasts_and_a_warning_after() {
    let found = findings(&fixtures::overflow(), 0);
    assert_eq!(found[0].id, "accept_queue_overflow");
    assert_eq!(found[0].severity, Severity::Critical);
    assert!(found[0].evidence.contains(&("on_syn", 420.0)) && found[0].evidence.contains(&("on_ack", 112.0)));
    assert!(found[0].summary.contains("limit 129") && found[0].advice.contains("tcp_abort_on_overflow"));
    let past = |ticks| {
        run(ticks, |l, tick| {
            ease(l);
            l.refuse(0, u64::from(tick == 0));
        })
    };
    let (soon, later) = (past(8), past(40));
    assert_eq!((ids(&soon), soon[0].severity), (vec!["accept_queue_overflow"], Severity::Critical), "it is held");
    assert!(soon[0].until_unix_ms.is_some(), "but it no longer holds");
    assert_eq!((ids(&later), later[0].severity), (vec!["accept_queue_overflow"], Severity::Warning));
}

#[test]
fn syn_queue_overflow_by_drops_and_by_cookies() {
    let run = |cookies: bool, full: bool| {
        let mut scene = Scene::new(vec![listener(1, NS, "0.0.0.0:80", 16)]);
        for _ in 0..4 {
            if cookies {
                scene.counters(0).syncookies_sent += 9;
            } else {
                scene.listener(0).refuse(5, 0);
                scene.counters(0).listen_drops += 5;
                scene.counters(0).req_q_full_drop += 5;
            }
            scene.listener(0).gauges.syn_peak = Some(if full { 17 } else { 3 });
            scene.tick(250);
        }
        findings(&scene.samples(), 0)
    };
    let refused = run(false, true);
    assert_eq!((ids(&refused), refused[0].severity), (vec!["syn_queue_overflow"], Severity::Critical));
    assert!(refused[0].evidence.contains(&("refused", 20.0)));
    let cookies = run(true, true);
    assert_eq!((ids(&cookies), cookies[0].severity), (vec!["syn_queue_overflow"], Severity::Info));
    assert_eq!(ids(&run(true, false)), [""; 0], "another listener of the namespace sent them");
}

#[test]
fn a_small_backlog_and_slow_accepting_are_distinguished() {
    let burst = of(|l, tick| {
        ease(l);
        l.enqueue(0, if tick == 3 { 17 } else { 1 });
    });
    assert_eq!((ids(&burst), burst[0].severity), (vec!["backlog_small"], Severity::Info));
    let below = of(|l, _| {
        ease(l);
        l.enqueue(0, 16);
    });
    assert_eq!(ids(&below), [""; 0]);
    let full = of(|l, _| {
        l.enqueue(5, 17);
        l.accept(0, 5, 40_000);
        l.gauges.accept_depth = 17;
    });
    assert!(!ids(&full).contains(&"backlog_small"), "{full:?}");
}

#[test]
fn a_hung_acceptor_shows_and_a_slow_one_does_not() {
    let wait = |accepts: u64, oldest_ms: u64| {
        of(move |l, tick| {
            ease_once(l, tick);
            if accepts > 0 {
                l.accept(0, accepts, 60);
            }
            l.gauges.accept_depth = 4;
            l.gauges.oldest_waiting_us = Some(oldest_ms.min((tick + 1) * 250) * 1_000);
        })
    };
    let hung = wait(0, 1_500);
    assert_eq!((ids(&hung), hung[0].severity), (vec!["hung_acceptor"], Severity::Critical));
    assert!(hung[0].advice.contains("strace -p 1,"), "{}", hung[0].advice);
    assert_eq!(ids(&wait(0, 900)), [""; 0], "not for long");
    assert_eq!(ids(&wait(3, 1_500)), ["busy_acceptor"], "it accepts");
    let closed = of(|l, tick| {
        l.gauges.accept_depth = 4;
        l.gauges.oldest_waiting_us = Some(3_000_000);
        l.closed = tick == 7;
    });
    assert_eq!(ids(&closed), ["hung_acceptor"], "it did");
    assert!(closed[0].until_unix_ms.is_some(), "closed");
}

fn ease_once(l: &mut ListenerSample, tick: u64) {
    if tick == 0 {
        ease(l);
    }
}

#[test]
fn slow_accept_needs_a_long_wait() {
    let slow = |us| of(move |l, _| l.accept(0, 30, us));
    assert_eq!(ids(&slow(20_000)), ["slow_accept"], "a tenth waits four times as long");
    assert_eq!(slow(200_000)[0].severity, Severity::Warning);
    assert_eq!(ids(&slow(5_000)), [""; 0]);
    let few = of(|l, tick| {
        if tick == 0 {
            l.accept(0, 10, 900_000);
        }
    });
    assert_eq!(ids(&few), [""; 0], "too few values");
    assert_eq!(ids(&findings(&fixtures::overflow(), 0))[..2], ["accept_queue_overflow", "slow_accept"]);
}

#[test]
fn a_dead_shard_is_named_once_and_its_siblings_are_left_alone() {
    let samples = fixtures::dead_shard();
    let dead = findings(&samples, 3);
    assert_eq!(ids(&dead), ["dead_shard", "accept_queue_overflow"]);
    assert!(dead[0].summary.contains("3 other shards accept 240 connections"), "{}", dead[0].summary);
    (0..3).for_each(|place| assert_eq!(ids(&findings(&samples, place)), [""; 0]));
}

#[test]
fn shard_imbalance_on_the_busiest_only() {
    let group = |counts: [u64; 4]| {
        let shard = |id| {
            let mut l = listener(id, NS, "0.0.0.0:80", 128);
            l.reuseport = true;
            l.threads = vec![thread(1, id as u32, "srv")];
            l
        };
        let mut scene = Scene::new((1..5).map(shard).collect());
        for (n, count) in counts.into_iter().enumerate() {
            scene.listener(n).enqueue(count, 2);
            scene.listener(n).accept(0, count, 50);
        }
        scene.tick(1000);
        let samples = scene.samples();
        (0..4).map(|n| ids(&findings(&samples, n))).collect::<Vec<_>>()
    };
    assert_eq!(group([100, 600, 100, 100]), [vec![], vec!["shard_imbalance"], vec![], vec![]]);
    assert_eq!(group([200, 260, 210, 190]), vec![Vec::<&str>::new(); 4]);
    assert_eq!(group([1, 60, 1, 1]), vec![Vec::<&str>::new(); 4], "too few");
}

#[test]
fn slow_reader_by_residency_and_by_unread_bytes() {
    let read = |us| {
        of(move |l, _| {
            l.accept(0, 5, 60);
            l.read(1, 30, 5, us);
        })
    };
    assert_eq!(ids(&read(40_000)), ["slow_reader"]);
    assert_eq!(ids(&read(5_000)), [""; 0]);
    let queued = |bytes, reading: bool| {
        of(move |l, _| {
            l.gauges.queued_bytes = Some(bytes);
            l.gauges.oldest_unread_us = None;
            if reading {
                l.read(1, 3, 0, 50);
            }
        })
    };
    let stuck = queued(4 << 20, false);
    assert_eq!((ids(&stuck), stuck[0].severity), (vec!["hung_reader"], Severity::Warning));
    assert_eq!(ids(&queued(4 << 20, true)), [""; 0]);
    assert_eq!(ids(&queued(4 << 10, false)), [""; 0]);
}

#[test]
fn accept_errors() {
    let fail = |accepting: bool| {
        of(move |l, _| {
            if accepting {
                ease(l);
            }
            l.counts.accept_failed = l.counts.accept_failed.map(|n| n + 2);
        })
    };
    let (some, all) = (fail(true), fail(false));
    assert_eq!((ids(&some), some[0].severity), (vec!["accept_errors"], Severity::Warning));
    assert_eq!((ids(&all), all[0].severity), (vec!["accept_errors"], Severity::Critical));
    assert!(some[0].evidence.contains(&("failed", 16.0)));
}

#[test]
fn a_thundering_herd_and_a_loop_until_eagain_are_distinguished() {
    let herd = |threads: usize, would_block: u64| {
        of(move |l, _| {
            ease(l);
            (0..threads).for_each(|t| l.would_block(t, would_block));
        })
    };
    assert_eq!(ids(&herd(4, 30)), ["would_block_storm"]);
    assert_eq!(herd(4, 100)[0].severity, Severity::Warning);
    assert_eq!(ids(&herd(1, 30)), [""; 0], "one per accept is how a loop ends");
    assert_eq!(ids(&herd(1, 200)), [""; 0], "one thread is no herd");
    assert_eq!(ids(&herd(4, 4)), [""; 0]);
}

#[test]
fn an_acceptor_without_cpu() {
    let starve = |ms: u64| {
        of(move |l, _| {
            ease(l);
            let queue = &mut l.threads[0].run_queue_ns;
            *queue = queue.map(|ns| ns + ms * 1_000_000);
        })
    };
    let found = starve(100);
    assert_eq!(ids(&found), ["cpu_starved_acceptor"]);
    assert!(found[0].summary.contains("srv (thread 1)"), "{}", found[0].summary);
    assert_eq!(ids(&starve(10)), [""; 0]);
    let other = of(|l, _| {
        ease(l);
        l.threads[2].run_queue_ns = l.threads[2].run_queue_ns.map(|ns| ns + 200_000_000);
    });
    assert_eq!(ids(&other), [""; 0], "it does not accept");
}

#[test]
fn every_finding_has_an_id_of_its_own() {
    let mut ids: Vec<_> = super::ALL.iter().map(|kind| kind.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), super::ALL.len());
}

#[test]
fn the_worst_comes_first_and_equals_in_the_order_of_the_list() {
    let found = of(|l, tick| {
        ease(l);
        l.would_block(0, 60);
        l.would_block(1, 60);
        l.counts.accept_failed = l.counts.accept_failed.map(|n| n + 2);
        l.refuse(0, u64::from(tick == 7));
    });
    assert_eq!(ids(&found), ["accept_errors", "accept_queue_overflow", "would_block_storm"]);
}

#[test]
fn nouns_and_verbs_agree_with_their_number() {
    let wait = |n| format!("{} {}", plural(n, "connection"), agree(n, "waits", "wait"));
    assert_eq!([0, 1, 2].map(wait), ["0 connections wait", "1 connection waits", "2 connections wait"]);
    assert_eq!(wait(1_000), "1,000 connections wait");
}

#[test]
fn durations_in_sentences() {
    let cases = [
        (0, "0 µs"),
        (999, "999 µs"),
        (1_000, "1.0 ms"),
        (999_900, "999.9 ms"),
        (1_000_000, "1.0 s"),
        (61_500_000, "61.5 s"),
    ];
    for (us, text) in cases {
        assert_eq!(super::duration(us), text);
    }
}

#[test]
fn severities_have_their_names() {
    let names = [Severity::Info, Severity::Warning, Severity::Critical].map(Severity::name);
    assert_eq!(names, ["info", "warning", "critical"]);
}
