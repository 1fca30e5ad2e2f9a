//! Whole listeners with one fault each: its root cause comes first, and nothing contradicts it.

use crate::{
    fixtures::{self, Scene, listener, process, thread, thread_state, waiter},
    model::{Finding, Severity, depth},
    sample::{ListenerSample, Sample, WaitKind},
    tracker::Tracker,
};

const NS: u32 = 4_026_531_840;
const MS: u64 = 250;

/// Advice that must not stand beside a stall: the queue is full because nobody empties it.
const NOT_BESIDE_A_STALL: &[&str] =
    &["Raise the backlog", "Turn tcp_syncookies on", "leave backlog and acceptors alone"];

/// A listener with four threads and a backlog of 16 that does `step` in each quarter of a second.
fn scene(ticks: u64, step: impl Fn(&mut Scene, u64)) -> Vec<Sample> {
    let mut l = listener(1, NS, "0.0.0.0:80", 16);
    l.process = process(1, "srv");
    l.threads = (1..5).map(|tid| thread(1, tid, "srv")).collect();
    let mut scene = Scene::new(vec![l]);
    for tick in 0..ticks {
        step(&mut scene, tick);
        scene.tick(MS);
    }
    scene.samples()
}

fn findings(samples: &[Sample], place: usize) -> Vec<Finding> {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker.model().listeners[place].findings.clone()
}

fn watched(ticks: u64, step: impl Fn(&mut Scene, u64)) -> Vec<Finding> {
    findings(&scene(ticks, step), 0)
}

/// Ids with their depths below the root cause.
fn tree(findings: &[Finding]) -> Vec<(&'static str, usize)> {
    (0..findings.len()).map(|at| (findings[at].id, depth(findings, at))).collect()
}

/// A quarter of a second at ease.
fn ease(l: &mut ListenerSample) {
    l.enqueue(30, 2);
    l.accept(0, 30, 60);
    l.read(0, 60, 30, 50);
    l.write(0, 60);
}

/// Connections arrive and nobody takes them, for the `n`th quarter; then the queue is full and refuses.
fn pile_up(scene: &mut Scene, n: u64) {
    let l = scene.listener(0);
    let depth = (4 * n as u32).min(17);
    l.enqueue(if depth < 17 { 4 } else { 0 }, depth);
    l.gauges.accept_depth = depth;
    l.gauges.oldest_waiting_us = Some(n * MS * 1_000);
    if depth == 17 {
        l.refuse(4, 2);
        let counters = scene.counters(0);
        counters.listen_overflows += 6;
        counters.listen_drops += 6;
    }
}

fn contradicts_nothing(findings: &[Finding]) {
    for finding in findings {
        for phrase in NOT_BESIDE_A_STALL {
            assert!(!finding.advice.contains(phrase), "{}: {}", finding.id, finding.advice);
        }
    }
}

#[test]
fn a_stopped_process() {
    let found = watched(16, |scene, tick| {
        if tick < 4 {
            return ease(scene.listener(0));
        }
        pile_up(scene, tick - 3);
        scene.listener(0).threads[0].state = Some(thread_state('T', "do_signal_stop", ""));
    });
    assert_eq!(tree(&found), [("hung_acceptor", 0), ("accept_queue_overflow", 1)]);
    assert_eq!(
        found[0].summary,
        "Nothing was accepted for 3.0 s, while 17 connections wait, the oldest for 3.0 s. srv (thread 1) is stopped by a \
         signal (state T) in do_signal_stop."
    );
    assert!(found[0].advice.contains("kill -CONT 1."), "{}", found[0].advice);
    contradicts_nothing(&found);
}

