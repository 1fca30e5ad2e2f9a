//! Changing the level while it measures: what every level has goes on exactly, what comes back is exact from then on,
//! and nothing is left of a change.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use listentop::source::{
    Source as _,
    live::{Level, LiveSource, Options, events::EVENTS},
};
use listentop_model::{
    coverage::{Measure, Status},
    model::ListenerModel,
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch, environment,
    lab::PORT,
    sleep_ms,
    sockets::{
        accept, attempt, connect, give_up_refused_and_count, kernel_drops, listen, receive, send_all, wait_queued,
    },
    tid,
    watch::{assert_counts, count, thread as row},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Writes, Measure::Drops];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "level_changes::there_and_back", needs: NEEDS, run: there_and_back },
    Test { name: "level_changes::open_connections", needs: NEEDS, run: open_connections },
    Test { name: "level_changes::under_traffic", needs: NEEDS, run: under_traffic },
    Test { name: "level_changes::a_fixed_level", needs: NEEDS, run: a_fixed_level },
];

fn watch(lab: &Lab, level: Level) -> Watch {
    Watch::with(lab, &Options { level, adjustable: true, ..environment::options() })
}

/// Serves so many connections, one after the other: a question of 8 bytes, an answer of 6, the end.
fn serve(listener: &Socket, count: u64) {
    for _ in 0..count {
        let client = connect(PORT);
        send_all(&client, b"question");
        let server = accept(listener).expect("a connection");
        assert_eq!(receive(&server, 16), 8);
        send_all(&server, b"answer");
        assert_eq!(receive(&client, 16), 6);
    }
}

/// What this process has attached, as the kernel shows its descriptors: links, and counted tracepoints.
fn attached() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").expect("it is there").flatten() {
        let Ok(leads_to) = fs::read_link(entry.path()) else { continue };
        let what = leads_to.to_string_lossy().into_owned();
        if what == "anon_inode:[perf_event]" {
            *found.entry("system calls".to_owned()).or_default() += 1;
        } else if what.contains("bpf_link") || what.contains("bpf-link") {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", entry.file_name().to_string_lossy()));
            let info = info.unwrap_or_default();
            let link = info.lines().find_map(|line| line.strip_prefix("link_type:")).unwrap_or("link").trim();
            *found.entry(link.to_owned()).or_default() += 1;
        }
    }
    found
}

/// What is attached is what the level needs, and coverage says the same.
fn assert_level(watch: &mut Watch, level: Level, links: &mut BTreeMap<&'static str, BTreeMap<String, usize>>) {
    for definition in EVENTS.iter().filter(|definition| definition.level > level) {
        assert!(!watch.source().brings(definition.event), "{level:?} has {:?}", definition.event);
    }
    let now = attached();
    let before = links.entry(level.name()).or_insert_with(|| now.clone());
    assert_eq!(*before, now, "{level:?}: the same as when it was taken before");
    for entry in &watch.model().coverage {
        let carriers = EVENTS.iter().filter(|definition| definition.carries.contains(&entry.measure));
        let lowest = carriers.map(|definition| definition.level).max().unwrap_or(Level::Queues);
        if lowest > level {
            assert_eq!(entry.status, Status::Unavailable, "{level:?}: {}: {}", entry.measure, entry.reason);
        } else if (entry.measure, level) != (Measure::Enqueued, Level::Queues) {
            assert!(!entry.reason.contains("--measure"), "{level:?}: {}: {}", entry.measure, entry.reason);
        }
    }
}

/// Every figure that a level leaves out is unknown.
fn assert_unknown(seen: &ListenerModel, level: Level) {
    if level < Level::All {
        assert_eq!((seen.total.reads, seen.total.read_bytes, seen.total.writes), (None, None, None));
        assert_eq!((seen.now.queued_bytes, seen.now.oldest_unread_us, seen.rate.reads), (None, None, None));
        assert!(seen.distributions.residency.is_none() && seen.recent_distributions.answer.is_none());
    }
    if level < Level::Accepts {
        assert_eq!((seen.total.accepts, seen.total.would_block, seen.total.aborted), (None, None, None));
        assert_eq!((seen.now.open, seen.rate.accepts), (None, None));
        assert!(seen.distributions.accept_wait.is_none());
    }
}

