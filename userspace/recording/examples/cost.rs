//! What a recording takes: its size for an hour, and the CPU time of the thread that writes it.
//!
//! `cargo run --release -p listentop-recording --example cost -- [LISTENERS] [OF THEM AT WORK]`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use listentop_model::{
    fixtures,
    histogram::Histogram,
    sample::{ListenerSample, Sample},
};
use listentop_recording::{Recording, Start, Writer};

const SAMPLES: u64 = 3_600;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |text| text.parse());
    let (listeners, busy) = (number(1_000)?, number(0)?);
    let place = tempfile::tempdir()?;
    let path = place.path().join("one.rec");
    let mut sample = fixtures::many(listeners).pop().ok_or("no sample")?;
    let mut writer = Writer::file(&path, Start::new("cost".to_owned(), 1), None)?;
    let mut spent = Duration::ZERO;
    for second in 0..SAMPLES {
        work(&mut sample, busy, second);
        let before = cpu_time()?;
        writer.write(&sample)?;
        spent += cpu_time()?.saturating_sub(before);
    }
    let size = writer.size();
    writer.finish()?;
    let begin = Instant::now();
    let recording = Recording::open(&path, |_, _| ())?;
    let opened = begin.elapsed();
    let read = recording.samples(0..recording.len()).count();
    println!(
        "{listeners} listeners, {busy} at work: {:.2} MiB per hour, {:.3} % of a core; {read} samples opened in {opened:.2?}, read in {:.2?}",
        size as f64 / f64::from(1 << 20),
        spent.as_secs_f64() / SAMPLES as f64 * 100.0,
        begin.elapsed()
    );
    Ok(())
}

/// A second of some listeners at work, at 10 to 50 connections a second.
fn work(sample: &mut Sample, busy: usize, second: u64) {
    sample.monotonic_ns += 1_000_000_000 + second % 977 * 1_000;
    sample.unix_ms += 1_000;
    sample.cost.cpu_ns += 2_000_000 + second % 7 * 10_000;
    let mut listeners: Vec<Arc<ListenerSample>> = sample.listeners.handles().to_vec();
    for (at, listener) in listeners.iter_mut().take(busy).enumerate() {
        let listener = Arc::make_mut(listener);
        let n = 10 + (second * 31 + at as u64 * 17) % 40;
        let counts = &mut listener.counts;
        for (count, n) in [
            (&mut counts.enqueued, n),
            (&mut counts.accepts, n),
            (&mut counts.would_block, n / 3),
            (&mut counts.reads, 3 * n),
            (&mut counts.read_bytes, 400 * n + second % 13),
            (&mut counts.writes, 3 * n),
            (&mut counts.write_bytes, 9_000 * n + second % 29),
        ] {
            *count.get_or_insert(0) += n;
        }
        for distribution in listener.distributions.each_mut().into_iter().flatten() {
            let values = Histogram::of_units((0..n / 2).map(|value| 300 + value * value * 3 + second % 50));
            distribution.merge(&values);
        }
        for thread in &mut listener.threads {
            thread.accepts += n;
            thread.reads += 3 * n;
            thread.read_bytes += 400 * n;
            thread.writes += 3 * n;
            thread.last_accept_ns = Some(sample.monotonic_ns - 1_000 * n);
            thread.on_cpu_ns = thread.on_cpu_ns.map(|ns| ns + 1_000_000 + 7 * n);
        }
    }
    sample.listeners = listeners.into_iter().collect();
}

/// CPU time of this thread.
fn cpu_time() -> nix::Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(Duration::from(time))
}
