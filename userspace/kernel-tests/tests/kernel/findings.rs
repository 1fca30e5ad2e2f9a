//! Findings about servers with one known fault each: the root cause comes first, and what has passed is told so.

pub(crate) mod acceptor_gone;
pub(crate) mod acceptor_imbalance;
pub(crate) mod dead_on_accept;
pub(crate) mod descriptors_low;
pub(crate) mod hung_reader;
pub(crate) mod late;
pub(crate) mod refused_attempts;

use listentop_model::{
    coverage::Measure,
    histogram::Histogram,
    model::{Finding, ListenerModel, Severity},
};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{Forked, Gate, fork, stop},
    sleep_ms,
    sockets::{accept, attempt_with_late_ack, connect, listen, receive, send_all, wait_queued},
};

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::healthy_server", needs: &[Measure::Accepts, Measure::Reads], run: healthy },
    Test { name: "findings::stopped_process", needs: &[Measure::OldestWaiting, Measure::Accepts], run: stopped },
    Test {
        name: "findings::no_descriptor_left",
        needs: &[Measure::Accepts, Measure::OldestWaiting],
        run: no_descriptor,
    },
    Test { name: "findings::late_accepts", needs: &[Measure::AcceptWait, Measure::Residency], run: late_accepts },
    Test {
        name: "findings::hang_with_persistent_clients",
        needs: &[Measure::OldestUnread, Measure::Reads],
        run: hang_with_persistent_clients,
    },
    Test { name: "findings::busy_acceptor", needs: &[Measure::OldestWaiting, Measure::Reads], run: busy },
    Test { name: "findings::stall_then_traffic", needs: &[Measure::OldestWaiting, Measure::Accepts], run: stall },
    Test { name: "findings::closed_with_connections_waiting", needs: &[Measure::Enqueued], run: closed },
    Test { name: "findings::last_quarter_of_the_syn_backlog", needs: &[Measure::Drops], run: last_quarter },
];

/// Ids in order. On a machine with other load a thread may wait for a CPU, whatever the test does.
fn ids(listener: &ListenerModel) -> Vec<&'static str> {
    listener.findings.iter().map(|finding| finding.id).filter(|id| *id != "cpu_starved_acceptor").collect()
}

fn first(listener: &ListenerModel) -> &Finding {
    listener.findings.first().expect("a finding")
}

/// Accepts, answers one request, closes: again and again.
fn serve(listener: &Socket) -> ! {
    loop {
        let client = accept(listener).expect("a connection");
        let bytes = receive(&client, 100);
        send_all(&client, &vec![1; bytes.max(1)]);
    }
}

fn request() {
    let client = connect(PORT);
    send_all(&client, b"x");
    receive(&client, 10);
}

/// The finding of this kind.
fn find<'a>(listener: &'a ListenerModel, id: &str) -> Option<&'a Finding> {
    listener.findings.iter().find(|finding| finding.id == id)
}

/// Samples until the listener on this port, which is the only one there, has a finding of this kind.
fn until_found(watch: &mut Watch, port: u16, id: &str) {
    watch.sample_until(id, |watch| {
        let seen = watch.listeners(port);
        seen.first().is_some_and(|seen| find(seen, id).is_some())
    });
}

/// Samples until programs listen on these ports.
fn until_open(watch: &mut Watch, ports: impl IntoIterator<Item = u16>) {
    for port in ports {
        watch.sample_until("it listens", |watch| !watch.listeners(port).is_empty());
    }
}

/// A figure of a finding's evidence.
fn figure(finding: &Finding, name: &str) -> f64 {
    let found = finding.evidence.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no {name} in {finding:#?}")).1
}

fn send(signal: Signal, to: &Forked) {
    kill(Pid::from_raw(to.pid() as i32), signal).expect("it lives");
}

fn healthy(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| serve(&listener));
    watch.during(|| {
        for _ in 0..100 {
            request();
            sleep_ms(10);
        }
    });
    watch.sample();
    assert!(ids(watch.listener(PORT)).is_empty(), "{:#?}", watch.listener(PORT).findings);
    drop(server);
}