/// It was busy, waits for a CPU for a moment, and stops: at no moment while clients wait is there nothing critical.
#[test]
fn a_busy_server_that_stops() {
    let samples = scene(40, |scene, tick| {
        let l = scene.listener(0);
        l.gauges.backlog = 511;
        if tick < 12 {
            // It accepts half of what comes.
            l.enqueue(20, 10 * (tick as u32 + 1));
            l.accept(0, 10, 900_000);
            l.read(0, 10, 10, 400_000);
            l.threads[0].state = Some(thread_state('R', "", ""));
        } else {
            l.enqueue(10, l.gauges.accept_depth + 10);
            l.threads[0].state = Some(thread_state('S', "futex_wait_queue", "futex"));
        }
        if tick == 11 {
            l.threads[0].run_queue_ns = l.threads[0].run_queue_ns.map(|ns| ns + 1_500_000_000);
        }
        l.gauges.accept_depth += 10;
        l.gauges.oldest_waiting_us = Some((tick + 1) * MS * 1_000);
    });
    let mut tracker = Tracker::new(&samples[0]);
    let mut starved = false;
    for (tick, sample) in samples[1..].iter().enumerate() {
        tracker.push(sample);
        let findings = &tracker.model().listeners[0].findings;
        let holds = |id: &str| findings.iter().any(|f| f.id == id && f.until_unix_ms.is_none());
        starved |= holds("cpu_starved_acceptor");
        // The recent span is 3 s: while it worked within that, the oldest may have come since.
        if tick >= 12 {
            let critical = findings.iter().any(|f| f.severity == Severity::Critical && f.until_unix_ms.is_none());
            assert!(critical, "after {tick} steps: {findings:#?}");
        }
        // It may pause for 5 s.
        if tick >= 33 {
            assert!(holds("hung_acceptor"), "after {tick} steps: {findings:#?}");
        }
    }
    assert!(starved, "it waited for a CPU for a moment");
}

#[test]
fn one_shard_stopped() {
    let found = findings(&fixtures::dead_shard(), 3);
    assert_eq!(tree(&found), [("dead_shard", 0), ("accept_queue_overflow", 1)]);
    contradicts_nothing(&found);
}

#[test]
fn no_descriptor_left() {
    let found = watched(24, |scene, tick| {
        if tick < 4 {
            return ease(scene.listener(0));
        }
        pile_up(scene, tick - 3);
        let l = scene.listener(0);
        // It tries again every two seconds.
        if tick % 8 == 4 {
            l.counts.accept_failed = l.counts.accept_failed.map(|n| n + 1);
            l.counts.accept_failed_emfile = l.counts.accept_failed_emfile.map(|n| n + 1);
            l.threads[0].accept_failed += 1;
        }
        l.threads[0].state = Some(thread_state('S', "hrtimer_nanosleep", "clock_nanosleep"));
    });
    assert_eq!(tree(&found), [("accept_errors", 0), ("accept_queue_overflow", 1)]);
    assert_eq!(found[0].severity, Severity::Critical);
    assert!(found[0].summary.starts_with("3 accepts failed (EMFILE)"), "{}", found[0].summary);
    contradicts_nothing(&found);
}

#[test]
fn a_slow_handler() {
    // One after the other, 300 ms each, and five clients a second.
    let found = watched(40, |scene, _| {
        let l = scene.listener(0);
        l.enqueue(1, 3);
        l.accept(0, 1, 450_000);
        l.read(0, 1, 1, 80);
        l.write(0, 1);
        l.gauges.accept_depth = 2;
        l.gauges.oldest_waiting_us = Some(500_000);
    });
    assert_eq!(tree(&found), [("slow_accept", 0)]);
    assert!(found[0].until_unix_ms.is_none(), "it holds");
    contradicts_nothing(&found);
}

#[test]
fn a_blocked_event_loop() {
    let found = watched(40, |scene, tick| {
        let l = scene.listener(0);
        l.enqueue(8, 30);
        // Once in two seconds it looks at its listener; meanwhile it answers what it has, late.
        if tick % 8 == 0 {
            l.accept(0, 30, 900_000);
        }
        l.read(0, 3, 3, 700_000);
        l.write(0, 3);
        l.gauges.backlog = 128;
        l.gauges.accept_depth = 60;
        l.gauges.oldest_waiting_us = Some((tick % 8 + 1) * MS * 1_000);
        l.threads[0].state = Some(thread_state('S', "hrtimer_nanosleep", "clock_nanosleep"));
    });
    assert_eq!(tree(&found)[0], ("busy_acceptor", 0));
    assert!(found.iter().all(|finding| finding.id != "hung_acceptor"), "{found:#?}");
    assert!(tree(&found).contains(&("slow_reader", 1)), "{found:#?}");
    contradicts_nothing(&found);
}

