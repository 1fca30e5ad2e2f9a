//! One acceptor of several does nearly all of the work, and has no time left.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use listentop_model::{
    coverage::Measure,
    model::{ListenerModel, Severity},
};
use socket2::Socket;
use test_support::{
    Ends, Lab, Test, Watch,
    lab::PORT,
    process::{Forked, fork, server},
    sleep_ms,
    sockets::{accept, attempt, listen},
};

use super::{figure, find, first, ids, until_open};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::ThreadTimes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::acceptor_imbalance_of_processes", needs: NEEDS, run: of_processes },
    Test { name: "findings::acceptor_imbalance_of_threads", needs: NEEDS, run: of_threads },
    Test { name: "findings::acceptor_imbalance_not_at_ease", needs: NEEDS, run: at_ease },
    Test { name: "findings::acceptor_imbalance_not_with_equal_shares", needs: NEEDS, run: equal_shares },
];

const ID: &str = "acceptor_imbalance";
const BACKLOG: i32 = 8;
/// What an acceptor does: how long it works after each accept, and how long it sleeps then.
type Habit = (Duration, u64);
const BUSY: Habit = (Duration::from_millis(4), 0);
const AT_EASE: Habit = (Duration::ZERO, 0);
const SLEEPY: Habit = (Duration::ZERO, 80);

fn accept_for_ever(listener: &Socket, (work, pause_ms): Habit) -> ! {
    if !work.is_zero() {
        before_others();
    }
    loop {
        drop(accept(listener));
        let begin = Instant::now();
        while begin.elapsed() < work {
            std::hint::spin_loop();
        }
        if pause_ms > 0 {
            sleep_ms(pause_ms);
        }
    }
}

/// The calling thread of a child gets the CPU that it wants, also on a machine with other load: it is to be busy, not
/// starved.
fn before_others() {
    // Where sessions share the CPUs evenly, only a session of its own can have more (sched(7), autogroup).
    let _ = nix::unistd::setsid();
    let _ = std::fs::write("/proc/self/autogroup", "-20");
    // SAFETY: takes numbers only; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, -20) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn processes(listener: &Socket, habits: [Habit; 2]) -> [Forked; 2] {
    habits.map(|habit| fork(|| accept_for_ever(listener, habit)))
}

/// More clients than a busy acceptor can take, until `done`. Each stays for some milliseconds.
fn under_load(watch: &mut Watch, what: &str, done: impl FnMut(&Watch) -> bool) {
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Ends(&end);
        scope.spawn(|| {
            let mut clients = VecDeque::new();
            while !end.load(Ordering::Relaxed) {
                clients.push_back(attempt(PORT));
                if clients.len() > 4 {
                    clients.pop_front();
                }
                sleep_ms(2);
            }
        });
        watch.sample_until(what, done);
    });
}

fn is_found(watch: &Watch) -> bool {
    find(watch.listener(PORT), ID).is_some()
}

/// Checks that it is the root cause, and that of full queues; and its figures.
fn is_reported(seen: &ListenerModel, acceptors: usize, busiest: u32) {
    let starved = find(seen, "cpu_starved_acceptor");
    assert!(starved.is_none(), "the test's own load: other programs had the CPUs, {starved:#?}");
    let found = first(seen);
    assert_eq!((found.id, found.follows_from), (ID, None), "{:#?}", seen.findings);
    assert!(found.summary.contains(&format!("(thread {busiest}) made ")), "{}", found.summary);
    assert_eq!(figure(found, "acceptors"), acceptors as f64);
    let accepts: u64 = seen.threads.iter().map(|thread| thread.accepts).sum();
    let own = seen.threads.iter().find(|thread| thread.tid == busiest).expect("it accepts").accepts;
    assert_eq!((figure(found, "all_accepts"), figure(found, "accepts")), (accepts as f64, own as f64));
    assert!(figure(found, "times_fair_share") >= 1.8 && figure(found, "times_fair_share") <= acceptors as f64);
    let (load, of_others) = (figure(found, "on_cpu_share"), figure(found, "on_cpu_share_of_others"));
    assert!((0.6..1.1).contains(&load) && of_others < load / 2.0, "{found:#?}");
    let overflow = find(seen, "accept_queue_overflow");
    if seen.recent_drops.total > Some(0) {
        assert_eq!(found.severity, Severity::Warning, "clients are refused");
    }
    let rest = seen.findings[1..].iter();
    assert!(rest.clone().all(|finding| finding.follows_from.is_some()), "{:#?}", seen.findings);
    assert!(overflow.is_none_or(|overflow| overflow.follows_from == Some(ID)), "{overflow:#?}");
}

fn of_processes(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, BACKLOG);
    let children = processes(&listener, [BUSY, SLEEPY]);
    under_load(&mut watch, ID, is_found);
    is_reported(watch.listener(PORT), 2, children[0].pid());
}

fn of_threads(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(PORT, BACKLOG, |listener| {
        thread::scope(|scope| {
            scope.spawn(|| accept_for_ever(&listener, SLEEPY));
            scope.spawn(|| accept_for_ever(&listener, SLEEPY));
            accept_for_ever(&listener, BUSY);
        });
    });
    until_open(&mut watch, [PORT]);
    under_load(&mut watch, ID, is_found);
    is_reported(watch.listener(PORT), 3, child.pid());
}

/// So many accepts and such times of CPUs are known that it would have been found.
fn is_judged(watch: &Watch, begun_ns: u64) -> bool {
    let seen = watch.listener(PORT);
    watch.sampled_ns() - begun_ns > 4_000_000_000 && seen.total.accepts > Some(400)
}

/// The same acceptors take the same shares, but the busiest has time left. On a slow machine it gets its CPU late, so
/// connections may wait for it, and come at once afterwards.
fn at_ease(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, BACKLOG);
    let children = processes(&listener, [AT_EASE, SLEEPY]);
    let begun_ns = watch.sampled_ns();
    under_load(&mut watch, "it accepts for a time", |watch| {
        let found = ids(watch.listener(PORT));
        let of_late_cpus = ["slow_accept", "backlog_small", "cpu_starved_acceptor"];
        assert!(found.iter().all(|id| of_late_cpus.contains(id)), "{:#?}", watch.listener(PORT).findings);
        is_judged(watch, begun_ns)
    });
    let of = |child: &Forked| watch.listener(PORT).threads.iter().find(|t| t.tid == child.pid()).map(|t| t.accepts);
    let [most, few] = [0, 1].map(|n| of(&children[n]).unwrap_or(0));
    assert!(few > 0 && most > 9 * few, "the test's own load: {most} and {few} accepts");
}

/// Two acceptors have too much to do, and share it.
fn equal_shares(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, BACKLOG);
    let children = processes(&listener, [BUSY, BUSY]);
    let begun_ns = watch.sampled_ns();
    under_load(&mut watch, "they accept for a time", |watch| {
        assert!(!is_found(watch), "{:#?}", watch.listener(PORT).findings);
        is_judged(watch, begun_ns)
    });
    drop(children);
}
