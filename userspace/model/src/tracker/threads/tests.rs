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
        course.threads.read(&mut course.models, first, (false, false), &course.clock, 1);
        course
    }

    fn step(&mut self, samples: &[ThreadSample]) {
        self.serial += 1;
        self.clock.advance(self.serial * 1_000_000_000);
        self.threads.read(&mut self.models, samples, (true, false), &self.clock, self.serial);
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
    for (ended, kept) in [(480_u32, 480_usize), (512, 512), (513, 256), (540, 256)] {
        let mut course = Course::new(&some(1..=ended + 1));
        course.step(&some([1]));
        let (sums, threads): (Vec<_>, Vec<_>) = course.models.iter().partition(|t| t.summed.is_some());
        let gone = threads.iter().filter(|t| t.ended).count();
        assert_eq!((gone, threads.len()), (kept, kept + 1), "{ended} ended");
        let summed: u64 = sums.iter().map(|t| t.threads()).sum();
        assert_eq!((sums.len(), summed), (usize::from(ended as usize > kept), u64::from(ended) - kept as u64));
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
    assert_eq!(tids.remove(0), 0, "the sum of those that ended in the first step");
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

/// A sum over these threads.
fn sum(threads: &[ThreadSample]) -> ThreadSample {
    let mut sum = ThreadSample::sum();
    threads.iter().for_each(|t| sum.sum_up(t));
    sum
}

/// A thread that has read so often, and was the first to read one connection.
fn reader(tid: u32, reads: u64) -> ThreadSample {
    ThreadSample { reads, first_reads: 1, ..thread(1, tid, "srv") }
}

#[test]
fn a_sum_of_threads_takes_the_place_of_those_that_are_missing() {
    let mut course = Course::new(&some([1]));
    course.step(&[thread(1, 1, "srv"), reader(2, 7), reader(3, 5)]);
    // The second worked once more before it ended; a fourth came and went between two samples.
    course.step(&[sum(&[reader(2, 8), reader(4, 2)]), thread(1, 1, "srv"), reader(3, 5)]);
    let rows: Vec<_> = course.models.iter().map(|t| (t.tid, t.reads, t.threads(), t.ended)).collect();
    assert_eq!(rows, [(0, 10, 2, true), (3, 5, 1, false), (1, 0, 1, false)]);
    let summed = course.models[0].summed.as_deref().unwrap();
    assert_eq!((summed.readers, summed.one_connection, summed.processes), (2, 2, 0));
    assert_eq!((&course.models[0].comm[..], &course.models[0].roles[..]), ("(ended)", &[Role::Reader][..]));
    course.step(&[sum(&[reader(2, 8), reader(4, 2)]), thread(1, 1, "srv"), reader(3, 5)]);
    assert_eq!(course.models.iter().map(|t| t.reads).sum::<u64>(), 15, "nothing happened");
}

#[test]
fn what_a_thread_did_before_the_interval_does_not_come_back_with_the_sum() {
    // One lives, one has ended and is listed, one is summed up.
    let mut course =
        Course::new(&[sum(&[reader(9, 1_000)]), reader(1, 100), ThreadSample { ended: true, ..reader(2, 10) }]);
    assert_eq!(course.tids(), [1], "threads that had ended before are not of the interval");
    course.step(&[sum(&[reader(9, 1_000), reader(2, 10), reader(1, 103)])]);
    let row = &course.models[0];
    assert_eq!((course.models.len(), row.reads, row.threads()), (1, 3, 1));
    // It read the connection first before the interval.
    assert_eq!((row.first_reads, row.summed.as_ref().map(|s| s.one_connection)), (0, Some(0)));
}

#[test]
fn a_thread_that_was_taken_for_ended_goes_on_from_where_it_was() {
    let ended = |reads| ThreadSample { ended: true, ..reader(2, reads) };
    let mut course = Course::new(&[reader(1, 100), ended(10)]);
    course.step(&[reader(1, 100), ended(10)]);
    assert_eq!(course.tids(), [1]);
    course.step(&[reader(1, 100), reader(2, 14)]);
    let rows: Vec<_> = course.models.iter().map(|t| (t.tid, t.reads, t.ended)).collect();
    assert_eq!(rows, [(2, 4, false), (1, 0, false)]);
}

#[test]
fn a_sum_without_a_source_of_its_own_has_the_work_of_those_it_took() {
    let mut course = Course::new(&[]);
    course.step(&(1..=600).map(|tid| reader(tid, 2)).collect::<Vec<_>>());
    course.step(&[]);
    assert_eq!(course.models.iter().map(|t| t.reads).sum::<u64>(), 1_200);
    assert_eq!(course.models.iter().map(ThreadModel::threads).sum::<u64>(), 600);
}

#[test]
fn threads_that_are_not_visible_are_no_sum_and_differ() {
    let hidden = |tid| ThreadSample { initial_pid: 7, initial_tid: tid, reads: 3, ..thread(0, 0, "srv") };
    let mut course = Course::new(&[]);
    course.step(&[hidden(8), hidden(9), reader(1, 1)]);
    course.step(&[hidden(8), hidden(9)]);
    let rows: Vec<_> = course.models.iter().map(|t| (t.key.tid, t.reads, t.ended)).collect();
    assert_eq!(rows, [(8, 3, false), (9, 3, false), (1, 1, true)], "the last is kept: nobody has its sum");
}

#[test]
fn after_a_restart_of_the_listener_sums_begin_anew() {
    let mut course = Course::new(&[]);
    course.step(&[sum(&[reader(8, 50)]), reader(1, 100), reader(2, 20)]);
    course.threads.restart();
    // In its new life the second has read 5 and ended, and so has a third.
    course.step(&[sum(&[reader(2, 5), reader(3, 1)]), reader(1, 2)]);
    assert_eq!(course.models.iter().map(|t| t.reads).sum::<u64>(), 50 + 102 + 25 + 1);
}

#[test]
fn it_accepted_between_the_samples_around_it() {
    let mut course = Course::new(&some([1, 2, 3]));
    let mut samples = some([1, 2, 3]);
    course.step(&samples);
    samples[0].accepts = 1;
    samples[1].accepts = 1;
    samples[2].would_block = 1;
    course.step(&samples);
    course.step(&samples);
    samples[0].accepts = 2;
    course.step(&samples);
    let times = |tid| {
        let of = course.models.iter().find(|t| t.tid == tid).unwrap().accepting;
        of.map(|at| [at.from_us, at.begun_us, at.ending_us, at.until_us].map(|us| us / 1_000_000))
    };
    assert_eq!([1, 2, 3].map(times), [Some([2, 3, 4, 5]), Some([2, 3, 2, 3]), None]);
}

#[test]
fn a_source_may_know_when_it_accepted() {
    let mut course = Course::new(&some([1, 2]));
    let mut samples = some([1, 2]);
    // The clock of the samples was 0 at the interval's start. The second accepted before that, too.
    for (t, first) in samples.iter_mut().zip([1_500_000_000, 0]) {
        (t.accepts, t.first_accept_ns, t.last_accept_ns) = (3, Some(first), Some(1_900_000_000));
    }
    course.step(&samples);
    let times = |course: &Course| {
        let mut rows: Vec<_> = course.models.iter().collect();
        rows.sort_by_key(|t| t.tid);
        rows.iter()
            .map(|t| t.accepting.map(|at| [at.from_us, at.begun_us, at.ending_us, at.until_us]).unwrap())
            .collect::<Vec<_>>()
    };
    let early = [0, 0, 1_900_000, 1_900_000];
    assert_eq!(times(&course), [[1_500_000, 1_500_000, 1_900_000, 1_900_000], early]);
    (samples[0].accepts, samples[0].last_accept_ns) = (4, Some(2_200_000_000));
    course.step(&samples);
    assert_eq!(times(&course), [[1_500_000, 1_500_000, 2_200_000, 2_200_000], early]);
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
    course.threads.read(&mut course.models, &samples, (true, false), &course.clock, 2);
    assert_eq!((course.models[0].accepts_per_second, course.models[0].reads_per_second), (0.0, 0.0));
}

/// The work of each step of a thread's history, in the order of its steps.
fn accepted(model: &ThreadModel, steps: u64) -> Vec<Option<f32>> {
    let mut timeline = crate::history::Timeline::default();
    (1..=steps).for_each(|step| timeline.advance(step, step as f64));
    model.history.points(&timeline).map(|(_, rates)| rates.map(|rates| rates.accepts)).collect()
}

#[test]
fn the_threads_that_did_most_have_a_history_of_each_step() {
    let at = |accepts: [u64; 3]| -> Vec<ThreadSample> {
        (1..).zip(accepts).map(|(tid, accepts)| ThreadSample { accepts, ..thread(1, tid, "srv") }).collect()
    };
    let mut course = Course::new(&at([5, 0, 0]));
    for accepts in [[15, 4, 0], [15, 8, 0], [15, 8, 0], [18, 8, 0]] {
        course.step(&at(accepts));
    }
    let of = |tid: u32| course.models.iter().find(|model| model.tid == tid).expect("it is there");
    // The first step takes two seconds.
    assert_eq!(accepted(of(1), 4), [Some(5.0), Some(0.0), Some(0.0), Some(3.0)]);
    assert_eq!(accepted(of(2), 4), [Some(2.0), Some(4.0), Some(0.0), Some(0.0)]);
    assert!(of(3).history.is_empty(), "it did nothing yet");
}

#[test]
fn a_thread_that_is_followed_no_more_is_unknown_from_there_on() {
    // Nine threads: the last does nothing, until it does more than all others.
    let at = |others: u64, last: u64| -> Vec<ThreadSample> {
        (1..=9)
            .map(|tid| ThreadSample { accepts: if tid == 9 { last } else { others }, ..thread(1, tid, "srv") })
            .collect()
    };
    let mut course = Course::new(&at(0, 0));
    for (others, last) in [(10, 0), (20, 500), (30, 600), (40, 700)] {
        course.step(&at(others, last));
    }
    assert_eq!(course.models[0].tid, 9);
    let known = |model: &ThreadModel| accepted(model, 6).into_iter().flatten().count();
    assert!(known(&course.models[0]) >= 1, "it is followed now");
    let dropped = course.models.last().expect("there are nine");
    assert_eq!(accepted(dropped, 6).last(), Some(&None), "and one of the others is not");
}

#[test]
fn a_thread_alone_has_no_history() {
    let mut course = Course::new(&some([1]));
    for serial in 2..5 {
        course.clock.advance(serial * 1_000_000_000);
        let samples = [ThreadSample { accepts: serial, ..thread(1, 1, "srv") }];
        course.threads.read(&mut course.models, &samples, (true, true), &course.clock, serial);
    }
    assert!(course.models[0].history.is_empty() && course.models[0].accepts > 0);
}