#[test]
fn a_hang_with_persistent_clients() {
    let hang = |ticks| {
        watched(ticks, |scene, tick| {
            let l = scene.listener(0);
            l.gauges.open = Some(50);
            match tick {
                0..8 => {
                    l.read(0, 250, 0, 50);
                    l.write(0, 250);
                }
                8..28 => {
                    l.gauges.queued_bytes = Some(300);
                    l.gauges.oldest_unread_us = Some((tick - 7) * MS * 1_000);
                }
                _ => {
                    l.gauges.queued_bytes = Some(0);
                    l.gauges.oldest_unread_us = Some(0);
                    l.read(0, 250, 0, 50);
                }
            }
        })
    };
    let during = hang(22);
    assert_eq!(tree(&during), [("hung_reader", 0)]);
    assert_eq!((during[0].severity, during[0].until_unix_ms), (Severity::Warning, None));
    assert_eq!(
        during[0].summary,
        "Nothing is read: 300 bytes wait unread on accepted connections (50 are open), the oldest for 3.5 s."
    );
    let start = fixtures::quiet()[0].unix_ms;
    assert_eq!(during[0].since_unix_ms, start + 8 * MS);
    let after = hang(80);
    assert_eq!(tree(&after), [("hung_reader", 0)]);
    assert_eq!(after[0].until_unix_ms, Some(start + 28 * MS));
    assert!(
        after[0].summary.contains(" waited unread on accepted connections (50 were open), the oldest for 5.0 s."),
        "{}",
        after[0].summary
    );
}

#[test]
fn a_stall_is_remembered() {
    let stall = |ticks| {
        watched(ticks, |scene, tick| {
            let l = scene.listener(0);
            match tick {
                4..12 => {
                    l.enqueue(8, 8 * (tick as u32 - 3));
                    l.gauges.accept_depth = 8 * (tick as u32 - 3);
                    l.gauges.oldest_waiting_us = Some((tick - 3) * MS * 1_000);
                    l.gauges.backlog = 511;
                }
                12 => {
                    l.gauges.accept_depth = 0;
                    l.gauges.oldest_waiting_us = Some(0);
                    l.accept(0, 64, 1_000_000);
                }
                _ => ease(l),
            }
        })
    };
    let found = stall(400);
    assert_eq!(tree(&found), [("hung_acceptor", 0), ("slow_accept", 1)]);
    let start = fixtures::quiet()[0].unix_ms;
    assert_eq!((found[0].severity, found[0].since_unix_ms), (Severity::Warning, start + 4 * MS));
    assert_eq!(found[0].until_unix_ms, Some(start + 12 * MS));
    assert_eq!(found[0].summary, "Nothing was accepted for 2.0 s, while 64 connections waited, the oldest for 2.0 s.");
    assert_eq!((found[1].severity, found[1].until_unix_ms.is_some()), (Severity::Info, true));
    let soon = stall(14);
    assert_eq!(tree(&soon), [("hung_acceptor", 0), ("slow_accept", 1)]);
    assert!(soon[0].until_unix_ms.is_some() && soon[1].until_unix_ms.is_none(), "{soon:#?}");
}

#[test]
fn a_single_burst() {
    let found = watched(12, |scene, tick| {
        let burst = tick == 6;
        let l = scene.listener(0);
        if burst {
            l.enqueue(17, 17);
            l.accept(0, 17, 30_000);
            l.refuse(40, 6);
            let counters = scene.counters(0);
            counters.listen_overflows += 46;
            counters.listen_drops += 46;
        }
    });
    assert_eq!(tree(&found)[..2], [("backlog_small", 0), ("accept_queue_overflow", 1)]);
    assert!(found[0].advice.starts_with("Raise the backlog"));
    let advised = found[1..].iter().filter(|finding| finding.follows_from.is_none()).count();
    assert_eq!(advised, 0, "{found:#?}");
}

