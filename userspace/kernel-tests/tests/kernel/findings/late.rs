//! Stalls that were there before the probes: who should accept was never seen accepting.

use std::{fs, thread};

use listentop_model::{
    coverage::Measure,
    model::{LikelyAcceptor, LikelyBy},
};
use socket2::Socket;
use test_support::{
    Lab, Test, Watch,
    lab::PORT,
    process::{Forked, Gate, fork, stop, wait_for_ever},
    sleep_ms,
    sockets::{accept, connect, listen},
};

use super::{figure, first, ids};

const NEEDS: &[Measure] = &[Measure::Accepts, Measure::OldestWaiting, Measure::Owners, Measure::Waiters];

pub(crate) const TESTS: &[Test] = &[
    Test { name: "findings::late_workers_of_a_master", needs: NEEDS, run: workers },
    Test { name: "findings::late_one_thread_that_is_not_parked", needs: NEEDS, run: not_parked },
    Test { name: "findings::late_one_of_several_threads", needs: NEEDS, run: one_of_several },
    Test { name: "findings::late_stopped_worker_that_waits", needs: NEEDS, run: stopped },
    Test { name: "findings::late_until_it_is_seen", needs: NEEDS, run: until_seen },
];

/// Connections that wait for ever.
const WAITING: usize = 4;

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it lives");
    text.split_ascii_whitespace().map(|pid| pid.parse().expect("a number")).collect()
}

/// A program that listens and does this with its listener, and clients of which so many are accepted.
fn stuck(accepted: usize, work: impl FnOnce(&Socket, &Gate)) -> (Forked, Vec<Socket>) {
    let (listening, ready) = (Gate::new(), Gate::new());
    let server = fork(|| {
        let listener = listen(PORT, 16);
        listening.open(1);
        work(&listener, &ready);
        wait_for_ever();
    });
    listening.pass();
    let clients = (0..accepted + WAITING).map(|_| connect(PORT)).collect();
    (0..accepted).for_each(|_| ready.pass());
    (server, clients)
}

/// Accepts one connection, and keeps it open in a system call that ends never.
fn accept_and_sleep(listener: &Socket, ready: &Gate) {
    let _client = accept(listener).expect("a connection");
    ready.open(1);
    wait_for_ever();
}

/// Watches from now on until the stall is found and those who should accept are known.
fn found(lab: &Lab) -> Watch {
    let mut watch = Watch::fresh(lab);
    watch.sample_until("it hangs, and who should accept is known", |watch| {
        let seen = watch.listener(PORT);
        seen.likely_acceptors.is_some() && seen.findings.first().is_some_and(|finding| finding.id == "hung_acceptor")
    });
    assert_eq!(watch.listener(PORT).now.accept_depth as usize, WAITING, "the test's own load");
    assert_eq!(ids(watch.listener(PORT)), ["hung_acceptor"], "{:#?}", watch.listener(PORT).findings);
    watch
}

fn likely(watch: &Watch) -> &[LikelyAcceptor] {
    watch.listener(PORT).likely_acceptors.as_deref().expect("they are known")
}

/// The master holds the listener, too, and is not blamed for its workers.
fn workers(lab: &Lab) {
    let (server, clients) = stuck(2, |listener, ready| {
        let _workers = [(); 2].map(|()| fork(|| accept_and_sleep(listener, ready)));
        wait_for_ever();
    });
    let mut of_master = children(server.pid());
    of_master.sort_unstable();
    let watch = found(lab);
    let mut pids: Vec<u32> = likely(&watch).iter().map(|one| one.pid).collect();
    pids.sort_unstable();
    assert_eq!((pids, of_master.len()), (of_master.clone(), 2));
    assert!(likely(&watch).iter().all(|one| one.by == LikelyBy::OnlyThread && one.tid == one.pid));
    assert!(likely(&watch).iter().all(|one| one.state.as_ref().is_some_and(|state| state.letter == 'S')));
    let finding = first(watch.listener(PORT));
    assert!((figure(finding, "likely_acceptors") - 2.0).abs() < f64::EPSILON);
    assert!(finding.summary.contains("One of 2 threads probably should accept them: 2 asleep"), "{}", finding.summary);
    let line = format!("strace -p {} -p {}, ", of_master[0], of_master[1]);
    assert!(finding.advice.contains(&line), "{}", finding.advice);
    assert!(!finding.advice.contains(&format!("-p {},", server.pid())), "{}", finding.advice);
    drop((server, clients));
}

