//! Levels of measuring: a level attaches no hook that it does not need, and counts what it has as exactly as the
//! highest.

use listentop::source::live::{
    Level, LiveSource, Options, Target,
    events::{EVENTS, all_hooks},
};
use listentop_model::{
    coverage::{Measure, Status},
    model::ListenerModel,
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    command::Measuring,
    environment,
    lab::PORT,
    sleep_ms,
    sockets::{accept, attempt, connect, give_up_refused_and_count, kernel_drops, listen, receive, send_all},
    tid,
    watch::{assert_counts, count, thread},
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts, Measure::Reads, Measure::Writes, Measure::Drops];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "levels::queues", needs: NEEDS, run: queues },
    Test { name: "levels::accepts", needs: NEEDS, run: accepts },
    Test { name: "levels::all", needs: NEEDS, run: all },
    Test { name: "levels::on_the_command_line", needs: NEEDS, run: command_line },
];

/// Connections that are served, one after the other.
const SERVED: u64 = 1_000;
/// What the queue holds, plus one.
const BACKLOG: i32 = 8;
/// Attempts that find it full.
const REFUSED: usize = 5;

/// What a load has done, by its own counts.
struct Done {
    /// Refused SYNs, with repeated ones.
    refused: u64,
    /// Connections that are served, refused clients that got in later included.
    served: u64,
    tid: u32,
    drops: u64,
}

/// Fills the queue, has some refused, then serves all and many more: a request, an answer, the end.
fn load(listener: &Socket) -> Done {
    let before = kernel_drops(listener);
    let waiting: Vec<Socket> = (0..=BACKLOG).map(|_| connect(PORT)).collect();
    let refused: Vec<Socket> = (0..REFUSED).map(|_| attempt(PORT)).collect();
    sleep_ms(50);
    let (established, syns) = give_up_refused_and_count(refused);
    assert!(established.is_empty(), "the test's own load: the queue is full");
    let mut served = 0;
    let mut serve = |client: Socket| {
        send_all(&client, b"question");
        let server = accept(listener).expect("a connection");
        assert_eq!(receive(&server, 16), 8);
        send_all(&server, b"answer");
        assert_eq!(receive(&client, 16), 6);
        served += 1;
    };
    waiting.into_iter().for_each(&mut serve);
    (0..SERVED).for_each(|_| serve(connect(PORT)));
    Done { refused: syns, served, tid: tid(), drops: kernel_drops(listener) - before }
}

/// Every target of every hook, once.
fn targets() -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for hook in all_hooks() {
        if !targets.contains(&hook.target) {
            targets.push(hook.target);
        }
    }
    targets
}

/// Runs the load at a level; checks what is attached, what coverage says, and what every level counts.
fn measured(lab: &Lab, level: Level, check: impl FnOnce(&ListenerModel, &Done, u64)) {
    let source = LiveSource::start(&Options { level, ..environment::options() }).expect("the probes can be attached");
    for definition in EVENTS.iter().filter(|definition| definition.level > level) {
        assert!(!source.brings(definition.event), "{level:?} has {:?}", definition.event);
    }
    let needed = || EVENTS.iter().filter(|definition| definition.level <= level);
    for target in targets().into_iter().filter(|target| source.is_attached(*target)) {
        let mut hooks = needed().flat_map(|definition| definition.methods).flat_map(|method| method.hooks);
        assert!(hooks.any(|hook| hook.target == target), "{level:?} does not need {target}");
    }
    let mut watch = Watch::by(lab, source);
    let listener = listen(PORT, BACKLOG);
    watch.sample();
    let done = watch.during(|| load(&listener));
    watch.sample();
    sleep_ms(50);
    watch.sample();
    for entry in &watch.model().coverage {
        let lowest = EVENTS.iter().filter(|definition| definition.carries.contains(&entry.measure));
        if let Some(lowest) = lowest.map(|definition| definition.level).max().filter(|lowest| *lowest > level) {
            assert_eq!(entry.status, Status::Unavailable, "{level:?}: {}", entry.measure);
            assert_eq!(entry.reason, format!("left out; --measure {} has it", lowest.name()), "{}", entry.measure);
        } else if (entry.measure, level) != (Measure::Enqueued, Level::Queues) {
            assert!(!entry.reason.contains("--measure"), "{level:?}: {}: {}", entry.measure, entry.reason);
        }
    }
    let (hidden, seen) = (watch.hidden(), watch.listener(PORT));
    assert_counts(hidden, &[("enqueued", seen.total.enqueued, done.served)]);
    assert_eq!(seen.drops.total, Some(done.drops), "refused {} times", done.refused);
    assert_eq!(done.drops, done.refused, "the test's own load: SYNs alone are refused");
    assert_eq!((seen.now.accept_depth, seen.now.oldest_waiting_us), (0, Some(0)));
    assert!(seen.now.accept_peak >= Some(BACKLOG as u32 + 1), "{:?}", seen.now.accept_peak);
    assert!(watch.lost() <= watch.hidden(), "nothing is lost: {:?}", watch.model().losses);
    check(seen, &done, hidden);
}

