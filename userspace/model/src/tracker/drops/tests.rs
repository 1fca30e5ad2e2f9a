use crate::{
    fixtures::{Scene, listener},
    model::{Drops, Model},
    sample::Sample,
    tracker::Tracker,
};

mod skew;

const NS: u32 = 4_026_531_840;

fn run(samples: &[Sample]) -> Model {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker.model().clone()
}

/// `n` listeners with a backlog of 16.
fn scene(n: u64) -> Scene {
    Scene::new((1..=n).map(|id| listener(id, NS, &format!("127.0.0.1:{}", 8000 + id), 16)).collect())
}

/// What the kernel does for one refused attempt: a row of the table of drops.
#[derive(Debug, Clone, Copy, Default)]
struct Refusal {
    socket_drops: u64,
    ack_overflow: u64,
    ack_other: u64,
    not_attempts: u64,
    overflows: u64,
    drops: u64,
    req_q_full: u64,
}

const SYN_ACCEPT_QUEUE: Refusal = Refusal { socket_drops: 1, overflows: 1, drops: 1, ..ZERO };
const SYN_SYN_QUEUE: Refusal = Refusal { socket_drops: 1, req_q_full: 1, drops: 1, ..ZERO };
const SYN_OTHER: Refusal = Refusal { socket_drops: 1, drops: 1, ..ZERO };
const ACK_ACCEPT_QUEUE: Refusal = Refusal { socket_drops: 2, ack_overflow: 1, overflows: 1, drops: 1, ..ZERO };
const ACK_OTHER: Refusal = Refusal { socket_drops: 2, ack_other: 1, drops: 1, ..ZERO };
const DEFER_ACCEPT: Refusal = Refusal { socket_drops: 1, not_attempts: 1, ..ZERO };
const ZERO: Refusal =
    Refusal { socket_drops: 0, ack_overflow: 0, ack_other: 0, not_attempts: 0, overflows: 0, drops: 0, req_q_full: 0 };

/// The listener's own counters.
fn on_socket(scene: &mut Scene, place: usize, r: Refusal, n: u64) {
    let l = scene.listener(place);
    let add = |counter: &mut Option<u64>, by: u64| *counter = counter.map(|c| c + by * n);
    add(&mut l.drops.socket_drops, r.socket_drops);
    add(&mut l.drops.ack_overflow, r.ack_overflow);
    add(&mut l.drops.ack_other, r.ack_other);
    add(&mut l.drops.not_attempts, r.not_attempts);
    if r.overflows > 0 {
        l.gauges.accept_peak = Some(17);
    }
}

/// The namespace's counters.
fn on_host(scene: &mut Scene, r: Refusal, n: u64) {
    let counters = scene.counters(0);
    counters.listen_overflows += r.overflows * n;
    counters.listen_drops += r.drops * n;
    counters.req_q_full_drop += r.req_q_full * n;
}

fn refuse(scene: &mut Scene, place: usize, r: Refusal, n: u64) {
    on_socket(scene, place, r, n);
    on_host(scene, r, n);
}

/// (accept queue full on SYN, on ACK, SYN queue full, other, unexplained)
fn causes(d: &Drops) -> [Option<u64>; 5] {
    [d.accept_queue_full_on_syn, d.accept_queue_full_on_ack, d.syn_queue_full, d.other, d.unexplained]
}

fn all(n: [u64; 5]) -> [Option<u64>; 5] {
    n.map(Some)
}

/// Causes must add up to the total, for the interval and for the recent span, and the namespace must agree.
#[track_caller]
fn check(model: &Model, place: usize, expected: [u64; 5]) {
    let l = &model.listeners[place];
    assert_eq!(causes(&l.drops), all(expected), "listener {place}");
    assert_eq!(l.drops.total, Some(expected.iter().sum()), "listener {place}");
    let recent = causes(&l.recent_drops).into_iter().flatten().sum::<u64>();
    assert_eq!(l.recent_drops.total, Some(recent), "recent drops of listener {place}: {:?}", l.recent_drops);
}