/// While it is stopped it hangs; when it goes on, that is told in the past tense.
fn stopped(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| serve(&listener));
    watch.during(request);
    stop(server.pid());
    let clients: Vec<Socket> = (0..4).map(|_| connect(PORT)).collect();
    watch.during(|| sleep_ms(2_500));
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), ["hung_acceptor"], "{:#?}", seen.findings);
    assert_eq!((first(seen).severity, first(seen).until_unix_ms), (Severity::Critical, None));
    let since = first(seen).since_unix_ms;
    if let Some(thread) = seen.threads.iter().find(|thread| thread.accepts > 0)
        && let Some(state) = &thread.state
    {
        assert_eq!(state.letter, 'T');
        let go_on = format!("kill -CONT {}", server.pid());
        assert!(first(seen).advice.contains(&go_on), "{}", first(seen).advice);
    }
    clients.iter().for_each(|client| send_all(client, b"x"));
    send(Signal::SIGCONT, &server);
    watch.during(|| sleep_ms(1_500));
    let seen = watch.listener(PORT);
    assert_eq!(first(seen).id, "hung_acceptor", "{:#?}", seen.findings);
    assert!(first(seen).until_unix_ms >= Some(since + 2_000), "{:#?}", first(seen));
    assert!(first(seen).summary.contains(" 4 connections waited, the oldest for "), "{}", first(seen).summary);
}

/// EMFILE: accepts that fail are the cause, and the thread that makes them does not hang.
fn no_descriptor(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| {
        let open = std::fs::read_dir("/proc/self/fd").expect("its descriptors").count() as u64;
        setrlimit(Resource::RLIMIT_NOFILE, open - 1, open - 1).expect("a lower limit");
        let mut held = Vec::new();
        loop {
            match listener.accept() {
                Ok(client) => held.push(client),
                Err(_) => sleep_ms(20),
            }
        }
    });
    let clients: Vec<Socket> = (0..40).map(|_| connect(PORT)).collect();
    watch.during(|| sleep_ms(2_500));
    let seen = watch.listener(PORT);
    assert!(seen.now.accept_depth > 0, "the test's own load");
    assert_eq!(first(seen).id, "accept_errors", "{:#?}", seen.findings);
    assert_eq!(first(seen).severity, Severity::Critical);
    let found = ids(seen);
    let others = ["hung_acceptor", "busy_acceptor", "acceptor_gone", "descriptors_low"];
    assert!(!others.iter().any(|other| found.contains(other)), "{:#?}", seen.findings);
    let (failed, emfile) = (seen.total.accept_failed, seen.total.accept_failed_emfile);
    assert!(failed >= Some(50) && emfile == failed, "{emfile:?} of {failed:?}");
    assert_eq!((seen.total.accept_failed_enfile, seen.total.accept_failed_nomem), (Some(0), Some(0)));
    drop((clients, server));
}

/// 100 ms before each accept, and clients that speak first: these bytes wait in the accept queue, not for the reader.
fn late_accepts(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| {
        loop {
            sleep_ms(100);
            let client = accept(&listener).expect("a connection");
            receive(&client, 10);
        }
    });
    let clients: Vec<Socket> = (0..30).map(|_| connect(PORT)).collect();
    clients.iter().for_each(|client| send_all(client, b"x"));
    watch.during(|| sleep_ms(3_500));
    let seen = watch.listener(PORT);
    let quantile = |h: &Option<Histogram>, p| h.as_ref().and_then(|h| h.quantile_ns(p)).expect("values");
    assert!(quantile(&seen.distributions.accept_wait, 0.5) > 1_000_000_000, "the test's own load");
    let residency = quantile(&seen.distributions.residency, 1.0);
    assert!(residency < 50_000_000, "{residency} ns: it waited for the accept");
    let found = ids(seen);
    assert!(found.contains(&"slow_accept") && !found.contains(&"slow_reader"), "{:#?}", seen.findings);
    drop(server);
}

