//! A thread in the lab's namespace that reads the accept queues again and again, and the kernel's counters when asked.

use super::counters::of_namespace;
use super::depths::{Depths, Reader};
use super::namespace::Namespace;
use crate::stress::summary::{Distribution, Latencies};
use anyhow::{Context, anyhow};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Mean time between two readings of the accept queues. The times are random around it: what happens at regular times
/// must not always fall between two readings.
const EVERY: Duration = Duration::from_millis(2);

/// The depth of one accept queue over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Queue {
    /// Depth × time in connection-seconds: each depth counts until the next reading.
    pub(super) integral: f64,
    /// Mean depth since the measuring began.
    pub(super) mean: f64,
    /// Largest depth that was read.
    pub(super) max: u64,
    /// The last depth.
    pub(super) last: u64,
    /// Number of readings.
    pub(super) samples: u64,
    /// Number of readings with a depth above 0.
    pub(super) busy: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queues: BTreeMap<u16, Queue>,
    seconds: f64,
    /// How much longer than asked for a thread sleeps that wants to wake at any moment: see [`Shared::overslept`].
    late: Latencies,
    /// Why reading failed.
    failure: Option<String>,
}

impl Shared {
    fn add(&mut self, depths: &Depths, elapsed: f64) {
        self.seconds += elapsed;
        for queue in self.queues.values_mut() {
            queue.integral += queue.last as f64 * elapsed;
            queue.last = 0;
        }
        for (port, depth) in depths {
            let queue = self.queues.entry(*port).or_default();
            queue.last = *depth;
            queue.max = queue.max.max(*depth);
            queue.samples += 1;
            queue.busy += u64::from(*depth > 0);
        }
    }

    /// This thread slept so much longer than asked for: the timer's slack, and the wait for a CPU. In a long wait it
    /// misses the moments at which it would have woken too, and who becomes ready then waits for the rest of it: so
    /// each of these counts, with what was left. Otherwise a wait of 80 ms, in which many connections come, would
    /// weigh no more than one of 20 µs.
    fn overslept(&mut self, late: Duration) {
        let mut left = late;
        loop {
            self.late.record(left.as_nanos() as u64);
            let Some(rest) = left.checked_sub(EVERY).filter(|rest| !rest.is_zero()) else { return };
            left = rest;
        }
    }
}

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sampler {
    shared: Arc<Mutex<Shared>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    namespace: std::os::fd::OwnedFd,
}

impl Sampler {
    /// Starts reading.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let shared = Arc::<Mutex<Shared>>::default();
        let end = Arc::<AtomicBool>::default();
        let own = namespace.another()?;
        let (namespace, inside, stop) = (namespace.another()?, Arc::clone(&shared), Arc::clone(&end));
        let read = move || {
            if let Err(error) = setns(&namespace, CloneFlags::CLONE_NEWNET) {
                lock(&inside).failure = Some(format!("cannot enter the lab's namespace: {error}"));
                return;
            }
            let mut reader = Reader::open();
            let mut random = fastrand::Rng::with_seed(1);
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                match reader.read() {
                    Ok(depths) => {
                        let now = Instant::now();
                        lock(&inside).add(&depths, (now - last).as_secs_f64());
                        last = now;
                    }
                    Err(error) => lock(&inside).failure = Some(format!("the accept queues cannot be read: {error}")),
                }
                let (asked, before) = (EVERY.mul_f64(0.5 + random.f64()), Instant::now());
                std::thread::sleep(asked);
                lock(&inside).overslept(before.elapsed().saturating_sub(asked));
            }
        };
        let thread = std::thread::Builder::new().name("queues".to_owned()).spawn(read).context("no thread")?;
        Ok(Self { shared, end, thread: Some(thread), namespace: own })
    }

    /// Forgets what was read so far: the measuring begins.
    pub(super) fn begin(&self) {
        *lock(&self.shared) = Shared::default();
    }

    /// The queues by port.
    ///
    /// # Errors
    /// They could not be read.
    pub(super) fn queues(&self) -> Result<BTreeMap<u16, Queue>, String> {
        let shared = lock(&self.shared);
        if let Some(failure) = &shared.failure {
            return Err(failure.clone());
        }
        let mut queues = shared.queues.clone();
        for queue in queues.values_mut() {
            queue.mean = if shared.seconds > 0.0 { queue.integral / shared.seconds } else { 0.0 };
        }
        Ok(queues)
    }

    /// How late a thread that becomes ready at any moment gets a CPU, since the measuring began. Servers and clients
    /// that sleep and wake up do not get one sooner.
    pub(super) fn late(&self) -> Distribution {
        lock(&self.shared).late.summary()
    }

    /// The kernel's counters of the namespace.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        self.inside(|| of_namespace().context("/proc/net/netstat"))?
    }

    /// Sets a sysctl of the namespace: a path below /proc/sys.
    ///
    /// # Errors
    /// This kernel does not have it, or not this value.
    pub(super) fn set(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let write = || std::fs::write(format!("/proc/sys/{path}"), value);
        self.inside(write)?.with_context(|| format!("cannot set {path} to {value} in the lab's namespace"))
    }

    /// Does something in the lab's namespace.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let enter = || setns(&self.namespace, CloneFlags::CLONE_NEWNET).map(|()| work());
            let thread = std::thread::Builder::new().spawn_scoped(scope, enter).context("no thread")?;
            let result = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            result.context("cannot enter the lab's namespace")
        })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // After a panic there, only depths are missing.
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_counts_until_the_next_reading() {
        let mut shared = Shared::default();
        let [a, b] = [7001, 7002];
        shared.add(&[(a, 4)].into(), 0.0);
        shared.add(&[(a, 0), (b, 2)].into(), 0.5);
        shared.add(&[(b, 6)].into(), 1.0);
        shared.add(&BTreeMap::new(), 0.5);
        assert!((shared.seconds - 2.0).abs() < 1e-9);
        assert!((shared.queues[&a].integral - 2.0).abs() < 1e-9, "{shared:?}");
        assert!((shared.queues[&b].integral - 5.0).abs() < 1e-9, "{shared:?}");
        assert_eq!((shared.queues[&a].max, shared.queues[&b].max, shared.queues[&b].last), (4, 6, 0));
    }

    #[test]
    fn a_long_wait_counts_as_often_as_somebody_could_become_ready_in_it() {
        let mut shared = Shared::default();
        for _ in 0..961 {
            shared.overslept(Duration::from_micros(50));
        }
        assert_eq!((shared.late.summary().count, shared.late.summary().p99), (961, Some(50)));
        // 80 ms of two seconds: one in 25 becomes ready in it, and waits for 40 ms on average.
        shared.overslept(Duration::from_millis(80));
        let late = shared.late.summary();
        assert_eq!((late.count, late.p50, late.p90), (1001, Some(50), Some(50)));
        assert!((55_000..=65_000).contains(&late.p99.unwrap()), "{late:?}");
        assert!((80_000..=81_000).contains(&late.max.unwrap()), "{late:?}");
    }
}