#[test]
fn each_row_of_the_table() {
    let rows = [
        (SYN_ACCEPT_QUEUE, [7, 0, 0, 0, 0], 7),
        (SYN_SYN_QUEUE, [0, 0, 7, 0, 0], 7),
        // SYN queue full with cookies on refuses nobody and counts nowhere.
        (ZERO, [0, 0, 0, 0, 0], 0),
        (SYN_OTHER, [0, 0, 0, 7, 0], 7),
        (ACK_ACCEPT_QUEUE, [0, 7, 0, 0, 0], 7),
        (ACK_OTHER, [0, 0, 0, 7, 0], 7),
        (DEFER_ACCEPT, [0, 0, 0, 0, 0], 0),
        // A cookie's ACK on a full accept queue looks like a SYN there: no probe distinguishes its packet from others.
        (SYN_ACCEPT_QUEUE, [7, 0, 0, 0, 0], 7),
    ];
    for (refusal, expected, attempts) in rows {
        let mut scene = scene(1);
        refuse(&mut scene, 0, refusal, 7);
        scene.tick(1000);
        let model = run(&scene.samples());
        check(&model, 0, expected);
        let namespace = &model.namespaces[0];
        assert_eq!((namespace.listen_drops, namespace.unexplained_drops), (Some(attempts), Some(0)), "{refusal:?}");
    }
}

#[test]
fn one_listener_with_all_causes_at_once_is_exact() {
    let mut scene = scene(1);
    for _ in 0..3 {
        refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 5);
        refuse(&mut scene, 0, SYN_SYN_QUEUE, 3);
        refuse(&mut scene, 0, SYN_OTHER, 2);
        refuse(&mut scene, 0, ACK_ACCEPT_QUEUE, 4);
        refuse(&mut scene, 0, ACK_OTHER, 1);
        refuse(&mut scene, 0, DEFER_ACCEPT, 6);
        scene.tick(250);
    }
    let model = run(&scene.samples());
    check(&model, 0, [15, 12, 9, 9, 0]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

#[test]
fn two_listeners_with_one_cause_are_exact() {
    let mut scene = scene(2);
    refuse(&mut scene, 0, SYN_SYN_QUEUE, 3);
    refuse(&mut scene, 1, SYN_SYN_QUEUE, 8);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [0, 0, 3, 0, 0]);
    check(&model, 1, [0, 0, 8, 0, 0]);
}

#[test]
fn causes_that_change_from_step_to_step_are_exact() {
    let mut scene = scene(2);
    refuse(&mut scene, 0, SYN_SYN_QUEUE, 3);
    refuse(&mut scene, 1, SYN_SYN_QUEUE, 8);
    scene.tick(250);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 10);
    refuse(&mut scene, 1, SYN_ACCEPT_QUEUE, 1);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [10, 0, 3, 0, 0]);
    check(&model, 1, [1, 0, 8, 0, 0]);
}

#[test]
fn a_queue_that_was_never_near_full_refused_nothing_for_being_full() {
    let mut scene = scene(2);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 6);
    refuse(&mut scene, 1, SYN_OTHER, 4);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [6, 0, 0, 0, 0]);
    check(&model, 1, [0, 0, 0, 4, 0]);
}

/// Whether a queue with a limit of 101 whose peak was `peak` may have refused what the namespace counts as refused by a
/// full accept queue. The other listener's was full.
fn named_at(peak: u32) -> Option<u64> {
    let mut scene = Scene::new((1..=2).map(|id| listener(id, NS, &format!("127.0.0.1:{}", 8000 + id), 100)).collect());
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 6);
    refuse(&mut scene, 1, SYN_OTHER, 4);
    scene.listener(0).gauges.accept_peak = Some(101);
    scene.listener(1).gauges.accept_peak = Some(peak);
    scene.tick(250);
    run(&scene.samples()).listeners[1].drops.other
}

#[test]
fn a_queue_is_nearly_full_from_a_quarter_of_its_limit_below_it_on() {
    assert_eq!([71, 74, 75, 79].map(named_at), [Some(4), Some(4), Some(0), Some(0)]);
}

#[test]
fn what_is_no_attempt_counts_where_drops_cannot_be_read() {
    let mut scene = scene(1);
    scene.listener(0).drops.socket_drops = None;
    scene.tick(250);
    let not_attempts = &mut scene.listener(0).drops.not_attempts;
    *not_attempts = not_attempts.map(|n| n + 3);
    scene.tick(250);
    let model = run(&scene.samples()[1..]);
    assert_eq!(model.listeners[0].drops.total, None);
}

