//! Queue-wait blame: the charges add up to the wait that the test itself measures, and each is for what the acceptor
//! did.

use std::{os::fd::AsRawFd as _, thread, time::Duration};

use io_uring::{opcode, types};
use listentop_model::coverage::Measure;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::Measuring,
    environment::slowness,
    lab::PORT,
    now_ns,
    process::{Gate, fork, stop, wait_for_ever},
    ring::{complete, push, ring},
    sleep_ms,
    sockets::{accept, connect, listen, wait_queued},
    spans::When,
    tid, wait_until,
};

const NEEDS: &[Measure] = &[Measure::Enqueued, Measure::Accepts];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame::charges_add_up_to_the_wait", needs: NEEDS, run: adds_up },
    Test { name: "blame::known_phases", needs: NEEDS, run: known_phases },
    Test { name: "blame::an_acceptor_that_ends", needs: NEEDS, run: ends },
    Test { name: "blame::a_stopped_acceptor", needs: NEEDS, run: stopped },
    Test { name: "blame::four_acceptors_and_two_shards", needs: NEEDS, run: four_acceptors },
    Test { name: "blame::io_uring", needs: NEEDS, run: through_io_uring },
    Test { name: "blame::nobody_waits", needs: NEEDS, run: nobody_waits },
    Test { name: "blame::threads_come_and_go", needs: NEEDS, run: come_and_go },
    Test { name: "blame::several_processes", needs: NEEDS, run: several_processes },
    Test { name: "blame::starved_by_a_busy_loop", needs: NEEDS, run: starved },
    Test { name: "blame::an_acceptor_that_is_inferred", needs: NEEDS, run: inferred },
    Test { name: "blame::late_workers_of_a_master", needs: NEEDS, run: late_workers },
    Test { name: "blame::no_acceptor_that_can_be_inferred", needs: NEEDS, run: not_inferred },
];

/// The identity: the measured wait and the charges differ by this at most.
pub(crate) const IDENTITY: f64 = 0.005;
/// Shares are exact where no sample is involved. The times that the test compares with are not: it is preempted, too.
pub(crate) const POINTS: f64 = 0.02;

fn start() -> Measuring {
    Measuring::start(&format!("blame --format json --port {PORT} --for 60s"))
}

pub(crate) fn us(value: &Value) -> u64 {
    value["wait_us"].as_u64().expect("a number")
}

