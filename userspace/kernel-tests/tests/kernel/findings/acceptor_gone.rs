//! Connections queue at a listener for which nobody waits any more.

use std::{os::fd::AsFd as _, thread};

use listentop_model::{coverage::Measure, model::Severity};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{Forked, Gate, close_inherited_but, fork, outlive_parent, server, wait_for_ever},
    sleep_ms,
    sockets::{accept, attempt, connect, listen, receive, send_all},
    wait_until,
};

use super::{figure, first, ids, until_found, until_open};

const NEEDS: &[Measure] =
    &[Measure::Accepts, Measure::OldestWaiting, Measure::Owners, Measure::Waiters, Measure::ThreadTimes];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::acceptor_gone_its_thread_has_ended", needs: NEEDS, run: thread_has_ended },
    Test { name: "findings::acceptor_gone_its_process_has_ended", needs: NEEDS, run: process_has_ended },
    Test { name: "findings::acceptor_gone_it_never_began", needs: NEEDS, run: never_began },
    Test { name: "findings::acceptor_gone_not_while_they_live", needs: NEEDS, run: while_they_live },
];

/// Room for one more than this.
const BACKLOG: i32 = 3;
const WAITING: usize = 4;

fn answer(listener: &Socket, clients: usize) {
    for _ in 0..clients {
        let client = accept(listener).expect("a connection");
        receive(&client, 10);
        send_all(&client, b"x");
    }
}

fn ask(port: u16) {
    let client = connect(port);
    send_all(&client, b"x");
    assert_eq!(receive(&client, 10), 1);
}

/// A program whose accepting thread ends after so many clients, while the program goes on.
fn one_that_loses_its_thread(port: u16, clients: usize) -> Forked {
    server(port, BACKLOG, |listener| {
        let _ = thread::scope(|scope| scope.spawn(|| answer(&listener, clients)).join());
        wait_for_ever();
    })
}

/// A program that accepts, and a child of it that has inherited the listener and sleeps. Returns both.
fn one_with_an_heir(port: u16) -> [Forked; 2] {
    let born = Gate::new();
    let parent = fork(|| {
        let listener = listen(port, BACKLOG);
        let heir = fork(|| {
            outlive_parent();
            close_inherited_but(listener.as_fd());
            wait_for_ever();
        });
        born.send(heir.pid().into());
        answer(&listener, usize::MAX);
    });
    let heir = Forked::adopted(born.receive() as u32);
    [parent, heir]
}

/// Fills the queue, and lets it refuse one more client.
fn queue(port: u16) -> Vec<Socket> {
    let mut clients: Vec<Socket> = (0..WAITING).map(|_| connect(port)).collect();
    clients.push(attempt(port));
    clients
}

/// Checks that it is the root cause, with right figures. The queue that overflows is its consequence.
fn is_reported(watch: &Watch, holder: u32) {
    let seen = watch.listener(PORT);
    let found = first(seen);
    assert_eq!((found.id, found.severity), ("acceptor_gone", Severity::Critical), "{:#?}", seen.findings);
    assert_eq!((found.follows_from, found.until_unix_ms), (None, None));
    let figures = ["depth", "limit", "holders"].map(|name| figure(found, name));
    assert_eq!(figures, [WAITING as f64, f64::from(BACKLOG) + 1.0, 1.0]);
    assert!(figure(found, "oldest_waiting_ms") > 1_000.0, "{found:#?}");
    assert!(found.summary.contains(&format!("{WAITING} connections wait, the oldest for ")), "{}", found.summary);
    let command = format!("lsof -nP -i TCP:{PORT} -a -p {holder}.");
    assert!(found.advice.contains(&command), "{}", found.advice);
    let rest = seen.findings[1..].iter().filter(|finding| finding.id != "cpu_starved_acceptor");
    let rest: Vec<_> = rest.map(|finding| (finding.id, finding.follows_from)).collect();
    let overflow = ("accept_queue_overflow", Some("acceptor_gone"));
    assert!(rest.is_empty() || rest == [overflow], "{:#?}", seen.findings);
    if watch.is_available(Measure::Drops) {
        assert_eq!(rest, [overflow], "one was refused: {:?}", seen.drops);
    }
}

fn thread_has_ended(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = one_that_loses_its_thread(PORT, 3);
    until_open(&mut watch, [PORT]);
    (0..3).for_each(|_| ask(PORT));
    let tasks = format!("/proc/{}/task", child.pid());
    wait_until("it has ended", || std::fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() == 1));
    let clients = queue(PORT);
    until_found(&mut watch, PORT, "acceptor_gone");
    is_reported(&watch, child.pid());
    let summary = &first(watch.listener(PORT)).summary;
    assert!(summary.ends_with(", which accepted before, has ended."), "{summary}");
    drop(clients);
}

/// What it left open keeps the port: clients connect, and are never served.
fn process_has_ended(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let [mut parent, heir] = one_with_an_heir(PORT);
    until_open(&mut watch, [PORT]);
    ask(PORT);
    watch.sample_until("its accept is seen", |watch| watch.listener(PORT).total.accepts == Some(1));
    parent.kill();
    let clients = queue(PORT);
    watch.sample_until("it is gone, and the heir is known", |watch| {
        let seen = watch.listener(PORT);
        seen.holders == [heir.pid()] && first_is(seen, "acceptor_gone")
    });
    is_reported(&watch, heir.pid());
    drop(clients);
}

fn first_is(listener: &listentop_model::model::ListenerModel, id: &str) -> bool {
    listener.findings.first().is_some_and(|finding| finding.id == id)
}

/// It listens, and does not come to accept.
fn never_began(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(PORT, BACKLOG, |_listener| wait_for_ever());
    until_open(&mut watch, [PORT]);
    let clients = queue(PORT);
    until_found(&mut watch, PORT, "acceptor_gone");
    is_reported(&watch, child.pid());
    drop(clients);
}

/// The same programs while their acceptors live, and one that begins late.
fn while_they_live(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let programs = [one_that_loses_its_thread(PORT, usize::MAX)];
    let family = one_with_an_heir(PORT + 1);
    let late = server(PORT + 2, BACKLOG, |listener| {
        sleep_ms(300);
        answer(&listener, usize::MAX);
    });
    let ports = [PORT, PORT + 1, PORT + 2];
    until_open(&mut watch, ports);
    let begin = watch.sampled_ns();
    watch.during(|| {
        for _ in 0..12 {
            ports.into_iter().for_each(ask);
            sleep_ms(130);
        }
    });
    assert!(watch.sampled_ns() - begin > 1_500_000_000);
    for port in ports {
        let seen = watch.listener(port);
        assert_eq!(seen.total.accepts, Some(12));
        assert!(ids(seen).is_empty(), "port {port}: {:#?}", seen.findings);
    }
    drop((programs, family, late));
}
