//! What taking in a sample costs, in CPU time: `cargo run --release -p listentop-model --features fixtures --example
//! push`.
//!
//! One listener in twenty is busy. At four samples per second 1 ms is 0.4 % of a core.

use std::time::Duration;

use listentop_model::{fixtures, histogram::Histogram, sample::Sample, tracker::Tracker};

fn main() {
    for (listeners, busy) in [(1_000, false), (1_000, true), (10_000, false)] {
        let mut samples = fixtures::many(listeners);
        if busy {
            samples.iter_mut().enumerate().for_each(|(i, sample)| make_busy(sample, i as u64));
        }
        let mut tracker = Tracker::new(&samples[0]);
        // The same samples again and again; their counters go backwards once a round.
        let rounds = 10;
        let before = cpu_time();
        for _ in 0..rounds {
            for sample in &mut samples[1..] {
                sample.monotonic_ns += 2_000_000_000;
                tracker.push(sample);
            }
        }
        let pushes = rounds * (samples.len() - 1);
        let each = cpu_time().checked_sub(before).unwrap() / pushes as u32;
        let what = if busy { "all busy" } else { "5 % busy" };
        println!("{listeners} listeners, {what}: {each:?} per sample");
    }
}

/// CPU time of this thread. Other load on the machine hardly changes it.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Every listener accepts and reads, with distributions of a realistic width.
fn make_busy(sample: &mut Sample, n: u64) {
    for listener in &mut sample.listeners {
        listener.distributions.accept_wait = Some(distribution(n));
        listener.distributions.residency = Some(distribution(n + 1));
        listener.counts.accepts = Some(n * 40);
        listener.counts.reads = Some(n * 90);
        listener.threads[0].accepts = n * 40;
        listener.threads[0].reads = n * 90;
    }
}

fn distribution(n: u64) -> Histogram {
    Histogram::of_units((0..40 * n).map(|i| 50 + i * 13 % 9_000))
}