/// The wait in a state.
pub(crate) fn state(of: &Value, state: &str) -> u64 {
    us(&of["states"][state])
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

/// The wait of stacks in this state with such a function.
pub(crate) fn in_function(report: &Value, state: &str, function: &str) -> u64 {
    let stacks = list(&report["listeners"]).flat_map(|listener| list(&listener["stacks"]));
    let named = |frame: &Value| frame["function"].as_str().is_some_and(|name| name.contains(function));
    stacks.filter(|stack| stack["state"] == state && list(&stack["frames"]).any(named)).map(us).sum()
}

/// The wait of stacks in this state with a function of the program's or of a library's that has a name.
fn in_program(report: &Value, state: &str) -> u64 {
    let stacks = list(&report["listeners"]).flat_map(|listener| list(&listener["stacks"]));
    let named = |frame: &Value| frame["function"].is_string() && frame["kernel"] == false;
    stacks.filter(|stack| stack["state"] == state && list(&stack["frames"]).any(named)).map(us).sum()
}

/// Checks that the parts of a report add up, and that nothing was lost. Returns the total.
pub(crate) fn assert_adds_up(report: &Value) -> u64 {
    let total = report["total_wait_us"].as_u64().expect("a number");
    let mut listeners = 0;
    for listener in list(&report["listeners"]) {
        let whole = listener["total_wait_us"].as_u64().expect("a number");
        listeners += whole;
        let states: u64 = ["running", "runnable", "asleep", "nobody"].iter().map(|name| state(listener, name)).sum();
        let stacks: u64 = list(&listener["stacks"]).map(us).sum();
        let threads: u64 = list(&listener["threads"]).map(us).sum::<u64>() + state(listener, "nobody");
        for (parts, sum) in [("states", states), ("stacks", stacks), ("threads", threads)] {
            // Each part is rounded down to a microsecond.
            let least = (whole as f64 * (1.0 - IDENTITY)) as u64;
            assert!(sum <= whole + 10 && sum + 200 >= least, "{parts}: {sum} of {whole} µs");
        }
    }
    assert!(total.abs_diff(listeners) <= 10, "{total} µs, of listeners {listeners}");
    for (what, lost) in report["lost"].as_object().expect("an object") {
        // What was not copied is divided as what was.
        assert!(what == "late" || what == "copies" || lost == 0, "{what}: {lost}");
    }
    assert_eq!(report["unavailable"], Value::Array(Vec::new()));
    total
}

/// Checks that a wait is within bounds, give or take a part of the whole.
pub(crate) fn assert_within(what: &str, wait_us: u64, (low_ns, high_ns): (u64, u64), give: f64) {
    let (low, high) = (low_ns as f64 / 1e3 - give, high_ns as f64 / 1e3 + give);
    assert!((low..=high).contains(&(wait_us as f64)), "{what}: {wait_us} µs, not within {low} to {high} µs");
}

/// When each connection came and went.
#[derive(Default)]
struct Truth {
    clients: Vec<Socket>,
    servers: Vec<Socket>,
    came: Vec<When>,
    went: Vec<When>,
}

impl Truth {
    fn connect(&mut self) {
        let (when, client) = When::doing(|| connect(PORT));
        self.came.push(when);
        self.clients.push(client);
    }

    fn accept(&mut self, accept: impl FnOnce() -> Socket) {
        let (when, server) = When::doing(accept);
        self.went.push(when);
        self.servers.push(server);
    }

    /// The least and the most that connections can have waited, if the measurement ended within `end`.
    fn wait_ns(&self, end: When) -> (u64, u64) {
        let went = |index: usize| self.went.get(index).copied().unwrap_or(end);
        let spans = || self.came.iter().enumerate().map(|(index, came)| (came, went(index)));
        let low = spans().map(|(came, went)| went.from.saturating_sub(came.to)).sum();
        (low, spans().map(|(came, went)| went.to.saturating_sub(came.from)).sum())
    }
}

/// Ends the measurement. Returns when it ended, and the report.
pub(crate) fn end(measuring: Measuring) -> (When, Value) {
    When::doing(|| {
        measuring.signal(Signal::SIGTERM);
        let ended = measuring.end();
        // `assert_adds_up` knows which losses may be: a change that was late because another CPU had the record.
        let remark = "listentop: losses are counted for the whole machine, not only for what the filter passes\n";
        assert!(["", remark].contains(&ended.stderr.as_str()) && ended.status.success(), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).expect("JSON and nothing else")
    })
}

fn assert_total(report: &Value, truth: &Truth, end: When) {
    let total = assert_adds_up(report);
    let bounds = truth.wait_ns(end);
    assert_within("total", total, bounds, bounds.1 as f64 / 1e3 * IDENTITY);
}

/// Connections that are accepted one after the other, and three that wait still.
fn adds_up(_: &Lab) {
    let listener = listen(PORT, 64);
    let mut truth = Truth::default();
    let measuring = start();
    for _ in 0..12 {
        truth.connect();
    }
    sleep_ms(600);
    for _ in 0..9 {
        truth.accept(|| accept(&listener).expect("a connection"));
        sleep_ms(40);
    }
    truth.connect();
    sleep_ms(200);
    let (end, report) = end(measuring);
    assert_total(&report, &truth, end);
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    assert_eq!(threads.len(), 1, "{threads:?}");
    assert_eq!(threads[0]["tid"], tid());
    // Before its first accept, nobody knew that this thread would.
    assert_within("before", state(&report, "nobody"), (12 * 500_000_000, 12 * 1_500_000_000), 1e3);
}

/// CPU time of this thread.
pub(crate) fn cpu_ns() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
    Duration::from(time).as_nanos() as u64
}

/// For how long this thread has waited for a CPU (/proc/PID/task/TID/schedstat).
pub(crate) fn run_delay_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("there");
    text.split(' ').nth(1).and_then(|delay| delay.parse().ok()).expect("a number")
}