#[test]
fn two_listeners_with_two_causes_stay_unexplained_but_for_what_is_certain() {
    let mut scene = scene(2);
    for place in 0..2 {
        scene.listener(place).gauges.accept_peak = Some(17);
    }
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 10);
    refuse(&mut scene, 1, SYN_SYN_QUEUE, 4);
    scene.tick(250);
    let model = run(&scene.samples());
    // Of ten refused SYNs of the first, four may have been those of the SYN queue.
    check(&model, 0, [6, 0, 0, 0, 4]);
    check(&model, 1, [0, 0, 0, 0, 4]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0), "every attempt is some listener's");
}

#[test]
fn what_stayed_open_does_not_spoil_later_steps() {
    let mut scene = scene(2);
    for place in 0..2 {
        scene.listener(place).gauges.accept_peak = Some(17);
    }
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 3);
    refuse(&mut scene, 1, SYN_SYN_QUEUE, 3);
    scene.tick(250);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 100);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [100, 0, 0, 0, 3]);
    check(&model, 1, [0, 0, 0, 0, 3]);
}

#[test]
fn drops_of_an_untracked_listener_are_not_given_to_another() {
    let mut scene = scene(1);
    refuse(&mut scene, 0, SYN_SYN_QUEUE, 5);
    on_host(&mut scene, SYN_ACCEPT_QUEUE, 9);
    scene.tick(250);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [0, 0, 5, 0, 0]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(9));
}

#[test]
fn a_counter_that_restarts_counts_nothing_twice_and_nothing_negative() {
    let mut scene = scene(1);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 50);
    scene.tick(250);
    scene.listener(0).drops.socket_drops = Some(3);
    scene.counters(0).listen_drops = 2;
    scene.counters(0).listen_overflows = 2;
    scene.tick(250);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 4);
    scene.tick(250);
    let model = run(&scene.samples());
    check(&model, 0, [54, 0, 0, 0, 0]);
}

#[test]
fn a_listener_that_closes_takes_its_drops_along() {
    let mut scene = scene(2);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 5);
    scene.tick(250);
    refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 2);
    scene.listener(0).closed = true;
    scene.tick(250);
    for _ in 0..8 {
        scene.tick(250);
    }
    let model = run(&scene.samples());
    check(&model, 0, [7, 0, 0, 0, 0]);
    assert!(model.listeners[0].closed);
    assert_eq!(model.listeners[0].recent_drops.total, Some(0));
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

#[test]
fn without_namespace_counters_causes_of_syns_are_unknown() {
    let mut scene = scene(1);
    scene.now.namespaces[0].counters = None;
    on_socket(&mut scene, 0, SYN_ACCEPT_QUEUE, 5);
    on_socket(&mut scene, 0, ACK_ACCEPT_QUEUE, 2);
    on_socket(&mut scene, 0, ACK_OTHER, 1);
    scene.tick(250);
    let mut samples = scene.samples();
    samples[0].namespaces[0].counters = None;
    let model = run(&samples);
    let d = &model.listeners[0].drops;
    assert_eq!(causes(d), [None, Some(2), None, Some(1), Some(5)]);
    assert_eq!(d.total, Some(8));
    assert_eq!(model.namespaces[0].unexplained_drops, None);
}

#[test]
fn without_sk_drops_only_what_probes_saw_is_known() {
    let mut scene = scene(1);
    let mut samples = Vec::new();
    scene.listener(0).drops.socket_drops = None;
    scene.tick(250);
    on_socket(&mut scene, 0, ACK_ACCEPT_QUEUE, 3);
    scene.tick(250);
    samples.extend(scene.samples().into_iter().skip(1));
    let model = run(&samples);
    let d = &model.listeners[0].drops;
    assert_eq!((d.total, d.clients), (None, None));
    assert_eq!(causes(d), [None, Some(3), None, None, None]);
}

