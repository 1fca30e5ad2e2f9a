//! Whatever the samples are: the verdict denies nothing that a figure beside it shows.

use proptest::prelude::*;

use super::*;
use crate::{
    fixtures::{Scene, listener, process, thread, thread_state},
    tracker::Tracker,
};

/// What happens to one listener in a step.
#[derive(Debug, Clone)]
struct Happens {
    enqueued: u64,
    accepted: u64,
    read: u64,
    failed: u64,
    refused: (u64, u64),
    /// Whether the namespace's counters tell why.
    told: bool,
    depth: u32,
    oldest_us: Option<u64>,
    unread: (Option<u64>, Option<u64>),
    state: Option<char>,
    run_queue_ms: u64,
    closes: bool,
}

fn happens() -> impl Strategy<Value = Happens> {
    let age = || prop_oneof![Just(0), 0..1_500_000_u64, 900_000..9_000_000_u64];
    let few = || prop_oneof![3 => Just(0), 1 => 0..40_u64];
    let counts = (few(), few(), few(), few(), few(), few(), any::<bool>());
    let queues = (
        prop_oneof![Just(0), 0..20_u32],
        prop::option::weighted(0.9, age()),
        prop::option::weighted(0.8, age()),
        prop::option::weighted(0.9, prop_oneof![Just(0), 0..200_000_u64]),
    );
    let thread = (prop::option::of(prop::sample::select(vec!['R', 'S', 'T'])), few(), prop::bool::weighted(0.02));
    (counts, queues, thread).prop_map(|(counts, queues, (state, run_queue, closes))| {
        let (enqueued, accepted, read, failed, syn, ack, told) = counts;
        let (depth, oldest_us, unread_us, bytes) = queues;
        Happens {
            enqueued,
            accepted,
            read,
            failed: u64::from(failed > 30),
            refused: (syn, ack),
            told,
            depth,
            oldest_us: if depth == 0 { Some(0) } else { oldest_us },
            unread: (unread_us, bytes),
            state,
            run_queue_ms: run_queue * 10,
            closes,
        }
    })
}

/// A listener on its own and a group of two shards, and what cannot be measured.
fn scene(blind: &[Measure]) -> Scene {
    let one = |id: u64, address: &str| {
        let mut one = listener(id, 4_026_531_840, address, 16);
        one.process = process(id as u32, "srv");
        one.threads = (1..3).map(|n| thread(id as u32, id as u32 * 10 + n, "srv")).collect();
        one
    };
    let mut listeners = vec![one(1, "0.0.0.0:80"), one(2, "0.0.0.0:90"), one(3, "0.0.0.0:90")];
    listeners[1..].iter_mut().for_each(|shard| shard.reuseport = true);
    let mut scene = Scene::new(listeners);
    for coverage in scene.now.coverage.iter_mut().filter(|coverage| blind.contains(&coverage.measure)) {
        coverage.status = Status::Unavailable;
    }
    scene
}

fn step(scene: &mut Scene, place: usize, now: &Happens) {
    if place >= scene.now.listeners.len() {
        return; // some have closed
    }
    let l = &mut scene.now.listeners[place];
    l.gauges.accept_depth = now.depth;
    l.enqueue(now.enqueued, now.depth);
    l.accept(0, now.accepted, 400_000);
    l.read(0, now.read, 0, 50);
    l.counts.accept_failed = l.counts.accept_failed.map(|n| n + now.failed);
    l.refuse(now.refused.0, now.refused.1);
    l.gauges.oldest_waiting_us = now.oldest_us;
    (l.gauges.oldest_unread_us, l.gauges.queued_bytes) = now.unread;
    l.threads[0].state = now.state.map(|state| thread_state(state, "futex_wait_queue", "futex"));
    l.threads[0].run_queue_ns = l.threads[0].run_queue_ns.map(|ns| ns + now.run_queue_ms * 1_000_000);
    l.closed |= now.closes;
    let counters = scene.counters(0);
    counters.listen_drops += now.refused.0 + now.refused.1;
    if now.told {
        counters.listen_overflows += now.refused.0 + now.refused.1;
    }
}

/// Whether the text says so of every listener.
fn denies(text: &str, one: &str, many: &str) -> bool {
    text.contains(one) || text.starts_with("None of") && text.contains(many)
}

fn assert_no_contradiction(model: &Model) -> Result<(), TestCaseError> {
    let verdict = of(model);
    let text = &verdict.text;
    let open: Vec<&ListenerModel> = model.listeners.iter().filter(|l| !l.closed).collect();
    let refusing = open.iter().filter(|l| l.recent_drops.total.unwrap_or(0) > 0);
    let waits = |l: &ListenerModel| l.now.oldest_waiting_us.is_some_and(|us| us > 1_000_000);
    let waiting: Vec<_> = open.iter().filter(|l| waits(l)).collect();
    prop_assert_eq!(text == "No listener is open", open.is_empty());
    if denies(text, "refuses no client", "refuses clients") {
        for l in refusing {
            prop_assert!(false, "{} refused {:?}: {}", l.port, l.recent_drops, text);
        }
    }
    if denies(text, "keeps none waiting", "keeps them waiting") {
        for l in &open {
            prop_assert!(!waits(l), "one waits for {:?}: {}", l.now.oldest_waiting_us, text);
            prop_assert!(l.now.accept_depth == 0 || l.now.oldest_waiting_us.is_some(), "who knows: {}", text);
            let unread = l.now.oldest_unread_us.unwrap_or(0);
            prop_assert!(unread <= 1_000_000 || text.contains("unread bytes have waited for"), "{}: {}", unread, text);
        }
    }
    // Who waits is counted, with or without a finding.
    if !waiting.is_empty() {
        prop_assert!(verdict.harm >= Harm::Waiting, "{:?}: {}", verdict.harm, text);
        let (count, _) = text.split_once(' ').expect("words");
        let also =
            text.split(", ").nth(1).and_then(|part| part.split_once(' ')).map_or(0, |(n, _)| n.parse().unwrap_or(0));
        let counted: usize = count.parse().expect("a number");
        prop_assert!(counted + also >= waiting.len(), "{} wait: {}", waiting.len(), text);
    }
    // The line of a listener says what makes it red.
    for l in &open {
        let critical = l.findings.iter().any(|f| f.severity == Severity::Critical && f.until_unix_ms.is_none());
        prop_assert!(!waits(l) || critical || unfound_line(model, l).is_some(), "{}", text);
        if let Some((severity, line)) = unfound_line(model, l) {
            prop_assert_eq!(Standing::of(l).severity.max(Some(severity)), Standing::of(l).severity);
            prop_assert!(line.ends_with(". No finding says why yet."), "{}", line);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_verdict_never_denies_what_a_figure_shows(
        steps in prop::collection::vec((250..2_000_u64, prop::collection::vec(happens(), 3)), 1..24),
        blind in prop::sample::subsequence(vec![Measure::Drops, Measure::AcceptWait, Measure::OldestWaiting], 0..=3),
    ) {
        let mut scene = scene(&blind);
        for (ms, listeners) in &steps {
            listeners.iter().enumerate().for_each(|(place, now)| step(&mut scene, place, now));
            scene.tick(*ms);
        }
        let samples = scene.samples();
        let mut tracker = Tracker::new(&samples[0]);
        assert_no_contradiction(tracker.model())?;
        for sample in &samples[1..] {
            tracker.push(sample);
            assert_no_contradiction(tracker.model())?;
        }
    }
}