#[inline(never)]
pub(crate) fn compute(until_cpu_ns: u64) -> u64 {
    let mut sum = 0_u64;
    while cpu_ns() < until_cpu_ns {
        for n in 0..1_000 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(n));
        }
    }
    sum
}

/// Waits in vain for a lock that nobody gives back.
pub(crate) fn wait_for_lock(ms: i64) {
    let word = 1_u32;
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
    // SAFETY: a word and a time that outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 1, &raw const timeout, 0, 0) };
}

/// While eight connections wait: computes, sleeps, waits for a lock, a few times. They waited before the start.
fn known_phases(_: &Lab) {
    const QUEUED: u64 = 8;
    const ROUNDS: u64 = 5;
    const COMPUTE_NS: u64 = 150_000_000;
    let (ready, go, truth) = (Gate::new(), Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        ready.open(1);
        go.pass();
        // From here on it is an acceptor.
        let accepted = accept(&listener);
        let (cpu, delay) = (cpu_ns(), run_delay_ns());
        let (mut slept, mut locked) = (0, 0);
        for _ in 0..ROUNDS {
            compute(cpu_ns() + COMPUTE_NS);
            let begin = now_ns();
            sleep_ms(100);
            let middle = now_ns();
            wait_for_lock(50);
            (slept, locked) = (slept + middle - begin, locked + now_ns() - middle);
        }
        [cpu_ns() - cpu, run_delay_ns() - delay, slept, locked].into_iter().for_each(|ns| truth.send(ns));
        wait_for_ever();
        drop(accepted);
    });
    ready.pass();
    let clients: Vec<Socket> = (0..=QUEUED).map(|_| connect(PORT)).collect();
    let measuring = start();
    go.open(1);
    let [cpu, delay, slept, locked] = [(); 4].map(|()| truth.receive() * QUEUED);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    let interval = report["interval_us"].as_u64().expect("a number");
    // Nine until it accepts the first, and eight from then on.
    assert_within("total", total, (interval * 1000 * QUEUED, interval * 1000 * (QUEUED + 1)), total as f64 * IDENTITY);
    let give = total as f64 * POINTS;
    let rounds = QUEUED * ROUNDS;
    // What it sleeps longer than it wants, it waits for a CPU.
    assert_within("sleep", in_function(&report, "asleep", "nanosleep"), (rounds * 100_000_000, slept), give);
    assert_within("lock", in_function(&report, "asleep", "futex"), (rounds * 50_000_000, locked), give);
    assert_within("running", state(&report, "running"), (cpu, cpu), give);
    assert_within("runnable", state(&report, "runnable"), (delay, delay), give);
    // A sample every 5 ms: nearly all that ran has one, with the name of a function of this program or of a library.
    let (ran, named) = (state(&report, "running") as f64, in_program(&report, "running") as f64);
    assert!(named > ran * 0.8, "{named} of {ran} µs: {report}");
    assert!(report["unsampled_us"].as_u64().is_some_and(|us| (us as f64) < ran * 0.2), "{report}");
    drop((server, clients));
}

/// An acceptor that ends: from then on nobody is there, though its process holds the listener.
fn ends(_: &Lab) {
    let (ready, go, times) = (Gate::new(), Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        thread::scope(|scope| {
            scope.spawn(|| {
                ready.open(1);
                go.pass();
                drop(accept(&listener));
                times.send(now_ns());
                sleep_ms(400);
                times.send(now_ns());
            });
        });
        wait_for_ever();
    });
    ready.pass();
    let clients: Vec<Socket> = (0..6).map(|_| connect(PORT)).collect();
    let measuring = start();
    go.open(1);
    let [accepted, ended] = [(); 2].map(|()| times.receive());
    sleep_ms(800);
    let (until, report) = end(measuring);
    let total = assert_adds_up(&report);
    let give = total as f64 * POINTS;
    let asleep = in_function(&report, "asleep", "nanosleep");
    assert_within("asleep", asleep, (5 * 400_000_000, 5 * (ended - accepted)), give);
    // Until it is gone it runs, or waits for a CPU in which to end. Six connections wait until it accepts, then five.
    let awake: u64 = ["nobody", "running", "runnable"].iter().map(|name| state(&report, name)).sum();
    let late = ended - accepted - 400_000_000;
    let most = 5 * (until.to - ended + late) + 6 * report_before(&report, until, accepted);
    assert_within("nobody", awake, (5 * (until.from - ended), most), give);
    assert!(state(&report, "nobody") > 5 * 500_000, "{report}");
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    assert_eq!((threads.len(), &threads[0]["ended"]), (1, &Value::Bool(true)), "{threads:?}");
    drop((server, clients));
}

