//! Blame of readers: the charges add up to the time that connections had unread bytes, which the test itself measures,
//! and each is for what the reader did.

use std::{os::fd::AsRawFd as _, thread};

use io_uring::{opcode, types};
use listentop_model::coverage::Measure;
use serde_json::Value;
use socket2::Socket;
use test_support::{
    Lab, Test,
    command::Measuring,
    lab::PORT,
    now_ns,
    process::{Gate, fork, wait_for_ever},
    ring::{complete, push, ring},
    sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    spans::When,
    tid,
};

use crate::blame::{
    IDENTITY, POINTS, assert_adds_up, assert_within, compute, cpu_ns, end, in_function, list, run_delay_ns, state, us,
    wait_for_lock,
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Residency];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "blame_reads::charges_add_up_to_the_residency", needs: NEEDS, run: adds_up },
    Test { name: "blame_reads::known_phases", needs: NEEDS, run: known_phases },
    Test { name: "blame_reads::another_thread_takes_over", needs: NEEDS, run: takes_over },
    Test { name: "blame_reads::a_reader_that_ends", needs: NEEDS, run: ends },
    Test { name: "blame_reads::io_uring", needs: NEEDS, run: through_io_uring },
    Test { name: "blame_reads::a_reader_that_is_inferred", needs: NEEDS, run: inferred },
    Test { name: "blame_reads::all_was_read", needs: NEEDS, run: all_was_read },
];

fn start() -> Measuring {
    Measuring::start(&format!("blame --of reads --format json --port {PORT} --for 60s"))
}

fn pair(listener: &Socket) -> (Socket, Socket) {
    let client = connect(PORT);
    (client, accept(listener).expect("a connection"))
}

/// When bytes came to connections that had none unread, and when the last of them were read.
#[derive(Default)]
struct Truth {
    came: Vec<When>,
    went: Vec<When>,
}

impl Truth {
    fn send(&mut self, client: &Socket) {
        self.came.push(When::doing(|| send_all(client, &[1; 100])).0);
    }

    fn read(&mut self, server: &Socket) {
        let (when, bytes) = When::doing(|| receive(server, 200));
        assert_eq!(bytes, 100);
        self.went.push(when);
    }

    /// The least and the most that the connections can have waited, in the order in which they are read, if the
    /// measurement ended within `end`. Sums need no order: which one ended when does not matter.
    fn wait_ns(&self, end: When) -> (u64, u64) {
        let sum = |times: &[When], of: fn(&When) -> u64| times.iter().map(of).sum::<u64>();
        let open = (self.came.len() - self.went.len()) as u64;
        let low = sum(&self.went, |when| when.from) + open * end.from;
        let high = sum(&self.went, |when| when.to) + open * end.to;
        (low - sum(&self.came, |when| when.to), high - sum(&self.came, |when| when.from))
    }
}

fn assert_total(report: &Value, truth: &Truth, end: When) -> u64 {
    assert_eq!(report["of"], "reads");
    let total = assert_adds_up(report);
    let bounds = truth.wait_ns(end);
    assert_within("total", total, bounds, bounds.1 as f64 / 1e3 * IDENTITY);
    total
}

/// Connections whose bytes wait: before the accept, which does not count, then for a read, for the second of two, and
/// until the end.
fn adds_up(_: &Lab) {
    let listener = listen(PORT, 64);
    let mut truth = Truth::default();
    let measuring = start();
    let early = connect(PORT);
    send_all(&early, &[1; 100]);
    sleep_ms(200);
    let (accepted, server) = When::doing(|| accept(&listener).expect("a connection"));
    truth.came.push(accepted);
    sleep_ms(100);
    truth.read(&server);
    let pairs: Vec<(Socket, Socket)> = (0..8).map(|_| pair(&listener)).collect();
    for (client, _) in &pairs {
        truth.send(client);
    }
    sleep_ms(300);
    for (_, server) in &pairs[..4] {
        truth.read(server);
        sleep_ms(30);
    }
    // Half of what waits is no end of the waiting.
    assert_eq!(receive(&pairs[4].1, 50), 50);
    sleep_ms(100);
    truth.went.push(When::doing(|| assert_eq!(receive(&pairs[4].1, 200), 50)).0);
    // One that ends unread.
    let (client, server) = pair(&listener);
    truth.send(&client);
    sleep_ms(100);
    truth.went.push(When::doing(|| drop(server)).0);
    sleep_ms(100);
    let (end, report) = end(measuring);
    assert_total(&report, &truth, end);
    let threads: Vec<&Value> = list(&report["listeners"][0]["threads"]).collect();
    assert_eq!((threads.len(), threads[0]["tid"].as_u64()), (1, Some(tid().into())), "{threads:?}");
    assert_eq!(state(&report, "nobody"), 0, "{report}");
    drop((early, client, pairs));
}

