//! Random courses of births, work and deaths, of which the truth is known: the rows add up to it, and no thread is in
//! two of them.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseResult};

use super::*;
use crate::{
    fixtures::thread,
    sample::Summed,
    summed::Done,
    tracker::{Clock, Tracker},
};

/// What happens to a thread, of which there may be several with the same id one after the other.
#[derive(Debug, Clone)]
enum Event {
    /// One begins: a process with its first thread, or a further thread of a living process.
    Begin { process: bool },
    /// One of those that live does something, so often.
    Work { which: usize, counter: usize, times: u64 },
    /// One of those that live ends.
    End { which: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any::<bool>().prop_map(|process| Event::Begin { process }),
        5 => (0..99_usize, 0..WORK, 1..4_u64).prop_map(|(which, counter, times)| Event::Work { which, counter, times }),
        3 => (0..99_usize).prop_map(|which| Event::End { which }),
    ]
}

/// A source that lists so many ended threads one by one and sums up the rest, as the live one does.
#[derive(Debug)]
struct Source {
    kept: usize,
    living: Vec<ThreadSample>,
    departed: VecDeque<ThreadSample>,
    older: Option<ThreadSample>,
    /// Every thread that there was, as it was last.
    all: HashMap<ThreadKey, ThreadSample>,
    /// Which threads worked since the last sample.
    worked: HashSet<ThreadKey>,
    born: u32,
}

impl Source {
    fn new(kept: usize) -> Self {
        let (living, departed, all) = (Vec::new(), VecDeque::new(), HashMap::new());
        Self { kept, living, departed, older: None, all, worked: HashSet::new(), born: 0 }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Begin { process } => {
                self.born += 1;
                // Ids are used again soon; the start differs.
                let tid = 1 + self.born % 7;
                let pid = if process { tid } else { 100 };
                let born = ThreadSample { start_ns: u64::from(self.born), ..thread(pid, tid, "t") };
                self.all.insert(born.key(), born.clone());
                self.living.push(born);
            }
            Event::Work { which, counter, times } if !self.living.is_empty() => {
                let at = which % self.living.len();
                let t = &mut self.living[at];
                let counters: [&mut u64; WORK] = [
                    &mut t.accepts,
                    &mut t.would_block,
                    &mut t.accept_failed,
                    &mut t.reads,
                    &mut t.read_bytes,
                    &mut t.first_reads,
                    &mut t.writes,
                    &mut t.write_bytes,
                ];
                *counters[counter] += times;
                self.worked.insert(t.key());
                self.all.insert(t.key(), t.clone());
            }
            Event::End { which } if !self.living.is_empty() => {
                let mut ended = self.living.remove(which % self.living.len());
                // A source knows those that worked.
                if work_of(&ended).iter().all(|n| *n == 0) {
                    self.all.remove(&ended.key());
                    return;
                }
                ended.ended = true;
                self.departed.push_back(ended);
                if self.departed.len() > self.kept
                    && let Some(oldest) = self.departed.pop_front()
                {
                    self.older.get_or_insert_with(ThreadSample::sum).sum_up(&oldest);
                }
            }
            _ => {}
        }
    }

    fn threads(&self) -> Vec<ThreadSample> {
        let worked = |t: &&ThreadSample| work_of(t).iter().any(|n| *n > 0);
        self.living.iter().filter(worked).chain(&self.departed).chain(&self.older).cloned().collect()
    }

    /// The work of all threads that there ever were.
    fn work(&self) -> [u64; WORK] {
        add(self.all.values().map(work_of))
    }
}

fn add(all: impl Iterator<Item = [u64; WORK]>) -> [u64; WORK] {
    all.fold([0; WORK], |sum, work| std::array::from_fn(|i| sum[i] + work[i]))
}

fn shown(t: &ThreadModel) -> [u64; WORK] {
    [t.accepts, t.would_block, t.accept_failed, t.reads, t.read_bytes, t.first_reads, t.writes, t.write_bytes]
}