/// What no level below `all` knows is unknown, not 0.
fn assert_no_reads(seen: &ListenerModel) {
    assert_eq!((seen.total.reads, seen.total.read_bytes, seen.total.writes), (None, None, None));
    assert_eq!((seen.now.queued_bytes, seen.now.oldest_unread_us), (None, None));
    assert!(seen.distributions.residency.is_none() && seen.distributions.answer.is_none());
}

fn queues(lab: &Lab) {
    measured(lab, Level::Queues, |seen, _, _| {
        assert_no_reads(seen);
        assert_eq!((seen.total.accepts, seen.total.would_block, seen.total.aborted), (None, None, None));
        assert_eq!(seen.now.open, None);
        assert!(seen.distributions.accept_wait.is_none());
        assert!(seen.threads.is_empty(), "{:?}", seen.threads);
    });
}

fn accepts(lab: &Lab) {
    measured(lab, Level::Accepts, |seen, done, hidden| {
        assert_no_reads(seen);
        let waits = count(seen.distributions.accept_wait.as_ref());
        let of_thread = Some(thread(seen, done.tid).expect("it accepted").accepts);
        assert_counts(
            hidden,
            &[
                ("accepts", seen.total.accepts, done.served),
                ("waits", Some(waits), done.served),
                ("the thread's accepts", of_thread, done.served),
                ("open", seen.now.open, 0),
                ("aborted", seen.total.aborted, 0),
            ],
        );
    });
}

fn all(lab: &Lab) {
    measured(lab, Level::All, |seen, done, hidden| {
        let answers = count(seen.distributions.answer.as_ref());
        assert_counts(
            hidden,
            &[
                ("accepts", seen.total.accepts, done.served),
                ("reads", seen.total.reads, done.served),
                ("bytes", seen.total.read_bytes.map(|bytes| bytes / 8), done.served),
                ("writes", seen.total.writes, done.served),
                ("answers", Some(answers), done.served),
            ],
        );
    });
}

/// The report of a level has the same, and says what is left out.
fn command_line(_: &Lab) {
    let listener = listen(PORT, 64);
    let measuring = Measuring::start("report --measure accepts --format json --for 30s --port 7000");
    let clients: Vec<Socket> = (0..5).map(|_| connect(PORT)).collect();
    let servers: Vec<Socket> = (0..5).map(|_| accept(&listener).expect("a connection")).collect();
    let report = measuring.report();
    let seen = &report["listeners"][0];
    assert_eq!((&seen["accepts"]["total"], &seen["accept_queue"]["wait_us"]["count"]), (&5.into(), &5.into()));
    assert!(seen["reads"]["count"].is_null() && seen["reads"]["residency_us"].is_null(), "{}", seen["reads"]);
    let coverage = report["coverage"].as_array().expect("a list");
    let reads = coverage.iter().find(|entry| entry["measure"] == "reads").expect("it is there");
    assert_eq!((&reads["status"], &reads["reason"]), (&"unavailable".into(), &"left out; --measure all has it".into()));
    drop((clients, servers));
}