/// One thread has accepted and sleeps, the other is parked.
fn not_parked(lab: &Lab) {
    let (server, clients) = stuck(1, |listener, ready| {
        thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    thread::park();
                }
            });
            accept_and_sleep(listener, ready);
        });
    });
    let watch = found(lab);
    let [one] = likely(&watch) else { panic!("{:#?}", likely(&watch)) };
    assert_eq!((one.pid, one.tid, one.by), (server.pid(), server.pid(), LikelyBy::NotParked));
    let finding = first(watch.listener(PORT));
    assert!(finding.summary.contains(&format!("(thread {}), which probably should accept, is asleep", one.tid)));
    assert!(finding.advice.contains(&format!("strace -p {},", one.tid)), "{}", finding.advice);
    drop((server, clients));
}

/// Of two that sleep in system calls nobody knows which one it is.
fn one_of_several(lab: &Lab) {
    let (server, clients) = stuck(1, |listener, ready| {
        thread::scope(|scope| {
            scope.spawn(wait_for_ever);
            accept_and_sleep(listener, ready);
        });
    });
    let watch = found(lab);
    assert_eq!(likely(&watch).len(), 2, "{:#?}", likely(&watch));
    assert!(likely(&watch).iter().all(|one| one.by == LikelyBy::OneOfSeveral && one.pid == server.pid()));
    let finding = first(watch.listener(PORT));
    assert!(finding.advice.contains("nothing tells which should"), "{}", finding.advice);
    assert!(finding.advice.contains(&format!("strace -f -p {},", server.pid())), "{}", finding.advice);
    drop((server, clients));
}

/// A worker that waits in accept, and was stopped there before anybody came.
fn stopped(lab: &Lab) {
    let listening = Gate::new();
    let server = fork(|| {
        let listener = listen(PORT, 16);
        let _worker = fork(|| {
            listening.open(1);
            let _client = accept(&listener);
            wait_for_ever();
        });
        wait_for_ever();
    });
    listening.pass();
    let worker = children(server.pid())[0];
    sleep_ms(100);
    stop(worker);
    let clients: Vec<Socket> = (0..WAITING).map(|_| connect(PORT)).collect();
    let watch = found(lab);
    let [one] = likely(&watch) else { panic!("{:#?}", likely(&watch)) };
    assert_eq!((one.pid, one.state.as_ref().map(|state| state.letter)), (worker, Some('T')));
    let finding = first(watch.listener(PORT));
    assert!(finding.summary.contains("is stopped by a signal (state T)"), "{}", finding.summary);
    assert!(finding.advice.contains(&format!("kill -CONT {worker}.")), "{}", finding.advice);
    drop((server, clients));
}

/// What is inferred gives way to what is seen.
fn until_seen(lab: &Lab) {
    let go = Gate::new();
    let (server, clients) = stuck(1, |listener, ready| {
        let _client = accept(listener).expect("a connection");
        ready.open(1);
        go.pass();
        let _others: Vec<Socket> = (0..WAITING - 1).map(|_| accept(listener).expect("a connection")).collect();
        wait_for_ever();
    });
    let mut watch = found(lab);
    assert_eq!(likely(&watch)[0].by, LikelyBy::OnlyThread);
    go.open(1);
    watch.sample_until("it accepts", |watch| watch.listener(PORT).now.accept_depth == 1);
    watch.during(|| sleep_ms(1_500));
    let seen = watch.listener(PORT);
    assert_eq!((seen.likely_acceptors.as_ref(), seen.total.accepts), (None, Some(WAITING as u64 - 1)));
    assert!(seen.threads.iter().any(|thread| thread.accepts > 0 && thread.pid == server.pid()));
    drop((server, clients));
}
