//! Parts of the patterns' tests.

use crate::{
    fixtures::{Scene, listener, thread},
    model::Pattern,
    sample::{ListenerSample, Sample},
    tracker::Tracker,
};

/// Inode of the namespace that all listeners are in.
pub(super) const NS: u32 = 4_026_531_840;

/// Follows these samples.
pub(super) fn run(samples: &[Sample]) -> Tracker {
    let mut tracker = Tracker::new(&samples[0]);
    samples[1..].iter().for_each(|s| tracker.push(s));
    tracker
}

/// A listener with these threads (pid, tid) does `work` once, in one step.
pub(super) fn of(threads: &[(u32, u32)], work: impl FnOnce(&mut ListenerSample)) -> Pattern {
    of_listener(threads, |_| {}, work)
}

/// The same, of a listener that `change` made another before its first sample.
pub(super) fn of_listener(
    threads: &[(u32, u32)],
    change: impl FnOnce(&mut ListenerSample),
    work: impl FnOnce(&mut ListenerSample),
) -> Pattern {
    let mut l = listener(1, NS, "0.0.0.0:80", 128);
    l.threads = threads.iter().map(|(pid, tid)| thread(*pid, *tid, "srv")).collect();
    change(&mut l);
    let mut scene = Scene::new(vec![l]);
    work(scene.listener(0));
    scene.tick(1000);
    run(&scene.samples()).model().listeners[0].pattern.clone()
}

/// So many shards, each of which has the threads 1, 2, … of one process, do `work` once, in one step.
pub(super) fn of_group(shards: usize, threads: u32, work: impl FnOnce(&mut Scene)) -> Pattern {
    let shard = |id| {
        let mut l = listener(id, NS, "0.0.0.0:80", 128);
        l.reuseport = true;
        l.threads = (1..=threads).map(|tid| thread(1, tid, "srv")).collect();
        l
    };
    let mut scene = Scene::new((1..=shards as u64).map(shard).collect());
    work(&mut scene);
    scene.tick(1000);
    run(&scene.samples()).model().listeners[0].pattern.clone()
}

/// Thread 100, which makes `n` accepts, and the threads from 101 on, which have ended, of the processes that `pid`
/// says, do `work`.
pub(super) fn acceptor_and_readers(
    n: u32,
    pid: impl Fn(u32) -> u32,
    work: impl FnOnce(&mut ListenerSample),
) -> Pattern {
    let threads: Vec<_> = std::iter::once((100, 100)).chain((1..=n).map(|i| (pid(i), 100 + i))).collect();
    of(&threads, |l| {
        l.accept(0, u64::from(n), 50);
        l.threads[1..].iter_mut().for_each(|t| t.ended = true);
        work(l);
    })
}

/// One acceptor, and as many readers as there are connections, each reading one.
pub(super) fn per_connection(
    n: u32,
    pid: impl Fn(u32) -> u32,
    apart_ns: u64,
    ended: impl Fn(usize) -> bool,
) -> Pattern {
    acceptor_and_readers(n, pid, |l| {
        for i in 1..=n as usize {
            l.read(i, 3, 1, 50);
            l.write(i, 3);
            l.threads[i].start_ns = 5_000_000_000 + i as u64 * apart_ns;
            l.threads[i].ended = ended(i);
        }
    })
}

/// The pattern's name.
pub(super) fn name(pattern: &Pattern) -> &'static str {
    pattern.name.name()
}
