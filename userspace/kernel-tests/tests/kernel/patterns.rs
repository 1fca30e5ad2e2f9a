//! How listeners are served: programs of which the pattern is known, at every size.

use std::{
    os::fd::AsFd as _,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use listentop::source::{Source as _, live::LiveSource};
use listentop_model::{
    coverage::Measure,
    model::{ListenerModel, ThreadModel},
};
use nix::sys::wait::{WaitPidFlag, waitpid};
use socket2::Socket;
use test_support::{
    Ends, Lab, Test, Watch,
    environment::{options, slowness},
    lab::{PORT, loopback},
    process::{Forked, Gate, close_inherited_but, fork},
    sleep_ms,
    sockets::{accept, connect, listen, listen_on, receive, send_all},
};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::Reads, Measure::Writes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "patterns::a_thread_per_connection", needs: NEEDS, run: thread_per_connection },
    Test { name: "patterns::a_process_per_connection", needs: NEEDS, run: process_per_connection },
    Test { name: "patterns::sums_from_the_middle_of_a_load", needs: NEEDS, run: sums_from_the_middle },
    Test { name: "patterns::thirty_processes", needs: NEEDS, run: thirty_processes },
    Test { name: "patterns::thirty_shards", needs: NEEDS, run: thirty_shards },
    Test { name: "patterns::an_acceptor_of_the_pool", needs: NEEDS, run: acceptor_of_the_pool },
    Test { name: "patterns::a_worker_that_is_replaced", needs: NEEDS, run: replaced_worker },
    Test { name: "patterns::a_worker_that_drains", needs: NEEDS, run: draining_worker },
    Test { name: "patterns::workers_that_end_after_some_connections", needs: NEEDS, run: mortal_workers },
    Test { name: "patterns::a_listener_that_is_replaced", needs: NEEDS, run: replaced_listener },
];

/// A client: one request, one answer.
fn request(port: u16) {
    let client = connect(port);
    send_all(&client, b"x");
    assert_eq!(receive(&client, 1), 1);
}

/// Reads a request and answers it; nothing if the client has gone.
fn answer(socket: &Socket) {
    if receive(socket, 1) == 1 {
        send_all(socket, b"y");
    }
}

/// Accepts until the listener is shut down, and gives each connection to `serve`.
fn accept_all(listener: &Socket, mut serve: impl FnMut(Socket)) {
    while let Ok((socket, _)) = listener.accept() {
        serve(socket);
    }
}

/// Shuts a listener down when dropped, so that the threads that accept from it end.
struct Stops<'a>(&'a Socket);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// Long enough for listentop to detect that threads have ended.
fn settle(watch: &mut Watch) {
    for _ in 0..5 * slowness() {
        sleep_ms(300);
        watch.sample();
    }
}

/// A server's process, which answers each connection itself, until it is killed or has answered so many.
fn worker(listener: &Socket, connections: Option<u64>) -> Forked {
    fork(|| {
        close_inherited_but(listener.as_fd());
        for _ in 0..connections.unwrap_or(u64::MAX) {
            answer(&accept(listener).expect("a connection"));
        }
    })
}

fn sum(listener: &ListenerModel, of: fn(&ThreadModel) -> u64) -> u64 {
    listener.threads.iter().map(of).sum()
}

/// The rows add up to the listener's figures, and no two are of one thread.
fn assert_sums(watch: &Watch, listener: &ListenerModel) {
    if watch.lost() + watch.missed() > 0 {
        return;
    }
    let total = &listener.total;
    assert_eq!(Some(sum(listener, |t| t.accepts)), total.accepts, "accepts");
    assert_eq!(Some(sum(listener, |t| t.would_block)), total.would_block, "would-block accepts");
    assert_eq!(Some(sum(listener, |t| t.reads)), total.reads, "reads");
    assert_eq!(Some(sum(listener, |t| t.read_bytes)), total.read_bytes, "bytes read");
    assert_eq!(Some(sum(listener, |t| t.writes)), total.writes, "writes");
    assert_eq!(Some(sum(listener, |t| t.write_bytes)), total.write_bytes, "bytes written");
    let mut keys: Vec<_> = listener.threads.iter().filter(|t| t.summed.is_none()).map(|t| t.key).collect();
    keys.sort_unstable();
    let all = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), all, "two rows are of one thread");
    assert!(listener.threads.iter().filter(|t| t.summed.is_some()).count() <= 1);
}

#[track_caller]
fn assert_pattern(watch: &Watch, port: u16, name: &str, evidence: &str) {
    let listener = watch.listener(port);
    assert_eq!(listener.pattern.name.name(), name, "{:?}", listener.pattern);
    assert!(listener.pattern.evidence.iter().any(|e| e.contains(evidence)), "{evidence}: {:?}", listener.pattern);
    assert_sums(watch, listener);
}

