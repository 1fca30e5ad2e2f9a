//! Clients that are connected and ask, and a program that does not read: which thread hangs, and where.

use std::thread;

use listentop_model::{
    coverage::Measure,
    model::{Finding, Severity},
};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    signal::Signal,
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{Forked, Gate, fork, server, stop},
    sleep_ms,
    sockets::{accept, connect, listen, receive, send_all},
    tid,
};

use super::{figure, find, first, ids, send, until_open};

const NEEDS: &[Measure] = &[Measure::Reads, Measure::OldestUnread, Measure::OpenConnections, Measure::Owners];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::hung_reader_stopped_in_a_read", needs: NEEDS, run: |lab| stopped(lab, read_in_turn) },
    Test { name: "findings::hung_reader_stopped_in_epoll", needs: NEEDS, run: |lab| stopped(lab, event_loop) },
    Test { name: "findings::hung_reader_a_thread_of_a_pool", needs: NEEDS, run: of_a_pool },
    Test { name: "findings::hung_reader_not_of_bytes_left_on_purpose", needs: NEEDS, run: on_purpose },
];

const CLIENTS: usize = 4;

fn accept_clients(listener: &Socket) -> Vec<Socket> {
    (0..CLIENTS).map(|_| accept(listener).expect("a connection")).collect()
}

/// Answers; returns whether the client is there.
fn answer(client: &Socket) -> bool {
    let bytes = receive(client, 100);
    if bytes > 0 {
        send_all(client, &vec![1; bytes]);
    }
    bytes > 0
}

/// A program that blocks in the read of one client after the other.
fn read_in_turn(listener: &Socket) {
    let clients = accept_clients(listener);
    // Where a read may time out, a signal ends it (signal(7)).
    clients.iter().for_each(|client| client.set_read_timeout(None).expect("SO_RCVTIMEO"));
    while clients.iter().all(answer) {}
}

fn epoll_of(sockets: &[Socket]) -> Epoll {
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    for (n, socket) in (0..).zip(sockets) {
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, n)).expect("it is new");
    }
    epoll
}

/// The place of a socket that has something to read.
fn ready(epoll: &Epoll) -> usize {
    let mut events = [EpollEvent::empty()];
    while epoll.wait(&mut events, EpollTimeout::NONE) != Ok(1) {}
    events[0].data() as usize
}

/// A program that waits for all of its clients in an epoll.
fn event_loop(listener: &Socket) {
    let clients = accept_clients(listener);
    let epoll = epoll_of(&clients);
    while answer(&clients[ready(&epoll)]) {}
}

fn ask(clients: &[Socket]) {
    clients.iter().for_each(|client| send_all(client, b"hello"));
}

fn answered(clients: &[Socket]) {
    clients.iter().for_each(|client| assert_eq!(receive(client, 100), 5));
}

/// Clients of the program that are answered.
fn persistent_clients(watch: &mut Watch) -> Vec<Socket> {
    until_open(watch, [PORT]);
    let clients: Vec<Socket> = (0..CLIENTS).map(|_| connect(PORT)).collect();
    for _ in 0..3 {
        ask(&clients);
        answered(&clients);
    }
    watch.sample_until("all was read", |watch| watch.listener(PORT).total.reads == Some(3 * CLIENTS as u64));
    clients
}

/// Samples until it is known which thread hangs. Checks the figures.
fn until_named(watch: &mut Watch, asking: usize, place: &str) -> Finding {
    watch.sample_until("it is known which thread hangs", |watch| {
        let found = find(watch.listener(PORT), "hung_reader");
        found.is_some_and(|found| found.severity == Severity::Critical)
    });
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), ["hung_reader"], "{:#?}", seen.findings);
    let found = first(seen);
    assert_eq!((found.follows_from, found.until_unix_ms), (None, None));
    let figures = ["queued_bytes", "open_connections"].map(|name| figure(found, name));
    assert_eq!(figures, [5.0 * asking as f64, CLIENTS as f64], "{found:#?}");
    assert!(figure(found, "oldest_unread_ms") > 1_000.0, "{found:#?}");
    assert!(found.summary.contains(place), "{place}: {}", found.summary);
    found.clone()
}

