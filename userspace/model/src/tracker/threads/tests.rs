use super::*;
use crate::fixtures::thread;

/// A listener's threads, followed sample by sample, one each second.
struct Course {
    threads: Threads,
    models: Vec<ThreadModel>,
    clock: Clock,
    serial: u64,
}

impl Course {
    fn new(first: &[ThreadSample]) -> Self {
        let mut course = Self { threads: Threads::default(), models: Vec::new(), clock: Clock::new(0), serial: 1 };
        course.threads.read(&mut course.models, first, false, &course.clock, 1);
        course
    }

    fn step(&mut self, samples: &[ThreadSample]) {
        self.serial += 1;
        self.clock.advance(self.serial * 1_000_000_000);
        self.threads.read(&mut self.models, samples, true, &self.clock, self.serial);
    }

    fn tids(&self) -> Vec<u32> {
        self.models.iter().map(|t| t.tid).collect()
    }
}

fn some(tids: impl IntoIterator<Item = u32>) -> Vec<ThreadSample> {
    tids.into_iter().map(|tid| thread(1, tid, "srv")).collect()
}

#[test]
fn threads_that_ended_are_kept_up_to_a_number() {
    // 512 are kept. With one more, half of that number stays.
    for (ended, kept) in [(480, 480), (512, 512), (513, 256), (540, 256)] {
        let mut course = Course::new(&some(1..=ended + 1));
        course.step(&some([1]));
        let gone = course.models.iter().filter(|t| t.ended).count();
        assert_eq!((gone, course.models.len()), (kept, kept + 1), "{ended} ended");
    }
}

#[test]
fn those_that_ended_first_are_forgotten_first() {
    let mut course = Course::new(&some(1..=600));
    course.step(&some((1..=1).chain(301..=600)));
    assert_eq!(course.models.len(), 600, "299 ended");
    course.step(&some([1]));
    let mut tids = course.tids();
    tids.sort_unstable();
    assert_eq!(tids, (1..=1).chain(301..=556).collect::<Vec<_>>());
}

#[test]
fn a_thread_that_comes_back_to_another_place_is_the_same() {
    let mut course = Course::new(&some([1, 2, 3]));
    let mut samples = some([3, 1, 2]);
    samples[0].accepts = 5;
    samples[2].reads = 7;
    course.step(&samples);
    let seen: Vec<_> = course.models.iter().map(|t| (t.tid, t.accepts, t.reads)).collect();
    assert_eq!(seen, [(3, 5, 0), (2, 0, 7), (1, 0, 0)]);
    samples[1].writes = 4;
    course.step(&samples);
    let seen: Vec<_> = course.models.iter().map(|t| (t.tid, t.accepts, t.reads, t.writes)).collect();
    assert_eq!(seen, [(3, 5, 0, 0), (2, 0, 7, 0), (1, 0, 0, 4)]);
}

#[test]
fn each_figure_is_its_own() {
    let mut course = Course::new(&some([1]));
    let mut samples = some([1]);
    let t = &mut samples[0];
    (t.accepts, t.would_block, t.accept_failed) = (1_000, 2_000, 3_000);
    (t.reads, t.read_bytes, t.first_reads) = (4_000, 5_000, 6_000);
    (t.writes, t.write_bytes) = (7_000, 8_000);
    t.on_cpu_ns = t.on_cpu_ns.map(|ns| ns + 9_000_000);
    t.run_queue_ns = t.run_queue_ns.map(|ns| ns + 10_000_000);
    course.step(&samples);
    let m = &course.models[0];
    assert_eq!((m.accepts, m.would_block, m.accept_failed), (1_000, 2_000, 3_000));
    assert_eq!((m.reads, m.read_bytes, m.first_reads), (4_000, 5_000, 6_000));
    assert_eq!((m.writes, m.write_bytes), (7_000, 8_000));
    assert_eq!((m.on_cpu_us, m.run_queue_us), (Some(9_000), Some(10_000)));
    assert_eq!((m.accepts_per_second, m.reads_per_second), (500.0, 2_000.0), "over 2 s");
    assert_eq!(m.roles, [Role::Acceptor, Role::Reader, Role::Writer]);
}

#[test]
fn would_block_and_failed_accepts_make_an_acceptor() {
    for change in [
        (|t: &mut ThreadSample| t.would_block = 1) as fn(&mut ThreadSample),
        |t| t.accept_failed = 1,
        |t| t.accepts = 1,
    ] {
        let mut course = Course::new(&some([1]));
        let mut samples = some([1]);
        change(&mut samples[0]);
        course.step(&samples);
        assert_eq!(course.models[0].roles, [Role::Acceptor]);
    }
}

#[test]
fn a_sum_of_threads_takes_the_place_of_those_that_are_missing() {
    let mut course = Course::new(&some([1, 2]));
    course.step(&some([1, 0]));
    assert_eq!(course.tids(), [0, 1]);
}

#[test]
fn a_thread_lived_until_the_last_sample_that_had_it() {
    let mut course = Course::new(&some([1, 2]));
    course.step(&some([1, 2]));
    course.step(&some([1]));
    course.step(&some([1]));
    let lived: Vec<_> = course.models.iter().map(|t| (t.tid, t.known_from_us, t.lived_until_us, t.ended)).collect();
    assert_eq!(lived, [(1, 0, None, false), (2, 0, Some(2_000_000), true)]);
    course.step(&some([1, 2]));
    assert_eq!(course.models[1].lived_until_us, None, "it was only missing");
}

#[test]
fn rates_end_with_the_recent_span() {
    let mut course = Course::new(&some([1]));
    let mut samples = some([1]);
    samples[0].accepts = 10;
    samples[0].reads = 30;
    course.step(&samples);
    assert!(!course.threads.rest(&course.clock));
    assert_eq!((course.models[0].accepts_per_second, course.models[0].reads_per_second), (5.0, 15.0));
    course.step(&samples);
    assert_eq!((course.models[0].accepts_per_second, course.models[0].reads_per_second), (0.0, 0.0));
    assert!(course.threads.rest(&course.clock));
}

#[test]
fn a_thread_that_has_just_come_is_not_at_rest() {
    let mut course = Course::new(&some([1]));
    assert!(!course.threads.rest(&course.clock));
    course.step(&some([1, 2]));
    assert!(!course.threads.rest(&course.clock));
    course.step(&some([1, 2]));
    assert!(course.threads.rest(&course.clock));
}

#[test]
fn shares_are_parts_of_the_whole_and_unknown_of_nothing() {
    let mut course = Course::new(&some([1]));
    let mut samples = some([1]);
    (samples[0].accepts, samples[0].reads) = (3, 4);
    course.step(&samples);
    set_shares(&mut course.models, 4, 16);
    assert_eq!((course.models[0].accept_share, course.models[0].read_share), (Some(0.75), Some(0.25)));
    set_shares(&mut course.models, 0, 0);
    assert_eq!((course.models[0].accept_share, course.models[0].read_share), (None, None));
}

#[test]
fn a_thread_may_change_its_name() {
    let mut course = Course::new(&some([1]));
    course.step(&[ThreadSample { comm: "worker".to_owned(), ..thread(1, 1, "srv") }]);
    assert_eq!(course.models[0].comm, "worker");
}

#[test]
fn without_a_span_there_is_no_rate() {
    let mut course = Course::new(&some([1]));
    let samples = [ThreadSample { accepts: 5, reads: 5, ..thread(1, 1, "srv") }];
    course.threads.read(&mut course.models, &samples, true, &course.clock, 2);
    assert_eq!((course.models[0].accepts_per_second, course.models[0].reads_per_second), (0.0, 0.0));
}