/// Up and down, with a known load at each level.
fn there_and_back(lab: &Lab) {
    let mut watch = watch(lab, Level::Queues);
    let listener = listen(PORT, 8);
    watch.sample();
    let mut links = BTreeMap::new();
    let (mut served, mut dropped, drops_before) = (0, 0, kernel_drops(&listener));
    let levels = [Level::Queues, Level::Accepts, Level::All, Level::Accepts, Level::Queues, Level::All, Level::Queues];
    let (mut before, mut waiting) = (Level::Queues, 0);
    for (step, level) in levels.into_iter().chain([Level::All]).enumerate() {
        let step = step as u64;
        if level != before {
            // Some wait while the level changes; their enqueue was seen, so their waits count.
            let clients: Vec<Socket> = (0..step).map(|_| connect(PORT)).collect();
            wait_queued(&listener, step as u32);
            watch.set_level(level);
            let seen = watch.listener(PORT);
            for (count, came) in [(seen.total.accepts, Level::Accepts), (seen.total.reads, Level::All)] {
                let begins_anew = before < came && came <= level;
                assert!(!begins_anew || count == Some(0), "{before:?} to {level:?}: {count:?}");
            }
            if before < Level::Accepts && level >= Level::Accepts {
                assert_eq!(seen.rate.accepts, None, "it was not measured over the span");
                assert_eq!(seen.now.open, Some(0));
                assert_eq!(seen.history.latest().expect("a point").accepts, None);
            }
            let mark = watch.model().marks.last().expect("the change is marked");
            assert_eq!(mark.what, format!("measure {}", level.name()));
            let since = |watch: &Watch, measure| {
                watch.model().coverage.iter().find(|c| c.measure == measure).expect("it is there").since_ns
            };
            assert_eq!(since(&watch, Measure::Enqueued), None, "it was measured all the time");
            let changed = if before.max(level) == Level::All { Measure::Reads } else { Measure::Accepts };
            assert_eq!(since(&watch, changed), Some(mark.monotonic_ns));
            (waiting, served) = (step, served + step);
            drop(clients);
            for _ in 0..step {
                drop(accept(&listener).expect("one that waited"));
            }
            sleep_ms(20);
        }
        let anew = before;
        let counted = |seen: &ListenerModel| (seen.total.accepts, seen.total.reads, seen.total.writes);
        watch.sample();
        let at_first = counted(watch.listener(PORT));
        let refused: Vec<Socket> = {
            let full: Vec<Socket> = (0..=8).map(|_| connect(PORT)).collect();
            let refused: Vec<Socket> = (0..3).map(|_| attempt(PORT)).collect();
            sleep_ms(50);
            let (established, syns) = give_up_refused_and_count(refused);
            dropped += syns;
            for _ in &full {
                drop(accept(&listener).expect("one that filled the queue"));
            }
            served += full.len() as u64;
            established
        };
        assert!(refused.is_empty(), "the test's own load: the queue is full");
        watch.during(|| serve(&listener, 100));
        served += 100;
        sleep_ms(50);
        watch.sample();
        watch.sample();
        let (hidden, seen) = (watch.hidden(), watch.listener(PORT));
        let what = format!("step {step}, {level:?}");
        assert_counts(hidden, &[(what.as_str(), seen.total.enqueued, served)]);
        assert_eq!(seen.drops.total, Some(dropped), "{what}");
        assert_unknown(seen, level);
        if level >= Level::Accepts {
            let anew = if anew < Level::Accepts { waiting + 109 } else { at_first.0.expect("measured") + 109 };
            assert_counts(
                hidden,
                &[
                    (&format!("{what}: accepts"), seen.total.accepts, anew),
                    (&format!("{what}: waits"), Some(count(seen.distributions.accept_wait.as_ref())), anew),
                    (&format!("{what}: open"), seen.now.open, 0),
                    (&format!("{what}: aborted"), seen.total.aborted, 0),
                ],
            );
            let accepted: u64 = seen.threads.iter().map(|thread| thread.accepts).sum();
            assert_eq!(Some(accepted), seen.total.accepts, "{what}: by thread");
        }
        if level == Level::All {
            assert_counts(
                hidden,
                &[
                    (&format!("{what}: reads"), seen.total.reads, at_first.1.expect("measured") + 100),
                    (&format!("{what}: writes"), seen.total.writes, at_first.2.expect("measured") + 100),
                    (&format!("{what}: answers"), Some(count(seen.distributions.answer.as_ref())), 100),
                    (&format!("{what}: unread"), seen.now.queued_bytes, 0),
                ],
            );
        }
        assert_level(&mut watch, level, &mut links);
        before = level;
    }
    assert_eq!(dropped, kernel_drops(&listener) - drops_before, "the test's own load: SYNs alone are refused");
    assert!(links["queues"].values().sum::<usize>() < links["accepts"].values().sum(), "{links:?}");
    assert!(links["accepts"].values().sum::<usize>() < links["all"].values().sum(), "{links:?}");
    assert!(watch.lost() <= watch.hidden(), "nothing is lost: {:?}", watch.model().losses);
}