fn thread_per_connection(lab: &Lab) {
    let sizes = if slowness() == 1 { vec![59, 99, 999, 20_000] } else { vec![59, 99, 999] };
    let mut watch = Watch::start(lab);
    for (port, connections) in (PORT..).zip(sizes) {
        let listener = listen(port, 64);
        thread::scope(|scope| {
            let _stops = Stops(&listener);
            scope.spawn(|| {
                accept_all(&listener, |socket| {
                    scope.spawn(move || answer(&socket));
                });
            });
            watch.during(|| (0..connections).for_each(|_| request(port)));
            settle(&mut watch);
        });
        let seen = watch.listener(port);
        assert_eq!((seen.total.accepts, seen.total.reads), (Some(connections), Some(connections)));
        // The acceptor, and a thread for each connection.
        assert_eq!(sum(seen, ThreadModel::threads), 1 + connections, "each thread counts once");
        let evidence = listentop_model::words::grouped(connections) + " other threads read one connection each";
        assert_pattern(&watch, port, "thread_per_connection", &evidence);
        if let Some(row) = seen.threads.iter().find(|t| t.summed.is_some()) {
            let summed = row.summed.as_deref().expect("it is a sum");
            assert_eq!((summed.one_connection, summed.processes, summed.acceptors), (summed.threads, 0, 0));
            assert!(connections > 64, "{summed:?}");
        } else {
            assert!(connections <= 64);
        }
    }
}

fn process_per_connection(lab: &Lab) {
    let mut watch = Watch::start(lab);
    for (port, connections) in [(PORT, 59), (PORT + 1, 99), (PORT + 2, 999)] {
        let listener = listen(port, 64);
        let mut server = fork(|| {
            close_inherited_but(listener.as_fd());
            accept_all(&listener, |socket| {
                // It ends by itself.
                std::mem::forget(fork(|| answer(&socket)));
                while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
            });
        });
        watch.during(|| (0..connections).for_each(|_| request(port)));
        settle(&mut watch);
        let seen = watch.listener(port);
        assert_eq!((seen.total.accepts, seen.total.reads), (Some(connections), Some(connections)));
        let evidence = listentop_model::words::grouped(connections) + " other processes read one connection each";
        assert_pattern(&watch, port, "process_per_connection", &evidence);
        assert_pattern(&watch, port, "process_per_connection", &format!("(process {})", server.pid()));
        let summed = seen.threads.iter().find_map(|t| t.summed.as_deref().copied()).unwrap_or_default();
        assert_eq!((summed.threads > 0, summed.processes), (connections > 64, summed.threads));
        server.kill();
    }
}

/// The interval begins when the server has made and lost thousands of threads.
fn sums_from_the_middle(lab: &Lab) {
    let mut source = LiveSource::start(&options()).expect("the probes can be attached: they were before");
    let listener = listen(PORT, 64);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stops = Stops(&listener);
        let _ends = Ends(&done);
        scope.spawn(|| {
            accept_all(&listener, |socket| {
                scope.spawn(move || answer(&socket));
            });
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                request(PORT);
                // Hundreds of threads a second are enough: with as many as can be, a sample takes seconds.
                sleep_ms(2);
            }
        });
        for _ in 0..8 * slowness() {
            sleep_ms(250);
            source.sample().expect("a sample");
        }
        let mut watch = Watch::by(lab, source);
        for _ in 0..12 * slowness() {
            sleep_ms(250);
            watch.sample();
            assert_sums(&watch, watch.listener(PORT));
        }
        let seen = watch.listener(PORT);
        assert!(seen.total.reads > Some(100), "the test's own load: {:?} reads", seen.total.reads);
        assert!(seen.threads.iter().any(|t| t.summed.is_some()), "the test's own load: no sum");
        assert_pattern(&watch, PORT, "thread_per_connection", "other threads read one connection each");
    });
}

fn thirty_processes(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let workers: Vec<Forked> = (0..30).map(|_| worker(&listener, None)).collect();
    watch.during(|| (0..1_500).for_each(|_| request(PORT)));
    settle(&mut watch);
    let accepting = watch.listener(PORT).threads.iter().filter(|t| t.accepts > 0).count();
    assert!(accepting > 25, "the test's own load: {accepting} processes accepted");
    assert_pattern(&watch, PORT, "multi_acceptor", &format!("{accepting} processes accept from the same socket"));
    drop(workers);
}