/// Follows a source from sample `start` on, and compares with the truth after each.
fn check(kept: usize, start: usize, opened: bool, steps: &[Vec<Event>]) -> TestCaseResult {
    let mut source = Source::new(kept);
    let (mut clock, mut serial) = (Clock::new(0), 0);
    let (mut threads, mut models) = (Threads::default(), Vec::new());
    let mut baseline: HashMap<ThreadKey, [u64; WORK]> = HashMap::new();
    // Those that had ended before the interval, and those of which the class is not sure.
    let mut former: HashSet<ThreadKey> = HashSet::new();
    let mut unsure = false;
    let mut summed_before: HashSet<ThreadKey> = HashSet::new();
    for (at, events) in steps.iter().enumerate() {
        source.worked.clear();
        events.iter().for_each(|event| source.happen(event));
        let sample = source.threads();
        let listed: HashSet<ThreadKey> = sample.iter().filter(|t| t.summed.is_none()).map(ThreadSample::key).collect();
        if at < start {
            continue;
        }
        serial += 1;
        clock.advance(serial * 250_000_000);
        // A listener that opened in the interval has all its work in it.
        if at == start && !opened {
            baseline = source.all.iter().map(|(key, t)| (*key, work_of(t))).collect();
            let living: HashSet<ThreadKey> = source.living.iter().map(ThreadSample::key).collect();
            former = source.all.keys().filter(|key| !living.contains(key)).copied().collect();
        }
        threads.read(&mut models, &sample, (at > start || opened, false), &clock, serial);

        let before = add(baseline.values().copied());
        let growth: [u64; WORK] = std::array::from_fn(|i| source.work()[i] - before[i]);
        prop_assert_eq!(add(models.iter().map(shown)), growth, "the rows add up");

        let rows: Vec<ThreadKey> = models.iter().filter(|t| t.summed.is_none()).map(|t| t.key).collect();
        let keys: HashSet<ThreadKey> = rows.iter().copied().collect();
        prop_assert_eq!(keys.len(), rows.len(), "no two rows are of one thread");
        let known = |key: &ThreadKey| {
            let worked = work_of(&source.all[key]).iter().any(|n| *n > 0);
            worked && !former.contains(key)
        };
        let expected = source.all.keys().filter(|key| known(key)).count() as u64;
        prop_assert_eq!(models.iter().map(ThreadModel::threads).sum::<u64>(), expected, "each thread counts once");

        // Those in the sum are what they did in the interval.
        let in_sum: Vec<&ThreadKey> = source.all.keys().filter(|key| known(key) && !keys.contains(key)).collect();
        let newly = in_sum.iter().filter(|key| !summed_before.contains(key) && !listed.contains(key));
        unsure |= newly.clone().any(|key| baseline.contains_key(key) && source.worked.contains(key));
        let mut truth = Summed::default();
        for key in &in_sum {
            let (now, was) = (work_of(&source.all[key]), baseline.get(key).copied().unwrap_or([0; WORK]));
            let did = |i: usize| now[i] - was[i];
            let (accepts, reads, first_reads, writes) = (did(ACCEPTS), did(READS), did(FIRST_READS), did(WRITES));
            truth.add(&Summed::of(key, Done { accepts, reads, first_reads, writes }));
        }
        summed_before.extend(in_sum);
        let sum = models.iter().find_map(|t| t.summed.as_deref()).copied().unwrap_or_default();
        prop_assert_eq!((sum.threads, sum.processes), (truth.threads, truth.processes));
        if !unsure {
            prop_assert_eq!(sum, truth);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_add_up_whoever_is_born_and_dies(
        kept in 0..6_usize,
        start in 0..6_usize,
        opened in any::<bool>(),
        steps in vec(vec(event(), 0..16), 1..14),
    ) {
        check(kept, start, opened, &steps)?;
    }
}

#[test]
fn a_thousand_connections_a_second_add_up_in_the_listener_too() {
    use crate::fixtures::{Scene, listener};
    let mut source = Source::new(64);
    let mut scene = Scene::new(vec![listener(1, 4_026_531_840, "0.0.0.0:80", 128)]);
    source.happen(&Event::Begin { process: true });
    let mut tracker: Option<Tracker> = None;
    for step in 0..40 {
        for _ in 0..250 {
            source.happen(&Event::Work { which: 0, counter: ACCEPTS, times: 1 });
            source.happen(&Event::Begin { process: false });
            for counter in [READS, FIRST_READS, WRITES] {
                source.happen(&Event::Work { which: 1, counter, times: 1 });
            }
            source.happen(&Event::End { which: 1 });
        }
        let l = scene.listener(0);
        l.threads = source.threads();
        let work = source.work();
        (l.counts.accepts, l.counts.reads, l.counts.writes) =
            (Some(work[ACCEPTS]), Some(work[READS]), Some(work[WRITES]));
        scene.tick(250);
        match &mut tracker {
            // The interval begins when the server has been at work for a while.
            None if step == 10 => tracker = Some(Tracker::new(&scene.now)),
            None => {}
            Some(tracker) => {
                tracker.push(&scene.now);
                let l = &tracker.model().listeners[0];
                let sum = |of: fn(&ThreadModel) -> u64| Some(l.threads.iter().map(of).sum::<u64>());
                assert_eq!((sum(|t| t.reads), sum(|t| t.accepts)), (l.total.reads, l.total.accepts), "step {step}");
                assert_eq!(sum(|t| t.writes), l.total.writes);
                assert_eq!((l.pattern.name.name(), l.pattern.confidence), ("thread_per_connection", 1.0));
                assert!(l.threads.len() < 100, "{}", l.threads.len());
            }
        }
    }
}