/// From the beginning of the measurement until `then`, at most.
fn report_before(report: &Value, until: When, then: u64) -> u64 {
    let interval = report["interval_us"].as_u64().expect("a number") * 1000;
    then.saturating_sub(until.from.saturating_sub(interval))
}

/// An acceptor that waits in accept, and is stopped by a signal before connections come.
fn stopped(_: &Lab) {
    let ready = Gate::new();
    let server = fork(|| {
        let listener = listen(PORT, 16);
        ready.open(1);
        while let Some(connection) = accept(&listener) {
            std::mem::forget(connection);
        }
    });
    ready.pass();
    sleep_ms(50);
    let pid = Pid::from_raw(server.pid() as i32);
    let measuring = start();
    stop(server.pid());
    let clients: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    sleep_ms(500);
    kill(pid, Signal::SIGCONT).expect("it runs");
    sleep_ms(300);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    assert!(total > 3 * 450_000, "{total} µs");
    let asleep = in_function(&report, "asleep", "do_signal_stop");
    assert!(asleep as f64 > total as f64 * 0.9, "{asleep} of {total} µs: {report}");
    drop((server, clients));
}

/// Four threads that accept from one shard share its wait; the other shard has one.
fn four_acceptors(_: &Lab) {
    let shared = |port| {
        test_support::sockets::listen_on(test_support::lab::loopback(port), 64, |socket| {
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
        })
    };
    let shards = [shared(PORT), shared(PORT)];
    let clients: Vec<Socket> = (0..60).map(|_| connect(PORT)).collect();
    let queued = || shards.each_ref().map(test_support::sockets::queued);
    assert!(queued().iter().all(|depth| *depth >= 8), "{:?}", queued());
    let measuring = start();
    let barrier = std::sync::Barrier::new(5);
    thread::scope(|scope| {
        for number in 0..5 {
            let (barrier, shard) = (&barrier, &shards[usize::from(number == 4)]);
            scope.spawn(move || {
                barrier.wait();
                let connection = accept(shard);
                // The slower a machine is, the more they differ in when they begin.
                sleep_ms(500 * u64::from(slowness()));
                barrier.wait();
                drop(connection);
            });
        }
    });
    let (_, report) = end(measuring);
    assert_adds_up(&report);
    let listeners: Vec<&Value> = list(&report["listeners"]).collect();
    assert_eq!(listeners.len(), 2);
    for listener in listeners {
        let waits: Vec<u64> = list(&listener["threads"]).map(us).collect();
        assert!(waits.len() == 1 || waits.len() == 4, "{waits:?}");
        let (least, most) = (waits.iter().min().copied(), waits.iter().max().copied());
        let (least, most) = (least.expect("some"), most.expect("some"));
        // They became acceptors at nearly the same time, and ended so.
        assert!(least as f64 > most as f64 * 0.95, "{waits:?}");
    }
    drop(clients);
}

/// A thread that accepts through io_uring is an acceptor.
fn through_io_uring(_: &Lab) {
    let listener = listen(PORT, 16);
    let mut ring = ring();
    let mut truth = Truth::default();
    let measuring = start();
    for _ in 0..5 {
        truth.connect();
    }
    sleep_ms(300);
    let fd = types::Fd(listener.as_raw_fd());
    for _ in 0..4 {
        truth.accept(|| {
            push(&mut ring, &opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build());
            let descriptor = complete(&mut ring).result();
            assert!(descriptor >= 0, "{descriptor}");
            // SAFETY: the kernel has just returned this descriptor to us.
            unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) }
        });
        sleep_ms(100);
    }
    let (end, report) = end(measuring);
    assert_total(&report, &truth, end);
    assert_eq!(report["listeners"][0]["threads"][0]["tid"], tid(), "{report}");
    assert!(in_function(&report, "asleep", "nanosleep") > 0, "{report}");
}