#[test]
fn sustained_overload() {
    let found = watched(40, |scene, _| {
        let l = scene.listener(0);
        l.enqueue(10, 17);
        l.accept(0, 10, 400_000);
        l.read(0, 10, 10, 80);
        l.write(0, 10);
        l.refuse(20, 5);
        l.gauges.accept_depth = 17;
        l.gauges.oldest_waiting_us = Some(420_000);
        let counters = scene.counters(0);
        counters.listen_overflows += 25;
        counters.listen_drops += 25;
    });
    assert_eq!(tree(&found), [("accept_queue_overflow", 0), ("slow_accept", 1)]);
    contradicts_nothing(&found);
}

#[test]
fn cpu_starvation() {
    let found = watched(40, |scene, _| {
        let l = scene.listener(0);
        l.enqueue(10, 17);
        l.accept(0, 10, 400_000);
        l.read(0, 10, 10, 800_000);
        l.refuse(20, 5);
        l.gauges.accept_depth = 17;
        l.gauges.oldest_waiting_us = Some(1_600_000);
        l.threads[0].run_queue_ns = l.threads[0].run_queue_ns.map(|ns| ns + 200_000_000);
        let counters = scene.counters(0);
        counters.listen_overflows += 25;
        counters.listen_drops += 25;
    });
    assert_eq!(tree(&found)[..3], [("cpu_starved_acceptor", 0), ("busy_acceptor", 1), ("accept_queue_overflow", 2)]);
    assert!(tree(&found).iter().skip(1).all(|(_, depth)| *depth > 0), "{found:#?}");
    contradicts_nothing(&found);
}

/// What a flood of SYNs does with net.ipv4.tcp_syncookies at 0, with a full SYN queue or a full reserve, at 1 and at 2.
#[test]
fn a_flood_of_syns() {
    let flood = |peak: u32, refused: u64, queue_full: bool, cookies: u64| {
        watched(16, move |scene, _| {
            let l = scene.listener(0);
            ease(l);
            l.gauges.syn_peak = Some(peak);
            l.gauges.syn_depth = Some(peak);
            l.refuse(refused, 0);
            let counters = scene.counters(0);
            counters.listen_drops += refused;
            counters.req_q_full_drop += if queue_full { refused } else { 0 };
            counters.syncookies_sent += cookies;
        })
    };
    let off = flood(17, 100, true, 0);
    assert_eq!((tree(&off), off[0].severity), (vec![("syn_queue_overflow", 0)], Severity::Critical));
    assert!(off[0].advice.starts_with("Turn tcp_syncookies on"), "{}", off[0].advice);
    let reserve = flood(97, 100, false, 0);
    assert_eq!((tree(&reserve), reserve[0].severity), (vec![("syn_backlog_reserve", 0)], Severity::Critical));
    let on = flood(17, 0, false, 100);
    assert_eq!((tree(&on), on[0].severity), (vec![("syn_queue_overflow", 0)], Severity::Info));
    assert_eq!(tree(&flood(0, 0, false, 100)), [], "always cookies, and nobody is refused");
    let no_way_back = flood(1, 1_000, false, 0);
    assert_eq!((tree(&no_way_back), no_way_back[0].severity), (vec![("refused_otherwise", 0)], Severity::Critical));
}

#[test]
fn a_full_accept_queue_beside_a_full_syn_queue_does_not_advise_cookies() {
    let found = watched(16, |scene, tick| {
        if tick < 4 {
            return ease(scene.listener(0));
        }
        pile_up(scene, tick - 3);
        let l = scene.listener(0);
        l.gauges.syn_peak = Some(17);
        l.refuse(9, 0);
        let counters = scene.counters(0);
        counters.listen_drops += 9;
        counters.req_q_full_drop += 9;
    });
    assert_eq!(tree(&found)[..3], [("hung_acceptor", 0), ("accept_queue_overflow", 1), ("syn_queue_overflow", 2)]);
    contradicts_nothing(&found);
}

