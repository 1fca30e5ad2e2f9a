//! Counters that were read at different instants.

use super::*;

#[test]
fn skew_between_socket_and_namespace_is_resolved_one_step_later() {
    // Which side is read first, and with how many listeners; each step lacks two on one side that the next one brings.
    for host_late in [true, false] {
        for listeners in [1, 2] {
            let mut scene = scene(listeners);
            for place in 0..listeners as usize {
                scene.listener(place).gauges.accept_depth = 17;
            }
            let mut behind = 0;
            for step in 0..6 {
                let last = step == 5;
                for place in 0..listeners as usize {
                    let n = if last { 0 } else { 20 };
                    on_socket(&mut scene, place, SYN_ACCEPT_QUEUE, n);
                    on_host(&mut scene, SYN_ACCEPT_QUEUE, n);
                }
                // The late side lacks the last two of this step, and has those of the one before.
                let lag = if last { 0 } else { 2 };
                if host_late {
                    scene.counters(0).listen_overflows -= lag;
                    scene.counters(0).listen_drops -= lag;
                    scene.counters(0).listen_overflows += behind;
                    scene.counters(0).listen_drops += behind;
                } else {
                    let drops = &mut scene.listener(0).drops.socket_drops;
                    *drops = drops.map(|d| d + behind - lag);
                }
                behind = lag;
                scene.tick(250);
            }
            let model = run(&scene.samples());
            for place in 0..listeners as usize {
                check(&model, place, [100, 0, 0, 0, 0]);
            }
            assert_eq!(model.namespaces[0].unexplained_drops, Some(0));
        }
    }
}

#[test]
fn skew_between_sk_drops_and_the_probe_corrects_itself() {
    for probe_first in [true, false] {
        let mut scene = scene(1);
        scene.listener(0).gauges.accept_depth = 17;
        for step in 0..4 {
            let (now, late) = if step % 2 == 0 { (true, false) } else { (false, true) };
            // Final ACKs refused, of which one sample has the probe's side only, or sk_drops' only, and the next the
            // rest.
            let half = |probe: bool| Refusal {
                socket_drops: if probe { 0 } else { 2 },
                ack_overflow: u64::from(probe),
                ..ZERO
            };
            if now {
                on_socket(&mut scene, 0, half(probe_first), 5);
                on_host(&mut scene, ACK_ACCEPT_QUEUE, 5);
            }
            if late {
                on_socket(&mut scene, 0, half(!probe_first), 5);
            }
            scene.listener(0).gauges.accept_peak = Some(17);
            scene.tick(250);
        }
        let samples = scene.samples();
        let mut tracker = Tracker::new(&samples[0]);
        for sample in &samples[1..] {
            tracker.push(sample);
            let l = &tracker.model().listeners[0];
            assert_eq!(causes(&l.drops).into_iter().flatten().sum::<u64>(), l.drops.total.unwrap(), "{:?}", l.drops);
            assert!(l.drops.total.unwrap() <= 20, "{:?}", l.drops);
        }
        check(tracker.model(), 0, [0, 10, 0, 0, 0]);
        assert_eq!(tracker.model().namespaces[0].unexplained_drops, Some(0));
    }
}