/// SIGSTOP: the system call in which it was says nothing about what it does now.
fn stopped(lab: &Lab, program: fn(&Socket)) {
    let mut watch = Watch::start(lab);
    let child = server(PORT, 16, |listener| program(&listener));
    let clients = persistent_clients(&mut watch);
    stop(child.pid());
    ask(&clients);
    let place = format!("(thread {}) is stopped by a signal (state T)", child.pid());
    let found = until_named(&mut watch, CLIENTS, &place);
    assert!(found.advice.contains(&format!("kill -CONT {}", child.pid())), "{}", found.advice);

    send(Signal::SIGCONT, &child);
    answered(&clients);
    watch.sample_until("it has passed", |watch| first(watch.listener(PORT)).until_unix_ms.is_some());
    let past = first(watch.listener(PORT));
    let place = format!("(thread {}) was stopped by a signal", child.pid());
    assert!(past.id == "hung_reader" && past.summary.contains(&place), "{past:#?}");
    drop((child, clients));
}

/// One thread waits for all clients, and gives each that asks to another thread, which sleeps before it reads. The one
/// that waits in the epoll does right.
fn a_pool(worker_tid: &Gate, sleeps_ms: u64) -> Forked {
    fork(|| {
        let listener = listen(PORT, 16);
        let clients = accept_clients(&listener);
        let (clients, epoll) = (&clients, &epoll_of(&clients));
        let (sender, work) = std::sync::mpsc::channel::<usize>();
        thread::scope(|scope| {
            scope.spawn(move || {
                worker_tid.send(tid().into());
                for (n, place) in work.iter().enumerate() {
                    if n >= 3 * CLIENTS {
                        sleep_ms(sleeps_ms);
                    }
                    answer(&clients[place]);
                    epoll.add(&clients[place], EpollEvent::new(EpollFlags::EPOLLIN, place as u64)).expect("it is new");
                }
            });
            loop {
                let place = ready(epoll);
                epoll.delete(&clients[place]).expect("it is there");
                sender.send(place).expect("it works");
            }
        });
    })
}

fn of_a_pool(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let worker_tid = Gate::new();
    let child = a_pool(&worker_tid, 600_000);
    let clients = persistent_clients(&mut watch);
    let worker = worker_tid.receive();
    ask(&clients[..2]);
    let found = until_named(&mut watch, 2, &format!("(thread {worker}) is asleep (state S)"));
    assert!(found.advice.contains(&format!("strace -p {worker}")), "{}", found.advice);
    drop((child, clients));
}

/// The same programs, which read; and an event loop that leaves the bytes of a client until it may take more.
fn on_purpose(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(PORT, 16, |listener| {
        let clients = accept_clients(&listener);
        let answered = (0..3).flat_map(|_| &clients).all(answer);
        assert!(answered, "they are there");
        // Not the last one.
        let epoll = epoll_of(&clients[..CLIENTS - 1]);
        while answer(&clients[ready(&epoll)]) {}
    });
    let clients = persistent_clients(&mut watch);
    ask(&clients);
    let others = &clients[..CLIENTS - 1];
    answered(others);
    watch.sample_until("its age and its reader's state are known", |watch| {
        let seen = watch.listener(PORT);
        let known = seen.threads.iter().any(|thread| thread.tid == child.pid() && thread.state.is_some());
        known && seen.now.oldest_unread_us > Some(1_600_000)
    });
    let seen = watch.listener(PORT);
    assert_eq!(seen.now.queued_bytes, Some(5));
    let thread = seen.threads.iter().find(|thread| thread.tid == child.pid()).expect("it reads");
    assert_eq!(thread.state.as_ref().map(|state| state.letter), Some('S'), "it is read while bytes wait");
    let holds = find(seen, "hung_reader").is_some_and(|found| found.until_unix_ms.is_none());
    assert!(!holds, "{:#?}", seen.findings);
    drop((child, clients));
}