/// Without connections that wait there is nothing to blame anybody for.
fn nobody_waits(_: &Lab) {
    let listener = listen(PORT, 16);
    let report = start().report();
    assert_eq!((assert_adds_up(&report), state(&report, "nobody")), (0, 0));
    let client = connect(PORT);
    wait_queued(&listener, 1);
    drop((client, listener));
}

/// Threads that accept at the same moment, and end at the same moment, again and again: CPUs contend for the listener.
fn come_and_go(_: &Lab) {
    const THREADS: usize = 8;
    const ROUNDS: usize = 40;
    let listener = listen(PORT, 1024);
    let clients: Vec<Socket> = (0..THREADS * ROUNDS + 3).map(|_| connect(PORT)).collect();
    let measuring = start();
    let before = threads_of_this_process();
    for _ in 0..ROUNDS {
        let barrier = std::sync::Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    drop(accept(&listener));
                    sleep_ms(2);
                    barrier.wait();
                });
            }
        });
    }
    // A thread that has been joined runs on for a moment in the kernel.
    wait_until("they have ended", || threads_of_this_process() == before);
    sleep_ms(100);
    let (_, report) = end(measuring);
    assert_adds_up(&report);
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    // A virtual CPU that is stopped while it has the listener's record keeps others from it. Of those that get no note
    // either, each is counted.
    let late = report["lost"]["late"].as_u64().expect("a number") as usize;
    let all = THREADS * ROUNDS;
    assert!(threads.len() <= all && threads.len() + late >= all, "{} of {all}, {late} late", threads.len());
    assert!(threads.len() > all / 2, "{} of {all}: the test's own load did not come about", threads.len());
    let living: Vec<_> = threads.iter().filter(|thread| thread["ended"] != true).collect();
    assert!(living.is_empty(), "{} have not ended, {late} late: {living:?}", living.len());
    drop(clients);
}

/// How many threads this process has.
fn threads_of_this_process() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a directory").count()
}

/// Processes that share a listener: each is charged with its part.
fn several_processes(_: &Lab) {
    const PROCESSES: u64 = 4;
    let listener = listen(PORT, 64);
    let (ready, go, done) = (Gate::new(), Gate::new(), Gate::new());
    let servers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            fork(|| {
                ready.open(1);
                go.pass();
                let accepted = accept(&listener);
                sleep_ms(500);
                done.open(1);
                wait_for_ever();
                drop(accepted);
            })
        })
        .collect();
    (0..PROCESSES).for_each(|_| ready.pass());
    let clients: Vec<Socket> = (0..PROCESSES + 10).map(|_| connect(PORT)).collect();
    let measuring = start();
    go.open(PROCESSES as usize);
    (0..PROCESSES).for_each(|_| done.pass());
    let (_, report) = end(measuring);
    assert_adds_up(&report);
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    let mut found: Vec<u64> = threads.iter().filter_map(|thread| thread["pid"].as_u64()).collect();
    let mut pids: Vec<u64> = servers.iter().map(|server| u64::from(server.pid())).collect();
    found.sort_unstable();
    pids.sort_unstable();
    assert_eq!(found, pids);
    for thread in threads {
        assert!((us(thread) as f64) > 10.0 * 500_000.0 / PROCESSES as f64 * (1.0 - POINTS), "{thread}");
    }
    drop((servers, clients));
}