/// Connections that stay open across the changes, with bytes that nobody has read.
fn open_connections(lab: &Lab) {
    let mut watch = watch(lab, Level::All);
    let listener = listen(PORT, 64);
    watch.sample();
    let mut clients: Vec<Socket> = (0..10).map(|_| connect(PORT)).collect();
    let mut servers: Vec<Socket> = (0..10).map(|_| accept(&listener).expect("a connection")).collect();
    clients.iter().for_each(|client| send_all(client, &[0; 100]));
    sleep_ms(20);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.open, seen.now.queued_bytes), (Some(10), Some(1_000)));
    // Unseen: five read, all get more, three end unread, and seven come, of which two wait.
    watch.set_level(Level::Queues);
    servers[..5].iter().for_each(|server| assert_eq!(receive(server, 200), 100));
    clients.iter().for_each(|client| send_all(client, &[0; 10]));
    clients.truncate(7);
    servers.truncate(7);
    clients.extend((0..7).map(|_| connect(PORT)));
    servers.extend((0..5).map(|_| accept(&listener).expect("a connection")));
    clients[7..].iter().for_each(|client| send_all(client, &[0; 1]));
    sleep_ms(50);
    watch.set_level(Level::Accepts);
    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.open, seen.now.queued_bytes, seen.total.accepts), (Some(12), None, Some(0)));
    clients[..5].iter().for_each(|client| send_all(client, &[0; 1_000]));
    sleep_ms(50);
    watch.set_level(Level::All);
    watch.sample();
    // 5 × (10 + 1,000), 2 × 110, 7 × 1.
    let seen = watch.listener(PORT);
    assert_eq!(
        (seen.now.open, seen.now.queued_bytes, seen.total.reads),
        (Some(12), Some(5 * 1_010 + 220 + 7), Some(0))
    );
    assert!(seen.now.oldest_unread_us.is_some_and(|age| age < 5_000_000), "{:?}", seen.now.oldest_unread_us);
    // From here on everything is seen, and nothing has a time from before.
    servers.extend((0..2).map(|_| accept(&listener).expect("one that waited")));
    for server in &servers {
        assert!(receive(server, 4_096) > 0);
        send_all(server, b"answer");
    }
    sleep_ms(20);
    watch.sample();
    watch.sample();
    let (me, hidden, seen) = (tid(), watch.hidden(), watch.listener(PORT));
    assert_counts(
        hidden,
        &[
            ("accepts", seen.total.accepts, 2),
            ("waits", Some(count(seen.distributions.accept_wait.as_ref())), 2),
            ("open", seen.now.open, 14),
            ("reads", seen.total.reads, 14),
            ("bytes", seen.total.read_bytes, 5 * 1_010 + 220 + 7),
            ("unread", seen.now.queued_bytes, 0),
            ("residency", Some(count(seen.distributions.residency.as_ref())), 14),
            ("answers", Some(count(seen.distributions.answer.as_ref())), 14),
            ("first reads of new connections", Some(count(seen.distributions.first_read.as_ref())), 2),
            ("the thread's reads", row(seen, me).map(|thread| thread.reads), 14),
        ],
    );
    let longest = seen.distributions.residency.as_ref().and_then(|h| h.quantile_us(1.0)).expect("it has values");
    assert!(longest < 5_000_000, "no residency is from before the change: {longest} µs");
    drop((clients, servers));
    sleep_ms(50);
    watch.sample();
    assert_counts(watch.hidden(), &[("open", watch.listener(PORT).now.open, 0)]);
    assert!(watch.lost() <= watch.hidden(), "nothing is lost: {:?}", watch.model().losses);
}

