//! Nothing that happens between two samples is lost.

use std::time::{Duration, Instant};

use listentop_model::coverage::Measure;
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    sleep_ms,
    sockets::{accept, attempt, give_up_refused, listen},
    watch::count,
};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "burst::overflow_between_two_samples",
    needs: &[Measure::AcceptQueuePeak, Measure::Drops],
    run: overflow_between_two_samples,
}];

/// 20 attempts within about 2 ms find room for 8 in the queue. It is empty again long before the next sample.
fn overflow_between_two_samples(lab: &Lab) {
    let listener = listen(PORT, 7);
    let mut watch = Watch::start(lab);
    assert_eq!((watch.listener(PORT).now.accept_depth, watch.listener(PORT).now.accept_peak), (0, Some(0)));
    let before = lab.counters();
    let begin = Instant::now();
    let attempts: Vec<Socket> = (0..20).map(|_| attempt(PORT)).collect();
    let took = begin.elapsed();
    let admitted = give_up_refused(attempts);
    assert_eq!(admitted.len(), 8, "the test's own load");
    for _ in &admitted {
        drop(accept(&listener));
    }
    // Only a busy machine takes longer. For the samples the burst is as short even then.
    assert!(took < Duration::from_millis(300), "the test's own load took {took:?}");
    sleep_ms(300);
    assert_eq!(lab.counters().since(&before, "ListenOverflows"), 12, "the test's own load");

    watch.sample();
    let seen = watch.listener(PORT);
    assert_eq!(seen.now.accept_depth, 0);
    assert_eq!(seen.now.accept_peak, Some(8));
    assert_eq!((seen.total.enqueued, seen.total.accepts), (Some(8), Some(8)));
    assert_eq!((seen.drops.total, seen.drops.accept_queue_full_on_syn), (Some(12), Some(12)));
    assert_eq!(count(seen.distributions.accept_wait.as_ref()), 8);

    // The peak belongs to the time before this sample, not to the next.
    for _ in 0..8 {
        sleep_ms(300);
        watch.sample();
    }
    let seen = watch.listener(PORT);
    assert_eq!((seen.now.accept_peak, seen.now.recent_accept_peak), (Some(8), Some(0)));
    assert_eq!(seen.drops.total, Some(12));
}
