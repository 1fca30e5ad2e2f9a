//! Clients that give up while they wait, so that the program works for nobody.

use std::{net::Shutdown, time::Duration};

use listentop_model::{
    coverage::Measure,
    model::{ListenerModel, Severity},
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{Forked, Gate, fork, server},
    sleep_ms,
    sockets::{accept, connect, listen},
};

use super::{figure, find, first, ids, until_open};

const NEEDS: &[Measure] = &[Measure::ClientGone, Measure::Accepts, Measure::AcceptWait];
const WHILE_STUCK: &[Measure] = &[Measure::ClientGone, Measure::Accepts, Measure::OldestWaiting];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::dead_on_accept_of_a_late_server", needs: NEEDS, run: late },
    Test { name: "findings::dead_on_accept_of_a_server_that_hung", needs: WHILE_STUCK, run: hung },
    Test { name: "findings::dead_on_accept_not_if_they_stay", needs: NEEDS, run: they_stay },
    Test { name: "findings::dead_on_accept_not_of_health_checks", needs: NEEDS, run: health_checks },
];

const ID: &str = "dead_on_accept";

/// A program that begins to accept when the gate opens, and keeps all connections.
fn patient(gate: &Gate) -> Forked {
    fork(|| {
        let listener = listen(PORT, 128);
        let mut kept = Vec::new();
        gate.pass();
        loop {
            kept.push(accept(&listener));
        }
    })
}

/// Lets it accept all of them.
fn accept_all(watch: &mut Watch, gate: &Gate, clients: u64) {
    gate.open(1);
    watch.sample_until("all are accepted", |watch| watch.listener(PORT).total.accepts == Some(clients));
}

/// The figures, which must be right: how many had closed, how many had reset, of how many.
fn has_figures(seen: &ListenerModel, [closed, reset, accepts]: [u64; 3], waited_ms: f64) {
    let found = find(seen, ID).unwrap_or_else(|| panic!("{:#?}", seen.findings));
    let share = (closed + reset) as f64 / accepts as f64;
    assert_eq!(figure(found, "client_closed"), closed as f64, "{found:#?}");
    assert_eq!(figure(found, "client_reset"), reset as f64, "{found:#?}");
    assert!((figure(found, "share_of_accepts") - share).abs() < 1e-9, "{found:#?}");
    // A percentile is the middle of its bucket.
    assert!(figure(found, "wait_p50_ms") >= waited_ms * 15.0 / 16.0, "{found:#?}");
    // A higher one, of the first few, stays for a while.
    assert!(share < 0.5 || found.severity == Severity::Warning, "{found:#?}");
    let begin = format!("{} of {accepts} accepts (", closed + reset);
    assert!(found.summary.starts_with(&begin), "{}", found.summary);
}

/// It follows from this finding, which comes first.
fn follows_from(seen: &ListenerModel, root: &str) {
    assert_eq!(ids(seen).first(), Some(&root), "{:#?}", seen.findings);
    let cause = find(seen, ID).and_then(|found| found.follows_from);
    assert_eq!(cause, Some(root), "{:#?}", seen.findings);
}

/// The server does not come to accept for 200 ms; most of its clients give up before, by a reset.
fn late(lab: &Lab) {
    const GONE: usize = 30;
    const STAY: usize = 20;
    let mut watch = Watch::start(lab);
    let gate = Gate::new();
    let child = patient(&gate);
    until_open(&mut watch, [PORT]);
    let clients: Vec<Socket> = (0..GONE + STAY).map(|_| connect(PORT)).collect();
    let stay = clients.into_iter().skip(GONE).collect::<Vec<_>>();
    watch.during(|| sleep_ms(200));
    accept_all(&mut watch, &gate, (GONE + STAY) as u64);
    let seen = watch.listener(PORT);
    has_figures(seen, [0, GONE as u64, (GONE + STAY) as u64], 200.0);
    follows_from(seen, "slow_accept");
    drop((stay, child));
}

/// It hangs for more than a second. A quarter of its clients give up, by closing.
fn hung(lab: &Lab) {
    const GONE: usize = 25;
    const STAY: usize = 75;
    let mut watch = Watch::start(lab);
    let gate = Gate::new();
    let child = patient(&gate);
    until_open(&mut watch, [PORT]);
    let clients: Vec<Socket> = (0..GONE + STAY).map(|_| connect(PORT)).collect();
    watch.during(|| sleep_ms(300));
    for client in &clients[..GONE] {
        client.set_linger(None).expect("SO_LINGER");
        client.shutdown(Shutdown::Both).expect("it is connected");
    }
    let stalls = ["hung_acceptor", "acceptor_gone"];
    watch.sample_until("it is known to hang", |watch| {
        watch.listener(PORT).findings.first().is_some_and(|found| stalls.contains(&found.id))
    });
    let root = first(watch.listener(PORT)).id;
    assert!(find(watch.listener(PORT), ID).is_none(), "nothing has been accepted");
    accept_all(&mut watch, &gate, (GONE + STAY) as u64);
    watch.sample();
    let seen = watch.listener(PORT);
    has_figures(seen, [GONE as u64, 0, (GONE + STAY) as u64], 1_000.0);
    follows_from(seen, root);
    drop((clients, child));
}

/// The same wait, but nobody gives up. A twentieth are too few.
fn they_stay(lab: &Lab) {
    const GONE: usize = 4;
    const STAY: usize = 76;
    let mut watch = Watch::start(lab);
    let gate = Gate::new();
    let child = patient(&gate);
    until_open(&mut watch, [PORT]);
    let mut clients: Vec<Socket> = (0..GONE + STAY).map(|_| connect(PORT)).collect();
    clients.drain(..GONE);
    watch.during(|| sleep_ms(200));
    accept_all(&mut watch, &gate, (GONE + STAY) as u64);
    let seen = watch.listener(PORT);
    assert_eq!((seen.total.client_reset, seen.total.client_closed), (Some(GONE as u64), Some(0)));
    assert_eq!(ids(seen), ["slow_accept"], "{:#?}", seen.findings);
    drop((clients, child));
}

/// Checks of a load balancer close at once: the server is prompt, and finds some of them gone. Nothing is wrong.
fn health_checks(lab: &Lab) {
    let mut watch = Watch::start(lab);
    let child = server(PORT, 128, |listener| {
        loop {
            // So that some have gone when it accepts them.
            let client = accept(&listener).expect("a connection");
            // Without a reset: some clients have not noticed yet that they are connected.
            client.set_linger(None).expect("SO_LINGER");
            drop(client);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    until_open(&mut watch, [PORT]);
    watch.during(|| {
        for _ in 0..60 {
            drop([connect(PORT), connect(PORT)]);
            sleep_ms(5);
        }
    });
    watch.sample_until("all are accepted", |watch| watch.listener(PORT).total.accepts == Some(120));
    let seen = watch.listener(PORT);
    assert!(seen.total.client_reset >= Some(20), "the test's own load: {:?}", seen.total);
    assert!(find(seen, ID).is_none(), "{:#?}", seen.findings);
    drop(child);
}