/// While bytes of eight connections wait: computes, sleeps, waits for a lock, a few times.
fn known_phases(_: &Lab) {
    const CONNECTIONS: u64 = 8;
    const ROUNDS: u64 = 5;
    let (ready, go, truth) = (Gate::new(), Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        ready.open(1);
        let accepted: Vec<_> = (0..CONNECTIONS).map(|_| accept(&listener).expect("a connection")).collect();
        accepted.iter().for_each(|server| assert_eq!(receive(server, 1), 1));
        ready.open(1);
        go.pass();
        let (cpu, delay) = (cpu_ns(), run_delay_ns());
        let (mut slept, mut locked) = (0, 0);
        for _ in 0..ROUNDS {
            compute(cpu_ns() + 100_000_000);
            let begin = now_ns();
            sleep_ms(100);
            let middle = now_ns();
            wait_for_lock(50);
            (slept, locked) = (slept + middle - begin, locked + now_ns() - middle);
        }
        accepted.iter().for_each(|server| assert_eq!(receive(server, 200), 100));
        [cpu_ns() - cpu, run_delay_ns() - delay, slept, locked].into_iter().for_each(|ns| truth.send(ns));
        wait_for_ever();
    });
    ready.pass();
    let clients: Vec<Socket> = (0..CONNECTIONS).map(|_| connect(PORT)).collect();
    let measuring = start();
    clients.iter().for_each(|client| send_all(client, &[1]));
    ready.pass();
    clients.iter().for_each(|client| send_all(client, &[1; 100]));
    go.open(1);
    let [cpu, delay, slept, locked] = [(); 4].map(|()| truth.receive() * CONNECTIONS);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    let give = total as f64 * POINTS;
    let rounds = CONNECTIONS * ROUNDS;
    assert_within("sleep", in_function(&report, "asleep", "nanosleep"), (rounds * 100_000_000, slept), give);
    assert_within("lock", in_function(&report, "asleep", "futex"), (rounds * 50_000_000, locked), give);
    assert_within("running", state(&report, "running"), (cpu, cpu), give);
    assert_within("runnable", state(&report, "runnable"), (delay, delay), give);
    assert_eq!(state(&report, "nobody"), 0, "{report}");
    drop((server, clients));
}

/// The waiting of a connection is charged to who read it last.
fn takes_over(_: &Lab) {
    let listener = listen(PORT, 16);
    let measuring = start();
    let (client, server) = pair(&listener);
    send_all(&client, &[1; 100]);
    sleep_ms(200);
    // This thread accepted it.
    assert_eq!(receive(&server, 200), 100);
    let other = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            send_all(&client, &[1; 100]);
            sleep_ms(300);
            assert_eq!(receive(&server, 200), 100);
            send_all(&client, &[1; 100]);
            sleep_ms(500);
            assert_eq!(receive(&server, 200), 100);
            tid()
        });
        reader.join().expect("it ends")
    });
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    let of = |tid: u32| {
        let threads = list(&report["listeners"][0]["threads"]);
        threads.filter(|thread| thread["tid"] == tid).map(us).sum::<u64>()
    };
    let give = total as f64 * POINTS;
    assert_within("first", of(tid()), (500_000_000, 520_000_000), give);
    assert_within("second", of(other), (500_000_000, 520_000_000), give);
}

/// Nobody reads what came for a thread that has ended.
fn ends(_: &Lab) {
    let listener = listen(PORT, 16);
    let measuring = start();
    let mut truth = Truth::default();
    let (client, server) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (client, server) = pair(&listener);
            truth.send(&client);
            sleep_ms(200);
            truth.read(&server);
            truth.send(&client);
            sleep_ms(200);
            (client, server)
        });
        reader.join().expect("it ends")
    });
    let ended = now_ns();
    sleep_ms(600);
    let (until, report) = end(measuring);
    let total = assert_total(&report, &truth, until);
    let give = total as f64 * POINTS;
    assert_within("nobody", state(&report, "nobody"), (until.from - ended, until.to - ended + 5_000_000), give);
    assert_eq!(report["listeners"][0]["threads"][0]["ended"], true, "{report}");
    drop((client, server));
}

/// A thread that reads through io_uring is a reader.
fn through_io_uring(_: &Lab) {
    let listener = listen(PORT, 16);
    let (client, server) = pair(&listener);
    let mut ring = ring();
    let mut truth = Truth::default();
    let measuring = start();
    let mut buffer = [0_u8; 200];
    for _ in 0..4 {
        truth.send(&client);
        sleep_ms(100);
        let (when, bytes) = When::doing(|| {
            let (start, size) = (buffer.as_mut_ptr(), buffer.len() as u32);
            push(&mut ring, &opcode::Recv::new(types::Fd(server.as_raw_fd()), start, size).build());
            complete(&mut ring).result()
        });
        assert_eq!(bytes, 100);
        truth.went.push(when);
    }
    let (end, report) = end(measuring);
    let total = assert_total(&report, &truth, end);
    // Until its first read nobody knows who reads a connection from before the start, or it is inferred.
    let asleep = in_function(&report, "asleep", "nanosleep");
    assert_within("asleep", asleep, (300_000_000, 400_000_000), total as f64 * POINTS);
    assert_eq!(report["listeners"][0]["threads"][0]["tid"], tid(), "{report}");
}

/// Bytes that came before the start, for a thread that hangs since: no other can read them.
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
    let client = connect(PORT);
    send_all(&client, &[1; 100]);
    sleep_ms(100);
    let measuring = start();
    sleep_ms(400);
    let (_, report) = end(measuring);
    let total = assert_adds_up(&report);
    assert!(total > 390_000, "{report}");
    let asleep = in_function(&report, "asleep", "poll");
    assert!(asleep as f64 > total as f64 * (1.0 - POINTS), "{asleep} of {total} µs: {report}");
    let thread = &report["listeners"][0]["threads"][0];
    assert!(thread["inferred"].as_str().is_some_and(|why| why.contains("only thread")), "{thread}");
    drop((server, client));
}

/// Where all was read, nothing is charged to anybody: neither is the end of a connection bytes that wait.
fn all_was_read(_: &Lab) {
    let listener = listen(PORT, 16);
    let measuring = start();
    let (client, server) = pair(&listener);
    drop(client);
    sleep_ms(200);
    let (_, report) = end(measuring);
    assert_eq!(assert_adds_up(&report), 0, "{report}");
    drop(server);
}