fn thirty_shards(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let shards: Vec<Socket> = (0..30)
        .map(|_| listen_on(loopback(PORT), 64, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT")))
        .collect();
    let workers: Vec<Forked> = shards.iter().map(|shard| worker(shard, None)).collect();
    watch.during(|| (0..1_500).for_each(|_| request(PORT)));
    settle(&mut watch);
    for shard in watch.listeners(PORT) {
        assert_eq!(shard.pattern.name.name(), "sharded", "{:?}", shard.pattern);
        assert_sums(&watch, shard);
    }
    let evidence = &watch.listeners(PORT)[0].pattern.evidence;
    assert_eq!(evidence[0], "30 listeners share the address, 30 of them accepted connections");
    drop(workers);
}

/// As Redis with `io-threads 4`: the thread that accepts serves a quarter of the connections.
fn acceptor_of_the_pool(lab: &Lab) {
    const THREADS: usize = 4;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    thread::scope(|scope| {
        let _stops = Stops(&listener);
        scope.spawn(|| {
            let pool: Vec<mpsc::Sender<Socket>> = (1..THREADS)
                .map(|_| {
                    let (give, take) = mpsc::channel::<Socket>();
                    scope.spawn(move || take.iter().for_each(|socket| answer(&socket)));
                    give
                })
                .collect();
            let mut next = 0;
            accept_all(&listener, |socket| {
                next = (next + 1) % THREADS;
                match pool.get(next) {
                    Some(thread) => thread.send(socket).expect("it waits for one"),
                    None => answer(&socket),
                }
            });
        });
        watch.during(|| (0..400).for_each(|_| request(PORT)));
        watch.sample();
        assert_pattern(&watch, PORT, "acceptor_in_pool", "it made 25% of 400 reads, 3 other threads made 75%");
    });
}

/// Makes requests for so long that the samples tell the times of workers apart.
fn requests_for_a_while(watch: &mut Watch) {
    for _ in 0..20 {
        watch.during(|| (0..5).for_each(|_| request(PORT)));
        sleep_ms(50);
        watch.sample();
    }
}

/// As with a reload: a new process takes the old one's place at the same socket.
fn replaced_worker(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let mut first = worker(&listener, None);
    requests_for_a_while(&mut watch);
    let second = worker(&listener, None);
    first.kill();
    requests_for_a_while(&mut watch);
    settle(&mut watch);
    assert_pattern(&watch, PORT, "single_thread", &format!("(process {}) made 100% of 200 accepts", second.pid()));
    assert_pattern(&watch, PORT, "single_thread", "1 earlier process had stopped accepting before");
}

/// As with a reload while a connection stays open: the old process lives and accepts no more.
fn draining_worker(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let stop = Gate::new();
    let first = fork(|| {
        for _ in 0..100 {
            answer(&accept(&listener).expect("a connection"));
        }
        stop.pass();
    });
    requests_for_a_while(&mut watch);
    // Threads that start within two seconds of each other are taken for a pool.
    sleep_ms(2_100);
    let second = worker(&listener, None);
    requests_for_a_while(&mut watch);
    settle(&mut watch);
    assert!(watch.listener(PORT).threads.iter().all(|t| !t.ended), "both live");
    assert_pattern(&watch, PORT, "single_thread", &format!("(process {}) made 100% of 200 accepts", second.pid()));
    drop(first);
}

/// As gunicorn with `--max-requests`: one worker at a time, or three.
fn mortal_workers(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    for _ in 0..4 {
        let mut one = worker(&listener, Some(100));
        requests_for_a_while(&mut watch);
        one.kill();
    }
    settle(&mut watch);
    assert_pattern(&watch, PORT, "single_thread", "3 earlier processes had stopped accepting before");
}

/// As `haproxy -sf`: a new process with a listener of its own at the same address, and the old one closes.
fn replaced_listener(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let open = || listen_on(loopback(PORT), 64, |socket| socket.set_reuse_port(true).expect("SO_REUSEPORT"));
    let old = open();
    let mut first = worker(&old, None);
    requests_for_a_while(&mut watch);
    let new = open();
    let second = worker(&new, None);
    first.kill();
    drop(old);
    requests_for_a_while(&mut watch);
    settle(&mut watch);
    let shards = watch.listeners(PORT);
    assert_eq!((shards.len(), shards.iter().filter(|shard| shard.closed).count()), (2, 1));
    for shard in shards {
        assert_eq!(shard.pattern.name.name(), "single_thread", "{:?}", shard.pattern);
        assert!(shard.pattern.evidence[0].contains(&format!("(process {})", second.pid())), "{:?}", shard.pattern);
        assert!(shard.pattern.evidence[1].starts_with("1 earlier process had stopped"), "{:?}", shard.pattern);
        assert_sums(&watch, shard);
    }
}