/// Fifty changes while four threads connect, accept, read and write as fast as they can.
fn under_traffic(lab: &Lab) {
    let mut watch = watch(lab, Level::All);
    let listener = listen(PORT, 256);
    watch.sample();
    let before = attached();
    let stop = AtomicBool::new(false);
    let served: u64 = thread::scope(|scope| {
        let work = || {
            let mut served = 0;
            while !stop.load(Ordering::Relaxed) {
                serve(&listener, 1);
                served += 1;
            }
            served
        };
        // Each thread may accept another's connection: all of them ask the same.
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        let levels = [Level::Queues, Level::Accepts, Level::All, Level::Queues, Level::All, Level::Accepts];
        for level in levels.into_iter().cycle().take(49).chain([Level::All]) {
            watch.set_level(level);
            sleep_ms(10);
            watch.sample();
            let seen = watch.listener(PORT);
            assert_unknown(seen, level);
            let (accepts, enqueued) = (seen.total.accepts.unwrap_or(0), seen.total.enqueued.unwrap_or(0));
            assert!(accepts <= enqueued + 8, "{level:?}: {accepts} of {enqueued}");
            // A sample is not one instant: what came and went while it was taken may show. A position of another time
            // would be off by far more.
            assert!(seen.now.open.unwrap_or(0) <= 10_000, "{:?}", seen.now);
            assert!(seen.now.queued_bytes.unwrap_or(0) <= 8 * 10_000, "{:?}", seen.now);
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("it does not fail")).sum()
    });
    let end = Instant::now() + environment::patience();
    watch.sample();
    // The kernel may have skipped the program that sees one end.
    while watch.listener(PORT).now.open.is_none_or(|open| open > watch.hidden()) {
        let (now, hidden) = (&watch.listener(PORT).now, watch.hidden());
        assert!(Instant::now() < end, "connections that are gone stay open ({hidden} events were hidden): {now:?}");
        sleep_ms(5);
        watch.sample();
    }
    assert_eq!(attached(), before, "fifty changes leave nothing behind");
    let (hidden, seen) = (watch.hidden(), watch.listener(PORT));
    assert_counts(
        hidden,
        &[
            ("enqueued", seen.total.enqueued, served),
            ("unread", seen.now.queued_bytes, 0),
            ("drops", seen.drops.total, 0),
        ],
    );
    let (accepts, reads) = (seen.total.accepts.expect("measured"), seen.total.reads.expect("measured"));
    assert!(watch.lost() <= hidden, "nothing is lost: {:?}", watch.model().losses);
    watch.during(|| serve(&listener, 500));
    sleep_ms(50);
    watch.sample();
    watch.sample();
    let (hidden, seen) = (watch.hidden(), watch.listener(PORT));
    assert_counts(
        hidden,
        &[
            ("accepts", seen.total.accepts, accepts + 500),
            ("reads", seen.total.reads, reads + 500),
            ("enqueued", seen.total.enqueued, served + 500),
            ("open", seen.now.open, 0),
        ],
    );
}

/// A source that was not asked to keeps its level, and says so.
fn a_fixed_level(_: &Lab) {
    let mut source = LiveSource::start(&environment::options()).expect("the probes can be attached");
    assert_eq!(source.levels(), None);
    assert!(source.set_level(Level::Queues).is_err_and(|why| why.contains("start")));
    let options = Options { adjustable: true, level: Level::Accepts, ..environment::options() };
    let mut source = LiveSource::start(&options).expect("the probes can be attached");
    let levels = source.levels().expect("it can change");
    assert_eq!((levels.level, levels.name, levels.refused), (Level::Accepts, "live, accepts", Vec::new()));
}