#[test]
fn refused_syns_that_a_probe_saw_need_no_inference() {
    let mut scene = scene(2);
    for sample in 0..2 {
        let l = scene.listener(0);
        l.drops.syn_accept_queue_full = Some(sample * 4);
        l.drops.syn_queue_full = Some(sample * 2);
        l.drops.syn_other = Some(sample);
        l.drops.socket_drops = Some(sample * 7);
        if sample == 1 {
            on_host(&mut scene, SYN_ACCEPT_QUEUE, 4);
            on_host(&mut scene, SYN_SYN_QUEUE, 2);
            on_host(&mut scene, SYN_OTHER, 1);
            refuse(&mut scene, 1, SYN_OTHER, 9);
        }
        scene.tick(250);
    }
    let samples: Vec<_> = scene.samples().into_iter().skip(1).collect();
    let model = run(&samples);
    check(&model, 0, [4, 0, 2, 1, 0]);
    check(&model, 1, [0, 0, 0, 9, 0]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

#[test]
fn clients_are_known_only_if_all_refusals_were_seen() {
    let clients = |refusal, covers| {
        let mut scene = scene(1);
        refuse(&mut scene, 0, refusal, 6);
        scene.listener(0).drops.clients = Some(2);
        scene.listener(0).drops.clients_cover_syn = covers;
        scene.tick(250);
        run(&scene.samples()).listeners[0].drops.clients
    };
    assert_eq!(clients(ACK_ACCEPT_QUEUE, false), Some(2));
    assert_eq!(clients(SYN_ACCEPT_QUEUE, false), None);
    assert_eq!(clients(SYN_ACCEPT_QUEUE, true), Some(2));
}

#[test]
fn a_namespace_that_turns_up_with_its_listeners_counts_from_its_beginning() {
    // With 5 counted all drops are the new listener's; with 1,000 most are from before it was there.
    for (counted, expected, unexplained) in [(5, [5, 0, 0, 0, 0], 0), (1_000, [0, 0, 0, 0, 5], 0)] {
        let mut scene = Scene::new(vec![]);
        let mut l = listener(9, NS, "127.0.0.1:9", 16);
        l.opened_ns = Some(scene.now.monotonic_ns + 1);
        l.drops.socket_drops = Some(5);
        l.gauges.accept_peak = Some(17);
        let mut namespace = crate::fixtures::quiet()[0].namespaces[0].clone();
        let counters = namespace.counters.as_mut().unwrap();
        (counters.listen_overflows, counters.listen_drops) = (counted, counted);
        scene.now.listeners.push(l);
        scene.now.namespaces.push(namespace);
        scene.tick(250);
        scene.tick(250);
        let model = run(&scene.samples());
        check(&model, 0, expected);
        assert_eq!(model.namespaces[0].unexplained_drops, Some(unexplained));
    }
}

/// Its counters were not 0, but were read when it had no listener. So were they where listeners had closed before.
#[test]
fn a_namespace_whose_first_listener_comes_later_has_exact_drops() {
    for (read, expected) in [(true, [54, 209, 0, 0, 0]), (false, [0, 209, 0, 0, 54])] {
        let mut scene = Scene::new(vec![]);
        let mut namespace = crate::fixtures::quiet()[0].namespaces[0].clone();
        namespace.before_listeners = namespace.counters.filter(|_| read);
        let mut l = listener(9, NS, "127.0.0.1:9", 16);
        l.opened_ns = Some(scene.now.monotonic_ns + 1);
        scene.now.listeners.push(l);
        scene.now.namespaces.push(namespace);
        refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 54);
        scene.tick(250);
        refuse(&mut scene, 0, ACK_ACCEPT_QUEUE, 209);
        scene.tick(250);
        scene.tick(250);
        let model = run(&scene.samples());
        check(&model, 0, expected);
        let counted = if read { 263 } else { 209 };
        let namespace = &model.namespaces[0];
        assert_eq!((namespace.listen_drops, namespace.unexplained_drops), (Some(counted), Some(0)));
    }
}

/// The counters turn up when the queue has long been empty: what was refused meanwhile still has its cause.
#[test]
fn causes_of_what_was_refused_before_counters_turn_up_are_found() {
    let mut scene = Scene::new(vec![]);
    let mut namespace = crate::fixtures::quiet()[0].namespaces[0].clone();
    namespace.before_listeners = namespace.counters;
    let mut l = listener(9, NS, "127.0.0.1:9", 16);
    l.opened_ns = Some(scene.now.monotonic_ns + 1);
    scene.now.listeners.push(l);
    scene.now.namespaces.push(namespace);
    for (syns, readable) in [(12, false), (0, false), (0, false), (0, false), (0, true), (0, true)] {
        refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, syns);
        refuse(&mut scene, 0, ACK_ACCEPT_QUEUE, syns / 4);
        if syns == 0 {
            scene.listener(0).gauges.accept_peak = Some(0);
        }
        let counters = scene.now.namespaces[0].counters;
        if !readable {
            scene.now.namespaces[0].counters = None;
        }
        scene.tick(250);
        scene.now.namespaces[0].counters = counters;
    }
    let model = run(&scene.samples());
    check(&model, 0, [12, 3, 0, 0, 0]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

/// Nobody was known who is in the namespace, so its counters are read from the second sample on only.
#[test]
fn a_namespace_whose_counters_turn_up_late_counts_from_there_or_from_its_beginning() {
    // What the kernel counted before listeners saw anything, and what was refused since the counters were read first.
    for (earlier, listen_drops, unexplained) in [(0, 12, 0), (100, 5, 0)] {
        let mut scene = scene(1);
        scene.counters(0).listen_drops = earlier;
        let namespace = scene.now.namespaces[0].counters;
        scene.now.namespaces[0].counters = None;
        scene.tick(250);
        scene.now.namespaces[0].counters = namespace;
        refuse(&mut scene, 0, SYN_ACCEPT_QUEUE, 7);
        let now = scene.now.namespaces[0].counters.take();
        scene.tick(250);
        scene.now.namespaces[0].counters = now;
        scene.tick(250);
        refuse(&mut scene, 0, SYN_SYN_QUEUE, 5);
        scene.tick(250);
        let mut samples = scene.samples();
        samples[0].namespaces[0].counters = None;
        let model = run(&samples);
        let namespace = &model.namespaces[0];
        assert_eq!((namespace.listen_drops, namespace.unexplained_drops), (Some(listen_drops), Some(unexplained)));
        assert_eq!(model.listeners[0].drops.syn_queue_full, Some(5), "{:?}", model.listeners[0].drops);
    }
}

/// A reset that comes when its connection has gone: the socket counts it, the namespace does not.
const STRAY: Refusal = Refusal { socket_drops: 1, ..ZERO };

#[test]
fn what_the_namespace_did_not_refuse_is_no_drop() {
    let mut scene = scene(2);
    on_socket(&mut scene, 0, STRAY, 3);
    scene.tick(250);
    refuse(&mut scene, 1, SYN_ACCEPT_QUEUE, 7);
    on_socket(&mut scene, 1, STRAY, 2);
    scene.tick(250);
    refuse(&mut scene, 0, ACK_ACCEPT_QUEUE, 4);
    scene.tick(250);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_eq!(model.listeners[0].drops.total, Some(4), "{:?}", model.listeners[0].drops);
    assert_eq!(model.listeners[1].drops.total, Some(7), "{:?}", model.listeners[1].drops);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

/// What one listener's counter has already, and another's not yet, looks like the first one's for a moment.
#[test]
fn a_stray_packet_does_not_take_the_place_of_another_listeners_drop() {
    let mut scene = scene(2);
    on_socket(&mut scene, 0, STRAY, 3);
    on_host(&mut scene, ACK_ACCEPT_QUEUE, 3);
    scene.tick(250);
    on_socket(&mut scene, 1, ACK_ACCEPT_QUEUE, 3);
    scene.tick(250);
    scene.tick(250);
    let model = run(&scene.samples());
    assert_eq!(model.listeners.iter().map(|l| l.drops.total).collect::<Vec<_>>(), [Some(0), Some(3)]);
    assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
}

/// Where no probe sees final ACKs, which count twice in the socket, no listener's bound takes from another's.
#[test]
fn bounds_of_several_listeners_stay_bounds() {
    let mut scene = scene(2);
    for place in 0..2 {
        scene.listener(place).drops.ack_overflow = None;
    }
    scene.tick(250);
    refuse(&mut scene, 0, ACK_ACCEPT_QUEUE, 9);
    refuse(&mut scene, 1, SYN_ACCEPT_QUEUE, 4);
    scene.tick(250);
    scene.tick(250);
    let model = run(&scene.samples()[1..]);
    assert_eq!(model.listeners.iter().map(|l| l.drops.total).collect::<Vec<_>>(), [Some(13), Some(4)]);
}