/// A server that stops reading, with persistent clients only.
fn hang_with_persistent_clients(lab: &Lab) {
    const CLIENTS: usize = 5;
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let gate = Gate::new();
    let server = fork(|| {
        let clients: Vec<Socket> = (0..CLIENTS).map(|_| accept(&listener).expect("a connection")).collect();
        for round in 0..1_000 {
            if round == 10 {
                gate.pass();
            }
            for client in &clients {
                let bytes = receive(client, 100);
                send_all(client, &vec![1; bytes.max(1)]);
            }
        }
    });
    let clients: Vec<Socket> = (0..CLIENTS).map(|_| connect(PORT)).collect();
    let ask = || clients.iter().for_each(|client| send_all(client, b"hello"));
    let answered = || clients.iter().for_each(|client| assert_eq!(receive(client, 100), 5));
    watch.during(|| {
        for _ in 0..10 {
            ask();
            answered();
            sleep_ms(20);
        }
    });
    ask();
    watch.during(|| sleep_ms(2_500));
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), ["hung_reader"], "{:#?}", seen.findings);
    assert!(first(seen).severity >= Severity::Warning && first(seen).until_unix_ms.is_none(), "{:#?}", first(seen));
    assert!(first(seen).summary.starts_with("Nothing is read: 25 bytes wait unread"), "{}", first(seen).summary);
    gate.open(1);
    watch.during(|| {
        answered();
        sleep_ms(1_500);
    });
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen)[0], "hung_reader", "{:#?}", seen.findings);
    assert!(first(seen).until_unix_ms.is_some(), "{:#?}", first(seen));
    drop(server);
}

/// A thread that answers one client every 50 ms while others wait to be accepted is busy, not stuck.
fn busy(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| {
        let client = accept(&listener).expect("a connection");
        loop {
            let bytes = receive(&client, 100);
            sleep_ms(50);
            send_all(&client, &vec![1; bytes.max(1)]);
        }
    });
    let client = connect(PORT);
    let waiting: Vec<Socket> = (0..3).map(|_| connect(PORT)).collect();
    watch.during(|| {
        for _ in 0..50 {
            send_all(&client, b"x");
            receive(&client, 10);
        }
    });
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), ["busy_acceptor"], "{:#?}", seen.findings);
    assert!(first(seen).summary.contains("goes on working: 0 accepts, "), "{}", first(seen).summary);
    drop((server, waiting));
}

/// A stall of 2 s early in the interval is remembered when traffic goes on.
fn stall(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let server = fork(|| {
        for n in 0..1_000 {
            let client = accept(&listener).expect("a connection");
            if n == 5 {
                sleep_ms(2_000);
            }
            receive(&client, 10);
            send_all(&client, b"x");
        }
    });
    watch.during(|| {
        let asked: Vec<Socket> = (0..100)
            .map(|_| {
                let client = connect(PORT);
                send_all(&client, b"x");
                sleep_ms(40);
                client
            })
            .collect();
        asked.iter().for_each(|client| assert_eq!(receive(client, 10), 1));
        sleep_ms(1_500);
    });
    let seen = watch.listener(PORT);
    assert_eq!(first(seen).id, "hung_acceptor", "{:#?}", seen.findings);
    assert!(first(seen).until_unix_ms.is_some(), "{:#?}", first(seen));
    let mut rest = seen.findings.iter().filter(|f| !["hung_acceptor", "cpu_starved_acceptor"].contains(&f.id));
    assert!(rest.all(|finding| finding.follows_from.is_some()), "{:#?}", seen.findings);
    drop(server);
}

/// Clients that are reset because the listener closes.
fn closed(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 64);
    let clients: Vec<Socket> = (0..28).map(|_| connect(PORT)).collect();
    wait_queued(&listener, 28);
    watch.sample();
    drop(listener);
    let reset = clients.iter().filter(|client| matches!(client.take_error(), Ok(Some(_)))).count();
    assert_eq!(reset, 28, "the test's own load");
    watch.during(|| sleep_ms(300));
    let seen = watch.listener(PORT);
    assert_eq!(ids(seen), ["connections_lost_on_close"], "{:#?}", seen.findings);
    assert_eq!(first(seen).evidence[0], ("lost", 28.0));
    assert!(first(seen).until_unix_ms.is_some(), "it is over");
}

/// With cookies off, SYNs beyond three quarters of tcp_max_syn_backlog.
fn last_quarter(lab: &Lab) {
    lab.sysctl("ipv4/tcp_syncookies", "0");
    lab.sysctl("ipv4/tcp_max_syn_backlog", "64");
    let mut watch = Watch::start(lab);
    let listener = listen(PORT, 200);
    let clients: Vec<Socket> = (0..90).map(|_| attempt_with_late_ack(PORT)).collect();
    watch.sample();
    drop(clients);
    watch.during(|| sleep_ms(200));
    let seen = watch.listener(PORT);
    assert!(seen.drops.other >= Some(20), "the test's own load: {:?}", seen.drops);
    assert_eq!(first(seen).id, "syn_backlog_reserve", "{:#?}", seen.findings);
    drop(listener);
}