/// An acceptor that wants to run, on a CPU that others keep busy.
fn starved(_: &Lab) {
    const QUEUED: u64 = 4;
    let (ready, go, truth) = (Gate::new(), Gate::new(), Gate::new());
    // One CPU for all: the children inherit that.
    let server = fork(|| {
        test_support::process::stay_on_one_cpu();
        let busy: Vec<_> = (0..3).map(|_| fork(|| assert_ne!(compute(u64::MAX), 1))).collect();
        let listener = listen(PORT, 16);
        ready.open(1);
        go.pass();
        let accepted = accept(&listener);
        let (cpu, delay) = (cpu_ns(), run_delay_ns());
        compute(cpu + 300_000_000);
        [cpu_ns() - cpu, run_delay_ns() - delay].into_iter().for_each(|ns| truth.send(ns));
        wait_for_ever();
        drop((accepted, busy));
    });
    ready.pass();
    let clients: Vec<Socket> = (0..=QUEUED).map(|_| connect(PORT)).collect();
    let measuring = start();
    go.open(1);
    let [cpu, delay] = [(); 2].map(|()| truth.receive() * QUEUED);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    let give = total as f64 * POINTS;
    assert!(delay > cpu, "it was starved: {delay} and {cpu} ns");
    assert_within("running", state(&report, "running"), (cpu, cpu), give);
    // Before it sleeps for ever it waits for the CPU, and so it does behind the two gates.
    assert_within("runnable", state(&report, "runnable"), (delay, delay + 200_000_000 * QUEUED), give);
    drop((server, clients));
}

/// Of one that accepted before the start, and hangs since, it is known that no other thread can be it.
fn inferred(_: &Lab) {
    let (ready, go) = (Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        ready.open(1);
        let accepted = accept(&listener);
        go.pass();
        drop((accepted, listener));
    });
    ready.pass();
    let clients: Vec<Socket> = (0..4).map(|_| connect(PORT)).collect();
    sleep_ms(100);
    let measuring = start();
    sleep_ms(400);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    let asleep = in_function(&report, "asleep", "poll");
    assert!(asleep as f64 > total as f64 * (1.0 - POINTS), "{asleep} of {total} µs: {report}");
    let thread = &report["listeners"][0]["threads"][0];
    assert_eq!(
        (thread["pid"].as_u64(), thread["tid"].as_u64()),
        (Some(server.pid().into()), Some(server.pid().into()))
    );
    assert!(thread["inferred"].as_str().is_some_and(|why| why.contains("only thread")), "{thread}");
    drop((server, clients));
}

/// Two workers have accepted before the start, and sleep since. Their master holds the listener, too.
fn late_workers(_: &Lab) {
    let (listening, ready) = (Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        let worker = || {
            let accepted = accept(&listener);
            ready.open(1);
            wait_for_ever();
            drop(accepted);
        };
        let _workers = [(); 2].map(|()| fork(worker));
        listening.open(1);
        wait_for_ever();
    });
    listening.pass();
    let clients: Vec<Socket> = (0..6).map(|_| connect(PORT)).collect();
    (0..2).for_each(|_| ready.pass());
    sleep_ms(100);
    let measuring = start();
    sleep_ms(2_000);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    // They are found a moment after the start, at the latest half a second.
    assert!(state(&report, "asleep") as f64 > total as f64 * 0.7, "{report}");
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    assert_eq!(threads.len(), 2, "{report}");
    for thread in threads {
        assert_ne!(thread["pid"].as_u64(), Some(server.pid().into()), "the master does not accept");
        assert!(thread["inferred"].as_str().is_some_and(|why| why.starts_with("probably: ")), "{thread}");
        assert!((us(thread) as f64 / total as f64) > 0.3, "each has its half: {thread}");
    }
    drop((server, clients));
}

/// Of several threads nobody knows which one it is.
fn not_inferred(_: &Lab) {
    let (listening, ready, go) = (Gate::new(), Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        listening.open(1);
        thread::scope(|scope| {
            scope.spawn(wait_for_ever);
            // Closed at once, it might fail its client's connect(2), which returns later.
            let accepted = accept(&listener);
            ready.open(1);
            go.pass();
            drop(accepted);
        });
    });
    let clients: Vec<Socket> = {
        listening.pass();
        (0..4).map(|_| connect(PORT)).collect()
    };
    ready.pass();
    let measuring = start();
    sleep_ms(300);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    assert_eq!(state(&report, "nobody"), total, "{report}");
    let remark = report["listeners"][0]["stacks"][0]["frames"][0]["remark"].as_str().expect("a remark").to_owned();
    assert!(remark.contains(&format!("any of the 2 threads of process {}", server.pid())), "{remark}");
    drop((server, clients));
}