#[test]
fn a_restart_with_connections_queued() {
    let found = watched(12, |scene, tick| match tick {
        0..6 => ease(scene.listener(0)),
        6 => {
            let l = scene.listener(0);
            l.enqueue(8, 8);
            l.gauges.accept_depth = 8;
            l.gauges.oldest_waiting_us = Some(200_000);
        }
        7 => {
            let l = scene.listener(0);
            l.counts.aborted = Some(8);
            l.closed = true;
        }
        _ => {}
    });
    assert_eq!(tree(&found), [("connections_lost_on_close", 0)]);
    assert_eq!((found[0].severity, found[0].until_unix_ms.is_some()), (Severity::Warning, true));
    assert_eq!(found[0].summary, "8 connections waited to be accepted when the listener closed, and were reset.");
}

#[test]
fn a_hang_that_a_restart_ends() {
    let found = watched(16, |scene, tick| match tick {
        0..4 => ease(scene.listener(0)),
        4..12 => pile_up(scene, tick - 3),
        12 => {
            let l = scene.listener(0);
            l.counts.aborted = Some(17);
            l.closed = true;
        }
        _ => {}
    });
    assert_eq!(tree(&found), [("hung_acceptor", 0), ("accept_queue_overflow", 1), ("connections_lost_on_close", 1)]);
    assert!(found.iter().all(|finding| finding.until_unix_ms.is_some()), "{found:#?}");
    contradicts_nothing(&found);
}

#[test]
fn nobody_accepts() {
    let gone = |waiters: Option<Vec<_>>| {
        let found = watched(16, move |scene, tick| {
            let l = scene.listener(0);
            l.threads.truncate(1);
            // Its acceptor ends.
            l.threads[0].accepts += u64::from(tick == 0);
            l.threads[0].ended = tick > 0;
            l.waiters = waiters.clone();
            l.enqueue(u64::from(tick == 0) * 3, 3);
            l.gauges.accept_depth = 3;
            l.gauges.oldest_waiting_us = Some((tick + 1) * MS * 1_000);
        });
        tree(&found)
    };
    assert_eq!(gone(Some(Vec::new())), [("acceptor_gone", 0)]);
    assert_eq!(gone(Some(vec![waiter(1, WaitKind::Epoll)])), [("hung_acceptor", 0)]);
    assert_eq!(gone(None), [("hung_acceptor", 0)], "not known");
}

#[test]
fn severities_do_not_flap() {
    // Every other second the queue refuses something.
    let samples = scene(80, |scene, tick| {
        let l = scene.listener(0);
        ease(l);
        if tick >= 8 && tick % 12 == 0 {
            l.enqueue(0, 17);
            l.refuse(0, 3);
            let counters = scene.counters(0);
            counters.listen_overflows += 3;
            counters.listen_drops += 3;
        }
    });
    let mut tracker = Tracker::new(&samples[0]);
    let mut seen: Vec<Option<Severity>> = Vec::new();
    for sample in &samples[1..] {
        tracker.push(sample);
        let findings = &tracker.model().listeners[0].findings;
        seen.push(
            findings.iter().find(|finding| finding.id == "accept_queue_overflow").map(|finding| finding.severity),
        );
    }
    seen.dedup();
    assert_eq!(seen, [None, Some(Severity::Critical)]);
}

#[test]
fn healthy_servers_have_no_finding() {
    for samples in [fixtures::quiet(), fixtures::many(60), fixtures::per_connection()] {
        let mut tracker = Tracker::new(&samples[0]);
        samples[1..].iter().for_each(|s| tracker.push(s));
        for l in &tracker.model().listeners {
            assert!(l.findings.is_empty(), "{:#?}", l.findings);
        }
    }
}
